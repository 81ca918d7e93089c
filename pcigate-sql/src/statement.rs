//! What is said of one statement.

use std::ops::Range;
use std::sync::Arc;

use pcigate_policy::statement::{Facts, TableName};

/// What one statement of a text would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its command, as in the server's command tag where it has one: `SELECT`, `COPY`, `CREATE`, ….
    pub kind: &'static str,
    /// Its place in the text, in bytes.
    pub place: Range<usize>,
    /// What rules ask for.
    pub facts: Facts,
    /// It answers rows and says no `LIMIT` or `FETCH FIRST`.
    pub no_limit: bool,
    /// The columns of its answer, in order; `None` = it answers no rows, or their columns are not
    /// known. A [`Output::name`] of `None` stands for any number of columns.
    pub outputs: Option<Vec<Output>>,
    /// For `COPY`: which way and where.
    pub copy: Option<Copy>,
    /// It depends on the session's prepared statements or cursors.
    pub(crate) of_session: bool,
    /// What it changes in the session when it succeeds.
    pub(crate) changes: Vec<Change>,
}

/// One column of an answer, or all columns of some tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its name; `None` = all columns of the tables in `sources`.
    pub name: Option<String>,
    /// The columns its value comes from.
    pub sources: Vec<Source>,
    /// Its value is the source's as it is.
    pub plain: bool,
}

/// A column that a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The tables it may belong to.
    pub tables: Vec<TableName>,
    /// The column; `None` = all of them.
    pub column: Option<String>,
}

/// What a `COPY` moves where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// From the server (`TO`) or to it (`FROM`).
    pub from_server: bool,
    /// The other end.
    pub end: CopyEnd,
}

/// Where `COPY` reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEnd {
    /// The client's connection.
    Client,
    /// A file of the server.
    File,
    /// A program on the server.
    Program,
}

/// What a statement changes in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// `SET` and `RESET`; value `None` = the default.
    Set {
        name: String,
        value: SetTo,
        local: bool,
    },
    /// `RESET ALL`.
    ResetAll,
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    Release(String),
    /// `PREPARE`: name and the text of the inner statement.
    Prepare(String, Arc<str>),
    Deallocate(Option<String>),
    Declare(String, Arc<Statement>),
    Close(Option<String>),
    CreateTemp {
        name: String,
        on_commit_drop: bool,
    },
    /// Temporary tables may be gone or have other names.
    ForgetTemps,
    DiscardAll,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetTo {
    Default,
    Values(Vec<String>),
    /// Not known before it runs.
    Unknown,
}

/// What a statement does to the names of prepared statements and cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming<'a> {
    /// `PREPARE name`.
    Prepare(&'a str),
    /// `DEALLOCATE name`; `None` = all.
    Deallocate(Option<&'a str>),
    /// `DECLARE name CURSOR`.
    Declare(&'a str),
    /// `CLOSE name`; `None` = all.
    Close(Option<&'a str>),
    /// `DISCARD ALL`.
    DiscardAll,
}

impl Statement {
    /// What it does to names when it succeeds.
    pub fn naming(&self) -> impl Iterator<Item = Naming<'_>> {
        self.changes.iter().filter_map(|change| match change {
            Change::Prepare(name, _) => Some(Naming::Prepare(name)),
            Change::Deallocate(name) => Some(Naming::Deallocate(name.as_deref())),
            Change::Declare(name, _) => Some(Naming::Declare(name)),
            Change::Close(name) => Some(Naming::Close(name.as_deref())),
            Change::DiscardAll => Some(Naming::DiscardAll),
            _ => None,
        })
    }

    /// Whether later statements may mean something else once it has succeeded: whoever sends them
    /// before its answer must wait.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        self.changes.iter().any(|change| !matches!(change, Change::Begin))
    }
}

impl Statement {
    /// Whether it depends on prepared statements or cursors, so that the same text may do something
    /// else the next time.
    #[must_use]
    pub fn depends_on_names(&self) -> bool {
        self.of_session
    }
}
