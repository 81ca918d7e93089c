//! One session in the gateway's process: between the engine and the agent.

use std::{
    os::fd::OwnedFd,
    pin::pin,
    sync::{Arc, Mutex},
};

use pcigate_gateway::{Client, Dial, Entry, NotRecorded, Password, Review, serve};
use pcigate_postgres::login::Secret;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use zeroize::Zeroizing;

use super::{Lull, Shared};
use crate::{
    causes::chain,
    gateway::wire::{self, FRAME_MAX, FromGateway, TOLD_MAX, Terms, Told},
    recorder::lock,
};

/// Entries on their way to the agent; the session stands still while there is no room.
const ENTRIES_MAX: usize = 64;
/// Entries that wait for more, while nobody waits for them.
const LINGERING_MAX: usize = 16;
/// Bytes of events in one frame.
const ROOM: usize = FRAME_MAX - 64;

/// Runs until the client or the server has left, or `end` says so. All it had to tell has been
/// told then.
///
/// # Errors
/// Why it did not end in good order, for the log.
pub(super) async fn run(
    shared: Arc<Shared>,
    session: u64,
    terms: Terms,
    client: Option<OwnedFd>,
    end: oneshot::Receiver<String>,
) -> Result<(), String> {
    let client = client.ok_or("no descriptor is left for its client")?;
    let stream = TcpStream::from_std(client.into()).map_err(|error| error.to_string())?;
    let address = terms.client.clone();
    let knowledge = shared.knowledge(&terms.target.canonical);
    let (credential, password) = credential();
    let review: Review = {
        let shared = Arc::clone(&shared);
        Box::new(move |token| {
            let shared = Arc::clone(&shared);
            Box::pin(async move { shared.review(session, token).await })
        })
    };
    let making = move || terms.into_plan(knowledge, password, review);
    let plan = tokio::task::spawn_blocking(making).await;
    let plan = plan.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    let dial: Dial<TcpStream> = {
        let shared = Arc::clone(&shared);
        Box::new(move || {
            let (shared, credential) = (Arc::clone(&shared), Arc::clone(&credential));
            Box::pin(async move {
                let (connection, password) = shared.dial(session).await?;
                *lock(&credential) = password;
                TcpStream::from_std(connection.into())
            })
        })
    };
    let (door, entries) = mpsc::channel(ENTRIES_MAX);
    let telling = tokio::spawn(tell(Arc::clone(&shared), session, entries));
    let client = Client { stream, address, end };
    let result = serve(client, &plan, &dial, &shared.keys, &door).await;
    drop(door);
    // It ends when the last of its records has been handed over.
    let _ = telling.await;
    result.map_err(|error| chain(&error))
}

/// The password as it came with the newest connection.
type Credential = Arc<Mutex<Option<Zeroizing<Vec<u8>>>>>;

fn credential() -> (Credential, Password) {
    let credential = Credential::default();
    let newest = Arc::clone(&credential);
    let password = move || lock(&newest).as_ref().map(|kept| Secret::new(kept.to_vec()));
    (credential, Box::new(password))
}

/// Hands entries over, one frame at a time: what comes meanwhile goes together.
async fn tell(shared: Arc<Shared>, session: u64, mut entries: mpsc::Receiver<Entry>) {
    loop {
        // A new one each time: a session that is idle holds none.
        let mut batch = Vec::new();
        if entries.recv_many(&mut batch, TOLD_MAX).await == 0 {
            return;
        }
        linger(&shared.lull, &mut entries, &mut batch).await;
        let mut frame = Frame::default();
        for Entry { event, durable } in batch {
            let mut told = Told::of(event);
            // Its texts have been cut to what crosses. Where one has not, nothing more can be told,
            // and the session ends.
            let Ok(size) = wire::size(&mut told) else { return };
            if frame.size + size > ROOM {
                std::mem::take(&mut frame).send(&shared, session).await;
            }
            frame.size += size;
            frame.told.push(told);
            frame.waiting.extend(durable);
        }
        frame.send(&shared, session).await;
    }
}

/// Waits a moment for more, unless somebody waits for what there is.
async fn linger(lull: &Lull, entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) {
    if !may_wait(batch) {
        return;
    }
    let mut ended = pin!(lull.ended.notified());
    lull.began.notify_one();
    while may_wait(batch) {
        let room = TOLD_MAX - batch.len();
        tokio::select! {
            more = entries.recv_many(batch, room) => if more == 0 { return },
            () = &mut ended => return,
        }
    }
}

fn may_wait(batch: &[Entry]) -> bool {
    batch.len() < LINGERING_MAX && batch.iter().all(|entry| entry.durable.is_none())
}

#[derive(Default)]
struct Frame {
    told: Vec<Told>,
    size: usize,
    waiting: Vec<oneshot::Sender<Result<(), NotRecorded>>>,
}

impl Frame {
    async fn send(self, shared: &Shared, session: u64) {
        let durable = !self.waiting.is_empty();
        let frame = FromGateway::Told { session, durable, told: self.told };
        let kept = shared.recorded(session, frame).await;
        for answer in self.waiting {
            // Nobody waits where the session has ended meanwhile.
            let _ = answer.send(if kept { Ok(()) } else { Err(NotRecorded) });
        }
    }
}
