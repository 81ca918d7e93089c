//! One stream to the collector: Hello, then batches with at most eight unanswered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcigate_proto::ingest_client::IngestClient;
use pcigate_proto::{self as proto, Ack, SendRequest, send_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::trouble::Trouble;
use super::witness::{Change, WitnessState};
use super::{Shared, Tls, changed, lock};
use crate::spool::{Batch, SpoolError};

/// Records in a batch at most: what the collector takes, because its group commits cost by their
/// number.
const BATCH_RECORDS_MAX: usize = 1024;
/// Bytes of records in a batch at most; a quarter of gRPC's usual message limit of 4 MiB.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Batches without an Ack at most, as many as the collector reads ahead: two each way, two at its
/// disk, two ready.
const IN_FLIGHT_MAX: usize = 8;
/// How long the collector may take for an answer that it owes.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How far a collector may be ahead of a spool that was set back: years of a busy node. Beyond it,
/// its answer is not believed: it could use up all numbers.
const AHEAD_MAX: u64 = 1 << 44;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed after these two.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(20);

/// Connects and sends until something goes wrong.
pub(super) async fn run(shared: &Arc<Shared>, tls: &mut Option<Tls>) -> Trouble {
    loop {
        if let Err(trouble) = converse(shared, tls).await {
            return trouble;
        }
        tracing::info!("connecting to the collector with the new certificate");
    }
}

/// Ends well where there is another certificate, with every batch acknowledged.
async fn converse(shared: &Arc<Shared>, tls: &mut Option<Tls>) -> Result<(), Trouble> {
    lock(&shared.counters).connects += 1;
    let channel = connect(shared, tls.as_mut()).await?;
    let (requests, outgoing) = mpsc::channel(IN_FLIGHT_MAX + 1);
    let hello = send_request::Message::Hello(hello(shared));
    send(&requests, hello).await?;
    let mut client = IngestClient::new(channel);
    let answer = client.send(ReceiverStream::new(outgoing));
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(|_| silent())?;
    let mut acks = answer.map_err(|refused| status(refused, false))?.into_inner();
    let first = next_ack(&mut acks, true, false).await?;
    let mut stream = Stream::begin(shared, first).await?;
    let mut durable = shared.recorder.durable();
    let mut recording = true;
    let mut renewed = false;
    loop {
        durable.borrow_and_update();
        if renewed && stream.in_flight.is_empty() {
            return Ok(());
        }
        while !renewed
            && stream.in_flight.len() < IN_FLIGHT_MAX
            && let Some(batch) = stream.next_batch().await?
        {
            send(&requests, send_request::Message::Batch(batch)).await?;
        }
        let owes = !stream.in_flight.is_empty();
        tokio::select! {
            ack = next_ack(&mut acks, owes, true) => stream.acked(ack?).await?,
            changed = durable.changed(), if recording && !renewed => recording = changed.is_ok(),
            () = changed(tls), if !renewed => renewed = true,
        }
    }
}

async fn connect(shared: &Shared, tls: Option<&mut Tls>) -> Result<Channel, Trouble> {
    let url = &shared.settings.url;
    let address = |source| Trouble::Address { url: url.clone(), source };
    let mut endpoint = Endpoint::from_shared(url.clone())
        .map_err(address)?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if let Some(tls) = tls {
        let tls = tls.current().map_err(|why| Trouble::NoCertificate { why })?;
        endpoint = endpoint.tls_config(tls).map_err(address)?;
    }
    endpoint.connect().await.map_err(|source| Trouble::Connect { source })
}

fn hello(shared: &Shared) -> proto::Hello {
    let (epoch, place) = {
        let spool = lock(&shared.spool);
        (spool.epoch().to_vec(), spool.place().to_vec())
    };
    let tree_size = lock(&shared.witness).begin_stream();
    let agent_version = env!("CARGO_PKG_VERSION").to_owned();
    proto::Hello { epoch, tree_size, agent_version, place }
}

async fn send(
    requests: &mpsc::Sender<SendRequest>,
    message: send_request::Message,
) -> Result<(), Trouble> {
    let request = SendRequest { message: Some(message) };
    requests.send(request).await.map_err(|_| Trouble::Ended)
}

/// The next Ack; without a deadline where none is owed. `answered`: it is not the first.
async fn next_ack(acks: &mut Streaming<Ack>, owed: bool, answered: bool) -> Result<Ack, Trouble> {
    let message = acks.message();
    let message = if owed {
        tokio::time::timeout(ANSWER_WITHIN, message).await.map_err(|_| silent())?
    } else {
        message.await
    };
    message.map_err(|error| status(error, answered))?.ok_or(Trouble::Ended)
}

fn status(status: tonic::Status, answered: bool) -> Trouble {
    Trouble::Status { status: Box::new(status), answered }
}

fn silent() -> Trouble {
    Trouble::Silent { seconds: ANSWER_WITHIN.as_secs() }
}

/// The state of a stream after its first Ack.
struct Stream<'a> {
    shared: &'a Arc<Shared>,
    /// What the collector had at Hello: a hole below is none to it.
    had_seq: u64,
    next_seq: u64,
    /// The last number of each batch without an Ack.
    in_flight: VecDeque<u64>,
}

impl<'a> Stream<'a> {
    /// Settles where to go on: behind what the collector has.
    async fn begin(shared: &'a Arc<Shared>, ack: Ack) -> Result<Self, Trouble> {
        let had_seq = ack.seq;
        let (acked, durable) = {
            let spool = lock(&shared.spool);
            if ack.epoch != spool.epoch() {
                let what = "the Ack of Hello names another epoch".to_owned();
                return Err(Trouble::Protocol { what });
            }
            (spool.acked_seq(), spool.durable_seq())
        };
        if had_seq > durable.saturating_add(AHEAD_MAX) {
            let what = format!("it has {had_seq} of {durable} records");
            return Err(Trouble::Protocol { what });
        }
        let mut stream =
            Self { shared, had_seq, next_seq: had_seq + 1, in_flight: VecDeque::new() };
        let mut settled = had_seq;
        if had_seq > durable {
            // This spool was set back. What it holds may differ from what the collector has under
            // the same numbers, so all of it is sent: equal bytes are recognised, others become
            // Conflict records. New records get numbers nobody has used.
            settled = acked;
            stream.next_seq = acked + 1;
            blocking(shared, move |shared| lock(&shared.spool).skip_to(had_seq + 1)).await?;
            shared.record_change(&format!(
                "the collector has records of this spool up to {had_seq}, but the spool ends at \
                 {durable}: it was set back to an older state; its records from {} on may be in \
                 conflict with what the collector has, and new ones are numbered from {}",
                acked + 1,
                had_seq + 1
            ));
        } else if had_seq < acked {
            shared.record_change(&format!(
                "the collector acknowledged the records of this spool up to {acked} and now has \
                 them only up to {had_seq}: it has lost evidence; what is still on this node is \
                 sent again"
            ));
        }
        stream.settle(ack, settled).await?;
        {
            let mut counters = lock(&shared.counters);
            counters.connected = true;
            if !matches!(counters.witness, WitnessState::Alarm { .. }) {
                counters.trouble = None;
            }
        }
        tracing::info!(url = shared.settings.url, had_seq, "the collector answers");
        Ok(stream)
    }

    /// The next batch to send, if there is anything.
    async fn next_batch(&mut self) -> Result<Option<proto::Batch>, Trouble> {
        let from = self.next_seq;
        let read = move |shared: &Shared| {
            let mut spool = lock(&shared.spool);
            let batch = spool.read(from, BATCH_RECORDS_MAX, BATCH_BYTES_MAX)?;
            Ok((spool.epoch(), batch))
        };
        let (epoch, Batch { first_seq, records, hole }) = blocking(self.shared, read).await?;
        if records.is_empty() && hole.is_none() {
            return Ok(None);
        }
        let last_seq = first_seq + records.len() as u64 - 1;
        let hole = hole.filter(|hole| hole.last_seq > self.had_seq).map(|hole| proto::Hole {
            first_seq: hole.first_seq.max(self.had_seq + 1),
            last_seq: hole.last_seq,
            reason: hole.reason.to_owned(),
        });
        self.next_seq = last_seq + 1;
        self.in_flight.push_back(last_seq);
        lock(&self.shared.counters).sent_records += records.len() as u64;
        let sent_unix_nano = now_unix_nano();
        let epoch = epoch.to_vec();
        Ok(Some(proto::Batch { epoch, first_seq, records, hole, sent_unix_nano }))
    }

    async fn acked(&mut self, ack: Ack) -> Result<(), Trouble> {
        let expected = self.in_flight.pop_front();
        // Behind a spool that was set back, the collector's cursor is ahead of what is sent.
        let most = self.next_seq.saturating_sub(1).max(self.had_seq);
        if expected.is_none_or(|expected| ack.seq < expected) || ack.seq > most {
            let what = format!(
                "an Ack of {} where {} was expected",
                ack.seq,
                expected.map_or("none".to_owned(), |seq| seq.to_string())
            );
            return Err(Trouble::Protocol { what });
        }
        *lock(&self.shared.failures) = 0;
        let seq = ack.seq.min(self.next_seq.saturating_sub(1));
        self.settle(ack, seq).await
    }

    /// Takes in what an Ack says: the cursor, refused records, and the checkpoint.
    async fn settle(&mut self, ack: Ack, seq: u64) -> Result<(), Trouble> {
        for refused in &ack.refused {
            tracing::error!(
                seq = refused.seq,
                field = refused.field,
                reason = refused.reason,
                "the collector refused a record: it is in no ledger"
            );
        }
        let refused = ack.refused.len() as u64;
        let (change, state) = blocking(self.shared, move |shared| {
            let (change, state) = {
                let mut witness = lock(&shared.witness);
                (witness.check(&ack), witness.state())
            };
            let mut spool = lock(&shared.spool);
            // A ledger that forgets what it showed proves nothing about what it says it has.
            spool.hold(matches!(state, WitnessState::Alarm { .. }));
            if !spool.is_held() {
                spool.ack(seq)?;
            }
            Ok((change, state))
        })
        .await?;
        if let Some(change) = change {
            match &change {
                Change::Alarm(message) => tracing::error!("{message}"),
                Change::Notice(message) => tracing::info!("{message}"),
            }
            let (Change::Alarm(message) | Change::Notice(message)) = change;
            self.shared.record_change(&message);
        }
        {
            let mut counters = lock(&self.shared.counters);
            counters.refused_records += refused;
            if let WitnessState::Alarm { message, .. } = &state {
                counters.trouble = Some(format!("nothing is deleted on this node: {message}"));
                counters.witness = state;
                return Ok(());
            }
            counters.acked_seq = counters.acked_seq.max(seq);
            counters.witness = state;
        }
        self.shared.acked.send_if_modified(|acked| {
            let grows = seq > *acked;
            *acked = seq.max(*acked);
            grows
        });
        Ok(())
    }
}

/// Disk work, away from the async workers.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Trouble> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|_| Trouble::Cancelled)?.map_err(|source| Trouble::Spool { source })
}

/// Now, ns since 1970.
pub(super) fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_nanos(1));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
