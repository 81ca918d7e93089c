//! Where `serve` learns of workloads, by the configuration; what it tells of a failing source.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use pcigate_agent::{
    cgroup::Cgroup,
    config::{Config, Workloads},
    coverage,
    draft::Capability,
    workloads::{
        Found, file,
        kubernetes::{Answering, Kubernetes, Settings},
        pods::Finder,
    },
};
use tokio::sync::watch;

/// How long the start waits for the API server's list. What is not known by then is refused or
/// counted as an unknown workload; what was known last is governed.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// A source of workloads.
pub enum Source {
    /// A `v1.PodList`.
    File(Box<File>),
    /// The API server, and since when it is said not to answer.
    Kubernetes(Box<Kubernetes>, Option<Instant>),
}

/// A file with a list of pods, and a bell that nobody rings.
pub struct File {
    path: PathBuf,
    list: file::List,
    finder: Finder,
    bell: watch::Sender<()>,
}

impl Source {
    /// The configured one, after the API server's first list or when that does not come.
    pub async fn open(config: &Config, node: &str) -> anyhow::Result<Self> {
        match &config.workloads {
            Workloads::File(path) => Ok(Self::File(Box::new(File {
                path: path.clone(),
                list: file::List::default(),
                finder: Finder::default(),
                bell: watch::Sender::new(()),
            }))),
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

    /// A cgroup was made.
    pub fn rung(&mut self) {
        match self {
            Self::File(file) => file.finder.rung(),
            Self::Kubernetes(kubernetes, _) => kubernetes.rung(),
        }
    }

    /// The governed cgroups there are now.
    pub fn find(&mut self, config: &Config, root: &Cgroup) -> anyhow::Result<Vec<Found>> {
        match self {
            Self::File(file) => {
                let pods = file.list.read(&file.path)?;
                Ok(file.finder.find(&root.path, pods, &config.exempt)?.found)
            }
            Self::Kubernetes(kubernetes, _) => Ok(kubernetes.find(&root.path, &config.exempt)?),
        }
    }

    /// Rings when there is something new to find.
    pub fn changed(&self) -> watch::Receiver<()> {
        match self {
            Self::File(file) => file.bell.subscribe(),
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
