//! What is known of the database's relations, given from outside.

use std::collections::{HashMap, HashSet};

/// Names of relations per schema, with their columns, and views with their definitions. An empty
/// catalog is right too: then names stay open where the search path leaves them open, and views
/// are tables. What it says must be true: the gateway reads it with a connection of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    relations: HashMap<String, HashMap<String, Relation>>,
    functions: HashSet<String>,
}

/// A table, view or other relation with columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// Its columns in order; empty = not known.
    pub columns: Vec<String>,
    /// For a view, its query as `pg_get_viewdef` writes it.
    pub definition: Option<String>,
}

impl Catalog {
    /// Adds a relation.
    pub fn add(&mut self, schema: &str, name: &str, relation: Relation) {
        let names = self.relations.entry(schema.to_owned()).or_default();
        names.insert(name.to_owned(), relation);
    }

    /// Adds a schema, so that it is known to be there, also while it is empty.
    pub fn add_schema(&mut self, schema: &str) {
        self.relations.entry(schema.to_owned()).or_default();
    }

    /// Adds the name of a function outside of `pg_catalog`: a call by that name may mean it.
    pub fn add_function(&mut self, name: &str) {
        self.functions.insert(name.to_owned());
    }

    /// A relation, if it is known.
    #[must_use]
    pub fn get(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.get(schema)?.get(name)
    }

    /// Whether a schema is there, as far as is known: an empty catalog knows nothing.
    pub(crate) fn may_have_schema(&self, schema: &str) -> bool {
        self.relations.is_empty() || self.relations.contains_key(schema)
    }

    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }
}
