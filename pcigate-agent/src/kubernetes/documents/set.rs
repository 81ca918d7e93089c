//! Which documents of the API server are in force. Pure: events in, one set out.

use std::collections::{BTreeMap, HashSet};

use pcigate_policy::{
    document::{Document, Documents, ObjectName},
    mask::one_line,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::words::{Came, Kept, Key, Kind, Memory, Resolved, Row, Standing, Version};
use crate::kubernetes::reflector::{Answering, Event, Health};

/// Documents kept, of all namespaces and of one.
pub(super) const DOCUMENTS_MAX: usize = 4096;
const IN_NAMESPACE_MAX: usize = 512;
/// Bytes of one as JSON, and of all.
const BYTES_MAX: usize = 256 << 10;
const BYTES_IN_ALL_MAX: usize = 32 << 20;
/// Bytes of what is told of one.
const WHY_MAX: usize = 900;
/// Documents that found no place and are named.
const NAMED_MAX: usize = 64;
/// How often single versions that do not agree with the others give way to the ones before them;
/// then all do.
const ROUNDS: usize = 4;

struct Held {
    uid: String,
    created: String,
    accepted: bool,
    newest: Version,
    decoded: Result<Document, String>,
    good: Option<(Version, Document)>,
    /// In force while neither is.
    stand_in: Option<Document>,
}

#[derive(Default)]
pub(super) struct Store {
    held: BTreeMap<Key, Held>,
    bytes: usize,
    health: [Health; 3],
    known: [bool; 3],
    /// Found no place: name and why.
    unused: BTreeMap<Key, (i64, String)>,
    changed: bool,
    unkept: bool,
}

impl Store {
    /// Begins with what was known last.
    pub(super) fn remember(&mut self, memory: Memory) {
        self.known = memory.known;
        for kept in memory.documents.into_iter().take(DOCUMENTS_MAX) {
            let Kept { kind, name, uid, created, newest, good } = kept;
            self.bytes += newest.spec.len() + good.as_ref().map_or(0, |good| good.spec.len());
            let decoded = parse(kind, &name, &newest.spec);
            let good = good.and_then(|good| {
                let document = parse(kind, &name, &good.spec).ok()?;
                Some((good, document))
            });
            let spec = decoded.is_err().then(|| serde_json::from_str(&newest.spec).ok()).flatten();
            let stand_in = spec.and_then(|spec| Document::stand_in(kind.name(), &name, &spec));
            let held = Held { uid, created, accepted: false, newest, decoded, good, stand_in };
            self.held.insert((kind, name), held);
        }
        self.changed = true;
    }

    /// Takes in an object; its key.
    pub(super) fn take(
        &mut self,
        event: Event,
        kind: Kind,
        name: ObjectName,
        came: Came,
    ) -> String {
        let shown = name.to_string();
        let key = (kind, name);
        self.unused.remove(&key);
        if event == Event::Deleted {
            self.forget(&key);
            return shown;
        }
        let spec = came.spec.to_string();
        if let Some(held) = self.held.get_mut(&key)
            && held.uid == came.uid
            && held.newest.generation == came.generation
            && held.newest.spec == spec
        {
            held.accepted = came.accepted;
            return shown;
        }
        // Another object of the same name has no earlier version.
        let same = |held: &&Held| held.uid == came.uid;
        let before = self.held.get(&key).filter(same).and_then(|held| held.good.clone());
        let of_before = before.as_ref().map_or(0, |(version, _)| version.spec.len());
        let length = spec.len();
        self.forget(&key);
        if let Some(why) = self.no_place(&key, length + of_before) {
            self.leave_out(key, came, before, why);
            return shown;
        }
        let (decoded, spec) = if length > BYTES_MAX {
            let why = format!("it has {length} bytes, more than {BYTES_MAX}; divide it");
            let rest = whom_and_what(&came.spec).to_string();
            (Err(why), if rest.len() > BYTES_MAX { "null".to_owned() } else { rest })
        } else {
            (decode(kind, &key.1, &came.spec), spec)
        };
        let stand_in = decoded.is_err().then_some(&came.spec);
        let stand_in = stand_in.and_then(|spec| Document::stand_in(kind.name(), &key.1, spec));
        self.bytes += spec.len() + of_before;
        let newest = Version { generation: came.generation, spec };
        let Came { uid, created, accepted, .. } = came;
        let good = before;
        let held = Held { uid, created, accepted, newest, decoded, good, stand_in };
        self.held.insert(key, held);
        self.changed();
        shown
    }

    /// A version that finds no place: the one before it, which had one, stays.
    fn leave_out(&mut self, key: Key, came: Came, good: Option<(Version, Document)>, why: String) {
        self.changed();
        let Came { uid, generation, created, accepted, .. } = came;
        if good.is_some() {
            let newest = Version { generation, spec: "null".to_owned() };
            let of_good = good.as_ref().map_or(0, |(version, _)| version.spec.len());
            self.bytes += newest.spec.len() + of_good;
            let (decoded, stand_in) = (Err(why), None);
            let held = Held { uid, created, accepted, newest, decoded, good, stand_in };
            self.held.insert(key, held);
        } else if self.unused.len() < NAMED_MAX {
            self.unused.insert(key, (generation, why));
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(held) = self.held.remove(key) else { return };
        let good = held.good.map_or(0, |(version, _)| version.spec.len());
        self.bytes = self.bytes.saturating_sub(held.newest.spec.len() + good);
        self.changed();
    }

    fn no_place(&self, key: &Key, bytes: usize) -> Option<String> {
        let namespace = &key.1.namespace;
        let of_it = self.held.keys().filter(|(_, name)| name.namespace == *namespace).count();
        if self.held.len() >= DOCUMENTS_MAX {
            return Some(format!("there are more than {DOCUMENTS_MAX} documents"));
        }
        if of_it >= IN_NAMESPACE_MAX {
            return Some(format!("its namespace has more than {IN_NAMESPACE_MAX} documents"));
        }
        if self.bytes + bytes.min(2 * BYTES_MAX) > BYTES_IN_ALL_MAX {
            return Some(format!("all documents have more than {BYTES_IN_ALL_MAX} bytes"));
        }
        None
    }

    /// A list is complete: what it does not hold is deleted.
    pub(super) fn listed(&mut self, kind: Kind, keys: &[String]) {
        let listed: HashSet<&str> = keys.iter().map(String::as_str).collect();
        let is_gone = |(of, name): &Key| *of == kind && !listed.contains(name.to_string().as_str());
        let gone: Vec<Key> = self.held.keys().filter(|key| is_gone(key)).cloned().collect();
        gone.iter().for_each(|key| self.forget(key));
        self.unused.retain(|key, _| !is_gone(key));
        if let (Some(health), Some(known)) =
            (self.health.get_mut(kind as usize), self.known.get_mut(kind as usize))
        {
            if !*known {
                (self.changed, self.unkept) = (true, true);
            }
            (health.listed, *known) = (true, true);
        }
    }

    pub(super) fn heard(&mut self, kind: Kind, trouble: Option<String>) {
        if let Some(health) = self.health.get_mut(kind as usize) {
            health.heard(trouble);
        }
    }

    pub(super) fn is_listed(&self) -> bool {
        self.health.iter().all(|health| health.listed)
    }

    pub(super) fn answering(&self) -> Answering {
        Health::of(&self.health)
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is in force of all, together with the documents of files.
    ///
    /// Where two do not agree, what is in force counts, then what the nodes together could use,
    /// then the older one: nobody takes another's destination by a change of an old document.
    pub(super) fn resolve(&mut self, files: &Documents) -> Resolved {
        let mut reasons: BTreeMap<Key, String> = BTreeMap::new();
        let mut use_good: HashSet<Key> = HashSet::new();
        for (key, held) in &self.held {
            if let Err(why) = &held.decoded {
                reasons.insert(key.clone(), why.clone());
                use_good.insert(key.clone());
            }
        }
        let mut round = 0;
        let (documents, in_force) = loop {
            round += 1;
            let chosen = self.chosen(&use_good);
            let (keys, tried): (Vec<Key>, Vec<Document>) = chosen.into_iter().unzip();
            let (documents, refused) = files.with(&tried);
            let mut again = false;
            let mut in_force = BTreeMap::new();
            for ((key, document), why) in keys.into_iter().zip(tried).zip(refused) {
                match why {
                    None => drop(in_force.insert(key, document)),
                    Some(why) => {
                        let has_good = self.held.get(&key).is_some_and(|held| held.good.is_some());
                        again |= use_good.insert(key.clone()) && has_good;
                        reasons.entry(key).or_insert(why);
                    }
                }
            }
            if !again {
                break (documents, in_force);
            }
            if round >= ROUNDS {
                // What was in force together agrees.
                let all = self.held.iter().filter(|(_, held)| held.good.is_some());
                use_good.extend(all.map(|(key, _)| key.clone()));
            }
        };
        let rows = self.rows(&reasons, &in_force);
        for (key, held) in &mut self.held {
            let Ok(document) = &held.decoded else { continue };
            let is_good = held.good.as_ref().is_some_and(|(good, _)| *good == held.newest);
            if in_force.contains_key(key) && !reasons.contains_key(key) && !is_good {
                let old = held.good.as_ref().map_or(0, |(good, _)| good.spec.len());
                self.bytes = (self.bytes + held.newest.spec.len()).saturating_sub(old);
                held.good = Some((held.newest.clone(), document.clone()));
                self.unkept = true;
            }
        }
        Resolved { documents, is_known: self.known.iter().all(|known| *known), rows }
    }

    /// The version of each document that is tried, in the order in which they count.
    fn chosen(&self, use_good: &HashSet<Key>) -> Vec<(Key, Document)> {
        let mut ranked = Vec::new();
        for (key, held) in &self.held {
            let good = held.good.as_ref().map(|(_, document)| document);
            let newest = held.decoded.as_ref().ok().filter(|_| !use_good.contains(key));
            let chosen = newest.or(good).or(held.stand_in.as_ref());
            let Some(document) = chosen.cloned() else { continue };
            let is_new = good.is_none_or(|good| *good != document);
            let rank = (is_new, !held.accepted, held.created.as_str(), key);
            ranked.push((rank, document));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|((.., key), document)| (key.clone(), document)).collect()
    }

    fn rows(
        &self,
        reasons: &BTreeMap<Key, String>,
        in_force: &BTreeMap<Key, Document>,
    ) -> Vec<Row> {
        let row = |key: &Key, generation, hash, standing| {
            let (kind, name) = (key.0.name(), key.1.clone());
            Row { kind, name, generation, hash, standing }
        };
        let held = self.held.iter().map(|(key, held)| {
            let document = in_force.get(key);
            let hash = document.map(hash).unwrap_or_default();
            let standing = match reasons.get(key) {
                None => Standing::InForce,
                Some(why) => {
                    let instead = match (document, &held.good) {
                        (Some(_), Some((good, _))) => {
                            format!("generation {} stays in force", good.generation)
                        }
                        (Some(_), None) => {
                            "until it is corrected, what it speaks of is refused to all it selects"
                                .to_owned()
                        }
                        (None, _) => "nothing of it is in force".to_owned(),
                    };
                    Standing::Rejected(one_line(&format!("{instead}: {why}"), WHY_MAX))
                }
            };
            row(key, held.newest.generation, hash, standing)
        });
        let unused = self.unused.iter().map(|(key, (generation, why))| {
            let why = one_line(&format!("nothing of it is in force: {why}"), WHY_MAX);
            row(key, *generation, String::new(), Standing::Rejected(why))
        });
        held.chain(unused).collect()
    }

    /// What is to be kept in a file, if that is not in it yet.
    pub(super) fn take_unkept(&mut self) -> Option<Memory> {
        std::mem::take(&mut self.unkept).then(|| Memory {
            known: self.known,
            documents: self
                .held
                .iter()
                .map(|((kind, name), held)| Kept {
                    kind: *kind,
                    name: name.clone(),
                    uid: held.uid.clone(),
                    created: held.created.clone(),
                    newest: held.newest.clone(),
                    good: held.good.as_ref().map(|(version, _)| version.clone()),
                })
                .collect(),
        })
    }

    /// It could not be written.
    pub(super) fn unkept(&mut self) {
        self.unkept = true;
    }

    fn changed(&mut self) {
        (self.changed, self.unkept) = (true, true);
    }
}

fn parse(kind: Kind, name: &ObjectName, spec: &str) -> Result<Document, String> {
    let spec = serde_json::from_str(spec).map_err(|_| "it is damaged".to_owned())?;
    decode(kind, name, &spec)
}

fn decode(kind: Kind, name: &ObjectName, spec: &Value) -> Result<Document, String> {
    let made = Document::of_resource(kind.name(), name, spec);
    made.map_err(|mistakes| mistakes.to_string().replace('\n', "; "))
}

/// What a stand-in is made of: whom it selects, its mode, and which parts there are.
fn whom_and_what(spec: &Value) -> Value {
    let mut rest = serde_json::Map::new();
    for (name, value) in spec.as_object().into_iter().flatten() {
        let value = match name.as_str() {
            "selector" | "namespaceSelector" | "mode" => value.clone(),
            _ => Value::Object(serde_json::Map::new()),
        };
        rest.insert(name.clone(), value);
    }
    Value::Object(rest)
}

/// First bytes of the SHA-256 of its content.
fn hash(document: &Document) -> String {
    let digest = Sha256::digest(document.canonical().as_bytes());
    hex::encode(digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests;
