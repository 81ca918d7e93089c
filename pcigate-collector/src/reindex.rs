//! `pcigate-collector reindex`: builds the index anew from the ledger of a stopped collector.

use crate::{
    config::Config,
    indexer::{self, ReindexError},
    ledger::{Ledger, OpenError},
};

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to build it from.
    #[error("there is no ledger in {dir}: `stateDir` must be that of a collector that has run")]
    NoLedger {
        /// The state directory.
        dir: String,
    },
    /// The collector runs, or the ledger is damaged.
    #[error("the ledger cannot be opened")]
    Ledger {
        /// Why.
        #[source]
        source: Box<OpenError>,
    },
    /// The index cannot be built.
    #[error("the ledger is untouched, but there is no index now; run this again")]
    Index {
        /// Why.
        #[source]
        source: Box<ReindexError>,
    },
}

/// Builds it, telling `progress` leaves done and leaves in all; gives the leaves in all. Blocks.
///
/// # Errors
/// See [`Error`]. The ledger is only read.
pub fn run(config: &Config, mut progress: impl FnMut(u64, u64)) -> Result<u64, Error> {
    let dir = &config.state_dir;
    if !dir.join("ledger/checkpoint").exists() {
        return Err(Error::NoLedger { dir: dir.display().to_string() });
    }
    let ledger = Ledger::open(dir, &config.origin)
        .map_err(|source| Error::Ledger { source: Box::new(source) })?;
    let durable = ledger.durable();
    indexer::rebuild(&indexer::directory(dir), ledger.source(), durable, |done| {
        progress(done, durable.size);
    })
    .map_err(|source| Error::Index { source: Box::new(source) })?;
    Ok(durable.size)
}
