//! The key of the log: `ledger.key` (0600) and `ledger.vkey`, made once.

use std::{io, path::Path};

use pcigate_ledger::SigningKey;

use super::{
    OpenError,
    files::{self, FileError},
};

/// Reads the key pair, or makes it where there is no ledger yet.
pub fn open(state_dir: &Path, origin: &str) -> Result<SigningKey, OpenError> {
    let (private_path, public_path) = (state_dir.join("ledger.key"), state_dir.join("ledger.vkey"));
    let wrong = |source| OpenError::Key { path: private_path.display().to_string(), source };
    let key = match (read(&private_path)?, read(&public_path)?) {
        (Some(private), Some(public)) => SigningKey::parse(&private, &public).map_err(wrong)?,
        (Some(_), None) => return Err(missing(&public_path, &private_path)),
        (None, _) if state_dir.join("ledger/checkpoint").exists() => {
            return Err(missing(&private_path, &state_dir.join("ledger/checkpoint")));
        }
        // A public key alone is left over from a crash while making the pair.
        (None, _) => {
            let key = SigningKey::generate(origin).map_err(wrong)?;
            files::replace(&public_path, format!("{}\n", key.verifier()).as_bytes(), 0o644)?;
            files::replace(&private_path, format!("{}\n", key.private_text()).as_bytes(), 0o600)?;
            key
        }
    };
    if key.verifier().name() != origin {
        return Err(OpenError::Origin {
            dir: state_dir.display().to_string(),
            origin: origin.to_owned(),
            actual: key.verifier().name().to_owned(),
        });
    }
    Ok(key)
}

/// The content of a file, if it exists.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("read", path, source)),
    }
}

fn missing(missing: &Path, present: &Path) -> OpenError {
    let (missing, present) = (missing.display().to_string(), present.display().to_string());
    OpenError::Missing { missing, present }
}
