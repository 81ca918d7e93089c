//! From a kernel event to a draft of its record: who (workload, process, program), what, which
//! rule. Masking happens here, before anything is kept.

mod attempts;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    net::{IpAddr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use nix::time::{ClockId, clock_gettime};
use pcigate_common::{
    event::{self, Event, ExecEvent, Header, Kind, flags},
    maps::verdict,
};
use pcigate_policy::{
    mask::{Cut, Masked, Masker},
    rule::RuleRef,
};
use pcigate_proto::{Enforcement, Verdict};

use crate::{
    digests,
    draft::{self, Decided, Draft, Ending, Outcome, Process, Rule, Subject},
    governor::SharedDirectory,
    processes::Processes,
};

/// Reasons that are no written rule remembered at most; there are a handful.
const REASONS_MAX: usize = 64;

/// Makes drafts; owned by the thread that reads the rings.
pub struct Attribution {
    directory: SharedDirectory,
    processes: Processes,
    /// The names of reasons that are no written rule, by number: most decisions have one.
    reasons: HashMap<u32, Arc<Rule>>,
    /// Wall clock minus boot clock, ns.
    clock_offset: u64,
    /// Where programs are named whose digest is not known.
    digests: Option<digests::Handle>,
}

impl Attribution {
    /// Begins with nothing known of any process.
    #[must_use]
    pub fn new(directory: SharedDirectory) -> Self {
        let (processes, reasons) = (Processes::default(), HashMap::new());
        Self { directory, processes, reasons, clock_offset: clock_offset(), digests: None }
    }

    /// From now on, names programs whose digest a rule asked for and was not known.
    pub fn name_unknown_digests(&mut self, digests: digests::Handle) {
        self.digests = Some(digests);
    }

    /// Reads the clocks again; called once per batch, so that a corrected wall clock is followed.
    pub fn tick(&mut self) {
        self.clock_offset = clock_offset();
    }

    /// Process events were lost, so programs remembered may have been replaced.
    pub fn forget(&mut self) {
        self.processes.forget();
    }

    /// The draft of an event's record.
    pub fn draft(&mut self, event: &Event<'_>) -> Draft {
        let header = event.header();
        let process = self.process(header);
        let (event, refused_by) = match event {
            Event::Exec(exec) => self.exec(exec),
            Event::Fork(fork) => self.fork(fork),
            Event::Exit(exit) => self.exit(exit),
            Event::Egress(egress) => egress_event(egress),
            Event::Attempt(attempt, text) => attempts::event(attempt, text),
        };
        Draft {
            time_unix_nano: header.time_ns.saturating_add(self.clock_offset),
            kernel: Some((header.cpu, header.seq)),
            subject: self.subject(header),
            process: Some(process),
            outcome: self.outcome(header, refused_by),
            event,
        }
    }

    fn process(&mut self, header: &Header) -> Process {
        let task = &header.task;
        let executable = self.processes.executable((task.pid, task.start_ns));
        Process {
            pid: task.pid,
            tid: task.tid,
            start_boottime_ns: task.start_ns,
            uid: task.uid,
            executable,
            parent_pid: task.parent_pid,
            parent_start_boottime_ns: task.parent_start_ns,
        }
    }

    fn subject(&self, header: &Header) -> Subject {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        match directory.workload(header.workload) {
            Some(workload) => Subject::Workload(Arc::clone(workload)),
            None => Subject::Unknown {
                cgroup_id: header.cgroup,
                cgroup_path: cgroup_path(header.task.pid),
            },
        }
    }

    fn exec(&mut self, event: &ExecEvent<'_>) -> (draft::Event, Option<Enforcement>) {
        let header = &event.exec.header;
        let has = |flag| header.flags & flag != 0;
        let unresolved = has(flags::PATH_UNRESOLVED);
        if has(flags::DIGEST_UNKNOWN)
            && let Some(digests) = &self.digests
        {
            digests.seen(header.workload, PathBuf::from(OsStr::from_bytes(event.path)));
        }
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let masker = directory.rules(header.policy).map_or(Masker::standard(), |of| of.masker());
        let path = path(masker, event.path, unresolved);
        let cut = if has(flags::INVOKED_TRUNCATED) { Cut::End } else { Cut::Whole };
        let argv = event.argv.strip_suffix(b"\0").unwrap_or(event.argv);
        let argv_cut = if has(flags::ARGV_TRUNCATED) { Cut::End } else { Cut::Whole };
        let refused_by = match header.kind {
            Kind::ExecRefused => Some(Enforcement::Lsm),
            _ if has(flags::KILLED) => Some(Enforcement::Kill),
            _ => None,
        };
        if refused_by.is_none() {
            let key = (header.task.pid, header.task.start_ns);
            self.processes.set(key, Arc::new(path.clone()));
        }
        let exec = draft::Exec {
            invoked: (event.invoked != event.path && !event.invoked.is_empty())
                .then(|| Masked::with(masker, event.invoked, cut)),
            path,
            args: Masked::with(masker, argv, argv_cut),
            args_truncated: has(flags::ARGV_TRUNCATED),
            args_unavailable: has(flags::ARGV_UNAVAILABLE),
            path_unresolved: unresolved,
            args_bytes: event.exec.argv_total,
        };
        (draft::Event::Exec(exec), refused_by)
    }

    fn fork(&mut self, fork: &event::Fork) -> (draft::Event, Option<Enforcement>) {
        let task = &fork.header.task;
        let child = (fork.child_pid, fork.child_start_ns);
        self.processes.fork((task.pid, task.start_ns), child);
        let (child_pid, child_start_boottime_ns) = child;
        (draft::Event::Fork { child_pid, child_start_boottime_ns }, None)
    }

    fn exit(&mut self, exit: &event::Exit) -> (draft::Event, Option<Enforcement>) {
        let task = &exit.header.task;
        self.processes.remove((task.pid, task.start_ns));
        let (code, signal) = (exit.status >> 8 & 0xff, exit.status & 0x7f);
        (draft::Event::Exit { code, signal }, None)
    }

    fn outcome(&mut self, header: &Header, refused_by: Option<Enforcement>) -> Outcome {
        let decides =
            matches!(header.kind, Kind::Exec | Kind::ExecRefused | Kind::Egress | Kind::Attempt);
        if !decides {
            return Outcome::plain(Ending::Success);
        }
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let table = directory.rules(header.policy);
        let mut decided = |verdict, number| {
            let rule = match table.and_then(|table| table.rules.get(number as usize)) {
                Some(rule) => Arc::clone(rule),
                None => reserved(&mut self.reasons, number),
            };
            verdict_of(verdict).map(|verdict| Decided { verdict, rule })
        };
        let decision = &header.decision;
        let redirected = header.flags & flags::REDIRECTED != 0;
        let result = if decision.verdict == verdict::ALLOW || redirected {
            Ending::Success
        } else if header.flags & flags::KILL_FAILED != 0 {
            Ending::Failed
        } else {
            Ending::Refused
        };
        Outcome {
            result,
            decision: decided(decision.verdict, decision.rule),
            enforcement: refused_by.filter(|_| result != Ending::Success),
            audit: decided(decision.audit_verdict, decision.audit_rule),
            policy_hash: table.map(|table| table.hash),
        }
    }
}

/// The name of a reason that is no written rule.
fn reserved(known: &mut HashMap<u32, Arc<Rule>>, number: u32) -> Arc<Rule> {
    if known.len() >= REASONS_MAX {
        known.clear();
    }
    let named = known.entry(number).or_insert_with(|| {
        let masked = |text: &str| Masked::new(text.as_bytes(), Cut::Whole);
        let rule = RuleRef::of_number(number, &[]);
        Arc::new(Rule { policy: masked(""), id: masked(rule.rule_id()) })
    });
    Arc::clone(named)
}

fn egress_event(egress: &event::Egress) -> (draft::Event, Option<Enforcement>) {
    let address = Ipv6Addr::from(egress.address);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    let event = draft::Event::Egress {
        operation: egress.operation,
        protocol: egress.protocol,
        address,
        port: u16::try_from(egress.port).unwrap_or(0),
        v4_mapped: egress.header.flags & flags::V4_MAPPED != 0,
    };
    let by_lsm = egress.header.flags & flags::LSM != 0;
    (event, Some(if by_lsm { Enforcement::Lsm } else { Enforcement::Cgroup }))
}

/// A path that could not be resolved is only its end, and may be empty (a memfd has a name, a
/// detached descriptor may have none).
fn path(masker: &Masker, path: &[u8], unresolved: bool) -> Masked {
    match path {
        [] => Masked::new(b"(unresolved)", Cut::Whole),
        path if unresolved => Masked::with(masker, &[b"(unresolved)", path].concat(), Cut::Whole),
        path => Masked::with(masker, path, Cut::Whole),
    }
}

fn verdict_of(number: u32) -> Option<Verdict> {
    match number {
        verdict::ALLOW => Some(Verdict::Allow),
        verdict::GATE => Some(Verdict::Gate),
        verdict::ASK => Some(Verdict::Ask),
        verdict::DENY => Some(Verdict::Deny),
        _ => None,
    }
}

/// The cgroup2 path of a process, as long as it lives.
fn cgroup_path(pid: u32) -> Masked {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("");
    Masked::new(path.as_bytes(), Cut::Whole)
}

/// Wall clock minus boot clock, ns.
fn clock_offset() -> u64 {
    let now = |clock| {
        let time = clock_gettime(clock).ok()?;
        let seconds = u64::try_from(time.tv_sec()).ok()?;
        Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
    };
    let wall = now(ClockId::CLOCK_REALTIME).unwrap_or(0);
    wall.saturating_sub(now(ClockId::CLOCK_BOOTTIME).unwrap_or(0))
}
