//! A ledger on disk, random records and questions, and the reference filter, for the tests.

use std::{fs, net::IpAddr, path::PathBuf};

use pcigate_ledger::{Directory, Edge, File, Hash, leaf_hash};
use pcigate_proto::{
    Component, Deletion, Egress, Exec, Fork, Gap, Message, Origin, Outcome, Process, Received,
    Record, Traffic, Verdict, Workload,
    record::{Event, Subject, kind},
};
use proptest::{prelude::*, sample::select};
use tempfile::TempDir;

use crate::{Destination, Index, Question, Selection, Settings};

/// 2026-11-22T18:00:00Z.
pub const HOUR: u64 = 1_795_370_400_000_000_000;

/// A ledger and a place for its index.
pub struct Log {
    /// Removed with it.
    pub dir: TempDir,
    edge: Edge,
    /// What is in the ledger.
    pub records: Vec<Record>,
}

impl Log {
    /// An empty ledger.
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), edge: Edge::empty(), records: Vec::new() }
    }

    /// A ledger of these records.
    pub fn of(records: &[Record]) -> Self {
        let mut log = Self::new();
        log.append(records);
        log
    }

    /// Adds records and publishes the new size.
    pub fn append(&mut self, records: &[Record]) {
        let mut files = Vec::new();
        for record in records {
            let entry = record.encode_to_vec();
            self.edge.append(&entry, leaf_hash(&entry), &mut files).unwrap();
        }
        files.extend(self.edge.partial_files());
        for File { path, bytes } in files {
            let path = self.ledger_dir().join(path.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        self.records.extend_from_slice(records);
    }

    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    pub fn ledger_dir(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub fn index_dir(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    /// Opens the index as it is on the disk.
    pub fn open(&self, settings: Settings) -> Index {
        let ledger = Directory::new(self.ledger_dir());
        Index::open(&self.index_dir(), ledger, self.size(), self.root(), settings).unwrap()
    }

    /// An index that has come to the end of the ledger.
    pub fn caught_up(&self, settings: Settings) -> Index {
        let index = self.open(settings);
        catch_up(&index, self.size());
        index
    }

    /// What the records answer to a question about the first `size` leaves.
    pub fn expected(&self, question: &Question, size: u64) -> Selection {
        let kept = self.kept(size);
        let matching: Vec<_> = kept.into_iter().filter(|(_, r)| matches(question, r)).collect();
        let from = matching.len().saturating_sub(question.limit);
        Selection {
            leaves: matching[from..].iter().map(|(leaf, _)| *leaf).collect(),
            matched: matching.len() as u64,
        }
    }

    /// The leaves before `size` that no Deletion of the whole ledger removes.
    pub fn kept(&self, size: u64) -> Vec<(u64, &Record)> {
        let deletions: Vec<_> = (0_u64..)
            .zip(&self.records)
            .filter_map(|(leaf, record)| match &record.event {
                Some(Event::Deletion(deletion)) => Some((leaf, deletion)),
                _ => None,
            })
            .collect();
        let gone = |leaf: u64, record: &Record| {
            deletions.iter().any(|(at, deletion)| {
                leaf < *at
                    && record.event.as_ref().map(kind) == Some(deletion.class.as_str())
                    && record.time_unix_nano < deletion.before_unix_nano
            })
        };
        let all = (0..size).zip(&self.records);
        all.filter(|(leaf, record)| !gone(*leaf, record)).collect()
    }
}

/// Takes in all leaves.
pub fn catch_up(index: &Index, size: u64) {
    while index.advance(size).unwrap() < size {}
}

/// Small sizes, so that few records make many files.
pub fn small() -> Settings {
    Settings { tail_rows: 64, row_group_rows: 40, file_rows: 200, ..Settings::default() }
}

/// Runs a future of the index.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// A complete record of a pod on a node.
pub fn record(time: u64, pod: &str, event: Event) -> Record {
    Record {
        origin: Some(Origin { node: "n1".into(), epoch: vec![7; 16], seq: 1, kernel: None }),
        time_unix_nano: time,
        subject: Some(Subject::Workload(Workload {
            namespace: "payments".into(),
            pod: pod.into(),
            ..Workload::default()
        })),
        process: Some(Process { pid: 1, executable: "/bin/sh".into(), ..Process::default() }),
        outcome: Some(Outcome { result: 1, verdict: 1, ..Outcome::default() }),
        masked: vec![],
        event: Some(event),
    }
}

/// An exec of a path.
pub fn exec(path: &str) -> Event {
    Event::Exec(Exec { path: path.into(), args: vec![path.into()], ..Exec::default() })
}

/// A connect to an address.
pub fn egress(address: &str, port: u32) -> Event {
    let (address, protocol) = (address.into(), "tcp".into());
    Event::Egress(Egress { operation: 1, protocol, address, port, v4_mapped: false })
}

/// A deletion made by the collector.
pub fn deletion(class: &str, before: u64) -> Record {
    let event = Deletion { class: class.into(), before_unix_nano: before, records: 0 };
    let component = Component { name: "collector".into(), version: "0".into() };
    Record {
        subject: Some(Subject::Component(component)),
        process: None,
        ..record(HOUR, "", Event::Deletion(event))
    }
}

/// The last time a timestamp holds.
const LAST: u64 = i64::MAX as u64;
const PATHS: [&str; 8] =
    ["/bin/sh", "/bin/bash", "/usr/bin/env", "/b%n/x_y", "/a\\b", "/bin/s\nh", "", "/ünï/бин"];
const ADDRESSES: [&str; 9] = [
    "10.0.0.1",
    "10.0.0.200",
    "10.1.2.3",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "no address",
];
const GLOBS: [&str; 12] = [
    "/bin/*", "*sh", "*", "/bin/sh", "/b%*", "*_*", "*\\*", "/bin/s*h", "**n**", "*ï*", "b*",
    "/a\\b",
];

fn times() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u64..4, 0_u64..3).prop_map(|(hour, add)| HOUR + hour * 3_600_000_000_000 + add),
        1 => select(vec![
            1_u64, 5, LAST - 1, LAST, LAST + 1, u64::MAX - 1, u64::MAX,
        ]),
        1 => any::<u64>(),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let path = || select(&PATHS[..]);
    prop_oneof![
        3 => (path(), path()).prop_map(|(path, arg)| Event::Exec(Exec {
            path: path.into(),
            args: vec![path.into(), arg.into()],
            ..Exec::default()
        })),
        3 => (select(&ADDRESSES[..]), select(vec![0_u32, 53, 443, 65_535]))
            .prop_map(|(address, port)| egress(address, port)),
        1 => (1_u32..9)
                .prop_map(|child_pid| {
            let child_start_boottime_ns = u64::MAX;
            Event::Fork(Fork { child_pid, child_start_boottime_ns })
        }),
        1 => select(vec!["n1", "n2"])
            .prop_map(|node| Event::Gap(Gap { node: node.into(), ..Gap::default() })),
        1 => select(vec![0x5e_u8, 0x05]).prop_map(|byte| Event::Traffic(Traffic {
            session: vec![byte; 16],
            ..Traffic::default()
        })),
        1 => select(vec!["n1", "n2"]).prop_map(|node| Event::Received(Received {
            node: node.into(),
            first_seq: u64::MAX,
            clock_offset_ns: i64::MIN,
            ..Received::default()
        })),
    ]
}

/// Records as nodes and collector make them, and stranger ones.
pub fn records() -> impl Strategy<Value = Record> {
    let name = || select(vec!["", "a", "b", "bö"]);
    let workload = (name(), name(), name()).prop_map(|(namespace, pod, account)| {
        Subject::Workload(Workload {
            unknown: pod.is_empty(),
            namespace: namespace.into(),
            pod: pod.into(),
            service_account: account.into(),
            cgroup_id: u64::MAX,
            ..Workload::default()
        })
    });
    let component = Subject::Component(Component { name: "agent".into(), version: "1".into() });
    let subject = prop_oneof![
        6 => workload.prop_map(Some),
        1 => Just(Some(component)),
        1 => Just(None),
    ];
    let process = prop::option::of(select(&PATHS[..]).prop_map(|path| Process {
        pid: u32::MAX,
        executable: path.into(),
        ..Process::default()
    }));
    let outcome = prop::option::of((0_i32..4, prop_oneof![8 => 0_i32..5, 1 => Just(99)]));
    let outcome = outcome.prop_map(|outcome| {
        outcome.map(|(result, verdict)| Outcome { result, verdict, ..Outcome::default() })
    });
    let event = prop_oneof![12 => events().prop_map(Some), 1 => Just(None)];
    let node = select(vec!["n1", "n2", "n3", ""]);
    (times(), node, subject, process, outcome, event).prop_map(
        |(time_unix_nano, node, subject, process, outcome, event)| Record {
            origin: Some(Origin { node: node.into(), epoch: vec![1], seq: u64::MAX, kernel: None }),
            time_unix_nano,
            subject,
            process,
            outcome,
            masked: vec![],
            event,
        },
    )
}

/// Questions about them. Every filter is mostly not set.
pub fn questions() -> impl Strategy<Value = Question> {
    fn rarely<T: Clone + std::fmt::Debug + Default>(
        some: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = T> {
        prop_oneof![3 => Just(T::default()), 1 => some]
    }
    let text =
        |of: &[&str]| rarely(select(of.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
    let kinds = select(vec![vec!["exec"], vec!["egress", "fork"], vec!["gap"], vec!["deletion"]]);
    let kinds = rarely(kinds.prop_map(|kinds| kinds.into_iter().map(str::to_owned).collect()));
    let addresses = select(vec![
        "10.0.0.1",
        "10.0.0.0",
        "::1",
        "2001:db8::",
        "::",
        "::ffff:10.0.0.1",
        "0.0.0.0",
    ]);
    let network = prop::option::of((addresses, select(vec![0_u32, 8, 24, 32, 96, 127, 128])));
    let network = network.prop_map(|network| {
        network.map(|(address, bits)| (address.parse::<IpAddr>().unwrap(), bits))
    });
    let port = prop::option::of(select(vec![0_u32, 53, 443]));
    let destination =
        (network, port).prop_map(|(network, port)| Some(Destination { network, port }));
    let verdict = select(vec![Some(Verdict::Allow), Some(Verdict::Deny), Some(Verdict::Gate)]);
    let nodes = (text(&["n1", "n2"]), text(&["5e", "0"]));
    let names = (text(&["a", "bö"]), text(&["a", "b"]), text(&["a"]), nodes);
    let limit = prop_oneof![Just(1_000), 0_usize..5];
    (
        rarely(times()),
        rarely(times()),
        kinds,
        rarely(verdict),
        names,
        text(&GLOBS),
        rarely(destination),
        limit,
    )
        .prop_map(|(since, until, kinds, verdict, names, executable, destination, limit)| {
            let (namespace, pod, service_account, (node, session)) = names;
            Question {
                since_unix_nano: since,
                until_unix_nano: until,
                kinds,
                verdict,
                namespace,
                pod,
                service_account,
                executable,
                destination,
                node,
                session,
                limit,
            }
        })
}

/// The meaning of a question, as the collector's filter over records has it.
fn matches(asked: &Question, record: &Record) -> bool {
    let Some(event) = &record.event else { return false };
    let time = record.time_unix_nano;
    let verdict = record.outcome.as_ref().map_or(0, |outcome| outcome.verdict);
    let workload = match &record.subject {
        Some(Subject::Workload(workload)) => Some(workload),
        _ => None,
    };
    let is = |wanted: &str, of: fn(&Workload) -> &String| {
        wanted.is_empty() || workload.is_some_and(|workload| of(workload) == wanted)
    };
    let about = match event {
        Event::Gap(gap) => gap.node.as_str(),
        Event::Received(received) => received.node.as_str(),
        _ => "",
    };
    let origin = record.origin.as_ref().map_or("", |origin| origin.node.as_str());
    let acting = record.process.as_ref().map(|process| process.executable.as_str());
    let ran = match event {
        Event::Exec(exec) => Some(exec.path.as_str()),
        _ => None,
    };
    let mut programs = acting.into_iter().chain(ran);
    time >= asked.since_unix_nano
        && (asked.until_unix_nano == 0 || time < asked.until_unix_nano)
        && (asked.kinds.is_empty() || asked.kinds.iter().any(|asked| asked == kind(event)))
        && asked.verdict.is_none_or(|asked| asked as i32 == verdict)
        && is(&asked.namespace, |workload| &workload.namespace)
        && is(&asked.pod, |workload| &workload.pod)
        && is(&asked.service_account, |workload| &workload.service_account)
        && (asked.node.is_empty() || asked.node == about || asked.node == origin)
        && (asked.session.is_empty()
            || pcigate_proto::record::session(event)
                .is_some_and(|id| hex::encode(id).starts_with(&asked.session)))
        && (asked.executable.is_empty()
            || programs.any(|path| fits(asked.executable.as_bytes(), path.as_bytes())))
        && asked.destination.as_ref().is_none_or(|destination| went_to(destination, event))
}

fn fits(glob: &[u8], text: &[u8]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| fits(rest, &text[skip..])),
        Some((byte, rest)) => text.first() == Some(byte) && fits(rest, &text[1..]),
    }
}

fn went_to(destination: &Destination, event: &Event) -> bool {
    let Event::Egress(egress) = event else { return false };
    let within = |(network, bits): (IpAddr, u32)| {
        let Ok(address) = egress.address.parse::<IpAddr>() else { return false };
        match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits.min(32)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= bits.min(128)
            }
            _ => false,
        }
    };
    destination.port.is_none_or(|port| port == egress.port)
        && destination.network.is_none_or(within)
}
