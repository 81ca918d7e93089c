//! Every draft ends as a durable record or in a count.

use std::future::Future as _;
use std::task::Poll;
use std::time::{Duration, Instant};

use pcigate_proto::record::{Event as ProtoEvent, check_complete};
use pcigate_proto::{Message as _, Record};
use tempfile::TempDir;

use super::*;
use crate::draft::samples::{exec, refused_connect};
use crate::draft::{Event, Lost};
use crate::spool::Limits;

const SMALL: Limits =
    Limits { total_bytes: 200 * 1024, segment_bytes: 40 * 1024, reserve_bytes: 20 * 1024 };

struct Fixture {
    _dir: TempDir,
    spool: Arc<Mutex<Spool>>,
    recorder: Recorder,
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let spool = Arc::new(Mutex::new(Spool::open(dir.path(), SMALL).unwrap()));
    let recorder = start(Arc::clone(&spool), "n1".to_owned()).unwrap();
    Fixture { _dir: dir, spool, recorder }
}

fn records(spool: &Mutex<Spool>) -> Vec<Record> {
    let mut records = Vec::new();
    let mut spool = lock(spool);
    let mut next = spool.acked_seq() + 1;
    loop {
        let batch = spool.read(next, 1000, usize::MAX).unwrap();
        if batch.records.is_empty() {
            return records;
        }
        for (seq, bytes) in (next..).zip(&batch.records) {
            let record = Record::decode(bytes.as_slice()).unwrap();
            assert_eq!(check_complete(&record), Ok(()));
            assert_eq!(record.origin.as_ref().unwrap().seq, seq);
            records.push(record);
            next = seq + 1;
        }
    }
}

/// All Lost records added up by queue and reason.
fn told(records: &[Record]) -> BTreeMap<(String, String), u64> {
    let mut told = BTreeMap::new();
    for record in records {
        if let Some(ProtoEvent::Lost(lost)) = &record.event {
            *told.entry((lost.queue.clone(), lost.reason.clone())).or_default() += lost.count;
        }
    }
    told
}

fn counted(counters: &Counters) -> BTreeMap<(String, String), u64> {
    let name = |queue: &Queue, reason: &LostReason| {
        (queue.as_str().to_owned(), reason.as_str().to_owned())
    };
    counters.lost.iter().map(|((queue, reason), count)| (name(queue, reason), *count)).collect()
}

/// An exec of some 8 KiB.
fn large() -> Draft {
    exec(&"x".repeat(8 * 1024))
}

/// Waits for a condition with a deadline.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        std::thread::yield_now();
    }
}

#[test]
fn drafts_become_records_in_order_and_are_counted_by_kind_and_verdict() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    handle.record(vec![exec("ls\x004111111111111111"), refused_connect()]).unwrap();
    handle.record(vec![exec("pwd")]).unwrap();
    assert_eq!(handle.flush(), Ok(3));
    assert_eq!(*handle.durable().borrow(), 3);
    let records = records(&spool);
    assert!(matches!(records[1].event, Some(ProtoEvent::Egress(_))));
    let counters = handle.counters();
    assert_eq!(counters.recorded, 3);
    assert_eq!(counters.masked, BTreeMap::from([("pan".to_owned(), 1)]));
    let by_verdict = [(("egress", Verdict::Deny), 1), (("exec", Verdict::Unspecified), 2)];
    assert_eq!(counters.by_verdict, BTreeMap::from(by_verdict));
    assert_eq!(recorder.stop(), Ok(3));
}

#[test]
fn many_small_messages_leave_no_room_before_one_of_them_is_lost() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let held = lock(&spool);
    handle.record(vec![refused_connect()]).unwrap();
    // The thread has taken it, and waits for the spool.
    until(|| handle.room() == QUEUE_DRAFTS_MAX);
    while handle.room() > 0 {
        handle.record(vec![refused_connect()]).unwrap();
    }
    drop(held);
    handle.flush().unwrap();
    assert_eq!(handle.counters().lost, BTreeMap::new());
    assert_eq!(handle.room(), QUEUE_DRAFTS_MAX);
    recorder.stop().unwrap();
}

#[test]
fn a_durable_record_is_on_disk_when_the_call_returns() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let seq = handle.record_durable(vec![exec("a"), exec("b")]).unwrap();
    assert_eq!((seq, lock(&spool).durable_seq()), (2, 2));
    recorder.stop().unwrap();
    assert_eq!(handle.record_durable(vec![exec("late")]), Err(NotRecorded::Stopped));
    assert_eq!(handle.record(vec![exec("later")]), Err(1));
    assert_eq!(handle.counters().lost_unreported, 2);
}

#[tokio::test]
async fn a_task_is_answered_once_its_record_is_on_disk() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let seq = handle.record_durably(vec![exec("a"), exec("b")]).await.unwrap();
    assert_eq!((seq, lock(&spool).durable_seq()), (2, 2));
    recorder.stop().unwrap();
    assert_eq!(handle.record_durably(vec![exec("late")]).await, Err(NotRecorded::Stopped));
    assert_eq!(handle.counters().lost_unreported, 1);
}

#[test]
fn a_task_waits_behind_a_full_queue_and_loses_nothing() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let held = lock(&spool);
    handle.record(vec![exec("first")]).unwrap();
    // The thread has taken it, and waits for the spool.
    until(|| handle.shared.queued_messages.load(Ordering::Relaxed) == 0);
    while handle.try_queue(Message::Drafts(Vec::new())).is_ok() {}
    let mut behind = std::pin::pin!(handle.record_durably(vec![exec("behind")]));
    let once = std::future::poll_fn(|cx| Poll::Ready(behind.as_mut().poll(cx)));
    assert!(runtime.block_on(once).is_pending(), "there is no room for it");
    drop(held);
    assert_eq!(runtime.block_on(behind), Ok(2));
    recorder.stop().unwrap();
    assert_eq!(handle.counters().lost, BTreeMap::new());
}

#[test]
fn a_queue_that_is_full_loses_without_blocking_and_says_how_many_of_which_queue() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let mut refused = 0;
    {
        // The thread cannot write while the spool is held.
        let _held = lock(&spool);
        for _ in 0..40 {
            let small = vec![refused_connect(); 1000];
            refused += handle.record(small).err().unwrap_or(0) as u64;
        }
        let ring = Lost { count: 70, reason: LostReason::RingFull, queue: Queue::Events };
        let lost = vec![Draft::agent(1, Event::Lost(ring)); 1000];
        assert_eq!(handle.record(lost), Err(1000));
        assert!(refused >= 40_000 - 2 * QUEUE_DRAFTS_MAX as u64, "{refused}");
    }
    let name = |queue: &str, reason: &str| (queue.to_owned(), reason.to_owned());
    recorder.stop().unwrap_or_default();
    let counters = handle.counters();
    assert_eq!(counters.lost[&(Queue::Verdicts, LostReason::ReaderBehind)], refused);
    let told = told(&records(&spool));
    assert_eq!(told[&name("verdicts", "reader-behind")], refused);
    assert_eq!(told[&name("events", "ring-full")], 70_000, "Lost drafts count what they tell of");
    assert_eq!(handle.room(), QUEUE_DRAFTS_MAX);
}

#[test]
fn every_draft_is_a_record_or_counted_while_the_spool_is_full_and_after() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    let mut given = 0;
    while handle.record_durable(vec![large()]).is_ok() {
        given += 1;
    }
    for _ in 0..500 {
        assert_eq!(handle.record_durable(vec![large(), large()]), Err(NotRecorded::Full));
    }
    given += 1 + 1000;
    let told_while_full: u64 = told(&records(&spool)).values().sum();
    assert!(told_while_full >= 500, "{told_while_full}: the reserve tells of at least half");
    let last = *handle.durable().borrow();
    let before = records(&spool);
    lock(&spool).ack(last).unwrap();
    until(|| handle.counters().lost_unreported == 0);
    handle.record_durable(vec![large()]).unwrap();
    recorder.stop().unwrap();
    let mut all = before;
    all.extend(records(&spool));
    let told = told(&all);
    assert_eq!(told, counted(&handle.counters()));
    let lost_records = all.iter().filter(|r| matches!(r.event, Some(ProtoEvent::Lost(_)))).count();
    let execs = (all.len() - lost_records) as u64;
    assert_eq!(execs + told.values().sum::<u64>(), given + 1);
    assert!(lost_records < 20, "{lost_records} Lost records");
}

#[test]
fn a_group_lost_to_a_full_disk_is_counted_and_told_when_space_returns() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    lock(&spool).fail_next_write(10, std::io::ErrorKind::StorageFull);
    assert_eq!(handle.record_durable(vec![exec("a"), refused_connect()]), Err(NotRecorded::Full));
    until(|| handle.counters().lost_unreported == 0);
    lock(&spool).fail_next_write(0, std::io::ErrorKind::Other);
    assert_eq!(handle.record_durable(vec![exec("b")]), Err(NotRecorded::Failed));
    recorder.stop().unwrap();
    let told = told(&records(&spool));
    assert_eq!(told, counted(&handle.counters()));
    let name = |queue: &str, reason: &str| (queue.to_owned(), reason.to_owned());
    assert_eq!(told[&name("events", "spool-full")], 1);
    assert_eq!(told[&name("verdicts", "spool-full")], 1);
    assert_eq!(told[&name("events", "spool-failed")], 1);
}

#[test]
fn what_is_still_unreported_at_the_end_goes_into_the_reserve() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    while handle.record_durable(vec![large()]).is_ok() {}
    for _ in 0..5 {
        handle.record_durable(vec![large(); 3]).unwrap_err();
    }
    let _ = recorder.stop();
    assert_eq!(handle.counters().lost_unreported, 0);
    assert_eq!(told(&records(&spool)), counted(&handle.counters()));
}

#[test]
fn many_writers_lose_nothing_uncounted() {
    let Fixture { _dir, spool, recorder } = fixture();
    let handle = recorder.handle();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let handle = handle.clone();
            scope.spawn(move || {
                for _ in 0..200 {
                    let _ = handle.record(vec![exec("x"); 7]);
                }
            });
        }
    });
    let _ = recorder.stop();
    let told = told(&records(&spool));
    let counters = handle.counters();
    assert_eq!(told, counted(&counters));
    let execs = counters.by_verdict.get(&("exec", Verdict::Unspecified)).copied().unwrap_or(0);
    assert_eq!(execs + told.values().sum::<u64>(), 4 * 200 * 7);
}
