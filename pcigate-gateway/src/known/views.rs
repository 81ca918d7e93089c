//! Which columns of which relations are tagged: the Target's, those of partitions and children, and
//! those of views that show them.

use std::collections::{BTreeMap, HashSet};

use pcigate_policy::document::{Column, ColumnClass};
use pcigate_sql::{Catalog, Session, Source, classify};

use super::Known;

/// Views over views are followed so far.
const DEPTH: usize = 16;

/// Relations with their columns and what is tagged of them.
#[derive(Default)]
pub(super) struct Tables {
    known: BTreeMap<(String, String), Table>,
}

#[derive(Default)]
struct Table {
    oid: u32,
    columns: Vec<String>,
    numbers: Vec<i16>,
    tags: BTreeMap<usize, ColumnClass>,
}

impl Tables {
    pub(super) fn add(
        &mut self,
        schema: &str,
        name: &str,
        oid: u32,
        columns: Vec<String>,
        numbers: Vec<i16>,
    ) {
        let table = Table { oid, columns, numbers, tags: BTreeMap::new() };
        self.known.insert((schema.to_owned(), name.to_owned()), table);
    }

    /// What the Target says. A table without a schema is one in any.
    pub(super) fn tag(&mut self, columns: &[Column]) {
        for column in columns {
            let mut parts = column.table.rsplit('.');
            let (name, schema) = (parts.next().unwrap_or_default(), parts.next());
            for ((of, known), table) in &mut self.known {
                if known == name && schema.is_none_or(|schema| schema == of) {
                    table.tag(&column.column, column.class);
                }
            }
        }
    }

    /// Partitions and children have the columns of their parents, by name.
    pub(super) fn tag_children(&mut self, parents: &HashSet<(u32, u32)>) {
        for _ in 0..DEPTH {
            let mut found = Vec::new();
            for (child, parent) in parents {
                let Some(parent) = self.known.values().find(|table| table.oid == *parent) else {
                    continue;
                };
                for (index, class) in &parent.tags {
                    if let Some(column) = parent.columns.get(*index) {
                        found.push((*child, column.clone(), *class));
                    }
                }
            }
            let mut more = false;
            for (child, column, class) in found {
                let child = self.known.values_mut().find(|table| table.oid == child);
                more |= child.is_some_and(|table| table.tag(&column, class));
            }
            if !more {
                return;
            }
        }
    }

    /// Columns of views, as the classifier reads their definitions. A view over tagged columns that
    /// cannot be read is tagged as a whole, and shows nothing.
    pub(super) fn tag_views<'v>(
        &mut self,
        views: impl Iterator<Item = ((&'v str, &'v str), &'v str)>,
        catalog: &Catalog,
    ) {
        if self.known.values().all(|table| table.tags.is_empty()) {
            return;
        }
        let session = Session::new("", &[]);
        let read: Vec<_> = views
            .map(|(name, text)| (name, text, classify(text, &session, catalog).ok()))
            .collect();
        for _ in 0..DEPTH {
            let mut more = false;
            for ((schema, name), text, statements) in &read {
                let statement = statements.as_deref().and_then(<[_]>::first);
                let outputs = statement.and_then(|statement| statement.outputs.as_deref());
                let classes: Vec<Option<ColumnClass>> = match outputs {
                    Some(outputs) if outputs.iter().all(|output| output.name.is_some()) => {
                        let class = |sources: &[Source]| {
                            sources
                                .iter()
                                .filter_map(|source| self.class_of(source))
                                .max_by_key(|class| u8::from(*class == ColumnClass::Sad))
                        };
                        outputs.iter().map(|output| class(&output.sources)).collect()
                    }
                    _ if self.mentions_tagged(text) => vec![Some(ColumnClass::Sad); 1664],
                    _ => continue,
                };
                let key = ((*schema).to_owned(), (*name).to_owned());
                let Some(view) = self.known.get_mut(&key) else { continue };
                for (index, class) in classes.into_iter().enumerate().take(view.columns.len()) {
                    if let Some(class) = class {
                        more |= view.tags.insert(index, class) != Some(class);
                    }
                }
            }
            if !more {
                return;
            }
        }
    }

    fn class_of(&self, source: &Source) -> Option<ColumnClass> {
        let mut found = None;
        for table in &source.tables {
            let tables = self.known.iter().filter(|((schema, name), _)| {
                *name == table.name && (table.schema.is_empty() || *schema == table.schema)
            });
            for (_, known) in tables {
                for (index, class) in &known.tags {
                    let column = known.columns.get(*index);
                    let is_it = source.column.is_none() || source.column.as_ref() == column;
                    if is_it && found != Some(ColumnClass::Sad) {
                        found = Some(*class);
                    }
                }
            }
        }
        found
    }

    fn mentions_tagged(&self, text: &str) -> bool {
        let tagged = self.known.iter().filter(|(_, table)| !table.tags.is_empty());
        tagged.into_iter().any(|((_, name), _)| text.contains(name.as_str()))
    }

    /// What is to be looked up later. `columns` are the Target's own, which hold also for tables
    /// that are not there yet.
    pub(super) fn finish(self, columns: &[Column], known: &mut Known) {
        known.columns = columns.to_vec();
        for ((schema, name), table) in self.known {
            let most = table.numbers.iter().max().copied().unwrap_or(0);
            known.relations.insert(table.oid, most);
            for (index, class) in &table.tags {
                let (Some(column), Some(number)) =
                    (table.columns.get(*index), table.numbers.get(*index))
                else {
                    continue;
                };
                known.tags.insert((table.oid, *number), *class);
                let tagged = Column {
                    table: format!("{schema}.{name}"),
                    column: column.clone(),
                    class: *class,
                };
                if !known.columns.contains(&tagged) {
                    known.columns.push(tagged);
                }
            }
            if !table.tags.is_empty() {
                known.tagged_tables.push((schema, name));
            }
        }
    }
}

impl Table {
    fn tag(&mut self, column: &str, class: ColumnClass) -> bool {
        let index = self.columns.iter().position(|known| known == column);
        index.is_some_and(|index| self.tags.insert(index, class) != Some(class))
    }
}
