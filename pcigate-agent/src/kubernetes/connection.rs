//! The way to the API server: by the ServiceAccount of the agent's own pod, or by a kubeconfig.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// How long connecting may take, and how long nothing may come of a request: a watch is asked to
/// last less, and tells of itself every minute.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(330);

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig, and no pod.
    #[error(
        "there is no API server here: run the agent in a pod, or name a kubeconfig \
         (workloads.kubeconfig)"
    )]
    NotInPod(#[source] InClusterError),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used (workloads.kubeconfig)")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KubeconfigError,
    },
    /// It asks for what the agent does not do.
    #[error("the kubeconfig {path} says {what}")]
    NotDone {
        /// The file.
        path: PathBuf,
        /// What, why not, and what to do.
        what: &'static str,
    },
    /// What they name cannot be used.
    #[error("the way to the API server cannot be used: check its certificates and token")]
    Client(#[source] kube::Error),
}

/// The way to the API server, found once and shared by all that asks there. It finds its own
/// credential anew when that is exchanged.
#[derive(Clone)]
pub struct Connection {
    pub(super) client: Client,
    since: Instant,
}

impl Connection {
    /// By a kubeconfig, or by the ServiceAccount of the agent's own pod.
    ///
    /// # Errors
    /// The way is not known: the kubeconfig or the ServiceAccount's files are missing or wrong.
    /// That nobody answers is no error.
    pub async fn open(kubeconfig: Option<&Path>) -> Result<Self, ConnectError> {
        let mut config = match kubeconfig {
            None => Config::incluster().map_err(ConnectError::NotInPod)?,
            Some(path) => by_kubeconfig(path).await?,
        };
        (config.connect_timeout, config.read_timeout) = (Some(CONNECT_WITHIN), Some(SILENCE));
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, since: Instant::now() })
    }

    /// How long ago it was opened.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

async fn by_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
    let not_done = |what| Err(ConnectError::NotDone { path: path.to_owned(), what });
    let read = Kubeconfig::read_from(path).map_err(failed)?;
    let mut users = read.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    if users.any(|user| user.exec.is_some() || user.auth_provider.is_some()) {
        return not_done(
            "how to run a program for a credential: an agent that enforces starts none; give a \
             certificate, or a tokenFile",
        );
    }
    let of_it = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &of_it).await.map_err(failed)?;
    if config.accept_invalid_certs {
        return not_done(
            "insecure-skip-tls-verify: anybody could then say who runs where; give \
             certificate-authority",
        );
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_proves_nobody_or_runs_programs_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        for (cluster, user, wrong) in [
            ("insecure-skip-tls-verify: true", "token: made-up", "insecure-skip-tls-verify"),
            ("", "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}", "a program"),
        ] {
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                 clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:1\", {cluster}}}}}]\n\
                 users: [{{name: u, user: {{{user}}}}}]\n\
                 contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
            );
            std::fs::write(&path, text).unwrap();
            let error =
                Connection::open(Some(&path)).await.err().expect("it is refused").to_string();
            assert!(error.contains(wrong), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            Connection::open(Some(&path)).await,
            Err(ConnectError::Kubeconfig { .. })
        ));
    }
}
