//! From a kernel event to its record: complete, within its size, and without a card number.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::attribution::Attribution;
use pcigate_agent::draft::{encode, record_of};
use pcigate_common::event::Task;
use pcigate_common::event::{Attempt, Egress, Event, Exec, ExecEvent, Exit, Fork, Header};
use pcigate_common::event::{Kind, Operation, What};
use pcigate_common::maps::Decision;
use pcigate_fuzz::cards;
use pcigate_proto::record::{RECORD_BYTES_MAX, check_complete};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    kind: u8,
    flags: u32,
    numbers: [u64; 4],
    decision: [u32; 4],
    words: [u32; 3],
    address: [u8; 16],
    path: &'a [u8],
    invoked: &'a [u8],
    argv: &'a [u8],
    /// The kernel's programs read up to 4 KiB of arguments.
    argv_repeated: u8,
}

/// No process has this id, so that nothing depends on the machine.
const PID: u32 = u32::MAX;

const WHATS: [What; 4] = [What::Socket, What::Bind, What::UnixConnect, What::Write];

fn header(input: &Input<'_>, kind: Kind) -> Header {
    let [verdict, rule, audit_verdict, audit_rule] = input.decision;
    let [time_ns, seq, start_ns, workload] = input.numbers;
    let [cpu, policy, uid] = input.words;
    let task =
        Task { pid: PID, tid: PID, start_ns, parent_pid: PID, uid, parent_start_ns: start_ns };
    let decision = Decision { verdict, rule, audit_verdict, audit_rule };
    let flags = input.flags;
    Header { kind, flags, time_ns, seq, cpu, policy, cgroup: 1, workload, task, decision }
}

fuzz_target!(|input: Input<'_>| {
    let argv = input.argv.repeat(1 + usize::from(input.argv_repeated));
    let argv = &argv[..argv.len().min(4096)];
    let path = &input.path[..input.path.len().min(1024)];
    let invoked = &input.invoked[..input.invoked.len().min(1024)];
    let [protocol, port, status] = input.words;
    let head = |kind| header(&input, kind);
    let kind = if input.kind % 6 == 0 { Kind::ExecRefused } else { Kind::Exec };
    let (exec, fork, exit, egress, attempt);
    let event = match input.kind % 6 {
        2 => {
            let child_start_ns = input.numbers[3];
            fork = Fork { header: head(Kind::Fork), child_start_ns, child_pid: 7, reserved: 0 };
            Event::Fork(&fork)
        }
        3 => {
            exit = Exit { header: head(Kind::Exit), status, reserved: 0 };
            Event::Exit(&exit)
        }
        4 => {
            let (address, operation) = (input.address, Operation::Connect);
            let header = head(Kind::Egress);
            egress = Egress { header, address, operation, protocol, port, family: 10 };
            Event::Egress(&egress)
        }
        5 => {
            let what = WHATS[usize::from(input.flags as u8) % WHATS.len()];
            let (header, numbers) = (head(Kind::Attempt), input.decision);
            let text_len = path.len() as u32;
            attempt = Attempt { header, what, text_len, numbers, address: input.address };
            Event::Attempt(&attempt, path)
        }
        _ => {
            let lengths = [path.len(), invoked.len(), argv.len()];
            let [path_len, invoked_len, argv_len] = lengths.map(|length| length as u32);
            let header = head(kind);
            exec = Exec { header, path_len, invoked_len, argv_len, argv_total: status };
            Event::Exec(ExecEvent { exec: &exec, path, invoked, argv })
        }
    };
    let mut attribution = Attribution::new(Default::default());
    let draft = attribution.draft(&event);
    let record = record_of(&draft, "node", &[7; 16], 1);
    assert_eq!(check_complete(&record), Ok(()));
    let bytes = encode(&draft, "node", &[7; 16], 1);
    assert!(bytes.len() <= RECORD_BYTES_MAX, "{} bytes", bytes.len());
    if let Some(pcigate_proto::record::Event::Exec(exec)) = &record.event {
        let args = exec.args.join("\0");
        for text in [&exec.path, &exec.invoked, &args] {
            assert!(!cards::shown_in(text.as_bytes()), "{text:?}");
        }
    }
});
