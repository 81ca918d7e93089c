//! The certificate that is shown to the collector, which may be exchanged while records are sent.

use std::{fmt, future::pending, sync::Arc};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tonic::transport::ClientTlsConfig;

/// The one in use, or why there is none.
pub type Current = Result<ClientTlsConfig, String>;

/// Where certificates come from.
#[derive(Clone)]
pub struct Tls {
    current: watch::Receiver<Current>,
    refused: Arc<Notify>,
    /// What renews it; ends with the last that uses it.
    _renewing: Arc<JoinSet<()>>,
}

impl Tls {
    /// One for as long as the agent runs.
    #[must_use]
    pub fn fixed(tls: ClientTlsConfig) -> Self {
        Self::renewed(watch::channel(Ok(tls)).1, Arc::default(), JoinSet::new())
    }

    /// Whatever `current` holds; `refused` is told when the collector does not take it.
    #[must_use]
    pub fn renewed(
        current: watch::Receiver<Current>,
        refused: Arc<Notify>,
        renewing: JoinSet<()>,
    ) -> Self {
        Self { current, refused, _renewing: Arc::new(renewing) }
    }

    /// The one to connect with now.
    pub(crate) fn current(&mut self) -> Current {
        self.current.borrow_and_update().clone()
    }

    /// Waits until there is another than was given last.
    pub(crate) async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            // Nobody makes another.
            pending::<()>().await;
        }
    }

    pub(crate) fn is_refused(&self) {
        self.refused.notify_one();
    }
}

/// It leads to a private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
