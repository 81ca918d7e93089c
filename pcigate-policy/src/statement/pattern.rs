//! What the names in statement rules match: tables, functions, columns.

use super::TableName;
use crate::document::{Statement, StatementAction};

/// Relations of the server itself that show what others do or store (values of columns, statements
/// of other sessions, secrets): a rule must name them to allow them.
const SENSITIVE: &[&str] = &[
    "pg_authid",
    "pg_backend_memory_contexts",
    "pg_file_settings",
    "pg_foreign_server",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_largeobject",
    "pg_prepared_xacts",
    "pg_replication_slots",
    "pg_shadow",
    "pg_stat_activity",
    "pg_stat_replication",
    "pg_stat_subscription",
    "pg_stat_wal_receiver",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_subscription",
    "pg_user_mapping",
    "pg_user_mappings",
];

/// Whether a rule speaks of a table. An allow rule means what it says and no more: a bare name is
/// the table in `public`, and the server's own relations are written to, or shown where they are
/// sensitive, by full name only. Other rules mean as much as they may: a bare name in any schema.
pub(super) fn table(rule: &Statement, table: &TableName, database: &str, changes: bool) -> bool {
    let allow = rule.action == StatementAction::Allow;
    let own = ["pg_catalog", "information_schema", "pg_toast"].contains(&table.schema.as_str());
    let by_name_only = allow && own && (changes || SENSITIVE.contains(&table.name.as_str()));
    if rule.tables.is_empty() {
        return !(by_name_only || allow && table.schema.is_empty());
    }
    rule.tables.iter().any(|pattern| {
        let mut parts = pattern.rsplit('.');
        let (name, schema, of) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if of.is_some_and(|of| of != database && (allow || !database.is_empty())) {
            return false;
        }
        let name_matches = name == table.name || name == "*" && !by_name_only;
        name_matches && in_schema(schema, &table.schema, "public", allow)
    })
}

/// Whether a rule speaks of a function; `schema` is empty where it is not known.
pub(super) fn function(rule: &Statement, schema: &str, name: &str) -> bool {
    let allow = rule.action == StatementAction::Allow;
    rule.functions.iter().any(|pattern| {
        let (of, wanted) =
            pattern.rsplit_once('.').map_or((None, pattern.as_str()), |(s, n)| (Some(s), n));
        let fits = wanted == name || wanted == "*";
        // A bare name is any function of that name: its schema is left open by most statements.
        fits && match of {
            None => true,
            Some(of) => of == schema || schema.is_empty() && !allow,
        }
    })
}

/// Whether a rule lets expressions use a column.
pub(super) fn column(rule: &Statement, table: &TableName, column: &str) -> bool {
    rule.columns.iter().any(|pattern| {
        let mut parts = pattern.rsplit('.');
        let (name, of, schema) = (parts.next(), parts.next(), parts.next());
        name == Some(column)
            && of == Some(table.name.as_str())
            && in_schema(schema, &table.schema, "public", rule.action == StatementAction::Allow)
    })
}

fn in_schema(wanted: Option<&str>, schema: &str, default: &str, allow: bool) -> bool {
    match wanted {
        Some(wanted) => wanted == schema || schema.is_empty() && !allow,
        None => schema == default || !allow,
    }
}

/// Whether a Target's column is in a table: what is not said counts as meant.
pub(super) fn tagged(tagged_table: &str, table: &TableName) -> bool {
    let mut parts = tagged_table.rsplit('.');
    let name = parts.next();
    let schema = parts.next();
    name == Some(table.name.as_str())
        && (table.schema.is_empty() || schema.is_none_or(|schema| schema == table.schema))
}
