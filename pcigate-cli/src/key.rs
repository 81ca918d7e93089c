//! Verifier keys of ledgers: from a file, from text, or (which proves less) from the collector.

use std::path::Path;

use pcigate_ledger::{KeyError, VerifierKey};

use crate::failure::{Failure, remark};

/// Where a key came from: evidence is worth as much as its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The person who asks gave it.
    Given,
    /// A file beside the ledger: whoever can replace the ledger can replace it.
    Beside,
    /// The collector that is being checked named it.
    Collector,
}

impl Trust {
    /// `given`, `beside-ledger` or `collector`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Beside => "beside-ledger",
            Self::Collector => "collector",
        }
    }
}

/// The key a person gave: the text NAME+HASH+BASE64 itself or a file with it.
pub fn given(text: &str) -> Result<VerifierKey, Failure> {
    let path = Path::new(text);
    if path.exists() {
        return from_file(path);
    }
    VerifierKey::parse(text).map_err(|error| {
        let sentence = format!(
            "`{text}` is neither a file nor a verifier key NAME+HASH+BASE64: give one with --key"
        );
        Failure::because(sentence, error)
    })
}

/// A key in a file.
pub fn from_file(path: &Path) -> Result<VerifierKey, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let sentence =
            format!("cannot read the key {}: give a readable file with --key", path.display());
        Failure::because(sentence, error)
    })?;
    VerifierKey::parse(&text).map_err(|error: KeyError| {
        let sentence = format!(
            "{} does not hold a verifier key: it must be the collector's ledger.vkey",
            path.display()
        );
        Failure::because(sentence, error)
    })
}

/// `ledger.vkey` beside the directory, with a remark.
pub fn beside(ledger: &Path) -> Result<VerifierKey, Failure> {
    let path = ledger.join("..").join("ledger.vkey");
    if !path.exists() {
        return Err(Failure::input(format!(
            "no key to check the ledger with: give the collector's ledger.vkey with --key \
             ({} does not exist)",
            path.display()
        )));
    }
    let key = from_file(&path)?;
    remark(&format!(
        "checked with {}: whoever can replace the ledger can replace this key too, give a copy \
         you kept with --key",
        path.display()
    ));
    Ok(key)
}

/// The key the collector names, with a remark.
pub fn from_collector(text: &str) -> Result<VerifierKey, Failure> {
    let key = VerifierKey::parse(text).map_err(|error| {
        let sentence = "the collector names no usable verifier key: give one with --key";
        Failure::because(sentence, error)
    })?;
    remark(
        "checked with the key the collector names itself, which proves less: \
         give a copy you kept with --key",
    );
    Ok(key)
}
