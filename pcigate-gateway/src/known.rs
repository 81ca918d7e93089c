//! What is known of a database: its relations for the classifier, which columns are tagged (views
//! included), functions by OID, types of its own. Read over the session's own upstream connection
//! before the client is let in.

mod read;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pcigate_policy::document::{Column, ColumnClass};
use pcigate_sql::Catalog;

pub(crate) use read::read;

use crate::rows::shape::{FIRST_OWN, Types};

/// What is known of one database.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub catalog: Catalog,
    /// The Target's columns, and those of views that show them.
    pub columns: Vec<Column>,
    /// Tagged columns by table and attribute number.
    pub(super) tags: HashMap<(u32, i16), ColumnClass>,
    /// Relations by OID, with their highest attribute number.
    pub(super) relations: HashMap<u32, i16>,
    /// Schema and name of the tables with such columns.
    pub(super) tagged_tables: Vec<(String, String)>,
    /// Functions outside of `pg_catalog` by OID: schema and name.
    pub(super) functions: HashMap<u32, (String, String)>,
    pub types: Types,
}

impl Known {
    /// The class of a column, if it is tagged.
    pub(crate) fn tag(&self, table: u32, attribute: i16) -> Option<ColumnClass> {
        self.tags.get(&(table, attribute)).copied()
    }

    /// Whether a column of an answer is of a relation that is known, as far as that goes; the
    /// server's own are.
    pub(crate) fn has(&self, table: u32, attribute: i16) -> bool {
        let known = || self.relations.get(&table).is_some_and(|most| attribute <= *most);
        table < FIRST_OWN || known()
    }

    /// Whether a table, as a report of the server names it, has tagged columns.
    pub(crate) fn has_tagged_columns(&self, schema: &str, table: &str) -> bool {
        let same = |known: &&(String, String)| {
            known.1 == table && (schema.is_empty() || known.0 == schema)
        };
        self.tagged_tables.iter().any(|known| same(&known))
    }

    /// A function by its OID: those of large objects, which clients call without SQL
    /// (`pg_proc.dat`), and those outside of `pg_catalog`.
    pub(crate) fn function(&self, oid: u32) -> Option<(&str, &str)> {
        let own = match oid {
            952 => "lo_open",
            953 => "lo_close",
            954 => "loread",
            955 => "lowrite",
            956 => "lo_lseek",
            957 => "lo_creat",
            715 => "lo_create",
            958 => "lo_tell",
            964 => "lo_unlink",
            1004 => "lo_truncate",
            3170 => "lo_lseek64",
            3171 => "lo_tell64",
            3172 => "lo_truncate64",
            _ => {
                let (schema, name) = self.functions.get(&oid)?;
                return Some((schema, name));
            }
        };
        Some(("pg_catalog", own))
    }
}

/// What is known of the databases of one Target, kept once while sessions use it: a thousand
/// sessions on one database hold one catalog.
#[derive(Debug, Default)]
pub struct Knowledge {
    databases: Mutex<HashMap<String, Weak<Known>>>,
}

/// Databases remembered; beyond, each session keeps its own.
const DATABASES: usize = 256;

impl Knowledge {
    /// The same knowledge, shared with other sessions where they know the same.
    pub(crate) fn share(&self, database: &str, known: Known) -> Arc<Known> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.retain(|_, known| known.strong_count() > 0);
        if let Some(shared) = databases.get(database).and_then(Weak::upgrade)
            && *shared == known
        {
            return shared;
        }
        let known = Arc::new(known);
        if databases.len() < DATABASES {
            databases.insert(database.to_owned(), Arc::downgrade(&known));
        }
        known
    }
}
