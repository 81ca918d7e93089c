//! Statements that change data: INSERT, UPDATE, DELETE, MERGE.

use pcigate_policy::document::{Effect, Shape};
use pcigate_policy::statement::{TableName, Usage};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeStmt, MergeWhenClause, Node, RangeVar, ReturningClause,
    UpdateStmt,
};

use super::{Walk, is_no_filter};
use crate::statement::{Output, Source};

impl Walk<'_> {
    pub fn insert(&mut self, insert: &InsertStmt) -> Vec<Output> {
        let ctes = self.ctes.len();
        self.with(insert.with_clause.as_ref());
        let target = self.target_table(insert.relation.as_ref());
        self.written(&target, &insert.cols);
        if insert.select_stmt.is_some() {
            let reads = self.facts.effects.contains(&Effect::Read);
            let outputs = self.query(insert.select_stmt.as_deref());
            self.moved(&outputs);
            // VALUES reads nothing.
            if !reads && self.facts.tables.iter().all(|used| used.effect != Effect::Read) {
                self.facts.effects.retain(|effect| *effect != Effect::Read);
            }
        }
        self.enter(&[]);
        self.add_target(insert.relation.as_ref(), &target);
        if let Some(conflict) = &insert.on_conflict_clause {
            self.add_hidden("excluded", target.clone());
            if let Some(infer) = &conflict.infer {
                self.expressions(&infer.index_elems);
                self.expression(infer.where_clause.as_deref(), Usage::Computed);
            }
            self.assignments(&target, &conflict.target_list);
            self.expression(conflict.where_clause.as_deref(), Usage::Computed);
        }
        let outputs = self.returning(insert.returning_clause.as_ref(), &target);
        self.leave();
        self.ctes.truncate(ctes);
        outputs
    }

    pub fn update(&mut self, update: &UpdateStmt) -> Vec<Output> {
        let ctes = self.ctes.len();
        self.with(update.with_clause.as_ref());
        let target = self.target_table(update.relation.as_ref());
        if is_no_filter(update.where_clause.as_deref()) {
            self.shape(Shape::NoWhere, target.clone());
        }
        self.enter(&update.from_clause);
        self.add_target(update.relation.as_ref(), &target);
        self.assignments(&target, &update.target_list);
        self.expression(update.where_clause.as_deref(), Usage::Computed);
        let outputs = self.returning(update.returning_clause.as_ref(), &target);
        self.leave();
        self.ctes.truncate(ctes);
        outputs
    }

    pub fn delete(&mut self, delete: &DeleteStmt) -> Vec<Output> {
        let ctes = self.ctes.len();
        self.with(delete.with_clause.as_ref());
        let target = self.target_table(delete.relation.as_ref());
        if is_no_filter(delete.where_clause.as_deref()) {
            self.shape(Shape::NoWhere, target.clone());
        }
        self.enter(&delete.using_clause);
        self.add_target(delete.relation.as_ref(), &target);
        self.expression(delete.where_clause.as_deref(), Usage::Computed);
        let outputs = self.returning(delete.returning_clause.as_ref(), &target);
        self.leave();
        self.ctes.truncate(ctes);
        outputs
    }

    pub fn merge(&mut self, merge: &MergeStmt) -> Vec<Output> {
        let ctes = self.ctes.len();
        self.with(merge.with_clause.as_ref());
        let target = self.target_table(merge.relation.as_ref());
        let source = merge.source_relation.as_deref().map(std::slice::from_ref);
        self.enter(source.unwrap_or_default());
        self.add_target(merge.relation.as_ref(), &target);
        self.expression(merge.join_condition.as_deref(), Usage::Computed);
        let join_filters = !is_no_filter(merge.join_condition.as_deref());
        for node in &merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = &node.node else {
                self.unknown("MERGE holds a clause of a kind that is not known");
                continue;
            };
            self.merge_when(when, &target, join_filters);
        }
        let outputs = self.returning(merge.returning_clause.as_ref(), &target);
        self.leave();
        self.ctes.truncate(ctes);
        outputs
    }

    /// Rows are chosen by the join; those not matched by the source only by the clause itself.
    fn merge_when(&mut self, when: &MergeWhenClause, target: &[TableName], join_filters: bool) {
        let changes = when.command_type == CmdType::CmdUpdate as i32
            || when.command_type == CmdType::CmdDelete as i32;
        let not_matched = when.match_kind
            == pg_query::protobuf::MergeMatchKind::MergeWhenNotMatchedBySource as i32;
        let own_filter = !is_no_filter(when.condition.as_deref());
        if changes && !own_filter && (not_matched || !join_filters) {
            self.shape(Shape::NoWhere, target.to_vec());
        }
        self.expression(when.condition.as_deref(), Usage::Computed);
        self.assignments(target, &when.target_list);
        self.expressions(&when.values);
    }

    fn target_table(&mut self, relation: Option<&RangeVar>) -> Vec<TableName> {
        let Some(relation) = relation else { return Vec::new() };
        let tables = self.resolve(relation);
        self.table(tables.clone(), Effect::Write);
        let settings = TableName { schema: "pg_catalog".into(), name: "pg_settings".into() };
        if tables.contains(&settings) {
            self.unknown("pg_settings is written to, which sets any parameter; use SET");
        }
        for table in &tables {
            let view = self.catalog.get(&table.schema, &table.name);
            if view.is_some_and(|relation| relation.definition.is_some()) {
                self.write_through_view(relation);
            }
        }
        tables
    }

    /// What is behind a view that is written to: rules may deny it.
    fn write_through_view(&mut self, relation: &RangeVar) {
        let first = self.facts.tables.len();
        let _ = self.relation(relation, Effect::Write);
        let behind: Vec<_> = self.facts.tables.get(first..).unwrap_or_default().to_vec();
        let was = std::mem::replace(&mut self.through_view, true);
        for used in behind {
            self.table(used.names, Effect::Write);
        }
        self.through_view = was;
    }

    fn add_target(&mut self, relation: Option<&RangeVar>, target: &[TableName]) {
        if let Some(relation) = relation {
            let what = super::What::Table(target.to_vec());
            let alias = relation.alias.as_ref();
            self.add_items(vec![super::from::item(alias, &relation.relname, what)]);
        }
    }

    fn assignments(&mut self, target: &[TableName], list: &[Node]) {
        self.written(target, list);
        for node in list {
            if let Some(NodeEnum::ResTarget(assign)) = &node.node {
                self.indirection(&assign.indirection);
                self.expression(assign.val.as_deref(), Usage::Computed);
            }
        }
    }

    fn written(&mut self, target: &[TableName], columns: &[Node]) {
        for node in columns {
            if let Some(NodeEnum::ResTarget(column)) = &node.node {
                let source = Source { tables: target.to_vec(), column: Some(column.name.clone()) };
                self.column(&source, Usage::Written);
            }
        }
    }

    /// RETURNING reads what was changed, and may show the rows before and after.
    fn returning(&mut self, clause: Option<&ReturningClause>, target: &[TableName]) -> Vec<Output> {
        let Some(clause) = clause else { return Vec::new() };
        if clause.exprs.is_empty() {
            return Vec::new();
        }
        self.table(target.to_vec(), Effect::Read);
        for name in ["old", "new"] {
            self.add_hidden(name, target.to_vec());
        }
        for option in &clause.options {
            if let Some(NodeEnum::ReturningOption(option)) = &option.node {
                self.add_hidden(&option.value, target.to_vec());
            }
        }
        self.targets(&clause.exprs)
    }
}
