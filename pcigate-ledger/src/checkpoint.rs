//! Signed tree heads: C2SP tlog-checkpoint inside an Ed25519 signed-note.

use signed_note::{
    Note, Signer, StandardSigner, StandardVerifier, Verifier, VerifierList, is_key_name_valid,
};

use crate::merkle::Hash;

/// A tree head: what the log claims to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log, the same as the name of its key.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// RFC 6962 root of the tree.
    pub root: Hash,
}

/// Why the text of a key is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a usable log name.
    #[error(
        "`{name}` cannot be the name of a log: use a non-empty name without white space, control \
         characters or `+`, for example ledger.example.com/pci"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The text of a private key is malformed. The text itself is never shown.
    #[error(
        "the signing key is malformed: expected one line PRIVATE+KEY+NAME+HASH+BASE64 with an \
         Ed25519 key (C2SP signed-note)"
    )]
    Signing {
        /// What signed-note says.
        #[source]
        source: signed_note::SignerError,
    },
    /// The text of a verifier key is malformed.
    #[error(
        "`{text}` is not a verifier key: expected one line NAME+HASH+BASE64 with an Ed25519 key \
         (C2SP signed-note)"
    )]
    Verifier {
        /// The text as given.
        text: String,
        /// What signed-note says.
        #[source]
        source: signed_note::VerifierError,
    },
}

/// Why a signed checkpoint is refused.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("the checkpoint is not a signed note: text, an empty line, signature lines")]
    Malformed {
        /// What signed-note says.
        #[source]
        source: signed_note::NoteError,
    },
    /// No signature by the key, or a wrong one.
    #[error("the checkpoint has no valid signature by the key of {name}")]
    Signature {
        /// Name of the key.
        name: String,
        /// What signed-note says.
        #[source]
        source: signed_note::NoteError,
    },
    /// The signed text is not a checkpoint in canonical form.
    #[error("the signed text is not a checkpoint: expected origin, size and root, a line each")]
    Text,
    /// A checkpoint of another log.
    #[error("the checkpoint is of log {actual}, the key of log {expected}")]
    Origin {
        /// Name of the key.
        expected: String,
        /// Origin line.
        actual: String,
    },
}

/// The private key of a log. It has no `Debug`; its text is for the key file only.
pub struct SigningKey {
    signer: StandardSigner,
    text: String,
    verifier: VerifierKey,
}

impl SigningKey {
    /// Makes a new key for the log `origin`.
    ///
    /// # Errors
    /// The name cannot be the name of a log.
    pub fn generate(origin: &str) -> Result<Self, KeyError> {
        if !is_key_name_valid(origin) || origin.chars().any(char::is_control) {
            return Err(KeyError::Name { name: origin.to_owned() });
        }
        let (private, public) = signed_note::generate_key(&mut rand_core::OsRng, origin);
        Self::build(&private, &public)
    }

    /// Reads the text form of a key (trailing white space is ignored) and of its public half.
    ///
    /// # Errors
    /// One of the two is malformed.
    pub fn parse(private: &str, public: &str) -> Result<Self, KeyError> {
        Self::build(private.trim_end(), public)
    }

    fn build(private: &str, public: &str) -> Result<Self, KeyError> {
        let signer = StandardSigner::new(private).map_err(|source| KeyError::Signing { source })?;
        let verifier = VerifierKey::parse(public)?;
        // The key id is a hash over name and public key, checked by both parsers.
        let same = signer.name() == verifier.name()
            && signer.key_id() == Verifier::key_id(&verifier.verifier);
        if !same {
            let source = signed_note::VerifierError::Id;
            return Err(KeyError::Verifier { text: verifier.text, source });
        }
        Ok(Self { signer, text: private.to_owned(), verifier })
    }

    /// The signed-note private key text, for a file only its owner can read.
    #[must_use]
    pub fn private_text(&self) -> &str {
        &self.text
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a tree head; the origin is the name of the key.
    ///
    /// # Errors
    /// Signing failed.
    pub fn sign(&self, size: u64, root: &Hash) -> Result<Vec<u8>, NoteError> {
        let root = tlog_tiles::Hash(*root);
        let checkpoint = tlog_tiles::Checkpoint::new(self.signer.name(), size, root, "")
            .map_err(|_| NoteError::Text)?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[])
            .map_err(|source| NoteError::Malformed { source })?;
        note.add_sigs(&[&self.signer]).map_err(|source| NoteError::Malformed { source })?;
        Ok(note.to_bytes())
    }
}

/// The public key of a log.
#[derive(Clone)]
pub struct VerifierKey {
    verifier: StandardVerifier,
    text: String,
}

impl VerifierKey {
    /// Reads `NAME+HASH+BASE64` (trailing white space is ignored).
    ///
    /// # Errors
    /// The text is not an Ed25519 verifier key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim_end();
        let verifier = StandardVerifier::new(text)
            .map_err(|source| KeyError::Verifier { text: text.to_owned(), source })?;
        Ok(Self { verifier, text: text.to_owned() })
    }

    /// Name of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// Checks the signature of a checkpoint and reads it. Further signatures by other keys
    /// (witnesses) are allowed and ignored.
    ///
    /// # Errors
    /// No valid signature by this key, another log, or a text not in canonical form.
    pub fn open(&self, note: &[u8]) -> Result<Checkpoint, NoteError> {
        let note = Note::from_bytes(note).map_err(|source| NoteError::Malformed { source })?;
        let known = VerifierList::new(vec![Box::new(self.verifier.clone())]);
        note.verify(&known)
            .map_err(|source| NoteError::Signature { name: self.name().to_owned(), source })?;
        let text = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|_| NoteError::Text)?;
        if text.to_bytes() != note.text() || !text.extension().is_empty() {
            return Err(NoteError::Text);
        }
        if text.origin() != self.name() {
            return Err(NoteError::Origin {
                expected: self.name().to_owned(),
                actual: text.origin().to_owned(),
            });
        }
        let root = text.hash().0;
        Ok(Checkpoint { origin: text.origin().to_owned(), size: text.size(), root })
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    #[test]
    fn a_signed_checkpoint_opens_with_its_key_only() {
        let key = SigningKey::generate("ledger.example/a").unwrap();
        let note = key.sign(7, &leaf_hash(b"x")).unwrap();
        let opened = key.verifier().open(&note).unwrap();
        let wanted =
            Checkpoint { origin: "ledger.example/a".into(), size: 7, root: leaf_hash(b"x") };
        assert_eq!(opened, wanted);
        let other = SigningKey::generate("ledger.example/a").unwrap();
        assert!(matches!(other.verifier().open(&note), Err(NoteError::Signature { .. })));
    }

    #[test]
    fn every_flipped_bit_of_a_checkpoint_is_found() {
        let key = SigningKey::generate("log").unwrap();
        let note = key.sign(1_000, &leaf_hash(b"x")).unwrap();
        for bit in 0..note.len() * 8 {
            let mut changed = note.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.verifier().open(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn keys_survive_their_text_form() {
        let key = SigningKey::generate("log").unwrap();
        let public = format!("{}\n", key.verifier());
        let again = SigningKey::parse(&format!("{}\n", key.private_text()), &public).unwrap();
        let note = again.sign(0, &crate::empty_root()).unwrap();
        assert_eq!(VerifierKey::parse(&public).unwrap().open(&note).unwrap().size, 0);
    }

    #[test]
    fn a_private_key_with_another_public_key_is_refused() {
        let (a, b) = (SigningKey::generate("log").unwrap(), SigningKey::generate("log").unwrap());
        let mixed = SigningKey::parse(a.private_text(), &b.verifier().to_string());
        assert!(matches!(mixed, Err(KeyError::Verifier { .. })));
    }

    #[test]
    fn a_name_that_breaks_the_note_format_is_refused() {
        for name in ["", "a b", "a+b", "a\nb", "a\u{7}b"] {
            assert!(matches!(SigningKey::generate(name), Err(KeyError::Name { .. })), "{name:?}");
        }
    }
}
