//! Noise cannot hide a deny: under a flood every refusal is a record of its own, or counted.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pcigate_agent::{
    recorder,
    spool::{Limits, Spool},
};
use pcigate_common::{event::Event, maps::Ring};
use pcigate_proto::{Message as _, Record, Verdict, record::Event as Recorded};
use pcigate_tests::{
    kernel::{Kernel, Setup},
    table,
};

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";
/// Far less than a flood leaves in the time of a turn.
const SMALL_RING: u32 = 16 * 1024;
/// Processes that fork as fast as they can, and those that connect: more of each than processors.
const SIDE: u64 = 2;
/// What each of them does in a wave; waves follow each other.
const CONNECTS: u64 = 500;
const FORKS: u64 = 20;
/// Waves end then, however far they have come: in a virtual machine everything is slow.
const AT_MOST: Duration = Duration::from_secs(10);

fn setup() -> Setup {
    Setup { policy: POLICY.into(), ring: SMALL_RING, ..Setup::default() }
}

/// Starts a wave: refused connects, and a fork bomb.
fn wave(cgroup: &Path) -> Vec<Child> {
    let start = |action: &str| {
        let mut probe = Command::new(pcigate_tests::program("pcigate-probe"));
        probe.arg("--cgroup").arg(cgroup).arg(action).stdin(Stdio::null()).stdout(Stdio::null());
        probe.spawn().unwrap()
    };
    let connects = format!("repeat:{CONNECTS}:udp-connected:127.0.0.1:9");
    let forks = format!("fork-exec:{FORKS}:/usr/bin/true");
    let both = [connects.as_str(), &forks];
    both.into_iter().flat_map(|action| (0..SIDE).map(move |_| action)).map(start).collect()
}

/// Waves of refusals until there were so many, or the time is over; how many. `meanwhile` is called
/// until a wave has ended, and waits for something itself.
fn flood(cgroup: &Path, wanted: u64, mut meanwhile: impl FnMut(&mut [Child])) -> u64 {
    let (began, mut attempts) = (Instant::now(), 0);
    while attempts < wanted && began.elapsed() < AT_MOST {
        let mut children = wave(cgroup);
        // They end by themselves.
        while !have_ended(&mut children) {
            meanwhile(&mut children);
        }
        attempts += CONNECTS * SIDE;
    }
    attempts
}

fn have_ended(children: &mut [Child]) -> bool {
    let ended = children.iter_mut().map(|child| child.try_wait().unwrap());
    // All are asked, so that each is reaped.
    let ended: Vec<_> = ended.collect();
    assert!(ended.iter().flatten().all(std::process::ExitStatus::success), "a probe failed");
    ended.iter().all(Option::is_some)
}

#[test]
fn in_a_flood_every_refusal_is_a_record_of_its_own_or_counted() {
    let mut kernel = Kernel::start(&setup());
    let root = kernel.root().to_owned();
    let (mut records, mut numbers) = (0, BTreeSet::new());
    let mut read = |kernel: &mut Kernel| {
        kernel.events(|event| {
            if let Event::Egress(egress) = event {
                records += 1;
                numbers.insert((egress.header.cpu, egress.header.seq));
            }
        });
    };
    let (mut noise, mut refusals) = (0, 0);
    let mut count = |kernel: &mut Kernel| {
        let lost = kernel.lost();
        let of = |ring| lost.iter().filter(move |(of, _)| *of == ring).map(|(_, n)| n).sum::<u64>();
        noise += of(Ring::Events);
        refusals += of(Ring::Verdicts);
        of(Ring::Events) > 0
    };
    let attempts = flood(&root, 6000, |_| {
        kernel.sensor.wait();
        // Only when noise has overflowed once more.
        if count(&mut kernel) {
            read(&mut kernel);
        }
    });
    read(&mut kernel);
    count(&mut kernel);
    assert!(noise > 0, "the noise did not fill its ring: this was no flood");
    assert_eq!(records + refusals, attempts, "{records} records, {refusals} lost");
    assert_eq!(numbers.len() as u64, records, "no record stands for two refusals");
}

#[test]
fn in_a_flood_every_refusal_is_in_the_spool_or_counted_there_however_slow_the_disk() {
    // More than the queue of the recorder and the ring together hold.
    const ENOUGH: u64 = recorder::QUEUE_DRAFTS_MAX as u64 * 3 / 2;
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), Limits::default()).unwrap();
    let spool = Arc::new(Mutex::new(spool));
    let recorder = recorder::start(Arc::clone(&spool), "node-1".to_owned()).unwrap();
    let kernel = Kernel::start(&setup());
    let root = kernel.root().to_owned();
    let recording = kernel.record(recorder.handle());
    // A disk that takes nothing as long as the flood lasts.
    let stuck = spool.lock().unwrap_or_else(PoisonError::into_inner);
    let attempts = flood(&root, ENOUGH, |children| {
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
    });
    drop(stuck);
    recording.stop();
    recorder.stop().unwrap();
    let (mut refusals, mut counted) = (0, 0);
    for record in records(&spool) {
        match record.event.unwrap() {
            Recorded::Egress(_) => {
                assert_eq!(record.outcome.unwrap().verdict(), Verdict::Deny);
                refusals += 1;
            }
            Recorded::Lost(lost) if lost.queue == "verdicts" => counted += lost.count,
            _ => {}
        }
    }
    table::measured(&format!("{attempts} refusals: {refusals} recorded, {counted} counted"));
    assert_eq!(refusals + counted, attempts, "{refusals} recorded, {counted} counted");
    // A slow machine may not have filled the queue.
    assert!(attempts < ENOUGH || counted > 0, "the queue was never full: this was no flood");
}

fn records(spool: &Mutex<Spool>) -> Vec<Record> {
    let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut records, mut next) = (Vec::new(), 1);
    loop {
        let batch = spool.read(next, 1000, usize::MAX).unwrap();
        assert!(batch.hole.is_none());
        if batch.records.is_empty() {
            return records;
        }
        next = batch.first_seq + batch.records.len() as u64;
        records.extend(batch.records.iter().map(|bytes| Record::decode(&bytes[..]).unwrap()));
    }
}
