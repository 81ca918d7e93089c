//! SET, RESET and `set_config`: which settings are followed, which are ordinary, which give rights.

use pcigate_policy::document::Effect;
use pg_query::protobuf::{SelectStmt, VariableSetKind, VariableSetStmt};
use pg_query::{NodeEnum, protobuf};

use crate::statement::{Change, SetTo};
use crate::walk::{Walk, constant_text, identifiers, texts};

/// Settings that ordinary clients send and that change neither reading nor rights.
const ORDINARY: &[&str] = &[
    "application_name",
    "backslash_quote",
    "bytea_output",
    "client_min_messages",
    "cursor_tuple_fraction",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "plan_cache_mode",
    "session characteristics",
    "statement_timeout",
    "synchronize_seqscans",
    "timezone",
    "transaction",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "xmlbinary",
    "xmloption",
];

/// Settings that change whose rights count, or which rules of the server hold.
const RIGHTS: &[&str] = &["role", "session_authorization", "row_security"];

/// Whether changing it needs no rule.
pub fn is_ordinary(name: &str) -> bool {
    ORDINARY.contains(&name) || name.starts_with("enable_")
}

/// Notes a SET or RESET.
pub fn set(walk: &mut Walk<'_>, set: &VariableSetStmt) {
    let name = set.name.to_lowercase();
    walk.facts.add_effect(Effect::Session);
    let value = match VariableSetKind::try_from(set.kind) {
        Ok(VariableSetKind::VarSetValue) => {
            let texts: Option<Vec<String>> = set.args.iter().map(constant_text).collect();
            texts.map_or(SetTo::Unknown, SetTo::Values)
        }
        Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) => SetTo::Default,
        Ok(VariableSetKind::VarResetAll) => {
            walk.changes.push(Change::ResetAll);
            // RESET ALL leaves roles alone (PostgreSQL manual, RESET).
            walk.facts.ordinary = true;
            return;
        }
        _ => SetTo::Unknown,
    };
    if RIGHTS.contains(&name.as_str()) {
        walk.facts.add_effect(Effect::Dcl);
    }
    let keeps_reading = match (name.as_str(), &value) {
        ("client_encoding", SetTo::Values(values)) => values.iter().all(|v| is_utf8(v)),
        ("standard_conforming_strings", SetTo::Values(values)) => values.iter().all(|v| v == "on"),
        ("client_encoding" | "standard_conforming_strings", _) => value == SetTo::Default,
        _ => is_ordinary(&name),
    };
    walk.facts.ordinary = keeps_reading && !RIGHTS.contains(&name.as_str());
    walk.changes.push(Change::Set { name, value, local: set.is_local });
}

/// The server compares encoding names by letters and digits alone.
pub fn is_utf8(value: &str) -> bool {
    let letters = value.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    name == "utf8" || name == "unicode"
}

/// `SELECT set_config('search_path', '…', false)` by itself runs once: what it sets is known.
pub fn set_config_alone(select: &SelectStmt) -> Option<Change> {
    let alone = select.from_clause.is_empty()
        && select.where_clause.is_none()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.having_clause.is_none()
        && select.with_clause.is_none();
    let [target] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
    let Some(NodeEnum::FuncCall(call)) = &target.val.as_deref()?.node else { return None };
    if !alone || texts(&call.funcname).last() != Some(&"set_config") {
        return None;
    }
    let [name, value, local] = call.args.as_slice() else { return None };
    let name = constant_text(name)?.to_lowercase();
    let value = constant_text(value)?;
    let local = match &local.node {
        Some(NodeEnum::AConst(protobuf::AConst { val, .. })) => {
            matches!(val, Some(protobuf::a_const::Val::Boolval(b)) if b.boolval)
        }
        _ => return None,
    };
    let values = match name.as_str() {
        "search_path" => identifiers(&value, ',')?,
        _ => vec![value],
    };
    Some(Change::Set { name, value: SetTo::Values(values), local })
}
