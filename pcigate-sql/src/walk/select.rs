//! Queries: SELECT with everything it may hold, VALUES, set operations, WITH.

use pcigate_policy::document::Effect;
use pcigate_policy::statement::Usage;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CommonTableExpr, IntoClause, LockingClause, Node, ResTarget, SelectStmt, SetOperation,
    WithClause,
};

use super::{Cte, Walk, texts};
use crate::statement::Output;

impl Walk<'_> {
    /// Any statement that may stand for a query; gives the columns of its answer.
    pub fn query(&mut self, node: Option<&Node>) -> Vec<Output> {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            Some(NodeEnum::InsertStmt(insert)) => self.insert(insert),
            Some(NodeEnum::UpdateStmt(update)) => self.update(update),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(merge),
            None => Vec::new(),
            Some(_) => {
                self.unknown("a query is expected where there is something else");
                Vec::new()
            }
        }
    }

    pub fn select(&mut self, select: &SelectStmt) -> Vec<Output> {
        self.facts.add_effect(Effect::Read);
        let ctes = self.ctes.len();
        self.with(select.with_clause.as_ref());
        let first_table = self.facts.tables.len();
        let outputs = if select.op > SetOperation::SetopNone as i32 {
            self.set_operation(select)
        } else {
            self.plain_select(select)
        };
        for node in &select.locking_clause {
            if let Some(NodeEnum::LockingClause(lock)) = &node.node {
                self.lock_rows(lock, first_table);
            }
        }
        self.expression(select.limit_offset.as_deref(), Usage::Computed);
        self.expression(select.limit_count.as_deref(), Usage::Computed);
        self.ctes.truncate(ctes);
        if let Some(into) = &select.into_clause {
            self.fill_table(into, &outputs);
        }
        outputs
    }

    /// `SELECT INTO` and `CREATE TABLE AS` make a table and fill it.
    pub fn fill_table(&mut self, into: &IntoClause, outputs: &[Output]) {
        if let Some(relation) = &into.rel {
            let tables = self.resolve_new(relation);
            self.table(tables.clone(), Effect::Ddl);
            self.table(tables, Effect::Write);
        }
        self.moved(outputs);
    }

    fn plain_select(&mut self, select: &SelectStmt) -> Vec<Output> {
        self.enter(&select.from_clause);
        let mut outputs = Vec::new();
        for (row, list) in select.values_lists.iter().enumerate() {
            if let Some(NodeEnum::List(list)) = &list.node {
                for (at, value) in list.items.iter().enumerate() {
                    let before = self.trace.len();
                    self.expression(Some(value), Usage::Computed);
                    let sources = self.trace.get(before..).unwrap_or_default().to_vec();
                    if row == 0 {
                        let name = Some(format!("column{}", at + 1));
                        outputs.push(Output { name, sources, plain: false });
                    } else if let Some(output) = outputs.get_mut(at) {
                        output.sources.extend(sources);
                    }
                }
            }
        }
        outputs.extend(self.targets(&select.target_list));
        self.expression(select.where_clause.as_deref(), Usage::Computed);
        self.expression(select.having_clause.as_deref(), Usage::Computed);
        self.expressions(&select.window_clause);
        self.order(&select.distinct_clause, &outputs);
        self.order(&select.group_clause, &outputs);
        self.order(&select.sort_clause, &outputs);
        self.leave();
        outputs
    }

    fn set_operation(&mut self, select: &SelectStmt) -> Vec<Output> {
        let mut outputs = select.larg.as_deref().map(|s| self.select(s)).unwrap_or_default();
        let right = select.rarg.as_deref().map(|s| self.select(s)).unwrap_or_default();
        // The answer of a set operation names no table, whatever its sides are.
        self.moved(&outputs);
        self.moved(&right);
        for (output, other) in outputs.iter_mut().zip(right) {
            output.sources.extend(other.sources);
            output.plain = false;
        }
        self.frames.push(super::Frame::default());
        self.order(&select.sort_clause, &outputs);
        self.leave();
        outputs
    }

    /// ORDER BY, GROUP BY and DISTINCT ON may name columns of the answer, by name or number.
    fn order(&mut self, nodes: &[Node], outputs: &[Output]) {
        for node in nodes {
            let inner = match node.node.as_ref() {
                Some(NodeEnum::SortBy(sort)) => sort.node.as_deref(),
                _ => Some(node),
            };
            let target = match inner.and_then(|node| node.node.as_ref()) {
                Some(NodeEnum::ColumnRef(column)) => match texts(&column.fields).as_slice() {
                    [name] => outputs.iter().find(|output| output.name.as_deref() == Some(name)),
                    _ => None,
                },
                Some(NodeEnum::AConst(_)) => inner
                    .and_then(super::function::constant_text)
                    .and_then(|number| number.parse::<usize>().ok())
                    .and_then(|number| outputs.get(number.checked_sub(1)?)),
                _ => None,
            };
            if let Some(output) = target {
                self.computed(&output.sources);
            }
            self.expression(Some(node), Usage::Computed);
        }
    }

    /// A target list: what each column of the answer is made of.
    pub(super) fn targets(&mut self, targets: &[Node]) -> Vec<Output> {
        let mut outputs = Vec::new();
        for target in targets {
            if let Some(NodeEnum::ResTarget(target)) = &target.node {
                self.target(target, &mut outputs);
            } else {
                self.unknown("its list of columns holds something of a kind that is not known");
            }
        }
        outputs
    }

    fn target(&mut self, target: &ResTarget, outputs: &mut Vec<Output>) {
        let value = target.val.as_deref();
        let named = (!target.name.is_empty()).then(|| target.name.clone());
        if let Some(NodeEnum::ColumnRef(column)) = value.and_then(|value| value.node.as_ref()) {
            let mut columns = self.column_ref(column, Usage::Projected);
            if let ([column], Some(_)) = (columns.as_mut_slice(), &named) {
                column.name = named;
            }
            outputs.extend(columns);
            return;
        }
        let before = self.trace.len();
        self.expression(value, Usage::Computed);
        let whole_row_star = matches!(
            value.and_then(|value| value.node.as_ref()),
            Some(NodeEnum::AIndirection(i))
                if i.indirection.iter().any(|n| matches!(n.node, Some(NodeEnum::AStar(_))))
        );
        let sources = self.trace.get(before..).unwrap_or_default().to_vec();
        let name = if whole_row_star { None } else { named.or_else(|| Some(name_of(value))) };
        outputs.push(Output { name, sources, plain: false });
    }

    /// FOR UPDATE and the like take locks that only those who write are to take.
    fn lock_rows(&mut self, lock: &LockingClause, first_table: usize) {
        let named: Vec<String> = lock
            .locked_rels
            .iter()
            .filter_map(|node| match node.node.as_ref()? {
                NodeEnum::RangeVar(relation) => Some(relation.relname.clone()),
                _ => None,
            })
            .collect();
        // An alias names a table that is gone from sight by now: then all of them are meant.
        let read = self.facts.tables.get(first_table..).unwrap_or_default();
        let is_read = |name: &String| {
            read.iter().any(|used| used.names.iter().any(|table| table.name == *name))
        };
        let all = named.is_empty() || !named.iter().all(is_read);
        let tables: Vec<_> = self
            .facts
            .tables
            .iter()
            .filter(|used| used.effect == Effect::Read && !used.through_view)
            .filter(|used| all || used.names.iter().any(|table| named.contains(&table.name)))
            .map(|used| used.names.clone())
            .collect();
        for table in tables {
            self.table(table, Effect::Write);
        }
    }

    /// WITH: each CTE sees those before it.
    pub(super) fn with(&mut self, with: Option<&WithClause>) {
        let Some(with) = with else { return };
        let first = self.ctes.len();
        let ctes = with.ctes.iter().filter_map(|node| match node.node.as_ref()? {
            NodeEnum::CommonTableExpr(cte) => Some(cte.as_ref()),
            _ => None,
        });
        let ctes: Vec<&CommonTableExpr> = ctes.collect();
        if with.recursive {
            // All of them see each other; one that is used before it is walked is `unknown`.
            for cte in &ctes {
                self.ctes.push(Cte { name: cte.ctename.clone(), outputs: None });
            }
        }
        for (at, cte) in ctes.iter().enumerate() {
            if with.recursive
                && let Some(own) = self.ctes.get_mut(first + at)
            {
                // Only a set operation refers to itself: what it gives is noted as moved.
                own.outputs = Some(Vec::new());
            }
            let mut outputs = self.query(cte.ctequery.as_deref());
            rename(&mut outputs, &texts(&cte.aliascolnames));
            if let Some(cycle) = &cte.cycle_clause {
                self.expression(cycle.cycle_mark_value.as_deref(), Usage::Computed);
                self.expression(cycle.cycle_mark_default.as_deref(), Usage::Computed);
            }
            if with.recursive {
                if let Some(own) = self.ctes.get_mut(first + at) {
                    own.outputs = Some(outputs);
                }
            } else {
                self.ctes.push(Cte { name: cte.ctename.clone(), outputs: Some(outputs) });
            }
        }
    }
}

/// Gives outputs the names of a column list.
pub(super) fn rename(outputs: &mut Vec<Output>, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let star = outputs.iter().position(|output| output.name.is_none());
    let all: Vec<_> = outputs.iter().flat_map(|output| output.sources.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        let name = Some((*name).to_owned());
        if star.is_some_and(|star| star <= at) {
            outputs.push(Output { name, sources: all.clone(), plain: true });
        } else if let Some(output) = outputs.get_mut(at) {
            output.name = name;
        }
    }
}

/// The name the server gives a computed column, where something may refer to it.
fn name_of(value: Option<&Node>) -> String {
    match value.and_then(|value| value.node.as_ref()) {
        Some(NodeEnum::FuncCall(call)) => {
            texts(&call.funcname).last().copied().unwrap_or_default().to_owned()
        }
        Some(NodeEnum::TypeCast(cast)) => match cast.arg.as_deref().and_then(|a| a.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) => {
                texts(&column.fields).last().copied().unwrap_or_default().to_owned()
            }
            _ => cast.type_name.as_ref().map_or_else(String::new, |name| {
                texts(&name.names).last().copied().unwrap_or_default().to_owned()
            }),
        },
        Some(NodeEnum::AIndirection(i)) => {
            texts(&i.indirection).last().copied().unwrap_or("?column?").to_owned()
        }
        Some(NodeEnum::CoalesceExpr(_)) => "coalesce".to_owned(),
        Some(NodeEnum::CaseExpr(_)) => "case".to_owned(),
        Some(NodeEnum::RowExpr(_)) => "row".to_owned(),
        Some(NodeEnum::AArrayExpr(_)) => "array".to_owned(),
        Some(NodeEnum::SubLink(_)) => "?column?".to_owned(),
        _ => "?column?".to_owned(),
    }
}
