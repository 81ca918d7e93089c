//! Remembers what repeated texts do, so that they are not parsed again. Bounded in bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::classify::classify;
use crate::refusal::Refusal;
use crate::session::{Session, Settings};
use crate::statement::{Change, Statement};

/// Longest text that is remembered: longer ones hold data, and do not come again.
const MAX_REMEMBERED: usize = 16 << 10;

/// What a remembered text takes beside itself, roughly: its descriptions are a few hundred bytes
/// for each table, column and function.
const OVERHEAD: usize = 1024;

/// Remembered texts with what they depend on: the session's user, search path, settings and
/// temporary tables, and the catalog's version. Two halves: what is used moves to the young one,
/// and when that is full the old one is forgotten. One for each gateway, behind a lock, or one for
/// each session; it belongs to one database.
#[derive(Debug)]
pub struct Cache {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
    /// Bytes of the young half, and the most it may have.
    bytes: usize,
    most: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    text: Box<str>,
    user: Box<str>,
    settings: Settings,
    version: u64,
    statements: Arc<[Statement]>,
}

impl Cache {
    /// A cache of at most about so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            bytes: 0,
            most: bytes / 2,
            hasher: RandomState::new(),
        }
    }

    /// The same answer as [`classify`]. `version` changes whenever the catalog does.
    ///
    /// # Errors
    /// As [`classify`]; refusals are not remembered.
    pub fn classify(
        &mut self,
        text: &str,
        session: &Session,
        catalog: &Catalog,
        version: u64,
    ) -> Result<Arc<[Statement]>, Refusal> {
        let settings = session.now();
        let key = self.hasher.hash_one((text, settings, session.user(), version));
        let is_same = |entry: &Entry| {
            *entry.text == *text
                && entry.version == version
                && *entry.user == *session.user()
                && entry.settings == *settings
        };
        if let Some(entry) = self.young.get(&key)
            && is_same(entry)
        {
            return Ok(entry.statements.clone());
        }
        if let Some(entry) = self.old.remove(&key)
            && is_same(&entry)
        {
            let statements = entry.statements.clone();
            self.keep(key, entry);
            return Ok(statements);
        }
        let statements: Arc<[Statement]> = classify(text, session, catalog)?.into();
        if text.len() <= MAX_REMEMBERED && statements.iter().all(depends_on_text_alone) {
            let entry = Entry {
                text: text.into(),
                user: session.user().into(),
                settings: settings.clone(),
                version,
                statements: statements.clone(),
            };
            self.keep(key, entry);
        }
        Ok(statements)
    }

    fn keep(&mut self, key: u64, entry: Entry) {
        let bytes = entry.weight();
        if bytes > self.most {
            return;
        }
        if self.bytes + bytes > self.most {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some(replaced) = self.young.insert(key, entry) {
            self.bytes -= replaced.weight();
        }
    }

    /// How many texts it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entry {
    fn weight(&self) -> usize {
        let facts = self.statements.iter().map(|statement| {
            let facts = &statement.facts;
            let names = facts.tables.len() + facts.columns.len() + facts.functions.len();
            let outputs = statement.outputs.as_ref().map_or(0, Vec::len);
            (names + outputs) * 256
        });
        self.text.len() + OVERHEAD * self.statements.len() + facts.sum::<usize>()
    }
}

/// Whether the description holds for the same settings whatever else the session holds.
fn depends_on_text_alone(statement: &Statement) -> bool {
    let harmless = |change: &Change| {
        matches!(change, Change::Begin | Change::Commit | Change::Rollback | Change::Set { .. })
    };
    !statement.of_session && statement.changes.iter().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 1234;";

    #[test]
    fn a_text_is_remembered_for_the_settings_it_depends_on() {
        let mut cache = Cache::new(1 << 20);
        let catalog = Catalog::default();
        let session = Session::new("bot", &["public"]);
        let first = cache.classify(TEXT, &session, &catalog, 1).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.classify(TEXT, &session, &catalog, 1).unwrap()));
        assert_eq!(*first, *classify(TEXT, &session, &catalog).unwrap());
        let elsewhere = Session::new("bot", &["other"]);
        let other = cache.classify(TEXT, &elsewhere, &catalog, 1).unwrap();
        assert_ne!(first[0].facts.tables, other[0].facts.tables);
        assert!(!Arc::ptr_eq(&first, &cache.classify(TEXT, &session, &catalog, 2).unwrap()));
        let person = Session::new("person", &["public"]);
        assert!(!Arc::ptr_eq(&first, &cache.classify(TEXT, &person, &catalog, 1).unwrap()));
    }

    #[test]
    fn what_depends_on_prepared_statements_or_cursors_is_not_remembered() {
        let mut cache = Cache::new(1 << 20);
        let session = Session::new("bot", &["public"]);
        for text in
            ["EXECUTE p", "FETCH 1 FROM c", "PREPARE p AS SELECT 1", "CREATE TEMP TABLE t()"]
        {
            cache.classify(text, &session, &Catalog::default(), 1).unwrap();
        }
        assert!(cache.is_empty());
    }

    #[test]
    fn a_cache_stays_within_its_bytes_and_keeps_what_is_used() {
        let mut cache = Cache::new(100 << 10);
        let session = Session::new("bot", &["public"]);
        let catalog = Catalog::default();
        let first = cache.classify(TEXT, &session, &catalog, 1).unwrap();
        for number in 0..500 {
            let text = format!("SELECT {number}");
            cache.classify(&text, &session, &catalog, 1).unwrap();
            assert!(Arc::ptr_eq(&first, &cache.classify(TEXT, &session, &catalog, 1).unwrap()));
            assert!(cache.len() < 100);
        }
    }
}
