//! What a column's name means: PostgreSQL manual, 4.2.1 and 4.2.2, and 8.16.5 for whole rows.

use pcigate_policy::statement::{TableName, Usage};
use pg_query::NodeEnum;
use pg_query::protobuf::ColumnRef;

use super::{Item, Walk, What, text};
use crate::data;
use crate::statement::{Output, Source};

impl Walk<'_> {
    /// Notes a column reference and gives the columns it stands for.
    pub(super) fn column_ref(&mut self, column: &ColumnRef, usage: Usage) -> Vec<Output> {
        let star = column.fields.last().is_some_and(|f| matches!(f.node, Some(NodeEnum::AStar(_))));
        let names: Vec<&str> = column.fields.iter().filter_map(text).collect();
        let outputs = match (names.as_slice(), star) {
            ([], true) => self.frame_star(),
            ([.., alias], true) => self.item_star(alias),
            ([name], false) => vec![self.bare(name, usage)],
            ([.., alias, name], false) => vec![self.qualified(alias, name)],
            ([], false) => Vec::new(),
        };
        for output in &outputs {
            for source in &output.sources {
                self.column(source, if output.plain { usage } else { Usage::Computed });
                self.trace.push(source.clone());
            }
        }
        outputs
    }

    /// The columns of `*`.
    fn frame_star(&self) -> Vec<Output> {
        let Some(frame) = self.frames.last() else { return Vec::new() };
        frame.items.iter().flat_map(|item| self.all_of(item)).collect()
    }

    fn item_star(&self, alias: &str) -> Vec<Output> {
        match self.find(alias) {
            Some(item) => self.all_of(item),
            None => vec![self.any_of_all(None)],
        }
    }

    fn find(&self, alias: &str) -> Option<&Item> {
        let in_frame = |frame: &'_ super::Frame| {
            let position = frame.items.iter().position(|item| item.alias == alias);
            position.is_some() || frame.hidden.iter().any(|item| item.alias == alias)
        };
        let frame = self.frames.iter().rev().find(|frame| in_frame(frame))?;
        frame.items.iter().chain(&frame.hidden).find(|item| item.alias == alias)
    }

    /// `name`: a column of the innermost FROM clause that has one, or a whole row.
    fn bare(&self, name: &str, usage: Usage) -> Output {
        let mut tables = Vec::new();
        let mut whole_row = Vec::new();
        for frame in self.frames.iter().rev() {
            let mut known = Vec::new();
            for item in &frame.items {
                match self.in_item(item, name) {
                    Found::Yes(sources, plain) => known.push((sources, plain)),
                    Found::Maybe(more) => add(&mut tables, more),
                    Found::No => {}
                }
            }
            for item in frame.items.iter().chain(&frame.hidden) {
                if item.alias == name {
                    let all = self.all_of(item);
                    whole_row.extend(all.into_iter().flat_map(|output| output.sources));
                }
            }
            if let Some((sources, plain)) = known.pop() {
                return Output { name: Some(name.to_owned()), sources, plain };
            }
        }
        let mut sources = Vec::new();
        if !tables.is_empty() {
            sources.push(Source { tables, column: Some(name.to_owned()) });
        }
        // A row as one value has lost which column is which.
        let plain = whole_row.is_empty() || usage == Usage::Written;
        sources.extend(whole_row);
        Output { name: Some(name.to_owned()), sources, plain }
    }

    /// `alias.name`: a column, or a function called with the row.
    fn qualified(&self, alias: &str, name: &str) -> Output {
        let mut output = Output { name: Some(name.to_owned()), sources: Vec::new(), plain: true };
        let Some(item) = self.find(alias) else {
            return self.any_of_all(Some(name));
        };
        match self.in_item(item, name) {
            Found::Yes(sources, plain) => (output.sources, output.plain) = (sources, plain),
            Found::Maybe(tables) => {
                output.sources = vec![Source { tables, column: Some(name.to_owned()) }];
                self.call_with_row(item, name, &mut output);
            }
            Found::No => self.call_with_row(item, name, &mut output),
        }
        output
    }

    /// `alias.row_to_json` is `row_to_json(alias)` where there is no such column.
    fn call_with_row(&self, item: &Item, name: &str, output: &mut Output) {
        let known = matches!(self.in_item(item, name), Found::No);
        if known || data::takes_whole_row(name) {
            let all = self.all_of(item).into_iter().flat_map(|output| output.sources);
            output.sources.extend(all);
            output.plain = false;
        }
    }

    /// A name whose place is not known: any table at hand.
    fn any_of_all(&self, column: Option<&str>) -> Output {
        let mut tables = Vec::new();
        for item in self.frames.iter().flat_map(|frame| frame.items.iter().chain(&frame.hidden)) {
            match &item.what {
                What::Table(names) => add(&mut tables, names.clone()),
                What::Derived(outputs) => {
                    for source in outputs.iter().flat_map(|output| &output.sources) {
                        add(&mut tables, source.tables.clone());
                    }
                }
            }
        }
        let name = column.map(str::to_owned);
        let sources = vec![Source { tables, column: name.clone() }];
        Output { name, sources, plain: false }
    }

    /// A column that a join compares: of everything that may have one of that name.
    pub(super) fn join_column(&mut self, name: &str) {
        let items = self.frames.last().map(|frame| frame.items.clone()).unwrap_or_default();
        for item in &items {
            match self.in_item(item, name) {
                Found::Yes(sources, _) => self.computed(&sources),
                Found::Maybe(tables) => {
                    self.computed(&[Source { tables, column: Some(name.to_owned()) }]);
                }
                Found::No => {}
            }
        }
    }

    pub(super) fn all_of_items(&self, items: &[Item]) -> Vec<Output> {
        items.iter().flat_map(|item| self.all_of(item)).collect()
    }

    /// All columns of one thing, under the names its alias gives them.
    fn all_of(&self, item: &Item) -> Vec<Output> {
        let mut outputs = match &item.what {
            What::Derived(outputs) => outputs.clone(),
            What::Table(tables) => self.columns_of(tables),
        };
        for (at, renamed) in item.renamed.iter().enumerate() {
            if outputs.iter().take(at + 1).any(|output| output.name.is_none()) {
                // Behind a `*` of unknown width every renamed column may be any column.
                let sources = outputs.iter().flat_map(|output| output.sources.clone()).collect();
                let plain = outputs.iter().all(|output| output.plain);
                outputs.push(Output { name: Some(renamed.clone()), sources, plain });
            } else if let Some(output) = outputs.get_mut(at) {
                output.name = Some(renamed.clone());
            }
        }
        outputs
    }

    fn columns_of(&self, tables: &[TableName]) -> Vec<Output> {
        let known = match tables {
            [table] => self.catalog.get(&table.schema, &table.name),
            _ => None,
        };
        let columns = known.map(|relation| relation.columns.as_slice()).unwrap_or_default();
        let output = |column: Option<&String>| Output {
            name: column.cloned(),
            sources: vec![Source { tables: tables.to_vec(), column: column.cloned() }],
            plain: true,
        };
        if columns.is_empty() {
            return vec![output(None)];
        }
        columns.iter().map(|column| output(Some(column))).collect()
    }

    fn in_item(&self, item: &Item, name: &str) -> Found {
        if let (What::Table(tables), true) = (&item.what, item.renamed.is_empty()) {
            // The common case, without a list of all columns.
            let known = match tables.as_slice() {
                [table] => self.catalog.get(&table.schema, &table.name),
                _ => None,
            };
            let columns = known.map(|relation| relation.columns.as_slice()).unwrap_or_default();
            let column = Some(name.to_owned());
            return match columns {
                [] => Found::Maybe(tables.clone()),
                columns if columns.iter().any(|known| known == name) => {
                    Found::Yes(vec![Source { tables: tables.clone(), column }], true)
                }
                _ => Found::No,
            };
        }
        let outputs = self.all_of(item);
        if let Some(found) = outputs.iter().rfind(|output| output.name.as_deref() == Some(name)) {
            return Found::Yes(found.sources.clone(), found.plain);
        }
        if let Some(found) = outputs.iter().find(|output| output.name.is_none() && !output.plain) {
            return Found::Yes(found.sources.clone(), false);
        }
        let mut tables = Vec::new();
        for output in outputs.iter().filter(|output| output.name.is_none()) {
            for source in &output.sources {
                add(&mut tables, source.tables.clone());
            }
        }
        if tables.is_empty() { Found::No } else { Found::Maybe(tables) }
    }
}

enum Found {
    Yes(Vec<Source>, bool),
    Maybe(Vec<TableName>),
    No,
}

fn add(tables: &mut Vec<TableName>, more: Vec<TableName>) {
    for table in more {
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
}
