//! The SQL/JSON expressions (PostgreSQL manual, 9.16), each as the operands it has.

use pcigate_policy::statement::Usage;
use pg_query::NodeEnum;
use pg_query::protobuf::{JsonAggConstructor, JsonBehavior, JsonTable, JsonValueExpr, Node};

use super::Walk;

impl Walk<'_> {
    /// Walks one of these expressions; anything else is `unknown`.
    pub(super) fn json(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::JsonValueExpr(value) => self.json_value(Some(value)),
            NodeEnum::JsonKeyValue(pair) => {
                self.operand(pair.key.as_deref());
                self.json_value(pair.value.as_deref());
            }
            NodeEnum::JsonArgument(argument) => self.json_value(argument.val.as_deref()),
            NodeEnum::JsonIsPredicate(test) => self.operand(test.expr.as_deref()),
            NodeEnum::JsonParseExpr(parse) => self.json_value(parse.expr.as_deref()),
            NodeEnum::JsonScalarExpr(scalar) => self.operand(scalar.expr.as_deref()),
            NodeEnum::JsonSerializeExpr(serialize) => self.json_value(serialize.expr.as_deref()),
            NodeEnum::JsonObjectConstructor(object) => self.expressions(&object.exprs),
            NodeEnum::JsonArrayConstructor(array) => self.expressions(&array.exprs),
            NodeEnum::JsonObjectAgg(agg) => {
                if let Some(pair) = &agg.arg {
                    self.operand(pair.key.as_deref());
                    self.json_value(pair.value.as_deref());
                }
                self.json_aggregate(agg.constructor.as_deref());
            }
            NodeEnum::JsonArrayAgg(agg) => {
                self.json_value(agg.arg.as_deref());
                self.json_aggregate(agg.constructor.as_deref());
            }
            NodeEnum::JsonArrayQueryConstructor(array) => {
                for output in self.query(array.query.as_deref()) {
                    self.computed(&output.sources);
                }
            }
            NodeEnum::JsonFuncExpr(call) => {
                self.json_value(call.context_item.as_deref());
                self.operand(call.pathspec.as_deref());
                self.expressions(&call.passing);
                self.json_behavior(call.on_empty.as_deref());
                self.json_behavior(call.on_error.as_deref());
            }
            _ => self.unknown("it holds an expression of a kind that is not known"),
        }
    }

    /// `JSON_TABLE`.
    pub(super) fn json_table(&mut self, table: &JsonTable) {
        self.json_value(table.context_item.as_deref());
        let path = table.pathspec.as_deref().and_then(|path| path.string.as_deref());
        self.operand(path);
        self.expressions(&table.passing);
        self.json_behavior(table.on_error.as_deref());
        self.json_columns(&table.columns);
    }

    fn json_columns(&mut self, columns: &[Node]) {
        for column in columns {
            let Some(NodeEnum::JsonTableColumn(column)) = &column.node else {
                self.unknown("JSON_TABLE holds a column of a kind that is not known");
                continue;
            };
            self.json_behavior(column.on_empty.as_deref());
            self.json_behavior(column.on_error.as_deref());
            self.json_columns(&column.columns);
        }
    }

    fn operand(&mut self, node: Option<&Node>) {
        self.expression(node, Usage::Computed);
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>) {
        if let Some(value) = value {
            self.operand(value.raw_expr.as_deref());
            self.operand(value.formatted_expr.as_deref());
        }
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) {
        if let Some(behavior) = behavior {
            self.operand(behavior.expr.as_deref());
        }
    }

    fn json_aggregate(&mut self, aggregate: Option<&JsonAggConstructor>) {
        let Some(aggregate) = aggregate else { return };
        self.operand(aggregate.agg_filter.as_deref());
        self.expressions(&aggregate.agg_order);
        if let Some(window) = &aggregate.over {
            self.window(window);
        }
    }
}
