//! What one statement of a client does, as plain data, and what the rules of a gate answer to it.
//!
//! A statement is taken apart into demands: each table with what is done to it, each function that
//! is not known to be harmless, each shape that must be named, each expression over a tagged
//! column. Each demand is answered by the strictest rule that matches it (deny, ask, allow; none =
//! deny), and the statement by its strictest demand.

mod demand;
mod pattern;

use crate::document::{Column, ColumnClass, Effect, Shape, Statement, StatementAction};
use demand::{Demand, demands};

/// What a statement does, as far as rules ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Everything it does, sorted.
    pub effects: Vec<Effect>,
    /// Each table with what is done to it.
    pub tables: Vec<TableUse>,
    /// Functions called, also harmless ones.
    pub functions: Vec<FunctionUse>,
    /// Columns it names.
    pub columns: Vec<ColumnUse>,
    /// Shapes that rules must name, with the table concerned.
    pub shapes: Vec<ShapeUse>,
    /// Its session effect is one that ordinary clients need and nothing depends on (transactions,
    /// `SHOW`, date formats): no rule has to allow it.
    pub ordinary: bool,
    /// Why it cannot be told what it does; one sentence each, for the effect `unknown`.
    pub reasons: Vec<String>,
}

/// A table or view by its full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its schema; `pg_temp` for temporary tables; empty = not known.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// One thing done to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// The table; several where the search path leaves it open which one is meant. Never empty.
    pub names: Vec<TableName>,
    /// What is done to it.
    pub effect: Effect,
    /// Reached through a view that the statement names: rules may deny it, none has to allow it.
    pub through_view: bool,
}

/// A function the statement calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// Its schema; empty = not known.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What calling it does; `None` = known to be harmless.
    pub effect: Option<Effect>,
}

/// A column the statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnUse {
    /// The tables it may belong to.
    pub tables: Vec<TableName>,
    /// The column; `None` = all of them (`*`, whole rows).
    pub column: Option<String>,
    /// What becomes of it.
    pub usage: Usage,
}

/// What becomes of a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// It is a column of the answer as it is: its description names the table.
    Projected,
    /// It goes into an expression, a condition or an order.
    Computed,
    /// It is copied as it is to where its description no longer names the table: another table,
    /// a set operation, `COPY`.
    Moved,
    /// It is written.
    Written,
}

/// A shape and the table it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeUse {
    /// The shape.
    pub shape: Shape,
    /// The table as it may be meant; empty = no table.
    pub tables: Vec<TableName>,
}

/// What the rules answer to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What happens to it.
    pub action: StatementAction,
    /// Id of the rule behind it; `None` = no rule matched, which is a refusal, or none was needed.
    pub rule: Option<String>,
    /// For the client: what was refused or must be approved, why, and how to ask; empty on allow.
    pub sentence: String,
    /// Most rows of its answer: the least that a rule allowing it says.
    pub max_rows: Option<u64>,
    /// Most bytes of its answer: the least that a rule allowing it says.
    pub max_bytes: Option<u64>,
}

impl Facts {
    /// Adds an effect.
    pub fn add_effect(&mut self, effect: Effect) {
        if let Err(place) = self.effects.binary_search(&effect) {
            self.effects.insert(place, effect);
        }
    }

    /// Adds what another part of the same statement does.
    pub fn merge(&mut self, other: &Self) {
        other.effects.iter().for_each(|effect| self.add_effect(*effect));
        add_missing(&mut self.tables, &other.tables);
        add_missing(&mut self.functions, &other.functions);
        add_missing(&mut self.columns, &other.columns);
        add_missing(&mut self.shapes, &other.shapes);
        add_missing(&mut self.reasons, &other.reasons);
        self.ordinary &= other.ordinary;
    }
}

fn add_missing<T: Clone + PartialEq>(into: &mut Vec<T>, from: &[T]) {
    for item in from {
        if !into.contains(item) {
            into.push(item.clone());
        }
    }
}

/// The rules' answer. `tagged` are the Target's columns; `database` is the session's, for rules
/// that name one.
#[must_use]
pub fn decide(rules: &[Statement], tagged: &[Column], database: &str, facts: &Facts) -> Answer {
    let mut worst = Answer {
        action: StatementAction::Allow,
        rule: None,
        sentence: String::new(),
        max_rows: None,
        max_bytes: None,
    };
    for demand in demands(facts, tagged) {
        let mut deny = None;
        let mut ask = None;
        let mut allow = None;
        for rule in rules.iter().filter(|rule| demand.matches(rule, database)) {
            match rule.action {
                StatementAction::Deny => deny = deny.or(Some(rule)),
                StatementAction::Ask => ask = ask.or(Some(rule)),
                StatementAction::Allow => {
                    allow = allow.or(Some(rule));
                    worst.max_rows = least(worst.max_rows, rule.max_rows);
                    worst.max_bytes = least(worst.max_bytes, rule.max_bytes);
                }
            }
        }
        let (action, rule) = match (deny, ask, allow) {
            (Some(rule), _, _) => (StatementAction::Deny, Some(rule)),
            (None, Some(rule), _) => (StatementAction::Ask, Some(rule)),
            (None, None, Some(rule)) => (StatementAction::Allow, Some(rule)),
            (None, None, None) if demand.needs_no_rule() => continue,
            (None, None, None) => (StatementAction::Deny, None),
        };
        if severity(action) > severity(worst.action) {
            worst.sentence = sentence(action, rule, &demand);
            worst.rule = rule.map(|rule| rule.id.clone());
            worst.action = action;
        } else if worst.rule.is_none() && worst.action == StatementAction::Allow {
            worst.rule = rule.map(|rule| rule.id.clone());
        }
    }
    worst
}

fn severity(action: StatementAction) -> u8 {
    match action {
        StatementAction::Allow => 0,
        StatementAction::Ask => 1,
        StatementAction::Deny => 2,
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn sentence(action: StatementAction, rule: Option<&Statement>, demand: &Demand<'_>) -> String {
    let what = demand.describe();
    match (action, rule) {
        (StatementAction::Allow, _) => String::new(),
        (StatementAction::Ask, _) => format!("{what} needs approval; ask for it"),
        (StatementAction::Deny, Some(rule)) => {
            format!("{what} is denied by rule {}; ask its owner to change it", rule.id)
        }
        (StatementAction::Deny, None) => {
            let remedy = demand.remedy();
            format!("{what} is refused because no rule allows it; ask for a rule with {remedy}")
        }
    }
}

/// Whether a tagged column is card data at rest or data that must never be passed on.
pub(crate) fn class_name(class: ColumnClass) -> &'static str {
    match class {
        ColumnClass::Pan => "pan",
        ColumnClass::Sad => "sad",
    }
}

#[cfg(test)]
mod tests;
