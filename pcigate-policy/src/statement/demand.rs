//! What a statement needs to be allowed, one piece at a time.

use super::{Facts, FunctionUse, TableName, Usage, class_name, pattern};
use crate::document::{Column, ColumnClass, Effect, Shape, Statement, StatementAction};

/// One piece.
pub(super) enum Demand<'a> {
    /// Something done to a table.
    Table { table: &'a TableName, effect: Effect, through_view: bool },
    /// Something done to no table.
    Effect { effect: Effect, ordinary: bool, reason: Option<&'a str> },
    /// A function called.
    Function(&'a FunctionUse),
    /// A shape that must be named.
    Shape { shape: Shape, table: Option<&'a TableName> },
    /// An expression over a tagged column, or its copy.
    Tagged { table: &'a TableName, column: &'a str, class: ColumnClass, usage: Usage },
}

/// All of them.
pub(super) fn demands<'a>(facts: &'a Facts, tagged: &'a [Column]) -> Vec<Demand<'a>> {
    let mut demands = Vec::new();
    for used in &facts.tables {
        for table in &used.names {
            let (effect, through_view) = (used.effect, used.through_view);
            demands.push(Demand::Table { table, effect, through_view });
        }
    }
    let of_tables = |effect| facts.tables.iter().any(|t| t.effect == effect && !t.through_view);
    let of_functions = |effect| facts.functions.iter().any(|f| f.effect == Some(effect));
    for effect in facts.effects.iter().copied() {
        if !of_tables(effect) && !of_functions(effect) {
            let ordinary = facts.ordinary && effect == Effect::Session;
            let reason = facts.reasons.first().map(String::as_str);
            demands.push(Demand::Effect { effect, ordinary, reason });
        }
    }
    demands.extend(facts.functions.iter().map(Demand::Function));
    for used in &facts.shapes {
        if used.tables.is_empty() {
            demands.push(Demand::Shape { shape: used.shape, table: None });
        }
        for table in &used.tables {
            demands.push(Demand::Shape { shape: used.shape, table: Some(table) });
        }
    }
    for used in &facts.columns {
        if !matches!(used.usage, Usage::Computed | Usage::Moved) {
            continue;
        }
        for table in &used.tables {
            for tag in tagged {
                let named = used.column.as_deref().is_none_or(|name| name == tag.column);
                if named && pattern::tagged(&tag.table, table) {
                    let (column, class) = (tag.column.as_str(), tag.class);
                    demands.push(Demand::Tagged { table, column, class, usage: used.usage });
                }
            }
        }
    }
    demands
}

impl Demand<'_> {
    /// Whether a rule answers it.
    pub(super) fn matches(&self, rule: &Statement, database: &str) -> bool {
        let allow = rule.action == StatementAction::Allow;
        // A rule that denies or asks and names shapes or functions speaks of these alone.
        let only_shapes = !allow && !rule.shapes.is_empty();
        let only_functions = !allow && !rule.functions.is_empty();
        let table_fits = |table: &TableName, effect: Effect| {
            let changes = !matches!(effect, Effect::Read | Effect::BulkRead);
            pattern::table(rule, table, database, changes)
        };
        match self {
            Self::Table { table, effect, .. } => {
                !only_shapes
                    && !only_functions
                    && rule.effects.contains(effect)
                    && table_fits(table, *effect)
            }
            Self::Effect { effect, .. } => {
                let tableless = rule.tables.is_empty()
                    || allow && matches!(effect, Effect::Read | Effect::Session);
                !only_shapes && !only_functions && rule.effects.contains(effect) && tableless
            }
            Self::Function(used) => {
                let listed = pattern::function(rule, &used.schema, &used.name);
                match used.effect {
                    _ if only_shapes => false,
                    None => only_functions && listed,
                    Some(Effect::Function) => {
                        rule.effects.contains(&Effect::Function)
                            && (listed || !allow && rule.functions.is_empty())
                    }
                    Some(effect) => {
                        rule.effects.contains(&effect) && (rule.functions.is_empty() || listed)
                            || rule.effects.contains(&Effect::Function) && listed
                    }
                }
            }
            Self::Shape { shape, table } => {
                rule.shapes.contains(shape)
                    && table.is_none_or(|table| table_fits(table, Effect::Write))
            }
            Self::Tagged { table, column, .. } => {
                allow && pattern::column(rule, table, column) && table_fits(table, Effect::Read)
            }
        }
    }

    /// Whether it passes where no rule speaks of it.
    pub(super) fn needs_no_rule(&self) -> bool {
        match self {
            Self::Table { through_view, .. } => *through_view,
            Self::Effect { ordinary, .. } => *ordinary,
            Self::Function(used) => used.effect.is_none(),
            Self::Shape { .. } | Self::Tagged { .. } => false,
        }
    }

    /// What is wanted, as the beginning of a sentence.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Table { table, effect, .. } => format!("{} {}", doing(*effect), name(table)),
            Self::Effect { effect: Effect::Unknown, reason: Some(reason), .. } => {
                format!("this statement ({reason})")
            }
            Self::Effect { effect, .. } => {
                format!("a statement with the effect `{}`", effect.name())
            }
            Self::Function(used) if used.schema.is_empty() => {
                format!("calling function {}", used.name)
            }
            Self::Function(used) => format!("calling function {}.{}", used.schema, used.name),
            Self::Shape { shape, table } => {
                let what = match shape {
                    Shape::NoWhere => "changing every row",
                    Shape::DoBlock => "a DO block",
                    Shape::ServerFile => "COPY with a file of the server",
                    Shape::Program => "COPY with a program on the server",
                };
                match table {
                    Some(table) => format!("{what} of {} (no condition)", name(table)),
                    None => what.to_owned(),
                }
            }
            Self::Tagged { table, column, class, usage } => {
                let what = match usage {
                    Usage::Moved => "copying",
                    _ => "an expression over",
                };
                format!("{what} column {}.{column} (class {})", name(table), class_name(*class))
            }
        }
    }

    /// What a rule would have to say to allow it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Table { table, effect, .. } => {
                format!("`effects: [{}]` and `tables: [{}]`", effect.name(), name(table))
            }
            Self::Effect { effect, .. } => format!("`effects: [{}]`", effect.name()),
            Self::Function(used) => {
                let effect = used.effect.unwrap_or(Effect::Function).name();
                format!("`effects: [{effect}]` and `functions: [{}]`", used.name)
            }
            Self::Shape { shape, .. } => format!("`shapes: [{}]`", shape.name()),
            Self::Tagged { table, column, .. } => {
                format!("`columns: [{}.{column}]`, or read the column by itself", name(table))
            }
        }
    }
}

fn name(table: &TableName) -> String {
    if table.schema.is_empty() {
        return table.name.clone();
    }
    format!("{}.{}", table.schema, table.name)
}

fn doing(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "reading table",
        Effect::BulkRead => "bulk reading of table",
        Effect::Write => "changing table",
        Effect::Ddl => "changing the definition of",
        Effect::Dcl => "changing rights on",
        Effect::Session | Effect::Function | Effect::Unknown => "using table",
    }
}
