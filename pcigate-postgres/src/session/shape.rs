//! The columns of rows, kept for as long as rows of theirs may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

use crate::backend::{Column, RowDescription};
use crate::values::{Format, Formats};

/// Which answer told the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// RowDescription directly before the rows: it is of these rows.
    Query,
    /// Describe of the portal: it is of the plan that Bind made. But a portal of FETCH or EXECUTE
    /// has no plan: it looks the name up when it runs, and may find another cursor or statement
    /// than the one described. Who decides by tables must not let those through the extended
    /// protocol.
    Portal,
    /// Describe of the statement, maybe long ago. Number, names and types of the columns are those
    /// of the rows, because the server refuses to run a plan where they have changed; but the
    /// server may meanwhile have planned it anew over **other tables** (a changed `search_path`, a
    /// renamed table), so `table` and `attribute` may be wrong. Who decides by them must describe
    /// the portal.
    Statement,
}

/// The columns of the rows that come. Cheap to clone.
#[derive(Clone)]
pub struct RowShape {
    columns: Arc<Columns>,
    /// Of Bind; otherwise those of the description hold.
    formats: Option<Formats>,
    source: Source,
}

impl RowShape {
    pub(super) fn new(columns: Arc<Columns>, formats: Option<Formats>, source: Source) -> Self {
        Self { columns, formats, source }
    }

    /// The columns. Their `format` is not to be used: see [`format`](Self::format).
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns.columns
    }

    /// The format in which the values of a column come; nothing when the client has asked for
    /// formats of fewer columns, which the server refuses.
    #[must_use]
    pub fn format(&self, column: usize) -> Option<Format> {
        match &self.formats {
            Some(formats) => formats.of(column),
            None => self.columns.columns.get(column).map(|column| column.format),
        }
    }

    /// Which answer told it.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }
}

/// Columns, and what they weigh in the session's account.
pub(super) struct Columns {
    columns: Vec<Column>,
    charge: Option<(Arc<AtomicUsize>, usize)>,
}

impl Columns {
    /// For the rows that come next.
    pub(super) fn passing(description: &RowDescription) -> Arc<Self> {
        Arc::new(Self { columns: description.columns.clone(), charge: None })
    }

    /// To be kept: in memory of its own, so that it does not keep the buffer it came in. Nothing
    /// when `account` (bytes) would be over `limit`.
    pub(super) fn kept(
        description: &RowDescription,
        account: &Arc<AtomicUsize>,
        limit: usize,
    ) -> Option<Arc<Self>> {
        let names: usize = description.columns.iter().map(|column| column.name.len()).sum();
        let weight = names + description.columns.len() * size_of::<Column>();
        if account.load(Ordering::Relaxed).saturating_add(weight) > limit {
            return None;
        }
        account.fetch_add(weight, Ordering::Relaxed);
        let mut text = BytesMut::with_capacity(names);
        description.columns.iter().for_each(|column| text.extend_from_slice(&column.name));
        let mut text: Bytes = text.freeze();
        let columns = description.columns.iter().map(|column| {
            let name = text.split_to(column.name.len());
            Column { name, ..column.clone() }
        });
        let columns = columns.collect();
        Some(Arc::new(Self { columns, charge: Some((Arc::clone(account), weight)) }))
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        if let Some((account, weight)) = &self.charge {
            account.fetch_sub(*weight, Ordering::Relaxed);
        }
    }
}
