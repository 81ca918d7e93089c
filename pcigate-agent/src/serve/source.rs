//! Where `serve` learns of workloads, by the configuration; what it tells of a failing source.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pcigate_agent::{
    cgroup::Cgroup,
    config::{Config, Workloads},
    coverage,
    draft::Capability,
    workloads::{
        Found, file,
        kubernetes::{Answering, Kubernetes, Reviewer, Settings},
        pods,
    },
};
use tokio::sync::watch;

/// How long the start waits for the API server's list. What is not known by then is refused or
/// counted as an unknown workload; what was known last is governed.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// A source of workloads.
pub enum Source {
    /// A `v1.PodList`, and a bell that nobody rings.
    File(PathBuf, watch::Sender<()>),
    /// The API server, and since when it is said not to answer.
    Kubernetes(Box<Kubernetes>, Option<Instant>),
}

impl Source {
    /// The configured one, after the API server's first list or when that does not come.
    pub async fn open(config: &Config, node: &str) -> anyhow::Result<Self> {
        match &config.workloads {
            Workloads::File(path) => Ok(Self::File(path.clone(), watch::Sender::new(()))),
            Workloads::Kubernetes { kubeconfig } => {
                let kubernetes = Kubernetes::start(&Settings {
                    node: node.to_owned(),
                    kubeconfig: kubeconfig.clone(),
                    state_dir: config.state_dir.clone(),
                })
                .await?;
                if !kubernetes.listed(LIST_WITHIN).await {
                    let known = kubernetes.status().pods;
                    tracing::error!(
                        "the API server has not listed this node's pods yet; {known} pods are \
                         known from before, all others are unknown workloads"
                    );
                }
                Ok(Self::Kubernetes(Box::new(kubernetes), None))
            }
        }
    }

    /// The governed cgroups there are now.
    pub fn find(&mut self, config: &Config, root: &Cgroup) -> anyhow::Result<Vec<Found>> {
        match self {
            Self::File(path, _) => {
                let listed = file::read(path)?;
                Ok(pods::find(&root.path, &listed, &config.exempt)?.found)
            }
            Self::Kubernetes(kubernetes, _) => Ok(kubernetes.find(&root.path, &config.exempt)?),
        }
    }

    /// Who says whose tokens are, where there is an API server.
    pub fn reviewer(&self) -> Option<Arc<Reviewer>> {
        match self {
            Self::File(..) => None,
            Self::Kubernetes(kubernetes, _) => Some(kubernetes.reviewer()),
        }
    }

    /// Rings when there is something new to find.
    pub fn changed(&self) -> watch::Receiver<()> {
        match self {
            Self::File(_, bell) => bell.subscribe(),
            Self::Kubernetes(kubernetes, _) => kubernetes.changed(),
        }
    }

    /// What Coverage records say of it. Logs when the API server goes and comes back.
    pub fn coverage(&mut self) -> Vec<Capability> {
        let Self::Kubernetes(kubernetes, away) = self else { return Vec::new() };
        let status = kubernetes.status();
        match (&status.answering, *away) {
            (Answering::Away { since, why }, None) => {
                *away = Some(*since);
                tracing::warn!(
                    "the API server does not tell of pods any more ({why}); {} pods stay governed \
                     as last known",
                    status.pods
                );
            }
            (Answering::Yes, Some(since)) => {
                *away = None;
                tracing::warn!(
                    "the API server tells of pods again after {} s: {} are known",
                    since.elapsed().as_secs(),
                    status.pods
                );
            }
            _ => {}
        }
        coverage::of_workloads(&status)
    }
}
