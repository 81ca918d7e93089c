//! Whether a condition chooses rows at all.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, BoolExprType, Node, NullTestType};

use super::text;

/// Whether a condition is none: absent, without any column, or true of every row by its form
/// (`x = x`, `x IS NULL OR x IS NOT NULL`, `x LIKE '%'`). Others may still hold for every row:
/// only the server's data say so.
pub fn is_no_filter(condition: Option<&Node>) -> bool {
    !condition.is_some_and(filters)
}

fn filters(node: &Node) -> bool {
    let Some(inner) = node.node.as_ref() else { return false };
    match inner {
        NodeEnum::BoolExpr(bool_expr) => match BoolExprType::try_from(bool_expr.boolop) {
            Ok(BoolExprType::AndExpr) => bool_expr.args.iter().any(filters),
            Ok(BoolExprType::OrExpr) => {
                bool_expr.args.iter().all(filters) && !has_complements(&bool_expr.args)
            }
            _ => bool_expr.args.iter().all(filters),
        },
        NodeEnum::AExpr(expr) => {
            let (left, right) = (expr.lexpr.as_deref(), expr.rexpr.as_deref());
            if let (Some(left), Some(right)) = (left, right)
                && same_column(left, right)
            {
                return false;
            }
            let like = matches!(
                AExprKind::try_from(expr.kind),
                Ok(AExprKind::AexprLike | AExprKind::AexprIlike)
            );
            if like && right.is_some_and(is_only_percent) {
                return false;
            }
            has_column(node)
        }
        NodeEnum::CurrentOfExpr(_) => true,
        NodeEnum::TypeCast(cast) => cast.arg.as_deref().is_some_and(filters),
        NodeEnum::BooleanTest(test) => test.arg.as_deref().is_some_and(filters),
        _ => has_column(node),
    }
}

/// Whether the value can differ from row to row: it names a column or reads a table.
fn has_column(node: &Node) -> bool {
    let Some(inner) = node.node.as_ref() else { return false };
    let any = |nodes: &[Node]| nodes.iter().any(has_column);
    let opt = |node: &Option<Box<Node>>| node.as_deref().is_some_and(has_column);
    match inner {
        NodeEnum::ColumnRef(_) | NodeEnum::CurrentOfExpr(_) => true,
        NodeEnum::AExpr(expr) => opt(&expr.lexpr) || opt(&expr.rexpr),
        NodeEnum::BoolExpr(expr) => any(&expr.args),
        NodeEnum::FuncCall(call) => any(&call.args),
        NodeEnum::TypeCast(cast) => opt(&cast.arg),
        NodeEnum::NullTest(test) => opt(&test.arg),
        NodeEnum::BooleanTest(test) => opt(&test.arg),
        NodeEnum::CollateClause(collate) => opt(&collate.arg),
        NodeEnum::List(list) => any(&list.items),
        NodeEnum::RowExpr(row) => any(&row.args),
        NodeEnum::AArrayExpr(array) => any(&array.elements),
        NodeEnum::AIndirection(indirection) => opt(&indirection.arg),
        NodeEnum::CoalesceExpr(coalesce) => any(&coalesce.args),
        NodeEnum::MinMaxExpr(expr) => any(&expr.args),
        NodeEnum::NamedArgExpr(arg) => opt(&arg.arg),
        NodeEnum::CaseExpr(case) => opt(&case.arg) || any(&case.args) || opt(&case.defresult),
        NodeEnum::CaseWhen(when) => opt(&when.expr) || opt(&when.result),
        // `EXISTS (SELECT 1)` is as true as 1; a query over a table may be a condition.
        NodeEnum::SubLink(link) => {
            let reads = link.subselect.as_deref().and_then(|select| select.node.as_ref());
            opt(&link.testexpr)
                || matches!(reads, Some(NodeEnum::SelectStmt(s)) if !s.from_clause.is_empty())
        }
        _ => false,
    }
}

fn column_name(node: &Node) -> Option<Vec<&str>> {
    match node.node.as_ref()? {
        NodeEnum::ColumnRef(column) => Some(column.fields.iter().filter_map(text).collect()),
        NodeEnum::TypeCast(cast) => column_name(cast.arg.as_deref()?),
        NodeEnum::CollateClause(collate) => column_name(collate.arg.as_deref()?),
        _ => None,
    }
}

fn same_column(left: &Node, right: &Node) -> bool {
    if let Some(NodeEnum::List(list)) = &right.node {
        return list.items.iter().any(|item| same_column(left, item));
    }
    match (column_name(left), column_name(right)) {
        (Some(left), Some(right)) if left.len() != right.len() => left.last() == right.last(),
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

fn is_only_percent(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => matches!(
            &constant.val,
            Some(pg_query::protobuf::a_const::Val::Sval(s)) if s.sval.bytes().all(|b| b == b'%')
        ),
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_only_percent),
        _ => false,
    }
}

/// `x IS NULL OR x IS NOT NULL`, `x = 1 OR x <> 1`, `x < 1 OR x >= 1`.
fn has_complements(args: &[Node]) -> bool {
    let pair = |a: &Node, b: &Node| match (a.node.as_ref(), b.node.as_ref()) {
        (Some(NodeEnum::NullTest(a)), Some(NodeEnum::NullTest(b))) => {
            let is_null = NullTestType::IsNull as i32;
            let operands = (a.arg.as_deref(), b.arg.as_deref());
            (a.nulltesttype == is_null) != (b.nulltesttype == is_null)
                && matches!(operands, (Some(a), Some(b)) if same_column(a, b))
        }
        (Some(NodeEnum::AExpr(a)), Some(NodeEnum::AExpr(b))) => {
            let operands = (a.lexpr.as_deref(), b.lexpr.as_deref());
            let op = |names: &[Node]| names.last().and_then(text).unwrap_or_default().to_owned();
            let opposite = match op(&a.name).as_str() {
                "=" => op(&b.name) == "<>",
                "<>" => op(&b.name) == "=",
                ">" | ">=" => op(&b.name).starts_with('<') && op(&b.name) != "<>",
                "<" | "<=" => op(&b.name).starts_with('>'),
                _ => false,
            };
            opposite
                && matches!(operands, (Some(a), Some(b)) if same_column(a, b))
                && constant(a.rexpr.as_deref()) == constant(b.rexpr.as_deref())
        }
        _ => false,
    };
    // Long lists are ordinary `OR` chains of an ORM; a tautology is written in few words.
    let few = args.get(..args.len().min(32)).unwrap_or(args);
    few.iter().enumerate().any(|(at, a)| few.iter().skip(at + 1).any(|b| pair(a, b)))
}

fn constant(node: Option<&Node>) -> Option<String> {
    match node?.node.as_ref()? {
        NodeEnum::AConst(constant) => Some(format!("{:?}", constant.val)),
        _ => None,
    }
}
