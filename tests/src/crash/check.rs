//! What must hold after every crash: of the ledger's files, and of the answers about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use pcigate_ledger::{Checkpoint, Directory, VerifierKey, entries, root, verify};
use pcigate_proto::{Message as _, Record, record::Event};

use super::node::Node;

/// A row: position in the ledger, and the record's bytes.
pub type Row = (u64, Vec<u8>);

/// (node, epoch), then number: position and bytes.
type Stored = BTreeMap<(String, Vec<u8>), BTreeMap<u64, (u64, Vec<u8>)>>;

/// Verifies the ledger in a state directory; its leaves.
///
/// # Errors
/// What does not hold.
pub fn ledger(state_dir: &Path, key: &VerifierKey) -> Result<Vec<Row>, String> {
    let source = Directory::new(state_dir.join("ledger"));
    let report = verify(&source, key, None, |_| ()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("the ledger does not verify: {error} ({})", cause.unwrap_or_default())
    })?;
    let leaves = entries(&source, report.size, 0..report.size);
    leaves.collect::<Result<_, _>>().map_err(|error| format!("a leaf cannot be read: {error}"))
}

/// Every checkpoint ever shown is of a tree this ledger began with.
///
/// # Errors
/// The first that is not.
pub fn history(state_dir: &Path, shown: &[Checkpoint]) -> Result<(), String> {
    let source = Directory::new(state_dir.join("ledger"));
    for checkpoint in shown {
        let now = root(&source, checkpoint.size);
        let now = now.map_err(|error| format!("no tree of {} leaves: {error}", checkpoint.size))?;
        if now != checkpoint.root {
            return Err(format!("the tree of {} leaves was another one before", checkpoint.size));
        }
    }
    Ok(())
}

/// Rows hold every acknowledged record once with its bytes, nothing twice, and no gap: these
/// nodes have left nothing out.
///
/// # Errors
/// What does not hold.
pub fn rows(rows: &[Row], nodes: &[Node], what: &str) -> Result<(), String> {
    let (stored, gaps) = sort(rows).map_err(|error| format!("{what}: {error}"))?;
    if let Some(gap) = gaps.first() {
        return Err(format!("{what}: a false gap: {gap:?}"));
    }
    for node in nodes {
        let empty = BTreeMap::new();
        let of = stored.get(&(node.name.clone(), node.epoch.to_vec())).unwrap_or(&empty);
        for seq in 1..=node.acked.max(of.keys().next_back().copied().unwrap_or(0)) {
            let expected = usize::try_from(seq - 1).ok().and_then(|at| node.records.get(at));
            let name = format!("{what}: record {seq} of {}", node.name);
            match (of.get(&seq), expected) {
                (None, _) => return Err(format!("{name} is not there ({} acked)", node.acked)),
                (Some(_), None) => return Err(format!("{name} was never sent")),
                (Some((_, bytes)), Some(expected)) if bytes != expected => {
                    return Err(format!("{name} has other bytes"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Every number of every spool is there once, from 1 on, without a gap: these disks have kept what
/// they promised.
///
/// # Errors
/// What does not hold.
pub fn contiguous(rows: &[Row]) -> Result<(), String> {
    let (stored, gaps) = sort(rows)?;
    if let Some((spool, first, last)) = gaps.first() {
        return Err(format!("records {first} to {last} of {} are a gap", spool.0));
    }
    for (spool, numbers) in &stored {
        let last = numbers.keys().next_back().copied().unwrap_or(0);
        if let Some(seq) = (1..=last).find(|seq| !numbers.contains_key(seq)) {
            return Err(format!("record {seq} of {last} of {} is nowhere", spool.0));
        }
    }
    Ok(())
}

/// A spool, and the first and last number that is missing; last 0: everything from there on.
type Gap = ((String, Vec<u8>), u64, u64);

fn sort(rows: &[Row]) -> Result<(Stored, Vec<Gap>), String> {
    let (mut stored, mut gaps) = (Stored::new(), Vec::new());
    let mut positions = BTreeSet::new();
    for (position, bytes) in rows {
        if !positions.insert(*position) {
            return Err(format!("leaf {position} comes twice"));
        }
        let record = Record::decode(bytes.as_slice())
            .map_err(|_| format!("leaf {position} is not a record"))?;
        match record.event {
            Some(Event::Gap(gap)) => {
                gaps.push(((gap.node, gap.epoch), gap.first_seq, gap.last_seq));
            }
            Some(Event::Conflict(conflict)) => {
                return Err(format!("a conflict about record {}", conflict.seq));
            }
            _ => {}
        }
        let Some(origin) = record.origin.filter(|origin| !origin.epoch.is_empty()) else {
            continue;
        };
        let of = stored.entry((origin.node.clone(), origin.epoch)).or_default();
        if let Some((before, _)) = of.insert(origin.seq, (*position, bytes.clone())) {
            let (seq, node) = (origin.seq, origin.node);
            return Err(format!("record {seq} of {node} is twice: {before} and {position}"));
        }
    }
    Ok((stored, gaps))
}
