//! Statements that change the schema, rights or the server: which kind each is, and every relation
//! and function its tree names, wherever they stand.

use pcigate_policy::document::Effect;
use pg_query::NodeEnum;
use pg_query::protobuf::{DropStmt, Node, ObjectType, RangeVar};
use serde_json::Value;

use crate::statement::Change;
use crate::utility::{Described, temp_table};
use crate::walk::{Walk, texts};

/// Describes such a statement.
pub fn describe(walk: &mut Walk<'_>, node: &NodeEnum) -> Described {
    let Some((name, effects)) = kind_of(node) else {
        walk.unknown("it is a statement of a kind that is not known");
        return Described { kind: "UNKNOWN", ..Described::default() };
    };
    effects.iter().for_each(|effect| walk.facts.add_effect(*effect));
    let effect = effects.first().copied().unwrap_or(Effect::Unknown);
    match node {
        NodeEnum::CreateStmt(create) => {
            if let Some(relation) = &create.relation {
                let names = walk.resolve_new(relation);
                walk.table(names, Effect::Ddl);
                temp_table(walk, Some(relation), create.oncommit);
            }
            let made = create.relation.as_ref();
            sweep(walk, node, effect, made);
        }
        NodeEnum::DropStmt(drop) => {
            dropped(walk, drop);
            walk.changes.push(Change::ForgetTemps);
        }
        // Nothing of them is run here; their names lead to roles and servers, not to tables.
        NodeEnum::AlterTableStmt(_)
        | NodeEnum::RenameStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_) => {
            walk.changes.push(Change::ForgetTemps);
            sweep(walk, node, effect, None);
        }
        _ => sweep(walk, node, effect, None),
    }
    if let NodeEnum::LoadStmt(_) = node {
        walk.unknown("LOAD runs code of a library on the server");
    }
    Described { kind: name, ..Described::default() }
}

/// The name and effects of each kind of statement.
fn kind_of(node: &NodeEnum) -> Option<(&'static str, &'static [Effect])> {
    const DDL: &[Effect] = &[Effect::Ddl];
    const DCL: &[Effect] = &[Effect::Dcl];
    // Reaches beyond the database, or brings code in: rights to change tables are not enough.
    const SERVER: &[Effect] = &[Effect::Ddl, Effect::Dcl];
    Some(match node {
        NodeEnum::CreateStmt(_) | NodeEnum::CreateForeignTableStmt(_) => ("CREATE TABLE", DDL),
        NodeEnum::AlterTableStmt(_)
        | NodeEnum::RenameStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_)
        | NodeEnum::AlterTableMoveAllStmt(_)
        | NodeEnum::ReplicaIdentityStmt(_)
        | NodeEnum::AlterDomainStmt(_)
        | NodeEnum::AlterEnumStmt(_)
        | NodeEnum::AlterTypeStmt(_)
        | NodeEnum::AlterSeqStmt(_)
        | NodeEnum::AlterStatsStmt(_)
        | NodeEnum::AlterCollationStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_) => ("ALTER", DDL),
        NodeEnum::DropStmt(_) => ("DROP", DDL),
        NodeEnum::IndexStmt(_) => ("CREATE INDEX", DDL),
        NodeEnum::CreateSchemaStmt(_) => ("CREATE SCHEMA", DDL),
        NodeEnum::CreateSeqStmt(_) => ("CREATE SEQUENCE", DDL),
        NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreateDomainStmt(_)
        | NodeEnum::CompositeTypeStmt(_)
        | NodeEnum::CreateEnumStmt(_)
        | NodeEnum::CreateRangeStmt(_) => ("CREATE TYPE", DDL),
        NodeEnum::CommentStmt(_) | NodeEnum::SecLabelStmt(_) => ("COMMENT", DDL),
        NodeEnum::RefreshMatViewStmt(_) => ("REFRESH MATERIALIZED VIEW", DDL),
        NodeEnum::VacuumStmt(_) => ("VACUUM", DDL),
        NodeEnum::ClusterStmt(_) => ("CLUSTER", DDL),
        NodeEnum::ReindexStmt(_) => ("REINDEX", DDL),
        NodeEnum::CreateTrigStmt(_) | NodeEnum::RuleStmt(_) => ("CREATE TRIGGER", SERVER),
        NodeEnum::CreateFunctionStmt(_) | NodeEnum::AlterFunctionStmt(_) => {
            ("CREATE FUNCTION", SERVER)
        }
        other if reaches_server(other) => ("SERVER", SERVER),
        NodeEnum::GrantStmt(_)
        | NodeEnum::GrantRoleStmt(_)
        | NodeEnum::AlterDefaultPrivilegesStmt(_) => ("GRANT", DCL),
        NodeEnum::CreateRoleStmt(_)
        | NodeEnum::AlterRoleStmt(_)
        | NodeEnum::AlterRoleSetStmt(_)
        | NodeEnum::DropRoleStmt(_) => ("ROLE", DCL),
        NodeEnum::AlterSystemStmt(_) => ("ALTER SYSTEM", DCL),
        NodeEnum::CheckPointStmt(_) => ("CHECKPOINT", DCL),
        NodeEnum::LoadStmt(_) => ("LOAD", DCL),
        _ => return None,
    })
}

/// Brings code or other servers in, or reaches beyond the tables of the database.
fn reaches_server(node: &NodeEnum) -> bool {
    matches!(
        node,
        NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::AlterOwnerStmt(_)
            | NodeEnum::DefineStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::CreateAmStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::AlterObjectDependsStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
    )
}

/// DROP names its objects as lists of names.
fn dropped(walk: &mut Walk<'_>, drop: &DropStmt) {
    let of_relation = matches!(
        ObjectType::try_from(drop.remove_type),
        Ok(ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectMatview
            | ObjectType::ObjectSequence
            | ObjectType::ObjectIndex
            | ObjectType::ObjectForeignTable)
    );
    // Rules, triggers and policies are named behind their table.
    let on_relation = matches!(
        ObjectType::try_from(drop.remove_type),
        Ok(ObjectType::ObjectRule | ObjectType::ObjectTrigger | ObjectType::ObjectPolicy)
    );
    for object in &drop.objects {
        let Some(NodeEnum::List(list)) = &object.node else { continue };
        let mut names = texts(&list.items);
        if on_relation {
            names.pop();
            walk.facts.add_effect(Effect::Dcl);
        } else if !of_relation {
            continue;
        }
        let Some(relname) = names.pop().map(str::to_owned) else { continue };
        let schemaname = names.pop().unwrap_or_default().to_owned();
        let tables = walk.resolve(&RangeVar { schemaname, relname, ..RangeVar::default() });
        walk.table(tables, Effect::Ddl);
    }
}

/// Every relation and function the tree names. By way of JSON: slow, and sure to leave none out.
fn sweep(walk: &mut Walk<'_>, node: &NodeEnum, effect: Effect, made: Option<&RangeVar>) {
    match serde_json::to_value(node) {
        Ok(tree) => visit(walk, &tree, effect, made),
        Err(_) => walk.unknown("its tree cannot be searched"),
    }
}

fn visit(walk: &mut Walk<'_>, tree: &Value, effect: Effect, made: Option<&RangeVar>) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| visit(walk, item, effect, made)),
        Value::Object(fields) => {
            let of = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            let is_made = |made: &RangeVar| {
                made.relname == of("relname") && made.schemaname == of("schemaname")
            };
            if let Some(Value::String(relname)) = fields.get("relname")
                && !made.is_some_and(is_made)
            {
                let relation = RangeVar {
                    schemaname: of("schemaname").to_owned(),
                    relname: relname.clone(),
                    relpersistence: of("relpersistence").to_owned(),
                    ..RangeVar::default()
                };
                let tables = walk.resolve(&relation);
                walk.table(tables, effect);
            }
            if let (Some(Value::Array(names)), Some(args)) =
                (fields.get("funcname"), fields.get("args"))
            {
                let names: Vec<&str> = names.iter().filter_map(string_of).collect();
                // Arguments are looked at for sequences only, and those are created here.
                let args: &[Node] = if args.is_array() { &[] } else { &[Node { node: None }] };
                walk.note_function(&names, args);
            }
            fields.values().for_each(|value| visit(walk, value, effect, made));
        }
        _ => {}
    }
}

/// `{"node": {"String": {"sval": …}}}`.
fn string_of(node: &Value) -> Option<&str> {
    node.get("node")?.get("String")?.get("sval")?.as_str()
}
