//! What a statement may be: one SELECT over `records`, of bounded size. Everything else is refused
//! with a sentence before it runs.

use std::ops::ControlFlow;

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    error::DataFusionError,
    execution::SessionState,
    logical_expr::{Expr, LogicalPlan, Operator},
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast::{self, ObjectName, Query, Visit, Visitor},
            dialect::GenericDialect,
        },
    },
};

use crate::error::QueryError;

/// Longest statement, bytes.
pub const BYTES_MAX: usize = 16 * 1024;
/// Most words and signs of a statement: how deep the planner may have to go.
pub const WORDS_MAX: usize = 2_000;
/// Most tables a statement names, each time counted.
pub const TABLES_MAX: usize = 8;
/// Deepest nesting of brackets and subqueries.
const NESTING_MAX: usize = 50;

fn refused(text: impl Into<String>) -> QueryError {
    QueryError::Statement { text: format!("statement: {}", text.into()) }
}

/// The one SELECT a text consists of.
pub fn parse(text: &str) -> Result<Statement, QueryError> {
    if text.len() > BYTES_MAX {
        let bytes = text.len();
        return Err(refused(format!("it has {bytes} bytes; at most {BYTES_MAX} are read")));
    }
    let words = words(text);
    if words > WORDS_MAX {
        return Err(refused(format!(
            "it has {words} words and signs; at most {WORDS_MAX} are read"
        )));
    }
    let statements = DFParserBuilder::new(text)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = statements.map_err(|error| {
        let root = error.find_root().strip_backtrace();
        if root.contains("RecursionLimitExceeded") {
            return refused(format!("its brackets nest deeper than {NESTING_MAX} levels"));
        }
        refused(
            root.lines().next().unwrap_or_default().trim_start_matches("SQL error: ").to_owned(),
        )
    })?;
    if statements.len() > 1 {
        return Err(refused(format!("there are {} statements; send one SELECT", statements.len())));
    }
    let Some(statement) = statements.pop_front() else {
        return Err(refused("it is empty; send one SELECT over the table records"));
    };
    match &statement {
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Query(query) => check(query)?,
            ast::Statement::Explain { .. } | ast::Statement::ExplainTable { .. } => {
                return Err(explain());
            }
            other => return Err(not_select(&other.to_string())),
        },
        Statement::Explain(_) => return Err(explain()),
        other => return Err(not_select(&other.to_string())),
    }
    Ok(statement)
}

fn explain() -> QueryError {
    refused("EXPLAIN is not part of it; ask for the plan with --explain")
}

fn not_select(text: &str) -> QueryError {
    let verb = text.split_whitespace().next().unwrap_or("it").to_uppercase();
    refused(format!("{verb} is not accepted; only one SELECT over the table records is"))
}

/// Words, numbers, texts and signs, roughly as a parser counts them.
fn words(text: &str) -> usize {
    let (mut count, mut within) = (0, false);
    for character in text.chars() {
        let word = character.is_alphanumeric() || character == '_';
        if (word && !within) || (!word && !character.is_whitespace()) {
            count += 1;
        }
        within = word;
    }
    count
}

fn check(query: &Query) -> Result<(), QueryError> {
    let mut names = Names { tables: 0, known: with_names(query) };
    match query.visit(&mut names) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn with_names(query: &Query) -> Vec<String> {
    let mut names = Common { names: Vec::new() };
    let _: ControlFlow<()> = query.visit(&mut names);
    names.names
}

/// Collects the names that WITH gives.
struct Common {
    names: Vec<String>,
}

impl Visitor for Common {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.push(table.alias.name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// Looks at every table and query.
struct Names {
    tables: usize,
    known: Vec<String>,
}

impl Visitor for Names {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return ControlFlow::Break(refused("WITH RECURSIVE is not accepted"));
        }
        if query.for_clause.is_some() || !query.locks.is_empty() {
            return ControlFlow::Break(refused("FOR … is not accepted"));
        }
        match query.body.as_ref() {
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_)
            | ast::SetExpr::Table(_) => {
                ControlFlow::Break(refused("only SELECT is accepted within it"))
            }
            ast::SetExpr::Select(select) if select.into.is_some() => {
                ControlFlow::Break(refused("SELECT INTO is not accepted"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &ast::TableFactor) -> ControlFlow<QueryError> {
        use ast::TableFactor::{Derived, NestedJoin, Table};
        let shown = match table {
            Table { name, args: Some(_), .. } => format!("{name}(…)"),
            Table { .. } | Derived { .. } | NestedJoin { .. } => {
                return ControlFlow::Continue(());
            }
            other => other.to_string().chars().take(40).collect(),
        };
        ControlFlow::Break(refused(format!(
            "{shown} is no table; the only one is records, and functions make none"
        )))
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<QueryError> {
        self.tables += 1;
        let text = name.to_string().to_lowercase();
        let text = text.trim_matches('"');
        if text != "records" && !self.known.iter().any(|known| known == text) {
            let shown: String = text.chars().take(80).collect();
            return ControlFlow::Break(refused(format!(
                "there is no table {shown}; the only table is records"
            )));
        }
        if self.tables > TABLES_MAX {
            return ControlFlow::Break(refused(format!("it names more than {TABLES_MAX} tables")));
        }
        ControlFlow::Continue(())
    }
}

/// The plan of a parsed statement, if it consists of accepted steps only.
pub async fn plan(state: &SessionState, statement: Statement) -> Result<LogicalPlan, Mistake> {
    let plan = state.statement_to_plan(statement).await?;
    let mut mistake = None;
    plan.apply_with_subqueries(|node| {
        let mut found = unwanted(node).map(str::to_owned);
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found = found.take().or_else(|| unwanted_expression(part));
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        match found {
            Some(found) => {
                mistake = Some(found);
                Ok(TreeNodeRecursion::Stop)
            }
            None => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    match mistake {
        Some(text) => Err(Mistake::Refused(refused(text))),
        None => Ok(plan),
    }
}

/// Why a statement has no plan.
#[derive(Debug)]
pub enum Mistake {
    /// It is not accepted.
    Refused(QueryError),
    /// The engine says why.
    Engine(DataFusionError),
}

impl From<DataFusionError> for Mistake {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(error)
    }
}

fn unwanted(node: &LogicalPlan) -> Option<&'static str> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(_) => None,
        LogicalPlan::Window(_) => Some("window functions (OVER) are not available"),
        LogicalPlan::RecursiveQuery(_) => Some("WITH RECURSIVE is not accepted"),
        LogicalPlan::Unnest(_) => Some("UNNEST is not available"),
        _ => Some("only SELECT is accepted"),
    }
}

fn unwanted_expression(expression: &Expr) -> Option<String> {
    match expression {
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            Some("`||` is not available; select the parts as columns".to_owned())
        }
        Expr::GroupingSet(_) => Some("CUBE, ROLLUP and GROUPING SETS are not available".to_owned()),
        _ => None,
    }
}
