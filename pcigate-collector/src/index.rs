//! What is derived from the ledger for ingest: the cursors, and where to find a stored record.
//!
//! Rebuilt by reading the ledger. `index/cursors` only shortens that: it counts when it is whole
//! and its root is that of the ledger at its size; otherwise the ledger is read from the start.

use std::{
    collections::BTreeMap,
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use pcigate_ledger::{Directory, ReadError, TILE_WIDTH, read_bundle};
use pcigate_proto::{Message, Record};
use sha2::{Digest, Sha256};

use crate::{
    cursors::{Cursor, Cursors, Spool, Step},
    ledger::Durable,
};

/// Leaves between two points of the same spool: how far a search for a stored record reads.
const POINT_LEAVES: u64 = 16_384;
/// Leaves after which the snapshot is written again.
const SNAPSHOT_LEAVES: u64 = 65_536;
const HEADER: &str = "pcigate-cursors 2";

/// Why the index cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// A file of the ledger cannot be used.
    #[error("the cursors cannot be rebuilt from the ledger")]
    Read {
        /// The file.
        #[source]
        source: ReadError,
    },
    /// A leaf is not a record.
    #[error(
        "leaf {leaf} is not a record: the ledger was changed; run `pcigate verify` and restore \
         it from a copy"
    )]
    Leaf {
        /// The leaf.
        leaf: u64,
    },
}

/// The cursors with a sparse map from sequence numbers to leaves.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The cursors, as of the durable ledger.
    pub cursors: Cursors,
    /// Per spool `(seq, leaf)`, both rising, at most one in [`POINT_LEAVES`] leaves.
    points: HashMap<Spool, Vec<(u64, u64)>>,
    snapshot_size: u64,
}

impl Index {
    /// Reads the snapshot if it fits, and the leaves after it.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn open(
        state_dir: &Path,
        source: &Directory,
        durable: &Durable,
    ) -> Result<Self, RebuildError> {
        let saved = Self::saved(state_dir);
        let loaded = saved.as_deref().and_then(|text| Self::parse(text, source, durable));
        if saved.is_some() && loaded.is_none() {
            let path = path(state_dir);
            tracing::info!(path = %path.display(), "the saved cursors do not fit; reading all");
        }
        let mut index = loaded.unwrap_or_default();
        let from = index.snapshot_size;
        let mut first = from / TILE_WIDTH;
        while first < durable.size.div_ceil(TILE_WIDTH) {
            let read = |source| RebuildError::Read { source };
            let bundle = read_bundle(source, durable.size, first).map_err(read)?;
            for entry in bundle.entries() {
                let (leaf, bytes) = entry.map_err(read)?;
                let record = Record::decode(bytes).map_err(|_| RebuildError::Leaf { leaf })?;
                if let Some(step) = Step::of(&record).filter(|_| leaf >= from) {
                    index.apply(leaf, &step);
                }
            }
            first += 1;
        }
        Ok(index)
    }

    /// Takes in a durable leaf.
    pub fn apply(&mut self, leaf: u64, step: &Step) {
        self.cursors.apply(step);
        if let Step::Stored { spool, seq, .. } = step {
            if !self.points.contains_key(spool) {
                self.points.insert(spool.clone(), Vec::new());
            }
            let Some(points) = self.points.get_mut(spool) else { return };
            if points.last().is_none_or(|(_, last)| leaf - last >= POINT_LEAVES) {
                points.push((*seq, leaf));
            }
        }
    }

    /// The bytes of those records `first..=last` of a spool that are in the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn stored(
        &self,
        source: &Directory,
        size: u64,
        spool: &Spool,
        first: u64,
        last: u64,
    ) -> Result<BTreeMap<u64, Vec<u8>>, ReadError> {
        let mut found = BTreeMap::new();
        let points = self.points.get(spool).map(Vec::as_slice).unwrap_or_default();
        let begin = points.partition_point(|(seq, _)| *seq <= first).saturating_sub(1);
        let end = points.partition_point(|(seq, _)| *seq <= last);
        let Some((_, low)) = points.get(begin).filter(|_| end > 0) else { return Ok(found) };
        let within = points.get(end - 1).map_or(0, |(_, leaf)| leaf + POINT_LEAVES);
        let high = points.get(end).map_or(within, |(_, leaf)| within.min(*leaf)).min(size);
        for bundle in low / TILE_WIDTH..high.div_ceil(TILE_WIDTH) {
            for entry in read_bundle(source, size, bundle)?.entries() {
                let (_, bytes) = entry?;
                let Ok(record) = Record::decode(bytes) else { continue };
                let origin = record.origin.unwrap_or_default();
                let same = origin.node == spool.node && origin.epoch == spool.epoch;
                if same && (first..=last).contains(&origin.seq) {
                    found.insert(origin.seq, bytes.to_vec());
                }
            }
        }
        Ok(found)
    }

    /// Writes the snapshot when enough has changed, or when `always`. A failure is only logged.
    pub fn save(&mut self, state_dir: &Path, durable: &Durable, always: bool) {
        let behind = durable.size.saturating_sub(self.snapshot_size);
        if behind < SNAPSHOT_LEAVES && !(always && behind > 0) {
            return;
        }
        self.snapshot_size = durable.size;
        let path = path(state_dir);
        let temporary = path.with_extension("tmp");
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written
            .and_then(|()| fs::write(&temporary, self.to_text(durable)))
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the cursors could not be saved");
        }
    }

    /// Whether two indexes answer the same, wherever they came from.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.cursors == other.cursors && self.points == other.points
    }

    fn to_text(&self, durable: &Durable) -> String {
        let mut body = String::new();
        for (node, place, epoch) in self.cursors.sorted_latest() {
            body.push_str(&format!("@ {node} {} {}\n", hex::encode(place), hex::encode(epoch)));
        }
        for (spool, cursor, place) in self.cursors.sorted() {
            let points = self.points.get(spool).map(Vec::as_slice).unwrap_or_default();
            let points: Vec<_> = points.iter().map(|(seq, leaf)| format!("{seq}:{leaf}")).collect();
            let (epoch, points) = (hex::encode(spool.epoch), points.join(","));
            let closed = u8::from(cursor.closed);
            let place = place.map_or_else(|| "-".to_owned(), hex::encode);
            let line = format!("{} {epoch} {} {closed} {place} {points}\n", spool.node, cursor.seq);
            body.push_str(&line);
        }
        let digest = hex::encode(Sha256::digest(&body));
        let (size, root) = (durable.size, hex::encode(durable.root));
        format!("{HEADER} {size} {root} {digest}\n{body}")
    }

    /// The text of the snapshot, if there is one.
    pub(crate) fn saved(state_dir: &Path) -> Option<String> {
        fs::read_to_string(path(state_dir)).ok()
    }

    /// Leaves the snapshot spoke of.
    pub(crate) fn snapshot_size(&self) -> u64 {
        self.snapshot_size
    }

    /// The snapshot, if it is whole and of this ledger.
    pub(crate) fn parse(text: &str, source: &Directory, durable: &Durable) -> Option<Self> {
        let (header, body) = text.split_once('\n')?;
        let mut header = header.strip_prefix(HEADER)?.strip_prefix(' ')?.split(' ');
        let size: u64 = header.next()?.parse().ok()?;
        let (root, digest) = (header.next()?, header.next()?);
        let fits = size <= durable.size
            && digest == hex::encode(Sha256::digest(body))
            && pcigate_ledger::root(source, size).is_ok_and(|is| hex::encode(is) == root);
        if !fits {
            return None;
        }
        let mut index = Self { snapshot_size: size, ..Self::default() };
        for line in body.lines() {
            index.load_line(line)?;
        }
        Some(index)
    }

    fn load_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        if let Some(latest) = line.strip_prefix("@ ") {
            let mut words = latest.split(' ');
            let (node, place) = (words.next()?.to_owned(), hex::decode(words.next()?).ok()?);
            let epoch = hex::decode(words.next()?).ok()?.try_into().ok()?;
            self.cursors.restore_latest(node, place, epoch);
            return Some(());
        }
        let (node, epoch) = (words.next()?.to_owned(), hex::decode(words.next()?).ok()?);
        let spool = Spool { node, epoch: epoch.try_into().ok()? };
        let cursor = Cursor { seq: words.next()?.parse().ok()?, closed: words.next()? == "1" };
        let place = match words.next()? {
            "-" => None,
            place => Some(hex::decode(place).ok()?),
        };
        let points: Option<Vec<_>> = words
            .next()?
            .split(',')
            .filter(|point| !point.is_empty())
            .map(|point| {
                let (seq, leaf) = point.split_once(':')?;
                Some((seq.parse().ok()?, leaf.parse().ok()?))
            })
            .collect();
        let points = points.filter(|points| !points.is_empty()).into_iter();
        self.points.extend(points.map(|points| (spool.clone(), points)));
        self.cursors.restore(spool, cursor, place);
        Some(())
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("index/cursors")
}
