//! What later statements of a session depend on, followed from statement to statement.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::Refusal;
use crate::settings::is_utf8;
use crate::statement::{Change, SetTo, Statement};

/// Most prepared statements, cursors, temporary tables and savepoints that are followed, each.
pub const MAX_HELD: usize = 1000;

/// Most bytes of prepared texts that are followed.
pub const MAX_PREPARED: usize = 16 << 20;

/// The state of one session: search path, what changes reading, prepared statements, cursors,
/// temporary tables, and how transactions give settings back.
#[derive(Clone, Debug)]
pub struct Session {
    user: String,
    /// As the connection began; what `RESET` gives back.
    initial: Settings,
    /// What holds when the transaction commits.
    lasting: Settings,
    /// What holds now: lasting and `SET LOCAL`.
    now: Settings,
    /// What comes back when the transaction is rolled back; `None` = no transaction.
    before: Option<Settings>,
    failed: bool,
    savepoints: Vec<(String, Settings, Settings)>,
    prepared: HashMap<String, Arc<str>>,
    prepared_bytes: usize,
    cursors: HashMap<String, Arc<Statement>>,
}

/// What transactions give back; cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The search path; `None` = not known.
    path: Option<Arc<Vec<String>>>,
    strings_standard: bool,
    utf8: bool,
    temps: Arc<BTreeSet<String>>,
}

impl Session {
    /// A session as it begins. `search_path` is the server's `current_schemas(false)`: the schemas
    /// that are there, in order, without `pg_catalog` if the path does not name it. `user` is the
    /// session's role, which `"$user"` stands for.
    #[must_use]
    pub fn new(user: &str, search_path: &[&str]) -> Self {
        let path = search_path.iter().map(|&schema| schema.to_owned()).collect();
        let initial = Settings {
            path: Some(Arc::new(path)),
            strings_standard: true,
            utf8: true,
            temps: Arc::default(),
        };
        Self {
            user: user.to_owned(),
            lasting: initial.clone(),
            now: initial.clone(),
            initial,
            before: None,
            failed: false,
            savepoints: Vec::new(),
            prepared: HashMap::new(),
            prepared_bytes: 0,
            cursors: HashMap::new(),
        }
    }

    /// What holds now. Keep it before a text with several statements is sent outside of a
    /// transaction, and give it to [`Self::restore`] when one of them fails: the server then takes
    /// back all of them.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.now.clone()
    }

    /// Takes settings back.
    pub fn restore(&mut self, settings: Settings) {
        self.lasting.clone_from(&settings);
        self.now = settings;
    }

    /// What a ParameterStatus message of the server says; the truth, whatever was followed.
    pub fn parameter_status(&mut self, name: &str, value: &str) {
        let path = crate::walk::identifiers(value, ',').map(Arc::new);
        let apply = |settings: &mut Settings| match name {
            "search_path" => settings.path.clone_from(&path),
            "client_encoding" => settings.utf8 = is_utf8(value),
            "standard_conforming_strings" => settings.strings_standard = value == "on",
            _ => {}
        };
        apply(&mut self.now);
        apply(&mut self.lasting);
    }

    /// A statement prepared by the protocol's Parse message, for SQL `EXECUTE`. An empty name (the
    /// unnamed statement) cannot be executed by SQL and is not kept.
    ///
    /// # Errors
    /// The session is full: refuse the Parse.
    pub fn prepare(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        if name.is_empty() {
            return Ok(());
        }
        self.forget_prepared(name);
        if self.prepared.len() >= MAX_HELD {
            return Err(full("prepared statements", MAX_HELD));
        }
        if self.prepared_bytes + text.len() > MAX_PREPARED {
            return Err(full("bytes of prepared statements", MAX_PREPARED));
        }
        self.prepared_bytes += text.len();
        self.prepared.insert(name.to_owned(), text.into());
        Ok(())
    }

    /// A statement closed by the protocol's Close message.
    pub fn forget_prepared(&mut self, name: &str) {
        if let Some(text) = self.prepared.remove(name) {
            self.prepared_bytes -= text.len();
        }
    }

    /// What a ReadyForQuery message says of the transaction (`I`, `T`, `E`): call it on each, for
    /// it ends what held for one message only, and it is the truth about transactions.
    pub fn ready(&mut self, status: u8) {
        match status {
            b'I' => {
                if let Some(before) = self.before.take()
                    && before != self.lasting
                {
                    // It ended unseen: which settings came back is not known.
                    self.lasting.path = None;
                    self.lasting.temps = Arc::default();
                }
                self.end(None);
            }
            b'T' => self.apply(&Change::Begin),
            _ => {
                self.apply(&Change::Begin);
                self.failed = true;
            }
        }
    }

    /// Follows a statement that the server has answered: with success, or with an error.
    pub fn after(&mut self, statement: &Statement, success: bool) {
        if !success {
            self.failed = self.before.is_some();
            return;
        }
        for change in &statement.changes {
            self.apply(change);
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Set { name, value, local } => self.set(name, value, *local),
            Change::ResetAll => {
                for settings in [&mut self.now, &mut self.lasting] {
                    *settings = Settings { temps: settings.temps.clone(), ..self.initial.clone() };
                }
            }
            Change::Begin => {
                if self.before.is_none() {
                    self.before = Some(self.lasting.clone());
                    self.failed = false;
                }
            }
            Change::Commit if !self.failed => self.end(None),
            Change::Commit | Change::Rollback => {
                let before = self.before.clone();
                self.end(before);
            }
            Change::Savepoint(name) => {
                let (lasting, now) = (self.lasting.clone(), self.now.clone());
                self.savepoints.push((name.clone(), lasting, now));
            }
            Change::RollbackTo(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, ..)| known == name) {
                    self.savepoints.truncate(at + 1);
                    if let Some((_, lasting, now)) = self.savepoints.last() {
                        (self.lasting, self.now) = (lasting.clone(), now.clone());
                    }
                }
                self.failed = false;
            }
            Change::Release(name) => {
                if let Some(at) = self.savepoints.iter().rposition(|(known, ..)| known == name) {
                    self.savepoints.truncate(at);
                }
            }
            Change::Prepare(name, text) => {
                // `classify` has refused what does not fit.
                let _ = self.prepare(name, text);
            }
            Change::Deallocate(Some(name)) => self.forget_prepared(name),
            Change::Deallocate(None) => {
                self.prepared.clear();
                self.prepared_bytes = 0;
            }
            Change::Declare(name, statement) => {
                self.cursors.insert(name.clone(), statement.clone());
            }
            Change::Close(Some(name)) => {
                self.cursors.remove(name);
            }
            Change::Close(None) => self.cursors.clear(),
            Change::CreateTemp { name, on_commit_drop } => {
                Arc::make_mut(&mut self.now.temps).insert(name.clone());
                if !on_commit_drop {
                    Arc::make_mut(&mut self.lasting.temps).insert(name.clone());
                }
            }
            Change::ForgetTemps => {
                self.now.temps = Arc::default();
                self.lasting.temps = Arc::default();
            }
            Change::DiscardAll => self.discard(),
        }
    }

    fn discard(&mut self) {
        self.lasting = self.initial.clone();
        self.now = self.initial.clone();
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.cursors.clear();
    }

    fn end(&mut self, back_to: Option<Settings>) {
        if let Some(settings) = back_to {
            self.lasting = settings;
        }
        self.now = self.lasting.clone();
        self.before = None;
        self.failed = false;
        self.savepoints.clear();
    }

    fn set(&mut self, name: &str, value: &SetTo, local: bool) {
        // `SET LOCAL` outside of a transaction holds to the end of the message: see `ready`.
        let initial = &self.initial;
        let user = &self.user;
        let expand = |value: &String| if value == "$user" { user.clone() } else { value.clone() };
        let apply = |settings: &mut Settings| match (name, value) {
            ("search_path", SetTo::Default) => settings.path.clone_from(&initial.path),
            ("search_path", SetTo::Unknown) => settings.path = None,
            ("search_path", SetTo::Values(values)) => {
                settings.path = Some(Arc::new(values.iter().map(expand).collect()));
            }
            ("standard_conforming_strings", value) => {
                settings.strings_standard = match value {
                    SetTo::Default => initial.strings_standard,
                    SetTo::Values(values) => values.iter().all(|v| is_on(v)),
                    SetTo::Unknown => false,
                };
            }
            ("client_encoding", value) => {
                settings.utf8 = match value {
                    SetTo::Default => initial.utf8,
                    SetTo::Values(values) => values.iter().all(|v| is_utf8(v)),
                    SetTo::Unknown => false,
                };
            }
            _ => {}
        };
        apply(&mut self.now);
        if !local {
            apply(&mut self.lasting);
        }
    }

    /// The search path, if it is known.
    #[must_use]
    pub fn search_path(&self) -> Option<&[String]> {
        self.now.path.as_deref().map(Vec::as_slice)
    }

    /// The session's role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn now(&self) -> &Settings {
        &self.now
    }

    pub(crate) fn prepared(&self, name: &str) -> Option<&Arc<str>> {
        self.prepared.get(name)
    }

    pub(crate) fn cursor(&self, name: &str) -> Option<&Arc<Statement>> {
        self.cursors.get(name)
    }

    /// Whether there is room for what a statement makes.
    pub(crate) fn room(&self, change: &Change) -> Result<(), Refusal> {
        let (what, held) = match change {
            Change::Prepare(..) => ("prepared statements", self.prepared.len()),
            Change::Declare(..) => ("cursors", self.cursors.len()),
            Change::CreateTemp { .. } => ("temporary tables", self.now.temps.len()),
            Change::Savepoint(_) => ("savepoints", self.savepoints.len()),
            _ => return Ok(()),
        };
        if held >= MAX_HELD {
            return Err(full(what, MAX_HELD));
        }
        if let Change::Prepare(_, text) = change
            && self.prepared_bytes + text.len() > MAX_PREPARED
        {
            return Err(full("bytes of prepared statements", MAX_PREPARED));
        }
        Ok(())
    }
}

impl Settings {
    pub(crate) fn strings_standard(&self) -> bool {
        self.strings_standard
    }

    pub(crate) fn utf8(&self) -> bool {
        self.utf8
    }

    pub(crate) fn has_temp(&self, name: &str) -> bool {
        self.temps.contains(name)
    }
}

fn full(what: &'static str, most: usize) -> Refusal {
    Refusal::SessionFull { what, most }
}

/// The server's spellings of true (guc.c), and it takes unique prefixes of them.
fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "1"].iter().any(|word| word.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests;
