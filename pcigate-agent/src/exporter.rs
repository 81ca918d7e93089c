//! Sends what is durable in the spool to the collector, in order, and moves the cursor when the
//! collector has it. It reconnects for ever; being away loses nothing until the spool is full.
//!
//! One stream of batches, up to four of them under way; a batch is read from the spool when it is
//! sent, so a resend is the same bytes under the same numbers. Every Ack also shows this node the
//! ledger's checkpoint ([`Witness`](witness)).

mod certificate;
mod identity;
mod session;
mod trouble;
mod witness;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcigate_policy::mask::{Cut, Masked};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::draft::{CoverageState, Draft, Event};
use crate::recorder::{RecorderHandle, lock};
use crate::spool::Spool;
use trouble::{Kind, Trouble};
use witness::Witness;

pub use certificate::{Current, Tls};
pub(crate) use identity::node_of;
pub use identity::{IdentityError, node_name_of};
pub use witness::{WitnessError, WitnessState};

/// Where and how to send.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector, `https://HOST:PORT`; HOST must be a name in its certificate.
    pub url: String,
    /// mTLS; `None` only for an `http://` collector in tests.
    pub tls: Option<Tls>,
    /// Directory for the last verified checkpoint and the ledger's key; made where missing.
    pub witness_dir: PathBuf,
    /// How long to wait before connecting again.
    pub backoff: Backoff,
}

/// Exponential backoff with full jitter: a random time up to `first`, then up to twice that, ….
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Largest first wait.
    pub first: Duration,
    /// Largest wait.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 200 ms rides out a restart; 15 s spread over all nodes does not storm a collector that
    /// comes back.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), cap: Duration::from_secs(15) }
    }
}

/// What the exporter has done and how it is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Whether a stream is open and the collector has answered.
    pub connected: bool,
    /// Last number the collector has.
    pub acked_seq: u64,
    /// Records sent, resent ones included.
    pub sent_records: u64,
    /// Records the collector refused as incomplete or in conflict; they are in no ledger.
    pub refused_records: u64,
    /// Connections that were tried.
    pub connects: u64,
    /// Why the last stream ended or could not begin.
    pub trouble: Option<String>,
    /// What this node knows of the ledger.
    pub witness: WitnessState,
}

/// Not everything was acknowledged within the deadline.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{unsent} records are not yet at the collector{}; they stay in the spool and are sent when an \
     agent runs with the same state directory and collector",
    trouble.as_deref().map(|trouble| format!(" ({trouble})")).unwrap_or_default()
)]
pub struct Undrained {
    /// Records without an Ack.
    pub unsent: u64,
    /// What keeps them here, where known.
    pub trouble: Option<String>,
}

/// The running exporter.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Tells how the exporter is doing, also after its end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Shared>);

impl Progress {
    /// As [`Exporter::counters`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.0.counters).clone()
    }
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    spool: Arc<Mutex<Spool>>,
    recorder: RecorderHandle,
    witness: Mutex<Witness>,
    counters: Mutex<Counters>,
    acked: watch::Sender<u64>,
    /// Connections that failed since the last Ack.
    failures: Mutex<u32>,
}

/// Starts sending, in a task of the current tokio runtime.
///
/// # Errors
/// The witness files of an earlier run cannot be used.
pub fn start(
    settings: Settings,
    spool: Arc<Mutex<Spool>>,
    recorder: RecorderHandle,
) -> Result<Exporter, WitnessError> {
    let witness = Witness::load(&settings.witness_dir)?;
    let acked_seq = lock(&spool).acked_seq();
    let counters = Counters { acked_seq, witness: witness.state(), ..Counters::default() };
    let shared = Arc::new(Shared {
        settings,
        spool,
        recorder,
        witness: Mutex::new(witness),
        counters: Mutex::new(counters),
        acked: watch::channel(acked_seq).0,
        failures: Mutex::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(Arc::clone(&shared), stopped));
    Ok(Exporter { shared, stop, task })
}

impl Exporter {
    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.shared.counters).clone()
    }

    /// The same for others to look at.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.shared))
    }

    /// Waits until everything durable now is acknowledged.
    ///
    /// # Errors
    /// The deadline passed first; nothing is lost.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Undrained> {
        let target = lock(&self.shared.spool).durable_seq();
        let mut acked = self.shared.acked.subscribe();
        let reached = acked.wait_for(|acked| *acked >= target);
        let in_time = tokio::time::timeout(deadline, reached).await;
        if matches!(in_time, Ok(Ok(_))) {
            return Ok(());
        }
        let unsent = target.saturating_sub(lock(&self.shared.spool).acked_seq());
        if unsent == 0 {
            return Ok(());
        }
        let trouble = lock(&self.shared.counters).trouble.clone();
        Err(Undrained { unsent, trouble })
    }

    /// Ends sending at once; what is under way is sent again by the next run.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the exporter task did not end well");
        }
        if let Err(error) = lock(&self.shared.witness).save() {
            tracing::warn!(cause = %sources(&error), "{error}");
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row; `random` picks a point in the range.
    pub(crate) fn wait(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let most = self.first.saturating_mul(1 << doublings).min(self.cap);
        let most_ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random % most_ns.saturating_add(1))
    }
}

impl Shared {
    /// Says in the evidence itself that something about the collector changed.
    fn record_change(&self, message: &str) {
        let event = Event::Coverage {
            state: CoverageState::Change,
            message: Masked::new(message.as_bytes(), Cut::Whole),
            capabilities: Vec::new(),
        };
        // Where the queue is full, the recorder has counted it.
        let _ = self.recorder.record(vec![Draft::agent(session::now_unix_nano(), event)]);
    }
}

async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut last_trouble: Option<Kind> = None;
    let mut tls = shared.settings.tls.clone();
    loop {
        let trouble = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            trouble = session::run(&shared, &mut tls) => trouble,
        };
        if let (Kind::ClientCertificate, Some(tls)) = (trouble.kind(), &tls) {
            tls.is_refused();
        }
        let was_connected = {
            let mut counters = lock(&shared.counters);
            counters.trouble = Some(told(&trouble));
            std::mem::take(&mut counters.connected)
        };
        // A trouble is told once, and again only after the collector had answered in between.
        if was_connected || last_trouble != Some(trouble.kind()) {
            tell(&trouble, &shared.settings.url);
            last_trouble = Some(trouble.kind());
        }
        let failures = {
            let mut failures = lock(&shared.failures);
            *failures = failures.saturating_add(1);
            *failures
        };
        let wait = shared.settings.backoff.wait(failures, OsRng.next_u64());
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(wait) => {}
            () = changed(&mut tls) => {}
        }
    }
}

/// Waits for another certificate.
async fn changed(tls: &mut Option<Tls>) {
    match tls {
        Some(tls) => tls.changed().await,
        None => std::future::pending().await,
    }
}

fn tell(trouble: &Trouble, url: &str) {
    let (cause, remedy) = (sources(trouble), trouble.kind().remedy());
    tracing::warn!(url, %cause, remedy, "records stay in the spool: {trouble}");
}

/// A trouble in one line: what, why, and what to do.
fn told(trouble: &Trouble) -> String {
    let (cause, remedy) = (sources(trouble), trouble.kind().remedy());
    let cause = if cause.is_empty() { cause } else { format!(" ({cause})") };
    format!("{trouble}{cause}: {remedy}")
}

/// The sources of an error, from the outermost in.
fn sources(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests;
