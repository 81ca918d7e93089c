//! What is known of a database: its relations for the classifier, which columns are tagged (views
//! included), functions by OID, types of its own. Read over the session's own upstream connection
//! before the client is let in.

mod read;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use pcigate_policy::document::{Column, ColumnClass, Masking};
use pcigate_policy::mask::SettingsError;
use pcigate_sql::Catalog;

pub(crate) use read::read;

use crate::plan::Maskers;
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

/// What is known of one Target and its databases, kept once while sessions use it: a thousand
/// sessions on one database hold one catalog, and one of them reads it when it is old.
#[derive(Debug, Default)]
pub struct Knowledge {
    databases: Mutex<HashMap<String, Newest>>,
    /// The newest, and what they were made of.
    maskers: Mutex<(Masking, Weak<Maskers>)>,
}

#[derive(Debug)]
struct Newest {
    known: Weak<Known>,
    /// When its reading began.
    as_of: Instant,
    /// When a session last went to read it because it was old.
    due: Instant,
}

/// What is known, and since when.
#[derive(Clone)]
pub(crate) struct AsOf {
    pub known: Arc<Known>,
    pub at: Instant,
}

/// Databases remembered; beyond, each session keeps its own.
const DATABASES: usize = 256;

impl Knowledge {
    /// How answers of a Target with this `mask` are masked. Automata are large: sessions share
    /// them.
    ///
    /// # Errors
    /// As [`Maskers::of`].
    pub fn maskers(&self, mask: &Masking) -> Result<Arc<Maskers>, SettingsError> {
        let mut newest = self.maskers.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, shared) = &*newest;
        if of == mask
            && let Some(shared) = shared.upgrade()
        {
            return Ok(shared);
        }
        let made = Arc::new(Maskers::of(mask)?);
        *newest = (mask.clone(), Arc::downgrade(&made));
        Ok(made)
    }

    fn databases(&self) -> MutexGuard<'_, HashMap<String, Newest>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same knowledge, shared with other sessions where they know the same; `as_of` is when
    /// its reading began.
    pub(crate) fn share(&self, database: &str, known: Known, as_of: Instant) -> AsOf {
        let mut databases = self.databases();
        databases.retain(|_, newest| newest.known.strong_count() > 0);
        if let Some(newest) = databases.get_mut(database)
            && let Some(shared) = newest.known.upgrade()
            && *shared == known
        {
            newest.as_of = newest.as_of.max(as_of);
            return AsOf { known: shared, at: as_of };
        }
        let known = Arc::new(known);
        let newer = databases.get(database).is_none_or(|newest| newest.as_of <= as_of);
        if newer && (databases.len() < DATABASES || databases.contains_key(database)) {
            let newest = Newest { known: Arc::downgrade(&known), as_of, due: as_of };
            databases.insert(database.to_owned(), newest);
        }
        AsOf { known, at: as_of }
    }

    /// What another session knows that is not older than `age`; or nothing, to the one session
    /// that is to read it, and what is there to those that ask meanwhile.
    pub(crate) fn not_older(&self, database: &str, age: Duration) -> Option<AsOf> {
        let mut databases = self.databases();
        let newest = databases.get_mut(database)?;
        let known = newest.known.upgrade()?;
        if newest.as_of.elapsed() > age && newest.due.elapsed() > age {
            newest.due = Instant::now();
            return None;
        }
        Some(AsOf { known, at: newest.as_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other() -> Known {
        Known { tags: HashMap::from([((7, 1), ColumnClass::Pan)]), ..Known::default() }
    }

    #[test]
    fn what_is_old_is_read_by_one_session_and_taken_over_by_the_others() {
        let (knowledge, hour) = (Knowledge::default(), Duration::from_secs(3600));
        let long_ago = Instant::now().checked_sub(2 * hour).unwrap_or_else(Instant::now);
        let old = knowledge.share("shop", Known::default(), long_ago);
        assert!(knowledge.not_older("shop", 3 * hour).is_some());
        assert!(knowledge.not_older("shop", hour).is_none(), "this one reads it");
        let meanwhile = knowledge.not_older("shop", hour).unwrap();
        assert!(Arc::ptr_eq(&meanwhile.known, &old.known));
        let new = knowledge.share("shop", other(), Instant::now());
        let taken = knowledge.not_older("shop", hour).unwrap();
        assert!(Arc::ptr_eq(&taken.known, &new.known) && taken.at == new.at);
        // A reading that was slower than the newest does not take its place.
        let late = knowledge.share("shop", Known::default(), long_ago);
        assert!(!Arc::ptr_eq(&late.known, &new.known));
        assert!(Arc::ptr_eq(&knowledge.not_older("shop", hour).unwrap().known, &new.known));
        // Equal knowledge is kept once.
        let same = knowledge.share("shop", other(), Instant::now());
        assert!(Arc::ptr_eq(&same.known, &new.known));
    }

    #[test]
    fn sessions_share_maskers_until_the_target_masks_otherwise() {
        let (knowledge, mask) = (Knowledge::default(), Masking::default());
        let first = knowledge.maskers(&mask).unwrap();
        assert!(Arc::ptr_eq(&first, &knowledge.maskers(&mask).unwrap()));
        let strict = Masking { card_data: true, ..Masking::default() };
        let other = knowledge.maskers(&strict).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(Arc::ptr_eq(&other, &knowledge.maskers(&strict).unwrap()));
    }
}
