//! The exporter against collectors that behave, die, fall behind and lie.

mod collector;
mod tls;

use std::path::Path;
use std::time::Instant;

use pcigate_proto::record::Event as ProtoEvent;
use pcigate_proto::{Message as _, Record};
use tempfile::TempDir;

use super::*;
use crate::draft::samples::exec;
use crate::recorder::{self, Recorder};
use crate::spool::Limits;
use collector::{Collector, Scenario};

const DEADLINE: Duration = Duration::from_secs(30);
const QUICK: Backoff = Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(20) };

/// An agent's half: spool, recorder and the settings of an exporter.
struct Agent {
    dir: TempDir,
    spool: Arc<Mutex<Spool>>,
    recorder: Recorder,
}

impl Agent {
    fn new() -> Self {
        Self::at(TempDir::new().unwrap())
    }

    fn at(dir: TempDir) -> Self {
        // Small segments, so that acknowledged ones are really deleted.
        let limits = Limits { segment_bytes: 40 * 1024, ..Limits::default() };
        let spool = Spool::open(&dir.path().join("spool"), limits).unwrap();
        let spool = Arc::new(Mutex::new(spool));
        let recorder = recorder::start(Arc::clone(&spool), "n1".to_owned()).unwrap();
        Self { dir, spool, recorder }
    }

    /// Another run with the same directory.
    fn again(self) -> Self {
        let Self { dir, spool, recorder } = self;
        recorder.stop().unwrap();
        // A read of the exporter that was under way may hold the spool a moment longer.
        let deadline = Instant::now() + DEADLINE;
        while Arc::strong_count(&spool) > 1 {
            assert!(Instant::now() < deadline, "somebody keeps the spool");
            std::thread::yield_now();
        }
        drop(spool);
        Self::at(dir)
    }

    fn record(&self, count: usize) {
        let handle = self.recorder.handle();
        for _ in 0..count.div_ceil(500) {
            handle.record_durable(vec![exec("ls\0-l"); count.min(500)]).unwrap();
        }
    }

    fn export(&self, url: &str) -> Exporter {
        let witness_dir = self.witness_dir();
        let settings = Settings { url: url.to_owned(), tls: None, witness_dir, backoff: QUICK };
        start(settings, Arc::clone(&self.spool), self.recorder.handle()).unwrap()
    }

    fn witness_dir(&self) -> PathBuf {
        self.dir.path().join("witness")
    }
}

fn kept_checkpoint(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("checkpoint")).unwrap()
}

/// Waits for a condition with a deadline.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        tokio::task::yield_now().await;
    }
}

/// The messages of all Coverage CHANGE records the collector has.
fn changes(collector: &Collector) -> Vec<String> {
    let message = |bytes: &Vec<u8>| match Record::decode(bytes.as_slice()).unwrap().event {
        Some(ProtoEvent::Coverage(coverage)) => Some(coverage.message),
        _ => None,
    };
    collector.records().values().filter_map(message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_durable_reaches_the_collector_in_order_and_leaves_the_spool() {
    let agent = Agent::new();
    let collector = Collector::start(Scenario::AcksAll).await;
    agent.record(3000);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    agent.record(5);
    exporter.drain(DEADLINE).await.unwrap();
    let records = collector.records();
    // One Coverage record says that witnessing began.
    let last = lock(&agent.spool).durable_seq();
    assert!(records.keys().copied().eq(1..=last));
    assert_eq!(changes(&collector).len(), 1);
    let counters = exporter.counters();
    assert!(counters.connected && counters.trouble.is_none());
    assert_eq!((counters.acked_seq, counters.connects), (last, 1));
    assert_eq!(counters.sent_records, last);
    assert!(lock(&agent.spool).used_bytes() <= 40 * 1024);
    assert!(matches!(counters.witness, WitnessState::Verified { tree_size } if tree_size >= 3005));
    assert_eq!(collector.hello_tree_sizes(), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_between_storing_and_answering_gets_the_same_bytes_again() {
    let agent = Agent::new();
    let collector = Collector::start(Scenario::DiesBeforeAck { times: 3 }).await;
    agent.record(2000);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    assert_eq!(collector.conflicts(), 0);
    assert!(collector.resent() > 0, "nothing was sent twice");
    assert!(collector.records().keys().copied().take(2000).eq(1..=2000));
    assert!(exporter.counters().connects >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_eight_batches_wait_for_an_answer() {
    let agent = Agent::new();
    agent.record(10 * 1024);
    let collector = Collector::start(Scenario::WaitsForMore).await;
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    assert_eq!(collector.most_in_flight(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_at_first_loses_nothing() {
    let agent = Agent::new();
    agent.record(100);
    let port = Collector::free_port();
    let exporter = agent.export(&format!("http://127.0.0.1:{port}"));
    let undrained = exporter.drain(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(undrained.unsent, 100);
    until(|| exporter.counters().connects > 2).await;
    let trouble = exporter.counters().trouble.unwrap();
    assert!(trouble.contains("cannot connect") && trouble.contains("refused"), "{trouble}");
    let collector = Collector::start_at(port, Scenario::AcksAll).await;
    exporter.drain(DEADLINE).await.unwrap();
    assert!(collector.records().keys().copied().take(100).eq(1..=100));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_goes_on_where_the_collector_is() {
    let agent = Agent::new();
    let collector = Collector::start(Scenario::AcksAll).await;
    agent.record(50);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    exporter.stop().await;
    let agent = agent.again();
    agent.record(50);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    assert_eq!((collector.resent(), collector.conflicts()), (0, 0));
    assert!(collector.hello_tree_sizes()[1] >= 50, "witnessing goes on too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_lost_what_it_acknowledged_is_told_of_the_hole_and_on_record() {
    let agent = Agent::new();
    agent.record(1000);
    lock(&agent.spool).ack(1000).unwrap();
    let collector = Collector::start(Scenario::AcksAll).await;
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    until(|| collector.records().keys().any(|seq| *seq > 1000)).await;
    let (first, last, reason) = collector.holes().remove(0);
    assert_eq!(first, 1);
    assert!((500..1000).contains(&last), "the newest segment is still there: {last}");
    assert!(reason.contains("acknowledged"), "{reason}");
    until(|| changes(&collector).iter().any(|change| change.contains("lost evidence"))).await;
    assert!((last + 1..=1000).all(|seq| collector.records().contains_key(&seq)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_set_back_sends_what_it_has_and_uses_new_numbers() {
    let agent = Agent::new();
    agent.record(10);
    let collector = Collector::start(Scenario::AcksAll).await;
    collector.pretend_to_have(lock(&agent.spool).epoch(), 40);
    let exporter = agent.export(&collector.url());
    until(|| collector.conflicts() == 10).await;
    agent.record(1);
    exporter.drain(DEADLINE).await.unwrap();
    assert!(changes(&collector).iter().any(|change| change.contains("set back")));
    assert!(collector.records().contains_key(&41));
    assert_eq!(collector.holes(), []);
    assert_eq!(exporter.counters().refused_records, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_counted_and_does_not_hold_up_the_others() {
    let agent = Agent::new();
    agent.record(30);
    let collector = Collector::start(Scenario::Refuses { seq: 7 }).await;
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    assert_eq!(exporter.counters().refused_records, 1);
    assert!(!collector.records().contains_key(&7) && collector.records().contains_key(&30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_does_not_extend_what_was_seen_raises_an_alarm_and_is_not_kept() {
    let agent = Agent::new();
    let collector = Collector::start(Scenario::AcksAll).await;
    agent.record(100);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    exporter.stop().await;
    let kept = kept_checkpoint(&agent.witness_dir());
    let acked = lock(&agent.spool).acked_seq();
    assert!(acked >= 100);

    collector.play(Scenario::Forks);
    let exporter = agent.export(&collector.url());
    until(|| changes(&collector).iter().any(|change| change.contains("does not extend"))).await;
    agent.record(600);
    until(|| collector.records().len() > 700).await;
    let undrained = exporter.drain(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(undrained.contains("nothing is deleted on this node"), "{undrained}");
    assert_eq!(lock(&agent.spool).acked_seq(), acked, "its Acks delete nothing");
    let WitnessState::Alarm { message, .. } = exporter.counters().witness else { panic!() };
    for part in kept.lines().skip(1).take(2) {
        assert!(message.contains(part), "{part}: {message}");
    }
    let alarms = changes(&collector).iter().filter(|c| c.contains("does not extend")).count();
    assert_eq!(alarms, 1, "told once, not with every Ack");
    exporter.stop().await;
    assert_eq!(kept_checkpoint(&agent.witness_dir()), kept);

    collector.play(Scenario::AcksAll);
    let exporter = agent.export(&collector.url());
    agent.record(1);
    exporter.drain(DEADLINE).await.unwrap();
    assert!(matches!(exporter.counters().witness, WitnessState::Verified { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_with_another_key_raises_an_alarm() {
    let agent = Agent::new();
    let collector = Collector::start(Scenario::AcksAll).await;
    agent.record(1);
    let exporter = agent.export(&collector.url());
    exporter.drain(DEADLINE).await.unwrap();
    exporter.stop().await;
    let other = Collector::start(Scenario::AcksAll).await;
    let exporter = agent.export(&other.url());
    agent.record(1);
    until(|| matches!(exporter.counters().witness, WitnessState::Alarm { .. })).await;
    let WitnessState::Alarm { message, .. } = exporter.counters().witness else { panic!() };
    assert!(message.contains("key of the collector's log changed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_of_what_was_never_sent_moves_nothing() {
    let agent = Agent::new();
    agent.record(10);
    let collector = Collector::start(Scenario::AcksTooMuch).await;
    let exporter = agent.export(&collector.url());
    let refused = |trouble: String| trouble.contains("makes no sense");
    until(|| exporter.counters().trouble.is_some_and(refused)).await;
    assert_eq!(lock(&agent.spool).acked_seq(), 0);
}

#[test]
fn witness_files_that_cannot_be_used_are_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("ledger.vkey"), "nonsense").unwrap();
    let error = Witness::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("ledger.vkey") && error.contains("restore it"), "{error}");
    let key = pcigate_ledger::SigningKey::generate("log").unwrap().verifier().to_string();
    std::fs::write(dir.path().join("ledger.vkey"), key).unwrap();
    std::fs::write(dir.path().join("checkpoint"), "nonsense").unwrap();
    let error = Witness::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("checkpoint is not signed by the pinned"), "{error}");
}

#[test]
fn waits_grow_up_to_the_cap_and_are_spread_from_nothing() {
    let backoff = Backoff::default();
    let most = |failures| {
        (0..1000_u64).map(|n| backoff.wait(failures, n.wrapping_mul(u64::MAX / 997))).max().unwrap()
    };
    assert!(most(1) <= Duration::from_millis(200) && most(1) > Duration::from_millis(150));
    assert!(most(4) <= Duration::from_millis(1600) && most(4) > Duration::from_millis(1200));
    assert!(most(100) <= Duration::from_secs(15) && most(100) > Duration::from_secs(12));
    assert!(backoff.wait(100, 0).is_zero());
}
