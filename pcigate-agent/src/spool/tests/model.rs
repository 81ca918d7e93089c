//! Random actions on a spool and on a plain model of it.

use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Append {
        bytes: usize,
        reserved: bool,
    },
    Sync,
    /// The disk is full after so many bytes of the next write.
    SyncOnFullDisk {
        after: usize,
    },
    Read {
        back: u64,
        records: usize,
        bytes: usize,
    },
    Ack {
        ahead: u64,
    },
    Skip {
        ahead: u64,
    },
    Reopen,
    /// The process dies while it writes: so many bytes of the staged group reach the disk.
    Crash {
        written: usize,
    },
    /// Appends and syncs until the spool is full.
    Fill,
}

fn action() -> impl Strategy<Value = Action> {
    let size = prop_oneof![8..200_usize, 2_000..33_000_usize];
    prop_oneof![
        8 => (size, prop::bool::weighted(0.2))
            .prop_map(|(bytes, reserved)| Action::Append { bytes: bytes.min(32 * 1024), reserved }),
        5 => Just(Action::Sync),
        1 => (0..5_000_usize).prop_map(|after| Action::SyncOnFullDisk { after }),
        5 => (0..30_u64, 1..9_usize, 1..50_000_usize)
            .prop_map(|(back, records, bytes)| Action::Read { back, records, bytes }),
        3 => (0..12_u64).prop_map(|ahead| Action::Ack { ahead }),
        1 => (0..5_u64).prop_map(|ahead| Action::Skip { ahead }),
        1 => Just(Action::Reopen),
        2 => (0..40_000_usize).prop_map(|written| Action::Crash { written }),
        1 => Just(Action::Fill),
    ]
}

/// What the spool promises, without any file.
#[derive(Default)]
struct Model {
    /// Every record ever durable, by number; numbers between are holes.
    durable: std::collections::BTreeMap<u64, Vec<u8>>,
    staged: Vec<(u64, Vec<u8>)>,
    next_seq: u64,
    acked: u64,
}

impl Model {
    fn durable_seq(&self) -> u64 {
        self.next_seq - 1 - self.staged.len() as u64
    }

    fn take_back(&mut self) {
        self.next_seq = self.durable_seq() + 1;
        self.staged.clear();
    }
}

struct Pair {
    dir: TempDir,
    spool: Option<Spool>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let spool = Some(open(&dir));
        Self { dir, spool, model: Model { next_seq: 1, ..Model::default() } }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    fn play(&mut self, action: &Action) {
        match *action {
            Action::Append { bytes, reserved } => _ = self.append(bytes, reserved),
            Action::Sync => self.sync(),
            Action::SyncOnFullDisk { after } => {
                if !self.model.staged.is_empty() {
                    self.spool().fail_next_write(after, io::ErrorKind::StorageFull);
                    assert!(matches!(self.spool().sync(), Err(SpoolError::DiskFull { .. })));
                    self.model.take_back();
                }
            }
            Action::Read { back, records, bytes } => {
                let from = (self.model.next_seq + 3).saturating_sub(back);
                self.read(from, records, bytes);
            }
            Action::Ack { ahead } => {
                let seq = self.model.acked + ahead;
                if seq <= self.model.durable_seq() {
                    self.spool().ack(seq).unwrap();
                    self.model.acked = seq;
                } else {
                    assert!(matches!(self.spool().ack(seq), Err(SpoolError::AckBeyond { .. })));
                }
            }
            Action::Skip { ahead } => {
                if self.model.staged.is_empty() {
                    self.model.next_seq += ahead;
                    let next = self.model.next_seq;
                    self.spool().skip_to(next).unwrap();
                }
            }
            Action::Reopen => self.reopen(0),
            Action::Crash { written } => self.reopen(written),
            Action::Fill => {
                while self.append(9_000, false) {
                    self.sync();
                }
            }
        }
        let Self { spool, model, .. } = self;
        let spool = spool.as_ref().unwrap();
        assert_eq!(spool.next_seq(), model.next_seq);
        assert_eq!(spool.durable_seq(), model.durable_seq());
        assert_eq!(spool.acked_seq(), model.acked);
        assert!(spool.used_bytes() <= SMALL.total_bytes);
    }

    /// Whether to go on filling.
    fn append(&mut self, bytes: usize, reserved: bool) -> bool {
        let seq = self.model.next_seq;
        let record = record(seq, bytes);
        let spool = self.spool();
        let result =
            if reserved { spool.append_reserved(seq, &record) } else { spool.append(seq, &record) };
        match result {
            Ok(()) => {
                self.model.staged.push((seq, record));
                self.model.next_seq += 1;
                true
            }
            Err(SpoolError::GroupFull) => {
                self.sync();
                true
            }
            Err(SpoolError::Full { .. }) => {
                let everything_acked = self.model.acked == self.model.durable_seq();
                assert!(!everything_acked || !self.model.staged.is_empty(), "full of nothing");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn sync(&mut self) {
        let last = self.spool().sync().unwrap();
        self.model.durable.extend(std::mem::take(&mut self.model.staged));
        assert_eq!(last, self.model.next_seq - 1);
    }

    fn read(&mut self, from: u64, records: usize, bytes: usize) {
        let batch = self.spool().read(from, records, bytes).unwrap();
        let from = from.max(1);
        if from > self.model.durable_seq() {
            assert_eq!(batch, Batch { first_seq: from, ..Batch::default() });
            return;
        }
        assert!(!batch.records.is_empty() || batch.hole.is_some(), "nothing although durable");
        assert!(batch.records.len() <= records);
        for (seq, record) in (batch.first_seq..).zip(&batch.records) {
            assert_eq!(Some(record), self.model.durable.get(&seq), "{seq}");
        }
        match batch.hole {
            None => assert_eq!(batch.first_seq, from),
            Some(hole) => {
                assert_eq!((hole.first_seq, hole.last_seq + 1), (from, batch.first_seq));
                let mut lost = self.model.durable.range(from.max(self.model.acked + 1)..);
                let next = lost.next().map_or(u64::MAX, |(seq, _)| *seq);
                assert!(next >= batch.first_seq, "{next} is not acknowledged and not in a hole");
            }
        }
    }

    /// Ends the process after `written` bytes of the staged group reached the disk.
    fn reopen(&mut self, written: usize) {
        let spool = self.spool.take().unwrap();
        let group = spool.staged[..written.min(spool.staged.len())].to_vec();
        let newest = spool.newest().unwrap();
        let fits = newest.bytes + spool.staged.len() as u64 <= SMALL.segment_bytes;
        let (path, end) = (newest.path.clone(), newest.bytes);
        drop(spool);
        let mut survive = 0;
        if fits {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&group, end).unwrap();
            let mut whole = 0;
            for (_, record) in &self.model.staged {
                whole += FRAME_BYTES + record.len();
                survive += usize::from(whole <= group.len());
            }
        }
        // Whole frames that reached the disk were never promised, but may stay.
        let durable_seq = self.model.durable_seq();
        let staged = std::mem::take(&mut self.model.staged);
        self.model.durable.extend(staged.into_iter().take(survive));
        self.model.next_seq = durable_seq + 1 + survive as u64;
        self.spool = Some(open(&self.dir));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_spool_does_what_a_plain_list_of_records_would(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut pair = Pair::new();
        for action in &actions {
            pair.play(action);
        }
        pair.reopen(0);
        let durable = pair.model.durable_seq();
        let from = pair.model.acked + 1;
        let (seen, holes) = read_all(pair.spool(), from);
        let expected: Vec<u64> =
            pair.model.durable.range(pair.model.acked + 1..).map(|(seq, _)| *seq).collect();
        prop_assert_eq!(&seen, &expected);
        let missing: u64 = holes.iter().map(|(first, last)| last + 1 - first).sum();
        prop_assert_eq!(seen.len() as u64 + missing, durable - pair.model.acked);
    }
}
