//! What this node has seen of the ledger: it keeps the last checkpoint it verified, and raises its
//! voice when the next one does not extend it.
//!
//! The ledger's key is pinned at first contact. A checkpoint that is not an extension is never
//! kept, so the alarm stays until the ledger shows what it showed before, or somebody deletes the
//! witness directory. It is told with its first connection, and again after [`ALARM_AGAIN`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pcigate_ledger::{Checkpoint, Hash, VerifierKey, check_consistency};
use pcigate_proto::Ack;

/// The kept checkpoint is written at most this often: an older one proves the same, later.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How often an alarm that goes on is recorded: seldom enough not to fill the spool by itself.
const ALARM_AGAIN: Duration = Duration::from_secs(600);

/// What this node knows of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WitnessState {
    /// Nothing seen yet.
    #[default]
    Nothing,
    /// The ledger extends everything this node has seen.
    Verified {
        /// Leaves in the last verified tree.
        tree_size: u64,
    },
    /// The ledger contradicts what this node has seen.
    Alarm {
        /// Leaves in the last verified tree.
        tree_size: u64,
        /// What is wrong.
        message: String,
    },
}

/// Why the files of an earlier run cannot be used, or written.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: stateDir must be writable by the agent", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The pinned key is malformed.
    #[error(
        "{} does not hold a verifier key: restore it, or delete the directory it is in to trust \
         the collector's ledger anew", path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pcigate_ledger::KeyError,
    },
    /// The kept checkpoint does not verify.
    #[error(
        "{} is not signed by the pinned ledger key: restore it, or delete the directory it is in \
         to trust the collector's ledger anew", path.display()
    )]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: pcigate_ledger::NoteError,
    },
}

/// A change worth a coverage record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The ledger contradicts what this node has seen.
    Alarm(String),
    /// It no longer does, or witnessing began or is impaired.
    Notice(String),
}

#[derive(Debug)]
pub(super) struct Witness {
    dir: PathBuf,
    key: Option<VerifierKey>,
    kept: Option<Kept>,
    alarm: Option<String>,
    /// When the alarm was told last.
    told: Option<Instant>,
    /// Proofs of this stream start from a checkpoint that was not kept.
    lost_track: bool,
    saved: Option<Instant>,
    unsaved: bool,
}

#[derive(Debug)]
struct Kept {
    note: Vec<u8>,
    checkpoint: Checkpoint,
}

impl Witness {
    pub(super) fn load(dir: &Path) -> Result<Self, WitnessError> {
        std::fs::create_dir_all(dir).map_err(|source| io("make", dir, source))?;
        let key_path = dir.join("ledger.vkey");
        let key = match read(&key_path)? {
            None => None,
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let wrong = |source| WitnessError::Key { path: key_path.clone(), source };
                Some(VerifierKey::parse(&text).map_err(wrong)?)
            }
        };
        let path = dir.join("checkpoint");
        let kept = match (&key, read(&path)?) {
            (Some(key), Some(note)) => {
                let wrong = |source| WitnessError::Note { path: path.clone(), source };
                let checkpoint = key.open(&note).map_err(wrong)?;
                Some(Kept { note, checkpoint })
            }
            // Without a key there is nothing to hold against a checkpoint.
            _ => None,
        };
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            key,
            kept,
            alarm: None,
            told: None,
            lost_track: false,
            saved: None,
            unsaved: false,
        })
    }

    pub(super) fn state(&self) -> WitnessState {
        let tree_size = self.kept.as_ref().map_or(0, |kept| kept.checkpoint.size);
        match &self.alarm {
            Some(message) => WitnessState::Alarm { tree_size, message: message.clone() },
            None if self.kept.is_some() => WitnessState::Verified { tree_size },
            None => WitnessState::Nothing,
        }
    }

    /// A new stream: proofs start from the tree size returned here.
    pub(super) fn begin_stream(&mut self) -> u64 {
        self.lost_track = false;
        self.kept.as_ref().map_or(0, |kept| kept.checkpoint.size)
    }

    /// Looks at the checkpoint of an Ack. Tells of changes only.
    pub(super) fn check(&mut self, ack: &Ack) -> Option<Change> {
        if self.lost_track {
            return None;
        }
        match self.verify(ack) {
            Err(message) => {
                self.lost_track = true;
                let again = self.told.is_none_or(|told| told.elapsed() >= ALARM_AGAIN);
                let is_new = self.alarm.is_none() || again;
                self.alarm = Some(message.clone());
                is_new.then(|| {
                    self.told = Some(Instant::now());
                    Change::Alarm(message)
                })
            }
            Ok(None) => None,
            Ok(Some(kept)) => {
                let size = kept.checkpoint.size;
                let is_first = self.kept.is_none();
                self.kept = Some(kept);
                self.unsaved = true;
                let saved = self.save_now_and_then();
                let healed = self.alarm.take().is_some();
                match saved {
                    Err(error) => Some(Change::Notice(format!("{error}"))),
                    Ok(()) if healed => Some(Change::Notice(format!(
                        "the collector's log extends what this node has seen again: {size} leaves"
                    ))),
                    Ok(()) if is_first => Some(Change::Notice(format!(
                        "this node witnesses the collector's log from {size} leaves on, key {}",
                        self.key.as_ref().map(VerifierKey::to_string).unwrap_or_default()
                    ))),
                    Ok(()) => None,
                }
            }
        }
    }

    /// Writes the kept checkpoint if it is not on disk yet.
    pub(super) fn save(&mut self) -> Result<(), WitnessError> {
        let Some(kept) = self.kept.as_ref().filter(|_| self.unsaved) else { return Ok(()) };
        let path = self.dir.join("checkpoint");
        crate::atomic_file::replace(&path, &kept.note)
            .map_err(|source| io("write", &path, source))?;
        self.saved = Some(Instant::now());
        self.unsaved = false;
        Ok(())
    }

    fn save_now_and_then(&mut self) -> Result<(), WitnessError> {
        if self.saved.is_some_and(|saved| saved.elapsed() < SAVE_EVERY) {
            Ok(())
        } else {
            self.save()
        }
    }

    /// The checkpoint of an Ack, if it is to be kept; `None` for an empty log.
    fn verify(&mut self, ack: &Ack) -> Result<Option<Kept>, String> {
        if !ack.verifier_key.is_empty() {
            self.pin(&ack.verifier_key)?;
        }
        let seen = self.kept.as_ref();
        if ack.checkpoint.is_empty() {
            return match seen.filter(|kept| kept.checkpoint.size > 0) {
                None => Ok(None),
                Some(kept) => Err(contradiction(kept, "no checkpoint at all")),
            };
        }
        let Some(key) = &self.key else {
            return Err("the collector shows a checkpoint but not the key of its log".to_owned());
        };
        let checkpoint = key
            .open(&ack.checkpoint)
            .map_err(|error| format!("a checkpoint of the collector does not verify: {error}"))?;
        let offered = Kept { note: ack.checkpoint.clone(), checkpoint };
        if let Some(seen) = seen {
            extends(seen, &offered.checkpoint, &ack.consistency_proof)
                .map_err(|why| contradiction(seen, &format!("{}: {why}", offered.shown())))?;
        }
        Ok(Some(offered))
    }

    fn pin(&mut self, text: &str) -> Result<(), String> {
        let offered = VerifierKey::parse(text)
            .map_err(|error| format!("the collector's log has no usable key: {error}"))?;
        match &self.key {
            Some(key) if key.to_string() == offered.to_string() => Ok(()),
            Some(key) => Err(format!(
                "the key of the collector's log changed from {key} to {offered}: if the log was \
                 replaced on purpose, delete {} on this node",
                self.dir.display()
            )),
            None => {
                let path = self.dir.join("ledger.vkey");
                crate::atomic_file::replace(&path, format!("{offered}\n").as_bytes())
                    .map_err(|error| format!("cannot keep the key of the log: {error}"))?;
                self.key = Some(offered);
                Ok(())
            }
        }
    }
}

impl Kept {
    /// Size and root as the checkpoint spells them (base64: masking leaves that alone).
    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.note);
        let root = text.lines().nth(2).unwrap_or_default();
        format!("{} leaves with root {root}", self.checkpoint.size)
    }
}

fn extends(seen: &Kept, offered: &Checkpoint, proof: &[Vec<u8>]) -> Result<(), String> {
    let proof: Option<Vec<Hash>> =
        proof.iter().map(|hash| Hash::try_from(hash.as_slice()).ok()).collect();
    let proof = proof.ok_or("a hash of the proof is not 32 bytes long")?;
    let old = &seen.checkpoint;
    check_consistency(old.size, &old.root, offered.size, &offered.root, &proof)
        .map_err(|error| error.to_string())
}

fn contradiction(seen: &Kept, offered: &str) -> String {
    format!(
        "the collector's log does not extend what this node has seen: seen {}, now shown {offered}",
        seen.shown()
    )
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, WitnessError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io("read", path, source)),
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> WitnessError {
    WitnessError::Io { action, path: path.to_owned(), source }
}
