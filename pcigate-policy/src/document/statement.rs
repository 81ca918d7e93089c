//! Statements of a gate rule: what may be done at the target.

use std::collections::HashSet;

use super::names::rule_id;
use super::policy::refuse_empty_lists;
use crate::yaml::{Fields, Item, Mistakes, choice, shown};

/// One statement rule of a gated target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Id, unique within the gate rule.
    pub id: String,
    /// What happens on a match.
    pub action: StatementAction,
    /// What the statement does; any of them.
    pub effects: Vec<Effect>,
    /// Tables as `table`, `schema.table` or `schema.*`; empty = every table.
    pub tables: Vec<String>,
    /// Functions as `function`, `schema.function` or `schema.*`. The effect `function` is allowed
    /// for these only; deny and ask rules speak of these only.
    pub functions: Vec<String>,
    /// Tagged columns that expressions may use, as `table.column` or `schema.table.column`.
    pub columns: Vec<String>,
    /// Shapes it speaks of: allowed in addition, or the only ones denied.
    pub shapes: Vec<Shape>,
    /// Most rows of one answer; absent = unlimited.
    pub max_rows: Option<u64>,
    /// Most bytes of one answer; absent = unlimited.
    pub max_bytes: Option<u64>,
}

/// What happens to a matching statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementAction {
    /// It is forwarded.
    Allow,
    /// It waits for approval.
    Ask,
    /// It is refused.
    Deny,
}

/// What a statement does at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Reads data.
    Read,
    /// Changes data, or locks it against others.
    Write,
    /// Changes the schema, or maintains it (`VACUUM`, `REINDEX`).
    Ddl,
    /// Changes rights, roles or the server.
    Dcl,
    /// Reads a whole table or answer past the protocol of rows (`COPY … TO`).
    BulkRead,
    /// Calls a function whose effects are not known to be harmless.
    Function,
    /// Changes what later statements of the session mean, or reaches other sessions.
    Session,
    /// What it does cannot be told from its text.
    Unknown,
}

/// A way of writing a statement that is refused unless a rule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `UPDATE`, `DELETE`, `MERGE` or `TRUNCATE` without a condition.
    NoWhere,
    /// `DO`: a program in a procedural language.
    DoBlock,
    /// `COPY` to or from a file of the server.
    ServerFile,
    /// `COPY` to or from a program on the server.
    Program,
}

const ACTIONS: &[(&str, StatementAction)] = &[
    ("allow", StatementAction::Allow),
    ("ask", StatementAction::Ask),
    ("deny", StatementAction::Deny),
];
const EFFECTS: &[(&str, Effect)] = &[
    ("read", Effect::Read),
    ("write", Effect::Write),
    ("ddl", Effect::Ddl),
    ("dcl", Effect::Dcl),
    ("bulkRead", Effect::BulkRead),
    ("function", Effect::Function),
    ("session", Effect::Session),
    ("unknown", Effect::Unknown),
];
const SHAPES: &[(&str, Shape)] = &[
    ("noWhere", Shape::NoWhere),
    ("doBlock", Shape::DoBlock),
    ("serverFile", Shape::ServerFile),
    ("program", Shape::Program),
];

impl Effect {
    /// The word documents and records use.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(EFFECTS, self)
    }
}

impl Shape {
    /// The word documents use.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(SHAPES, self)
    }
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], of: T) -> &'static str {
    words.iter().find(|(_, value)| *value == of).map_or("unknown", |(word, _)| word)
}

impl Statement {
    pub(super) fn decode_all(fields: &mut Fields<'_, '_>) -> Vec<Self> {
        let items = fields.list("statements");
        refuse_empty_lists(fields, &["statements"]);
        let mut ids = HashSet::new();
        items.iter().map(|item| Self::decode(item, &mut ids, fields.mistakes())).collect()
    }

    fn decode(item: &Item<'_>, ids: &mut HashSet<String>, mistakes: &mut Mistakes) -> Self {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let id = fields.required_parsed("id", rule_id);
        if let Some(id) = &id
            && !ids.insert(id.clone())
        {
            fields.mistake("id", format!("{} is used twice in this rule; rename one", shown(id)));
        }
        let action = fields.required_one_of("action", ACTIONS);
        if !fields.has("effects") {
            let words: Vec<&str> = EFFECTS.iter().map(|(word, _)| *word).collect();
            fields.mistake("effects", format!("is required; list any of {}", words.join(", ")));
        }
        let effects = fields.parsed_list("effects", |text| choice(text, EFFECTS));
        let tables = fields.parsed_list("tables", table_pattern);
        let functions = fields.parsed_list("functions", function_pattern);
        let columns = fields.parsed_list("columns", column);
        let shapes = fields.parsed_list("shapes", |text| choice(text, SHAPES));
        refuse_empty_lists(&mut fields, &["effects", "tables", "functions", "columns", "shapes"]);
        let max_rows = fields.integer("maxRows", 1..=i64::MAX);
        let max_bytes = fields.integer("maxBytes", 1..=i64::MAX);
        if action == Some(StatementAction::Deny) {
            for name in ["maxRows", "maxBytes", "columns"] {
                if fields.has(name) {
                    fields.mistake(name, "has no meaning with `action: deny`; remove it");
                }
            }
        }
        if action == Some(StatementAction::Allow)
            && effects.contains(&Effect::Function)
            && functions.is_empty()
            && !fields.has("functions")
        {
            let message = "is required where `effects` allows `function`; name the functions";
            fields.mistake("functions", message);
        }
        fields.finish();
        Self {
            id: id.unwrap_or_default(),
            action: action.unwrap_or(StatementAction::Deny),
            effects,
            tables,
            functions,
            columns,
            shapes,
            max_rows: max_rows.and_then(|rows| u64::try_from(rows).ok()),
            max_bytes: max_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }
}

/// `table`, `schema.table` or `database.schema.table`.
pub(super) fn table(text: &str) -> Result<String, String> {
    if text.split('.').count() <= 3 && text.split('.').all(is_name) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not a table name; write `table` or `schema.table`", shown(text)))
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "_$-".contains(c))
}

/// A table, or `schema.*`.
fn table_pattern(text: &str) -> Result<String, String> {
    if text.strip_suffix(".*").is_some_and(is_name) || table(text).is_ok() {
        return Ok(text.to_owned());
    }
    let message = "is not a table; write `table`, `schema.table` or `schema.*`";
    Err(format!("{} {message}", shown(text)))
}

/// `function`, `schema.function` or `schema.*`.
fn function_pattern(text: &str) -> Result<String, String> {
    let named = text.split('.').count() <= 2 && text.split('.').all(is_name);
    if named || text.strip_suffix(".*").is_some_and(is_name) {
        return Ok(text.to_owned());
    }
    let message = "is not a function; write `function`, `schema.function` or `schema.*`";
    Err(format!("{} {message}", shown(text)))
}

/// `table.column` or `schema.table.column`.
fn column(text: &str) -> Result<String, String> {
    if (2..=3).contains(&text.split('.').count()) && text.split('.').all(is_name) {
        return Ok(text.to_owned());
    }
    let message = "is not a column; write `table.column` or `schema.table.column`";
    Err(format!("{} {message}", shown(text)))
}
