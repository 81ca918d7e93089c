//! Keeps a gateway's process running, and takes its frames to the sessions they speak of.
//!
//! The process is started with the first gated connection. When it ends, by itself or because it
//! says what no gateway says or does not answer, its sessions end with it; there is a record, and
//! another one is started, later each time it does not last. Connections wait for that for a moment
//! and are closed then.

mod running;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pcigate_policy::mask::{Cut, Masked};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Report,
    keeper::{Keeper, KeeperError},
    link::Link,
};
use crate::{
    causes::chain,
    draft::{Draft, Ending, Event, Outcome},
    pipeline::now_unix_nano,
    recorder::lock,
};
pub(super) use running::{Fault, Running, Said, Session};

/// How long a connection waits for a process that is being started.
const WAIT: Duration = Duration::from_secs(2);
/// Before another one is started: at first, and at last, doubled in between.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(15)];
/// A process that has run so long is started again as the first one is.
const LASTED: Duration = Duration::from_secs(60);

/// Ends the process when it is dropped.
pub struct Supervisor {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    keeper: Mutex<Keeper>,
    running: watch::Sender<Option<Arc<Running>>>,
    wanted: Notify,
    report: Report,
}

impl Supervisor {
    /// Starts nothing yet. `report` takes the records of what becomes of the process; must not
    /// wait. Must run inside of a tokio runtime.
    #[must_use]
    pub fn new(keeper: Keeper, report: Report) -> Self {
        let shared = Arc::new(Shared {
            keeper: Mutex::new(keeper),
            running: watch::Sender::new(None),
            wanted: Notify::new(),
            report,
        });
        let task = tokio::spawn(supervise(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// The process, once it takes sessions; nothing when it does not in time.
    pub(super) async fn running(&self) -> Option<Arc<Running>> {
        self.shared.wanted.notify_one();
        let mut running = self.shared.running.subscribe();
        let there = timeout(WAIT, running.wait_for(Option::is_some)).await;
        there.ok()?.ok()?.clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn supervise(shared: Arc<Shared>) {
    shared.wanted.notified().await;
    let [first, last] = AGAIN;
    let mut pause = first;
    loop {
        let began = Instant::now();
        let (why, sessions) = match start(&shared).await {
            Ok(running) => {
                shared.running.send_replace(Some(Arc::clone(&running)));
                let why = running.attend().await.to_string();
                shared.running.send_replace(None);
                (why, running.end())
            }
            Err(error) => (chain(&error), 0),
        };
        let ended = asked(&shared, Keeper::end_gateway).await;
        let ended = ended.unwrap_or_else(|error| chain(&error));
        let text = format!("the gateway's process is gone ({ended}): {why}; {sessions} sessions");
        tracing::error!("{text}; it is started again");
        (shared.report)(gone(&text));
        if began.elapsed() > LASTED {
            pause = first;
        }
        sleep(pause).await;
        pause = last.min(pause * 2);
    }
}

async fn start(shared: &Arc<Shared>) -> Result<Arc<Running>, Fault> {
    let socket = asked(shared, Keeper::start_gateway).await;
    let socket = socket.map_err(|source| Fault::Start { source })?;
    let link = Link::new(socket).map_err(|source| Fault::Link { source })?;
    let running = Running::new(link);
    running.ready().await?;
    Ok(Arc::new(running))
}

/// Asks the keeper, in a thread that may wait.
async fn asked<T: Send + 'static>(
    shared: &Arc<Shared>,
    ask: impl FnOnce(&Keeper) -> Result<T, KeeperError> + Send + 'static,
) -> Result<T, KeeperError> {
    let shared = Arc::clone(shared);
    let asked = tokio::task::spawn_blocking(move || ask(&lock(&shared.keeper))).await;
    asked.unwrap_or_else(|error| Err(KeeperError::Gone(std::io::Error::other(error))))
}

fn gone(text: &str) -> Draft {
    let object = Masked::new(text.as_bytes(), Cut::Whole);
    let event = Event::Attempt { operation: "gateway", object };
    let outcome = Outcome::plain(Ending::Failed);
    Draft { outcome, ..Draft::agent(now_unix_nano(), event) }
}
