//! The file of `--settings`: what is masked beyond card data, and the key of fingerprints.

use std::fs;
use std::path::Path;

use pcigate_policy::document::{FingerprintRef, Masking};
use pcigate_policy::mask::{FingerprintKey, Masker};

use crate::failure::Failure;

/// Longest file of settings, bytes.
const BYTES_MAX: u64 = 1 << 20;
const KEY_BYTES: usize = 32;

/// How to mask, and how fingerprints are named.
pub struct Set {
    /// Masks as the file says.
    pub masker: Masker,
    /// Says which key made the fingerprints; nothing = there are none.
    pub key: Option<String>,
}

impl Set {
    /// Card data alone.
    pub fn standard() -> Self {
        Self { masker: Masker::default(), key: None }
    }

    /// As a file says.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let text = read(path, BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        let text = text.map_err(|why| {
            Failure::because(format!("cannot read {name}: give --settings a file"), why)
        })?;
        let (masking, key) = Masking::read(&name, &text).map_err(|mistakes| {
            let sentence = format!("{name} cannot be used: correct these fields");
            Failure::because(sentence, mistakes.to_string())
        })?;
        let mut settings = masking.settings();
        settings.fingerprint = key.as_ref().map(fingerprint).transpose()?;
        let masker = Masker::new(settings).map_err(|error| {
            Failure::because(format!("{name} cannot be used: mask less"), error)
        })?;
        Ok(Self { masker, key: key.map(|key| key.id) })
    }
}

/// 32 bytes, or 64 hexadecimal digits and perhaps a line end.
fn fingerprint(key: &FingerprintRef) -> Result<FingerprintKey, Failure> {
    let FingerprintRef { id, key_file } = key;
    let made = "make one with `head -c 32 /dev/urandom`";
    let bytes = read(Path::new(key_file), 1024).map_err(|why| {
        let sentence = format!("cannot read {key_file} (fingerprint.keyFile): {made}");
        Failure::because(sentence, why)
    })?;
    let decoded = hex::decode(bytes.trim_ascii()).unwrap_or(bytes);
    let key = <[u8; KEY_BYTES]>::try_from(decoded).map_err(|_| {
        Failure::input(format!(
            "{key_file} (fingerprint.keyFile) holds neither 32 bytes nor 64 hexadecimal digits: \
             {made}"
        ))
    })?;
    Ok(FingerprintKey { id: id.clone(), key })
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > most {
        return Err(format!("it has {length} bytes, more than {most}"));
    }
    fs::read(path).map_err(|error| error.to_string())
}
