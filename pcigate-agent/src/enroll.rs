//! The node's certificate by enrolment: the agent shows the token of its own pod, the collector has
//! the API server say whose that is, and issues a certificate for the pod's node.
//!
//! A certificate is renewed after two thirds of its life, and when the collector does not take it.
//! Who cannot be reached is asked again; what is there stays in use meanwhile, and without one
//! records stay in the spool. Times are compared with the wall clock twice a minute, so that a
//! clock that is stepped is noticed.

mod ask;
mod pair;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pcigate_policy::mask::{Cut, Masked, one_line};
use rand_core::{OsRng, RngCore};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    causes::chain,
    draft::{CoverageState, Draft, Event},
    exporter::{Backoff, Current, Tls},
    recorder::RecorderHandle,
};
pub use ask::AskError;
use pair::{Pair, Standing};

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How old a certificate must be that the collector does not take before it is replaced; doubled
/// each time, so that one that no replacement helps is not asked for for ever.
const REPLACE_AFTER: Duration = Duration::from_secs(5);
const REPLACE_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Bytes of a reason that are told: the collector's words are among them.
const WHY_MAX: usize = 300;
/// 5,000 nodes that ask for their first certificate, or for one while the API server is away.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Where and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector's address of enrolment, `https://HOST:PORT`.
    pub url: String,
    /// The pod's projected ServiceAccount token; read anew each time.
    pub token_file: PathBuf,
    /// The authority of the collector's certificate.
    pub ca_file: PathBuf,
    /// Where `ca.pem`, `cert.pem` and `key.pem` are kept.
    pub tls_dir: PathBuf,
    /// This node.
    pub node: String,
}

/// Begins with the certificate that is there, and has it renewed for as long as somebody uses the
/// answer. Must run inside of a tokio runtime.
#[must_use]
pub fn start(settings: Settings, recorder: RecorderHandle) -> Tls {
    let pair = match Pair::read(&settings.tls_dir, &settings.ca_file, &settings.node) {
        Ok(pair) => Some(pair),
        Err(why) => {
            tracing::info!("this node asks for a certificate ({why})");
            None
        }
    };
    let current = pair.as_ref().map(Pair::tls);
    let current = current.ok_or_else(|| "it is being asked for".to_owned());
    let (tell, current) = watch::channel(current);
    let refused = Arc::new(Notify::new());
    let mut task = JoinSet::new();
    let mut keeper = Keeper { settings, recorder, tell, pair, told: Told::default() };
    let is_refused = Arc::clone(&refused);
    task.spawn(async move { keeper.run(&is_refused).await });
    Tls::renewed(current, refused, task)
}

struct Keeper {
    settings: Settings,
    recorder: RecorderHandle,
    tell: watch::Sender<Current>,
    pair: Option<Pair>,
    told: Told,
}

/// What was said last, so that it is said once.
#[derive(Default)]
struct Told {
    failure: Option<String>,
    standing: Option<&'static str>,
}

impl Keeper {
    async fn run(&mut self, refused: &Notify) {
        let (mut failures, mut asked) = (0_u32, None::<Instant>);
        let mut patience = REPLACE_AFTER;
        loop {
            let standing = self.pair.as_ref().map(|pair| pair.standing(SystemTime::now()));
            self.tell_standing(standing);
            let wait = match standing {
                Some(Standing::Good { left }) => Some(left),
                // Another would not count sooner by this clock.
                Some(Standing::NotYet) => Some(LOOK_EVERY),
                Some(Standing::Due | Standing::Expired) | None => None,
            };
            if let Some(left) = wait {
                tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK_EVERY)) => continue,
                    () = refused.notified() => {}
                }
                if asked.is_some_and(|at| at.elapsed() < patience) {
                    continue;
                }
                patience = (patience * 2).min(REPLACE_AFTER_MAX);
            } else {
                patience = REPLACE_AFTER;
            }
            asked = Some(Instant::now());
            match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    self.told.failure = None;
                    continue;
                }
                Err(why) => self.tell_failure(&why),
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(BACKOFF.wait(failures, OsRng.next_u64())).await;
        }
    }

    /// Asks for one, keeps and uses it.
    async fn renew(&mut self) -> Result<(), String> {
        let pair = ask::ask(&self.settings).await.map_err(|error| chain(&error))?;
        if let Err(error) = pair.keep(&self.settings.tls_dir) {
            tracing::error!(
                "cannot write the certificate into {} (collector.tlsDir), so the next start has to \
                 ask for another: {error}",
                self.settings.tls_dir.display()
            );
        }
        tracing::info!(node = self.settings.node, "this node has a new certificate");
        let standing = pair.standing(SystemTime::now());
        drop(self.tell.send_replace(Ok(pair.tls())));
        self.pair = Some(pair);
        match standing {
            Standing::Good { .. } => Ok(()),
            other => Err(format!(
                "the new certificate {}: this node's clock or the collector's is wrong",
                other.words()
            )),
        }
    }

    fn tell_failure(&mut self, why: &str) {
        let why = one_line(why, WHY_MAX);
        if self.pair.is_none() {
            drop(self.tell.send_replace(Err(why.clone())));
        }
        if self.told.failure.as_deref() != Some(&why) {
            let stays = if self.pair.is_some() {
                "the one there is stays in use"
            } else {
                "records stay in the spool"
            };
            tracing::warn!("no new certificate for this node, {stays}: {why}");
            self.told.failure = Some(why);
        }
    }

    /// Puts into the evidence that the certificate does not count by this node's clock.
    fn tell_standing(&mut self, standing: Option<Standing>) {
        let Some(standing) = standing else { return };
        let words = standing.words();
        let counts = matches!(standing, Standing::Good { .. } | Standing::Due);
        let before = self.told.standing.replace(words);
        if before == Some(words) || (counts && !before.is_some_and(Standing::is_trouble)) {
            return;
        }
        let message = format!("the node's certificate {words} by this node's clock");
        tracing::warn!("{message}");
        let event = Event::Coverage {
            state: CoverageState::Change,
            message: Masked::new(message.as_bytes(), Cut::Whole),
            capabilities: Vec::new(),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Where the queue is full, the recorder has counted it.
        let _ = self.recorder.record(vec![Draft::agent(now, event)]);
    }
}

#[cfg(test)]
mod tests;
