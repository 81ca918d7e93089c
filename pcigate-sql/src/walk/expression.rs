//! Expressions: every node the grammar can put into one. What is not known here is `unknown`.

use pcigate_policy::statement::Usage;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, Node, SubLink, SubLinkType, TypeName, XmlExpr};

use super::{Walk, texts};

impl Walk<'_> {
    pub(super) fn expressions(&mut self, nodes: &[Node]) {
        nodes.iter().for_each(|node| self.expression(Some(node), Usage::Computed));
    }

    /// Walks an expression; its columns are used as `usage` says if it is nothing but a column.
    pub(super) fn expression(&mut self, node: Option<&Node>, usage: Usage) {
        let Some(inner) = node.and_then(|node| node.node.as_ref()) else { return };
        let all = Usage::Computed;
        match inner {
            NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SetToDefault(_) => {}
            NodeEnum::ColumnRef(column) => drop(self.column_ref(column, usage)),
            NodeEnum::AExpr(expr) => {
                // BETWEEN and IN carry the names of their operators, NULLIF and DISTINCT `=`.
                let kind = AExprKind::try_from(expr.kind);
                if !matches!(
                    kind,
                    Ok(AExprKind::AexprBetween
                        | AExprKind::AexprNotBetween
                        | AExprKind::AexprBetweenSym
                        | AExprKind::AexprNotBetweenSym)
                ) {
                    self.operator(&expr.name);
                }
                self.expression(expr.lexpr.as_deref(), all);
                self.expression(expr.rexpr.as_deref(), all);
            }
            NodeEnum::BoolExpr(expr) => self.expressions(&expr.args),
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::TypeCast(cast) => {
                self.expression(cast.arg.as_deref(), all);
                self.type_name(cast.type_name.as_ref());
            }
            NodeEnum::SubLink(link) => self.sublink(link),
            NodeEnum::List(list) => self.expressions(&list.items),
            NodeEnum::NullTest(test) => self.expression(test.arg.as_deref(), all),
            NodeEnum::BooleanTest(test) => self.expression(test.arg.as_deref(), all),
            NodeEnum::CaseExpr(case) => {
                self.expression(case.arg.as_deref(), all);
                self.expressions(&case.args);
                self.expression(case.defresult.as_deref(), all);
            }
            NodeEnum::CaseWhen(when) => {
                self.expression(when.expr.as_deref(), all);
                self.expression(when.result.as_deref(), all);
            }
            NodeEnum::CoalesceExpr(expr) => self.expressions(&expr.args),
            NodeEnum::MinMaxExpr(expr) => self.expressions(&expr.args),
            NodeEnum::NullIfExpr(expr) => self.expressions(&expr.args),
            NodeEnum::RowExpr(row) => self.expressions(&row.args),
            NodeEnum::AArrayExpr(array) => self.expressions(&array.elements),
            NodeEnum::AIndirection(indirection) => {
                self.expression(indirection.arg.as_deref(), all);
                self.indirection(&indirection.indirection);
            }
            NodeEnum::AIndices(_) => {
                self.indirection(std::slice::from_ref(node.unwrap_or(&Node { node: None })))
            }
            NodeEnum::NamedArgExpr(arg) => self.expression(arg.arg.as_deref(), all),
            NodeEnum::CollateClause(collate) => self.expression(collate.arg.as_deref(), all),
            NodeEnum::SqlvalueFunction(_) | NodeEnum::MergeSupportFunc(_) => {}
            NodeEnum::CurrentOfExpr(_) | NodeEnum::AStar(_) => {}
            other => self.clause(other),
        }
    }

    /// What stands in lists of expressions without being one.
    fn clause(&mut self, node: &NodeEnum) {
        let all = Usage::Computed;
        match node {
            NodeEnum::SortBy(sort) => {
                self.expression(sort.node.as_deref(), all);
                if !sort.use_op.is_empty() {
                    self.operator(&sort.use_op);
                }
            }
            NodeEnum::GroupingSet(set) => self.expressions(&set.content),
            NodeEnum::GroupingFunc(grouping) => self.expressions(&grouping.args),
            NodeEnum::MultiAssignRef(assign) => self.expression(assign.source.as_deref(), all),
            NodeEnum::ResTarget(target) => {
                self.indirection(&target.indirection);
                self.expression(target.val.as_deref(), all);
            }
            NodeEnum::IndexElem(index) => self.expression(index.expr.as_deref(), all),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::XmlExpr(xml) => self.xml(xml),
            NodeEnum::XmlSerialize(xml) => self.expression(xml.expr.as_deref(), all),
            other => self.json(other),
        }
    }

    fn xml(&mut self, xml: &XmlExpr) {
        self.expressions(&xml.named_args);
        self.expressions(&xml.args);
    }

    pub(super) fn indirection(&mut self, nodes: &[Node]) {
        for node in nodes {
            if let Some(NodeEnum::AIndices(indices)) = &node.node {
                self.expression(indices.lidx.as_deref(), Usage::Computed);
                self.expression(indices.uidx.as_deref(), Usage::Computed);
            }
        }
    }

    fn sublink(&mut self, link: &SubLink) {
        self.expression(link.testexpr.as_deref(), Usage::Computed);
        if !link.oper_name.is_empty() {
            self.operator(&link.oper_name);
        }
        let outputs = self.query(link.subselect.as_deref());
        // Whether there is a row says nothing of what would be in it.
        if link.sub_link_type != SubLinkType::ExistsSublink as i32 {
            for output in outputs {
                self.computed(&output.sources);
            }
        }
    }

    /// `table.column%TYPE` names a table; type modifiers are constants.
    pub(super) fn type_name(&mut self, name: Option<&TypeName>) {
        if let Some(name) = name {
            if texts(&name.names).len() != name.names.len() {
                self.unknown("it names a type in a way that is not known");
            }
            self.expressions(&name.typmods);
        }
    }
}
