//! Records drafts as an agent does and says what became of them, for the crash tests:
//! `pcigate-spool-driver DIRECTORY TURNS SEED`.
//!
//! Lines on standard output: `durable SEQ SHA256 LOST` for each durable record as it is read from
//! the spool, `acked SEQ`, and at the end `end DRAFTS LOST UNREPORTED`.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use pcigate_agent::{
    draft::{Draft, Ending, Event, Exec, Outcome, Process, Subject, Workload},
    recorder,
    spool::Spool,
};
use pcigate_policy::mask::{Cut, Masked};
use pcigate_tests::{
    crash::{LIMITS, durable_line},
    faults::Random,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, turns, seed] = arguments.as_slice() else { return ExitCode::from(2) };
    let (Ok(turns), Ok(seed)) = (turns.parse(), seed.parse()) else { return ExitCode::from(2) };
    match drive(directory.as_ref(), turns, Random::new(seed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("refused {error}");
            ExitCode::FAILURE
        }
    }
}

fn drive(directory: &Path, turns: u64, mut random: Random) -> Result<(), String> {
    let spool = Spool::open(directory, LIMITS).map_err(|error| error.to_string())?;
    let mut told = spool.durable_seq();
    let spool = Arc::new(Mutex::new(spool));
    let recorder = recorder::start(Arc::clone(&spool), "node-1".into());
    let recorder = recorder.map_err(|error| error.to_string())?;
    let handle = recorder.handle();
    let mut drafts = 0;
    for _ in 0..turns {
        let count = 1 + random.below(8);
        drafts += count;
        // What is not durable is counted, and looked at in the end.
        let _ = handle.record_durable((0..count).map(|_| draft(&mut random)).collect());
        told = tell(&spool, told);
        if random.chance(30) {
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            let acked = spool.acked_seq();
            let seq = acked + random.below(told - acked + 1);
            // Said before it is done: a crash between leaves the cursor at either.
            println!("acked {seq}");
            let _ = spool.ack(seq);
        }
    }
    let _ = recorder.stop();
    told = tell(&spool, told);
    if told < spool.lock().unwrap_or_else(PoisonError::into_inner).durable_seq() {
        return Err("the disk does not read any more".into());
    }
    let counters = handle.counters();
    let lost: u64 = counters.lost.values().sum();
    println!("end {drafts} {lost} {}", counters.lost_unreported);
    Ok(())
}

/// Says what is durable behind `told`; the last number.
fn tell(spool: &Mutex<Spool>, mut told: u64) -> u64 {
    let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
    // A disk that fails to read is asked again by the next turn.
    while let Ok(batch) = spool.read(told + 1, 100, 1 << 20) {
        if batch.records.is_empty() {
            break;
        }
        for (seq, record) in (batch.first_seq..).zip(&batch.records) {
            println!("{}", durable_line(seq, record));
            told = seq;
        }
    }
    told
}

fn draft(random: &mut Random) -> Draft {
    let masked = |text: &str| Masked::new(text.as_bytes(), Cut::Whole);
    let length = random.one_of(&[10, 100, 100, 1000, 4000]);
    let workload = Workload {
        namespace: masked("payments"),
        pod: masked("billing-bot"),
        pod_uid: masked(""),
        service_account: masked("default"),
        container: masked(""),
        container_id: masked(""),
        cgroup_id: 1,
        cgroup_path: masked("/"),
        owner_kind: masked(""),
        owner_name: masked(""),
        image: masked(""),
        image_digest: masked(""),
    };
    let process = Process {
        pid: 42,
        tid: 42,
        start_boottime_ns: random.bits(),
        uid: 0,
        executable: None,
        parent_pid: 1,
        parent_start_boottime_ns: 0,
    };
    Draft {
        time_unix_nano: random.bits() | 1,
        kernel: Some((0, 1)),
        subject: Subject::Workload(Arc::new(workload)),
        process: Some(process),
        outcome: Outcome::plain(Ending::Success),
        event: Event::Exec(Exec {
            path: masked("/bin/true"),
            invoked: None,
            args: masked(&"x".repeat(random.index(length))),
            args_truncated: false,
            args_unavailable: false,
            path_unresolved: false,
            args_bytes: 0,
        }),
    }
}
