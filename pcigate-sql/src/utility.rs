//! Describes one statement: queries by the walk, everything else here and in `ddl`.

use std::sync::Arc;

use pcigate_policy::document::{Effect, Shape};
use pcigate_policy::statement::Usage;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CopyStmt, CreateTableAsStmt, DeclareCursorStmt, DiscardMode, DiscardStmt, ExecuteStmt,
    FetchStmt, LockStmt, Node, OnCommitAction, SelectStmt, TransactionStmt, TransactionStmtKind,
};

use crate::statement::{Change, Copy, CopyEnd, Output, SetTo, Source, Statement};
use crate::walk::{Walk, texts};
use crate::{ddl, settings};

/// How often EXECUTE may lead to another EXECUTE.
const MAX_EXECUTE: usize = 4;

/// What is said of a statement beside its facts.
#[derive(Default)]
pub struct Described {
    pub kind: &'static str,
    pub no_limit: bool,
    pub outputs: Option<Vec<Output>>,
    pub copy: Option<Copy>,
    /// It depends on what the session holds, so the same text may mean something else later.
    pub of_session: bool,
}

fn kind(kind: &'static str) -> Described {
    Described { kind, ..Described::default() }
}

fn rows(kind: &'static str, outputs: Vec<Output>) -> Described {
    let outputs = (!outputs.is_empty()).then_some(outputs);
    Described { kind, outputs, ..Described::default() }
}

/// Describes a statement; `text` is the whole statement, for `PREPARE`.
pub fn describe(walk: &mut Walk<'_>, node: Option<&Node>, text: &str, depth: usize) -> Described {
    let Some(inner) = node.and_then(|node| node.node.as_ref()) else {
        walk.unknown("the statement is empty");
        return kind("UNKNOWN");
    };
    match inner {
        NodeEnum::SelectStmt(stmt) => select(walk, stmt),
        NodeEnum::InsertStmt(stmt) => rows("INSERT", walk.insert(stmt)),
        NodeEnum::UpdateStmt(stmt) => rows("UPDATE", walk.update(stmt)),
        NodeEnum::DeleteStmt(stmt) => rows("DELETE", walk.delete(stmt)),
        NodeEnum::MergeStmt(stmt) => rows("MERGE", walk.merge(stmt)),
        NodeEnum::CopyStmt(stmt) => copy(walk, stmt),
        NodeEnum::ExplainStmt(stmt) => explain(walk, stmt.query.as_deref(), text, depth),
        NodeEnum::PrepareStmt(stmt) => {
            let inner = describe(walk, stmt.query.as_deref(), "", depth);
            walk.changes.push(Change::Prepare(stmt.name.clone(), text.into()));
            Described { kind: "PREPARE", outputs: None, ..inner }
        }
        NodeEnum::ExecuteStmt(stmt) => execute(walk, stmt, depth),
        NodeEnum::DeallocateStmt(stmt) => {
            let name = (!stmt.isall && !stmt.name.is_empty()).then(|| stmt.name.clone());
            ordinary(walk, "DEALLOCATE", Some(Change::Deallocate(name)))
        }
        NodeEnum::DeclareCursorStmt(stmt) => declare(walk, stmt, text, depth),
        NodeEnum::FetchStmt(stmt) => fetch(walk, stmt),
        NodeEnum::ClosePortalStmt(stmt) => {
            let name = (!stmt.portalname.is_empty()).then(|| stmt.portalname.clone());
            ordinary(walk, "CLOSE", Some(Change::Close(name)))
        }
        NodeEnum::CreateTableAsStmt(stmt) => create_table_as(walk, stmt, depth),
        NodeEnum::ViewStmt(stmt) => {
            let outputs = walk.query(stmt.query.as_deref());
            walk.moved(&outputs);
            if let Some(view) = &stmt.view {
                let names = walk.resolve_new(view);
                walk.table(names, Effect::Ddl);
            }
            kind("CREATE VIEW")
        }
        NodeEnum::TruncateStmt(stmt) => {
            for relation in relations(&stmt.relations) {
                let names = walk.resolve(relation);
                walk.table(names.clone(), Effect::Write);
                walk.shape(Shape::NoWhere, names);
            }
            kind("TRUNCATE")
        }
        NodeEnum::LockStmt(stmt) => lock(walk, stmt),
        NodeEnum::DoStmt(_) => {
            walk.unknown("a DO block is a program whose effects its text does not show");
            walk.shape(Shape::DoBlock, Vec::new());
            anything_may_have_changed(walk);
            kind("DO")
        }
        NodeEnum::CallStmt(stmt) => {
            if let Some(call) = &stmt.funccall {
                walk.procedure(call);
            }
            anything_may_have_changed(walk);
            kind("CALL")
        }
        other => of_session(walk, other),
    }
}

/// Statements about the session itself.
fn of_session(walk: &mut Walk<'_>, node: &NodeEnum) -> Described {
    match node {
        NodeEnum::TransactionStmt(stmt) => transaction(walk, stmt),
        NodeEnum::VariableSetStmt(stmt) => {
            settings::set(walk, stmt);
            kind("SET")
        }
        NodeEnum::VariableShowStmt(_) => ordinary(walk, "SHOW", None),
        NodeEnum::DiscardStmt(stmt) => discard(walk, stmt),
        NodeEnum::ConstraintsSetStmt(_) => ordinary(walk, "SET CONSTRAINTS", None),
        NodeEnum::UnlistenStmt(_) => ordinary(walk, "UNLISTEN", None),
        NodeEnum::ListenStmt(_) => session(walk, "LISTEN"),
        NodeEnum::NotifyStmt(_) => session(walk, "NOTIFY"),
        other => ddl::describe(walk, other),
    }
}

fn session(walk: &mut Walk<'_>, name: &'static str) -> Described {
    walk.facts.add_effect(Effect::Session);
    kind(name)
}

fn ordinary(walk: &mut Walk<'_>, name: &'static str, change: Option<Change>) -> Described {
    walk.facts.ordinary = true;
    walk.changes.extend(change);
    session(walk, name)
}

/// After code that cannot be read the search path and temporary tables are not known.
fn anything_may_have_changed(walk: &mut Walk<'_>) {
    let (name, value) = ("search_path".to_owned(), SetTo::Unknown);
    walk.changes.push(Change::Set { name, value, local: false });
    walk.changes.push(Change::ForgetTemps);
}

fn select(walk: &mut Walk<'_>, stmt: &SelectStmt) -> Described {
    let outputs = walk.select(stmt);
    if let Some(change) = settings::set_config_alone(stmt) {
        walk.changes = vec![change];
    }
    if let Some(into) = &stmt.into_clause {
        temp_table(walk, into.rel.as_ref(), into.on_commit);
        return kind("SELECT INTO");
    }
    let no_limit = stmt.limit_count.is_none();
    Described { no_limit, ..rows("SELECT", outputs) }
}

fn copy(walk: &mut Walk<'_>, stmt: &CopyStmt) -> Described {
    let end = match (stmt.is_program, stmt.filename.is_empty()) {
        (true, _) => CopyEnd::Program,
        (false, true) => CopyEnd::Client,
        (false, false) => CopyEnd::File,
    };
    let mut tables = Vec::new();
    let mut outputs = None;
    if let Some(relation) = &stmt.relation {
        tables = walk.resolve(relation);
        let effect = if stmt.is_from { Effect::Write } else { Effect::BulkRead };
        walk.table(tables.clone(), effect);
        let columns: Vec<Option<String>> = match texts(&stmt.attlist) {
            none if none.is_empty() => vec![None],
            names => names.into_iter().map(|name| Some(name.to_owned())).collect(),
        };
        let plain = columns.into_iter().map(|column| Output {
            name: column.clone(),
            sources: vec![Source { tables: tables.clone(), column }],
            plain: true,
        });
        let plain: Vec<Output> = plain.collect();
        let usage = if stmt.is_from { Usage::Written } else { Usage::Moved };
        walk.use_columns(&plain, usage);
        walk.condition_of(relation, &tables, stmt.where_clause.as_deref());
        outputs = (!stmt.is_from).then_some(plain);
    }
    if stmt.query.is_some() {
        let columns = walk.query(stmt.query.as_deref());
        walk.moved(&columns);
        walk.facts.add_effect(Effect::BulkRead);
        for used in walk.facts.tables.clone() {
            if used.effect == Effect::Read && !used.through_view {
                walk.table(used.names, Effect::BulkRead);
            }
        }
        outputs = Some(columns);
    }
    match end {
        CopyEnd::Client => {}
        CopyEnd::File => walk.shape(Shape::ServerFile, tables),
        CopyEnd::Program => walk.shape(Shape::Program, tables),
    }
    let copy = Some(Copy { from_server: !stmt.is_from, end });
    Described { outputs, copy, no_limit: !stmt.is_from, ..kind("COPY") }
}

/// EXPLAIN has all effects of its statement: ANALYZE runs it, and plans alone tell of the data.
fn explain(walk: &mut Walk<'_>, query: Option<&Node>, text: &str, depth: usize) -> Described {
    let inner = describe(walk, query, text, depth);
    walk.facts.ordinary = false;
    let changes = std::mem::take(&mut walk.changes);
    if changes.iter().any(|change| matches!(change, Change::CreateTemp { .. })) {
        walk.changes.push(Change::ForgetTemps);
    }
    let set = |change: &Change| matches!(change, Change::Set { .. });
    walk.changes.extend(changes.into_iter().filter(set));
    Described { of_session: inner.of_session, ..kind("EXPLAIN") }
}

fn execute(walk: &mut Walk<'_>, stmt: &ExecuteStmt, depth: usize) -> Described {
    walk.operands(&stmt.params);
    let mut described = Described { of_session: true, ..kind("EXECUTE") };
    let Some(text) = walk.session.prepared(&stmt.name).cloned() else {
        let name = &stmt.name;
        walk.unknown(format!("it executes the prepared statement {name}, which is not known"));
        return described;
    };
    let parsed = match crate::parse::parse(&text, true) {
        Ok(parsed) if depth < MAX_EXECUTE => parsed,
        _ => {
            walk.unknown("it executes a statement that cannot be followed");
            return described;
        }
    };
    let prepared = parsed.first().and_then(|raw| raw.stmt.as_deref());
    let query = match prepared.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::PrepareStmt(prepare)) => prepare.query.as_deref(),
        _ => prepared,
    };
    let inner = describe(walk, query, &text, depth + 1);
    described = Described { of_session: true, ..inner };
    described
}

fn declare(walk: &mut Walk<'_>, stmt: &DeclareCursorStmt, text: &str, depth: usize) -> Described {
    let inner = describe(walk, stmt.query.as_deref(), text, depth);
    let cursor = Statement {
        kind: "FETCH",
        place: 0..0,
        facts: walk.facts.clone(),
        no_limit: inner.no_limit,
        outputs: inner.outputs.clone(),
        copy: None,
        of_session: true,
        changes: Vec::new(),
    };
    walk.changes.push(Change::Declare(stmt.portalname.clone(), Arc::new(cursor)));
    Described { kind: "DECLARE", outputs: None, ..inner }
}

fn fetch(walk: &mut Walk<'_>, stmt: &FetchStmt) -> Described {
    let name = if stmt.ismove { "MOVE" } else { "FETCH" };
    let Some(cursor) = walk.session.cursor(&stmt.portalname).cloned() else {
        let cursor = &stmt.portalname;
        walk.unknown(format!("the cursor {cursor} was not declared by this session"));
        return Described { of_session: true, ..kind(name) };
    };
    walk.facts.merge(&cursor.facts);
    Described {
        no_limit: stmt.how_many == i64::MAX,
        outputs: cursor.outputs.clone(),
        of_session: true,
        ..kind(name)
    }
}

fn create_table_as(walk: &mut Walk<'_>, stmt: &CreateTableAsStmt, depth: usize) -> Described {
    let mut of_session = false;
    let outputs = match stmt.query.as_deref().and_then(|query| query.node.as_ref()) {
        Some(NodeEnum::ExecuteStmt(inner)) => {
            let inner = execute(walk, inner, depth);
            of_session = true;
            inner.outputs.unwrap_or_default()
        }
        _ => walk.query(stmt.query.as_deref()),
    };
    if let Some(into) = &stmt.into {
        walk.fill_table(into, &outputs);
        temp_table(walk, into.rel.as_ref(), into.on_commit);
    }
    Described { of_session, ..kind("CREATE TABLE AS") }
}

/// Follows a temporary table.
pub fn temp_table(
    walk: &mut Walk<'_>,
    relation: Option<&pg_query::protobuf::RangeVar>,
    on_commit: i32,
) {
    let Some(relation) = relation else { return };
    if walk.resolve_new(relation).iter().any(|table| table.schema == "pg_temp") {
        let on_commit_drop = on_commit == OnCommitAction::OncommitDrop as i32;
        let name = relation.relname.clone();
        walk.changes.push(Change::CreateTemp { name, on_commit_drop });
    }
}

fn lock(walk: &mut Walk<'_>, stmt: &LockStmt) -> Described {
    // ACCESS SHARE is what every SELECT takes.
    let effect = if stmt.mode <= 1 { Effect::Read } else { Effect::Write };
    for relation in relations(&stmt.relations) {
        let names = walk.resolve(relation);
        walk.table(names, effect);
    }
    kind("LOCK TABLE")
}

fn transaction(walk: &mut Walk<'_>, stmt: &TransactionStmt) -> Described {
    use TransactionStmtKind as Kind;
    let name = stmt.savepoint_name.clone();
    let (tag, change) = match Kind::try_from(stmt.kind) {
        Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => ("BEGIN", vec![Change::Begin]),
        Ok(Kind::TransStmtCommit) => ("COMMIT", vec![Change::Commit]),
        Ok(Kind::TransStmtRollback) => ("ROLLBACK", vec![Change::Rollback]),
        Ok(Kind::TransStmtSavepoint) => ("SAVEPOINT", vec![Change::Savepoint(name)]),
        Ok(Kind::TransStmtRelease) => ("RELEASE", vec![Change::Release(name)]),
        Ok(Kind::TransStmtRollbackTo) => ("ROLLBACK", vec![Change::RollbackTo(name)]),
        // Two-phase: settings made in it stay as they were before.
        Ok(Kind::TransStmtPrepare) => {
            walk.changes.push(Change::Commit);
            return session(walk, "PREPARE TRANSACTION");
        }
        Ok(Kind::TransStmtCommitPrepared) => return session(walk, "COMMIT PREPARED"),
        Ok(Kind::TransStmtRollbackPrepared) => return session(walk, "ROLLBACK PREPARED"),
        _ => {
            walk.unknown("it is a transaction command that is not known");
            return kind("UNKNOWN");
        }
    };
    walk.changes.extend(change);
    if stmt.chain {
        walk.changes.push(Change::Begin);
    }
    ordinary(walk, tag, None)
}

fn discard(walk: &mut Walk<'_>, stmt: &DiscardStmt) -> Described {
    let change = match DiscardMode::try_from(stmt.target) {
        Ok(DiscardMode::DiscardAll) => Some(Change::DiscardAll),
        Ok(DiscardMode::DiscardTemp) => Some(Change::ForgetTemps),
        _ => None,
    };
    ordinary(walk, "DISCARD", change)
}

/// The relations of a list.
pub fn relations(nodes: &[Node]) -> impl Iterator<Item = &pg_query::protobuf::RangeVar> {
    nodes.iter().filter_map(|node| match node.node.as_ref()? {
        NodeEnum::RangeVar(relation) => Some(relation),
        _ => None,
    })
}
