//! The way to the API server: by the ServiceAccount of the agent's own pod, or by a kubeconfig.

use std::{
    path::{Path, PathBuf},
    time::Duration,
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
    /// It asks not to verify the server.
    #[error(
        "the kubeconfig {path} says insecure-skip-tls-verify: anybody could then say who runs \
         where; give certificate-authority instead"
    )]
    Unverified {
        /// The file.
        path: PathBuf,
    },
    /// What they name cannot be used.
    #[error("the way to the API server cannot be used: check its certificates and token")]
    Client(#[source] kube::Error),
}

/// A client that finds its own credential anew when that is exchanged.
pub(super) async fn client(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(ConnectError::NotInPod)?,
        Some(path) => by_kubeconfig(path).await?,
    };
    (config.connect_timeout, config.read_timeout) = (Some(CONNECT_WITHIN), Some(SILENCE));
    Client::try_from(config).map_err(ConnectError::Client)
}

async fn by_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
    let read = Kubeconfig::read_from(path).map_err(failed)?;
    let of_it = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &of_it).await.map_err(failed)?;
    if config.accept_invalid_certs {
        return Err(ConnectError::Unverified { path: path.to_owned() });
    }
    Ok(config)
}
