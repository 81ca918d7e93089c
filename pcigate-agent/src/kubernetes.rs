//! The Kubernetes API server: pods, policies, secrets and what is told of them there. The crate
//! `kube` is named below here only.

mod backoff;
mod connection;
mod reflector;

pub mod documents;
pub mod pods;
pub mod secrets;
pub mod status;

pub use connection::{ConnectError, Connection};
