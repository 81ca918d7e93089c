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
    /// Tables as `table` or `schema.table`; empty = every table.
    pub tables: Vec<String>,
    /// Most rows of one answer; absent = unlimited.
    pub max_rows: Option<u64>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads data.
    Read,
    /// Changes data.
    Write,
    /// Changes the schema.
    Ddl,
}

const ACTIONS: &[(&str, StatementAction)] = &[
    ("allow", StatementAction::Allow),
    ("ask", StatementAction::Ask),
    ("deny", StatementAction::Deny),
];
const EFFECTS: &[(&str, Effect)] =
    &[("read", Effect::Read), ("write", Effect::Write), ("ddl", Effect::Ddl)];

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
            fields.mistake("effects", "is required; list any of read, write, ddl");
        }
        let effects = fields.parsed_list("effects", |text| choice(text, EFFECTS));
        let tables = fields.parsed_list("tables", table);
        refuse_empty_lists(&mut fields, &["effects", "tables"]);
        let max_rows = fields.integer("maxRows", 1..=i64::MAX);
        if action == Some(StatementAction::Deny) && fields.has("maxRows") {
            fields.mistake("maxRows", "has no meaning with `action: deny`; remove it");
        }
        fields.finish();
        Self {
            id: id.unwrap_or_default(),
            action: action.unwrap_or(StatementAction::Deny),
            effects,
            tables,
            max_rows: max_rows.and_then(|rows| u64::try_from(rows).ok()),
        }
    }
}

/// `table`, `schema.table` or `database.schema.table`.
pub(super) fn table(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "_$-".contains(c))
    };
    if text.split('.').count() <= 3 && text.split('.').all(part) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not a table name; write `table` or `schema.table`", shown(text)))
}
