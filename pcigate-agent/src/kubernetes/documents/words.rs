//! What is said of documents: which they are, what comes of them, what is kept, what they become.

use pcigate_policy::document::{Documents, ObjectName};
use serde_json::Value;

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    AgentPolicy,
    ClusterAgentPolicy,
    Target,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::AgentPolicy, Self::ClusterAgentPolicy, Self::Target];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AgentPolicy => "AgentPolicy",
            Self::ClusterAgentPolicy => "ClusterAgentPolicy",
            Self::Target => "Target",
        }
    }
}

/// Which document.
pub(super) type Key = (Kind, ObjectName);

/// An object as it comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    pub(super) uid: String,
    pub(super) generation: i64,
    /// RFC 3339, which sorts.
    pub(super) created: String,
    /// The nodes together can use this version.
    pub(super) accepted: bool,
    pub(super) spec: Value,
}

/// A version as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) generation: i64,
    pub(super) spec: String,
}

/// What a file keeps of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
    pub(super) uid: String,
    pub(super) created: String,
    pub(super) newest: Version,
    pub(super) good: Option<Version>,
}

/// What a file keeps of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Kinds of which all was listed at some time.
    pub(super) known: [bool; 3],
    pub(super) documents: Vec<Kept>,
}

/// What is in force.
#[derive(Debug)]
pub struct Resolved {
    /// All documents in force.
    pub documents: Documents,
    /// All there is was told at some time. Otherwise everything has to be refused.
    pub is_known: bool,
    /// Each document of the API server, and what became of it.
    pub rows: Vec<Row>,
}

/// A document of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `AgentPolicy`, `ClusterAgentPolicy` or `Target`.
    pub kind: &'static str,
    /// Its name.
    pub name: ObjectName,
    /// The newest generation that came.
    pub generation: i64,
    /// Of what is in force of it; empty: nothing.
    pub hash: String,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its newest version is in force.
    InForce,
    /// The newest is not, for this reason, which also says what is instead.
    Rejected(String),
}
