//! What a session remembers: requests on their way, statements, portals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::shape::{Columns, RowShape, Source};
use crate::values::Formats;

/// Numbers the requests of a session in the order in which they were sent. A statement has the
/// number of its Parse, a portal that of its Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client: answers go to it.
    Client,
    /// The gateway, for itself: answers are not for the client.
    Gateway,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Query: any number of statements, then ReadyForQuery.
    Query,
    /// Parse.
    Parse,
    /// Bind.
    Bind,
    /// Describe of a statement.
    DescribeStatement,
    /// Describe of a portal.
    DescribePortal,
    /// Execute.
    Execute,
    /// Close of a statement.
    CloseStatement,
    /// Close of a portal.
    ClosePortal,
    /// FunctionCall, then ReadyForQuery.
    FunctionCall,
    /// Sync.
    Sync,
    /// A message of the extended protocol was refused; the server gets a statement that fails.
    Refused,
}

impl Kind {
    /// Whether its failure makes the server ignore everything up to the next Sync.
    pub(super) fn skips_when_failed(self) -> bool {
        !matches!(self, Self::Query | Self::FunctionCall | Self::Sync)
    }

    /// Whether it may turn out to be COPY.
    pub(super) fn runs_statements(self) -> bool {
        matches!(self, Self::Query | Self::Execute)
    }
}

/// A request that was sent to the server. `T` is what the caller keeps about it.
pub struct Request<T> {
    /// Its number.
    pub id: RequestId,
    /// What it asks for.
    pub kind: Kind,
    /// Who asked.
    pub origin: Origin,
    /// It was refused: the error that answers it is to be replaced by the refusal.
    pub refused: bool,
    /// The caller's.
    pub tag: T,
    /// The statement it makes (Parse) or uses (Bind, Describe, Close, and Execute by its portal).
    pub statement: Option<Arc<Statement<T>>>,
    /// The portal it makes (Bind) or uses (Describe, Execute, Close).
    pub portal: Option<Arc<Portal<T>>>,
    /// How many statements of a Query's string are done: the number, from 0, of the one whose
    /// answer comes now.
    pub index: u32,
    /// The name it changes, in memory of its own.
    pub(super) name: Bytes,
    pub(super) batch: u64,
    pub(super) progress: Progress,
    /// Of the rows that come now.
    pub(super) shape: Option<RowShape>,
    pub(super) effects: Vec<(u32, Effect)>,
    /// A Sync that the server may have taken for a part of COPY's data, and dropped.
    pub(super) maybe_dropped: bool,
}

/// How far the answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    /// Something of the answer was there, and more may come.
    Some,
    /// ParameterDescription was there.
    Parameters,
    /// Rows, whose shape has been looked up.
    Rows,
    /// An error: only the end may come.
    Failed,
}

/// What a statement of SQL does to names of the protocol; only its text tells.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// PREPARE name.
    Prepare(Bytes),
    /// DEALLOCATE name.
    Deallocate(Bytes),
    /// DEALLOCATE ALL.
    DeallocateAll,
    /// DECLARE name CURSOR.
    Declare {
        /// The cursor's name, which is a portal's.
        name: Bytes,
        /// WITH HOLD: it outlives the transaction.
        hold: bool,
    },
    /// CLOSE name.
    ClosePortal(Bytes),
    /// CLOSE ALL.
    ClosePortals,
    /// DISCARD ALL.
    DiscardAll,
}

impl Effect {
    pub(super) fn touches_statement(&self, name: &[u8]) -> bool {
        match self {
            Self::Prepare(of) | Self::Deallocate(of) => of == name,
            Self::DeallocateAll | Self::DiscardAll => true,
            Self::Declare { .. } | Self::ClosePortal(_) | Self::ClosePortals => false,
        }
    }

    pub(super) fn touches_portal(&self, name: &[u8]) -> bool {
        match self {
            Self::Declare { name: of, .. } | Self::ClosePortal(of) => of == name,
            Self::ClosePortals | Self::DiscardAll => true,
            Self::Prepare(_) | Self::Deallocate(_) | Self::DeallocateAll => false,
        }
    }
}

/// A prepared statement.
pub struct Statement<T> {
    /// The number of the Parse that made it, or of the request that ran PREPARE.
    pub id: RequestId,
    /// Its name.
    pub name: Bytes,
    /// The caller's, of that request.
    pub tag: T,
    pub(super) described: Mutex<Described>,
}

/// What Describe has told.
#[derive(Default)]
pub(super) struct Described {
    pub(super) parameter_types: Option<Arc<[u32]>>,
    pub(super) columns: Option<Arc<Columns>>,
}

impl<T> Statement<T> {
    pub(super) fn new(id: RequestId, name: Bytes, tag: T) -> Self {
        Self { id, name, tag, described: Mutex::default() }
    }

    pub(super) fn described(&self) -> MutexGuard<'_, Described> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// OIDs of the types of its parameters, if it was described.
    #[must_use]
    pub fn parameter_types(&self) -> Option<Arc<[u32]>> {
        self.described().parameter_types.clone()
    }
}

/// A portal: a statement with its parameters, or a cursor.
pub struct Portal<T> {
    /// The number of the Bind that made it, or of the request that ran DECLARE.
    pub id: RequestId,
    /// Its name.
    pub name: Bytes,
    /// The caller's, of that request.
    pub tag: T,
    /// The statement it runs; nothing for a cursor of SQL, or a statement nobody has told us of.
    pub statement: Option<Arc<Statement<T>>>,
    pub(super) result_formats: Formats,
    /// It outlives the transaction.
    pub(super) hold: bool,
    pub(super) columns: Mutex<Option<Arc<Columns>>>,
}

impl<T: Clone> Portal<T> {
    /// What DECLARE makes.
    pub(super) fn cursor(id: RequestId, name: &Bytes, tag: &T, hold: bool) -> Self {
        Self {
            id,
            name: name.clone(),
            tag: tag.clone(),
            statement: None,
            result_formats: Formats::default(),
            hold,
            columns: Mutex::default(),
        }
    }
}

impl<T> Portal<T> {
    pub(super) fn columns(&self) -> MutexGuard<'_, Option<Arc<Columns>>> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shape of its rows, if it or its statement was described and gives rows.
    #[must_use]
    pub fn shape(&self) -> Option<RowShape> {
        if let Some(columns) = self.columns().clone() {
            return Some(RowShape::new(columns, None, Source::Portal));
        }
        let columns = self.statement.as_ref()?.described().columns.clone()?;
        Some(RowShape::new(columns, Some(self.result_formats.clone()), Source::Statement))
    }
}
