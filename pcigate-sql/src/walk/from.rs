//! FROM clauses: tables, views, CTEs, subqueries, functions and joins, and the names they give.

use pcigate_policy::document::Effect;
use pcigate_policy::statement::{TableName, Usage};
use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, Node, RangeVar};

use super::{Frame, Item, MAX_VIEWS, Walk, What, texts};
use crate::statement::Output;

impl Walk<'_> {
    /// Opens a FROM clause: its names hold until [`Self::leave`].
    pub(super) fn enter(&mut self, from: &[Node]) {
        self.frames.push(Frame::default());
        for node in from {
            let items = self.read_item(node);
            self.add_items(items);
        }
    }

    pub(super) fn leave(&mut self) {
        self.frames.pop();
    }

    pub(super) fn add_items(&mut self, items: Vec<Item>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.items.extend(items);
        }
    }

    /// Names that are found but no part of `*`.
    pub(super) fn add_hidden(&mut self, alias: &str, tables: Vec<TableName>) {
        let what = What::Table(tables);
        if let Some(frame) = self.frames.last_mut() {
            frame.hidden.push(Item { alias: alias.to_owned(), renamed: Vec::new(), what });
        }
    }

    fn read_item(&mut self, node: &Node) -> Vec<Item> {
        let Some(inner) = node.node.as_ref() else { return Vec::new() };
        match inner {
            NodeEnum::RangeVar(relation) => vec![self.relation(relation, Effect::Read)],
            NodeEnum::JoinExpr(join) => self.join(join),
            NodeEnum::RangeSubselect(sub) => {
                // Without LATERAL its neighbours are out of sight.
                let frame = if sub.lateral { None } else { self.frames.pop() };
                let outputs = self.query(sub.subquery.as_deref());
                self.frames.extend(frame);
                vec![item(sub.alias.as_ref(), "", What::Derived(outputs))]
            }
            NodeEnum::RangeFunction(function) => {
                let before = self.trace.len();
                for part in &function.functions {
                    if let Some(NodeEnum::List(list)) = &part.node {
                        // A call, and its column definitions.
                        self.expression(list.items.first(), Usage::Computed);
                    } else {
                        self.expression(Some(part), Usage::Computed);
                    }
                }
                let name = function_name(&function.functions);
                vec![self.computed_item(function.alias.as_ref(), name, before)]
            }
            NodeEnum::RangeTableSample(sample) => {
                let items = sample.relation.as_deref().map(|node| self.read_item(node));
                self.note_function(&texts(&sample.method), &sample.args);
                self.expressions(&sample.args);
                self.expression(sample.repeatable.as_deref(), Usage::Computed);
                items.unwrap_or_default()
            }
            NodeEnum::RangeTableFunc(table) => {
                let before = self.trace.len();
                self.expression(table.docexpr.as_deref(), Usage::Computed);
                self.expression(table.rowexpr.as_deref(), Usage::Computed);
                self.expressions(&table.namespaces);
                for column in &table.columns {
                    if let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node {
                        self.expression(column.colexpr.as_deref(), Usage::Computed);
                        self.expression(column.coldefexpr.as_deref(), Usage::Computed);
                    }
                }
                vec![self.computed_item(table.alias.as_ref(), "xmltable", before)]
            }
            NodeEnum::JsonTable(table) => {
                let before = self.trace.len();
                self.json_table(table);
                vec![self.computed_item(table.alias.as_ref(), "json_table", before)]
            }
            _ => {
                self.unknown("its FROM clause holds something of a kind that is not known");
                Vec::new()
            }
        }
    }

    /// What a function in FROM gives: columns that are not known, computed from its arguments.
    fn computed_item(&self, alias: Option<&Alias>, name: &str, before: usize) -> Item {
        let sources = self.trace.get(before..).unwrap_or_default().to_vec();
        let outputs = if sources.is_empty() {
            Vec::new()
        } else {
            vec![Output { name: None, sources, plain: false }]
        };
        item(alias, name, What::Derived(outputs))
    }

    fn join(&mut self, join: &JoinExpr) -> Vec<Item> {
        let mut items = Vec::new();
        for side in [join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten() {
            let side = self.read_item(side);
            // The right side of LATERAL and the condition see both sides.
            self.add_items(side.clone());
            items.extend(side);
        }
        for name in texts(&join.using_clause) {
            self.join_column(name);
        }
        if join.is_natural {
            let all = self.all_of_items(&items);
            let open = all.iter().any(|output| output.name.is_none());
            for output in &all {
                let name = output.name.as_deref();
                if open || all.iter().filter(|other| other.name.as_deref() == name).count() > 1 {
                    self.computed(&output.sources);
                }
            }
        }
        self.expression(join.quals.as_deref(), Usage::Computed);
        let total = items.len();
        if let Some(frame) = self.frames.last_mut() {
            frame.items.truncate(frame.items.len().saturating_sub(total));
        }
        if let Some(alias) = &join.alias {
            // The alias hides the names of both sides.
            let outputs = self.all_of_items(&items);
            return vec![item(Some(alias), "", What::Derived(outputs))];
        }
        if let Some(alias) = &join.join_using_alias {
            let outputs = self.all_of_items(&items);
            if let Some(frame) = self.frames.last_mut() {
                frame.hidden.push(item(Some(alias), "", What::Derived(outputs)));
            }
        }
        items
    }

    /// A relation by name: a CTE, a view or a table.
    pub(super) fn relation(&mut self, relation: &RangeVar, effect: Effect) -> Item {
        let name = relation.relname.as_str();
        let alias = relation.alias.as_ref();
        if relation.schemaname.is_empty()
            && let Some(cte) = self.ctes.iter().rev().find(|cte| cte.name == name)
        {
            let outputs = cte.outputs.clone();
            if outputs.is_none() {
                self.unknown(format!("it uses the CTE {name} before it is defined"));
            }
            return item(alias, name, What::Derived(outputs.unwrap_or_default()));
        }
        let tables = self.resolve(relation);
        self.table(tables.clone(), effect);
        let view = match tables.as_slice() {
            [table] => self.view(table),
            _ => None,
        };
        match view {
            Some(outputs) => item(alias, name, What::Derived(outputs)),
            None => item(alias, name, What::Table(tables)),
        }
    }

    /// What a view's query does, and the columns it gives: each stands for the view's own and for
    /// the one behind it.
    fn view(&mut self, table: &TableName) -> Option<Vec<Output>> {
        let catalog = self.catalog;
        let relation = catalog.get(&table.schema, &table.name)?;
        let definition = relation.definition.as_deref()?;
        self.views += 1;
        if self.views > MAX_VIEWS {
            self.unknown("it goes through too many views");
            return None;
        }
        let Ok(parsed) = crate::parse::parse(definition, true) else {
            self.unknown(format!("the definition of view {} is not understood", table.name));
            return None;
        };
        let mut outer = (std::mem::take(&mut self.frames), std::mem::take(&mut self.ctes));
        let was = std::mem::replace(&mut self.through_view, true);
        let query = parsed.first().and_then(|raw| raw.stmt.as_deref());
        let mut outputs = self.query(query);
        self.through_view = was;
        std::mem::swap(&mut self.frames, &mut outer.0);
        std::mem::swap(&mut self.ctes, &mut outer.1);
        for (at, output) in outputs.iter_mut().enumerate() {
            if let Some(name) = relation.columns.get(at)
                && output.name.is_some()
            {
                output.name = Some(name.clone());
            }
            let own = vec![table.clone()];
            let column = output.name.clone();
            output.sources.insert(0, crate::statement::Source { tables: own, column });
        }
        Some(outputs)
    }
}

/// Something in FROM under its alias.
pub(super) fn item(alias: Option<&Alias>, name: &str, what: What) -> Item {
    let renamed = alias.map(|alias| texts(&alias.colnames)).unwrap_or_default();
    let alias = alias.map_or(name, |alias| alias.aliasname.as_str());
    let renamed = renamed.into_iter().map(str::to_owned).collect();
    Item { alias: alias.to_owned(), renamed, what }
}

/// A function in FROM goes by its own name.
fn function_name(functions: &[Node]) -> &str {
    let first = functions.first().and_then(|part| match part.node.as_ref()? {
        NodeEnum::List(list) => list.items.first(),
        _ => Some(part),
    });
    match first.and_then(|call| call.node.as_ref()) {
        Some(NodeEnum::FuncCall(call)) => texts(&call.funcname).last().copied().unwrap_or_default(),
        _ => "",
    }
}
