//! The Kubernetes API server: pods, policies, secrets and what is told of them there. The crate
//! `kube` is named below here only.

mod backoff;
mod connection;
mod kept;
mod reflector;

pub mod documents;
pub mod pods;
pub mod secrets;
pub mod status;
pub mod tokens;

use std::sync::Arc;

pub use connection::{ConnectError, Connection};

/// What gated sessions need of the API server.
#[derive(Clone)]
pub struct Cluster {
    /// What Targets name of Secrets.
    pub secrets: secrets::Secrets,
    /// Who says whose the tokens of clients are, where there is an API server.
    pub reviewer: Option<Arc<tokens::Reviewer>>,
}

impl Cluster {
    /// Where there is no API server.
    #[must_use]
    pub fn none() -> Self {
        Self { secrets: secrets::Secrets::none(), reviewer: None }
    }
}
