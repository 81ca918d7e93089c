//! What is known of `pg_catalog`: functions and what calling them does, operators, relations. The
//! files in `data/` say which query of which version made them.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use pcigate_policy::document::Effect;

/// What calling a function of `pg_catalog` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Nothing but its value.
    Pure,
    /// Changes the session or reaches other sessions.
    Session,
    /// Changes the sequence its first argument names.
    Sequence,
    /// Anything else: files, other servers, statements in arguments, unknown.
    Other,
}

impl FunctionKind {
    /// As an effect; harmless = none.
    pub fn effect(self) -> Option<Effect> {
        match self {
            Self::Pure => None,
            Self::Session => Some(Effect::Session),
            Self::Sequence => Some(Effect::Write),
            Self::Other => Some(Effect::Function),
        }
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with("# "))
}

static FUNCTIONS: LazyLock<HashMap<&'static str, FunctionKind>> = LazyLock::new(|| {
    let of = |word| match word {
        "pure" => FunctionKind::Pure,
        "session" => FunctionKind::Session,
        "write" => FunctionKind::Sequence,
        _ => FunctionKind::Other,
    };
    let entries = lines(include_str!("../data/functions.txt"));
    entries.filter_map(|line| line.split_once(' ')).map(|(name, word)| (name, of(word))).collect()
});

static OPERATORS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    lines(include_str!("../data/operators.txt")).filter_map(|l| l.strip_prefix("op ")).collect()
});

static RELATIONS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| lines(include_str!("../data/relations.txt")).collect());

static WHOLE_ROW: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| lines(include_str!("../data/whole_row.txt")).collect());

/// What calling `pg_catalog.name` does; what is not listed is [`FunctionKind::Other`].
pub fn function(name: &str) -> FunctionKind {
    FUNCTIONS.get(name).copied().unwrap_or(FunctionKind::Other)
}

/// Whether `pg_catalog` has a function of that name.
pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

/// Whether it is an operator of `pg_catalog`.
pub fn is_operator(name: &str) -> bool {
    name == "!=" || OPERATORS.contains(name)
}

/// Whether it is a table or view of `pg_catalog`.
pub fn is_relation(name: &str) -> bool {
    name.starts_with("pg_") && RELATIONS.contains(name)
}

/// Whether `alias.name` may be a call of a function of `pg_catalog` with the whole row.
pub fn takes_whole_row(name: &str) -> bool {
    WHOLE_ROW.contains(name)
}
