//! Walks the parser's tree of one statement and collects what it does. Whatever it does not know
//! becomes the effect `unknown`, with its reason.

mod columns;
mod condition;
mod dml;
mod expression;
mod from;
mod function;
mod json;
mod select;

use pcigate_policy::document::{Effect, Shape};
use pcigate_policy::statement::{ColumnUse, Facts, ShapeUse, TableName, TableUse, Usage};
use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, RangeVar};

use crate::catalog::Catalog;
use crate::session::Session;
use crate::statement::{Change, Output, Source};
pub use condition::is_no_filter;
pub use function::{constant_text, identifiers};

/// Most different tables, functions or columns that are told apart in one statement.
const MAX_NAMES: usize = 1000;

/// Most views that one statement is followed through.
const MAX_VIEWS: usize = 100;

/// The walk of one statement.
pub struct Walk<'a> {
    pub session: &'a Session,
    pub catalog: &'a Catalog,
    /// What has been found.
    pub facts: Facts,
    /// What names mean where the walk is, innermost last.
    frames: Vec<Frame>,
    ctes: Vec<Cte>,
    /// Every column met, in order: what an expression's value comes from.
    trace: Vec<Source>,
    views: usize,
    through_view: bool,
    /// What it changes in the session.
    pub changes: Vec<Change>,
}

/// The names of one FROM clause.
#[derive(Default)]
struct Frame {
    items: Vec<Item>,
    /// `NEW`, `OLD`, `excluded`: found by name, no part of `*`.
    hidden: Vec<Item>,
}

/// One thing in a FROM clause.
#[derive(Clone)]
struct Item {
    /// The name it goes by.
    alias: String,
    /// The names of its columns, given by the alias.
    renamed: Vec<String>,
    what: What,
}

#[derive(Clone)]
enum What {
    /// A table, as it may be meant.
    Table(Vec<TableName>),
    /// Something computed with these columns.
    Derived(Vec<Output>),
}

struct Cte {
    name: String,
    /// `None` = its query has not been walked yet.
    outputs: Option<Vec<Output>>,
}

impl<'a> Walk<'a> {
    pub fn new(session: &'a Session, catalog: &'a Catalog) -> Self {
        Self {
            session,
            catalog,
            facts: Facts::default(),
            frames: Vec::new(),
            ctes: Vec::new(),
            trace: Vec::new(),
            views: 0,
            through_view: false,
            changes: Vec::new(),
        }
    }

    /// Notes what cannot be told.
    pub fn unknown(&mut self, reason: impl Into<String>) {
        self.facts.add_effect(Effect::Unknown);
        let reason = reason.into();
        if self.facts.reasons.len() < 16 && !self.facts.reasons.contains(&reason) {
            self.facts.reasons.push(reason);
        }
    }

    /// Notes what is done to a table.
    pub fn table(&mut self, names: Vec<TableName>, effect: Effect) {
        self.facts.add_effect(effect);
        let used = TableUse { names, effect, through_view: self.through_view };
        if !self.facts.tables.contains(&used) {
            if self.facts.tables.len() >= MAX_NAMES {
                return self.unknown("it names too many tables");
            }
            self.facts.tables.push(used);
        }
    }

    /// Notes a shape and the table it concerns.
    pub fn shape(&mut self, shape: Shape, tables: Vec<TableName>) {
        let used = ShapeUse { shape, tables };
        if !self.facts.shapes.contains(&used) {
            self.facts.shapes.push(used);
        }
    }

    /// Notes what becomes of a column.
    fn column(&mut self, source: &Source, usage: Usage) {
        if self.facts.columns.len() > MAX_NAMES {
            return self.unknown("it names too many columns");
        }
        let Source { tables, column } = source;
        let same = |known: &ColumnUse| {
            known.usage == usage && known.column == *column && known.tables == *tables
        };
        if !tables.is_empty() && !self.facts.columns.iter().any(same) {
            let (tables, column) = (tables.clone(), column.clone());
            self.facts.columns.push(ColumnUse { tables, column, usage });
        }
    }

    /// Notes that values leave for where their column is no longer known.
    pub fn moved(&mut self, outputs: &[Output]) {
        for output in outputs.iter().filter(|output| output.plain) {
            for source in &output.sources {
                self.column(source, Usage::Moved);
            }
        }
    }

    /// Notes what becomes of columns that are named outside of queries.
    pub fn use_columns(&mut self, outputs: &[Output], usage: Usage) {
        for source in outputs.iter().flat_map(|output| &output.sources) {
            self.column(source, usage);
        }
    }

    fn computed(&mut self, sources: &[Source]) {
        sources.iter().for_each(|source| self.column(source, Usage::Computed));
    }

    /// A condition over one table.
    pub fn condition_of(
        &mut self,
        relation: &RangeVar,
        tables: &[TableName],
        condition: Option<&Node>,
    ) {
        let what = What::Table(tables.to_vec());
        let items = vec![from::item(relation.alias.as_ref(), &relation.relname, what)];
        self.frames.push(Frame { items, hidden: Vec::new() });
        self.expression(condition, Usage::Computed);
        self.frames.pop();
    }

    /// Expressions outside of any query.
    pub fn operands(&mut self, nodes: &[Node]) {
        self.expressions(nodes);
    }

    /// A procedure called: never harmless, whatever its name.
    pub fn procedure(&mut self, call: &FuncCall) {
        self.facts.add_effect(Effect::Function);
        self.call(call);
        if let Some(used) = self.facts.functions.first_mut() {
            used.effect = Some(Effect::Function);
        }
    }

    /// The tables a name may mean.
    pub fn resolve(&self, relation: &RangeVar) -> Vec<TableName> {
        let (schema, name) = (relation.schemaname.as_str(), relation.relname.as_str());
        let named = |schema: &str| TableName { schema: schema.to_owned(), name: name.to_owned() };
        if relation.relpersistence == "t" {
            return vec![named("pg_temp")];
        }
        if !schema.is_empty() {
            return vec![named(if schema.starts_with("pg_temp") { "pg_temp" } else { schema })];
        }
        let Some(path) = self.session.search_path() else { return vec![named("")] };
        let explicit = |schema: &str| path.iter().any(|known| known == schema);
        if self.session.now().has_temp(name) && !explicit("pg_temp") {
            return vec![named("pg_temp")];
        }
        if crate::data::is_relation(name) && !explicit("pg_catalog") {
            return vec![named("pg_catalog")];
        }
        let there: Vec<&String> =
            path.iter().filter(|schema| self.catalog.may_have_schema(schema)).collect();
        let known = there.iter().find(|schema| self.catalog.get(schema, name).is_some());
        match known {
            Some(schema) if !explicit("pg_temp") => vec![named(schema)],
            _ if there.is_empty() => vec![named("")],
            _ => there.iter().map(|schema| named(schema)).collect(),
        }
    }

    /// The tables that a statement would make under a name.
    pub fn resolve_new(&self, relation: &RangeVar) -> Vec<TableName> {
        let temporary = relation.relpersistence == "t";
        if temporary || !relation.schemaname.is_empty() {
            return self.resolve(relation);
        }
        let first = self
            .session
            .search_path()
            .and_then(|path| path.iter().find(|schema| self.catalog.may_have_schema(schema)));
        let schema = first.map_or("", |schema| match schema.as_str() {
            temp if temp.starts_with("pg_temp") => "pg_temp",
            other => other,
        });
        vec![TableName { schema: schema.to_owned(), name: relation.relname.clone() }]
    }
}

/// The text of a node that holds one.
pub fn text(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(string) => Some(&string.sval),
        _ => None,
    }
}

/// The texts of a list of such nodes.
pub fn texts(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().filter_map(text).collect()
}
