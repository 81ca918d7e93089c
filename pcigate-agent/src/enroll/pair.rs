//! A certificate with its key: how long it counts, and where it is kept.
//!
//! `cert.pem` and `key.pem` are links through `.current` to a directory of their own, and changing
//! that link exchanges both at once: a crash leaves the old pair or the new one.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use pcigate_proto::tls::{self, TlsDirError};
use rand_core::{OsRng, RngCore};
use rcgen::{KeyPair, PublicKeyData};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use x509_parser::{pem::parse_x509_pem, prelude::X509Certificate};
use zeroize::Zeroizing;

use crate::{atomic_file, exporter};

/// The link to the pair in use.
const CURRENT: &str = ".current";
/// How directories of pairs begin.
const PAIR: &str = ".pair-";

/// A certificate with its key.
pub(super) struct Pair {
    ca: String,
    cert: String,
    key: Zeroizing<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// When it is renewed.
    due: SystemTime,
}

/// How a certificate stands by this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts, and need not be renewed before `left`.
    Good { left: Duration },
    /// It counts, and is to be renewed.
    Due,
    /// It counts no longer.
    Expired,
    /// It does not count yet: the clock was set back.
    NotYet,
}

impl Standing {
    /// What the certificate does.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Good { .. } | Self::Due => "is valid",
            Self::Expired => "has expired",
            Self::NotYet => "is not valid yet",
        }
    }

    /// Whether words are those of trouble.
    pub(super) fn is_trouble(words: &str) -> bool {
        words != Self::Due.words()
    }
}

impl Pair {
    /// Puts together what was issued.
    ///
    /// # Errors
    /// What is wrong with it: not for this node, or not for this key.
    pub(super) fn new(
        ca: String,
        cert: String,
        key: Zeroizing<String>,
        node: &str,
    ) -> Result<Self, String> {
        let (_, pem) =
            parse_x509_pem(cert.as_bytes()).map_err(|_| "it is no certificate".to_owned())?;
        let parsed = pem.parse_x509().map_err(|_| "it is no certificate".to_owned())?;
        let named = exporter::node_of(cert.as_bytes());
        if named.as_deref() != Some(node) {
            return Err(format!(
                "it is for the node `{}`, and this one is `{node}` (nodeName)",
                named.unwrap_or_default()
            ));
        }
        let own = KeyPair::from_pem(&key).map_err(|_| "its key cannot be read".to_owned())?;
        if own.subject_public_key_info() != parsed.public_key().raw {
            return Err("it belongs to another key".to_owned());
        }
        let (not_before, not_after) = validity(&parsed);
        let life = not_after.duration_since(not_before).unwrap_or_default();
        // Up to a twentieth earlier, so that nodes do not come together.
        let early = f64::from(OsRng.next_u32()) / f64::from(u32::MAX) / 20.0;
        let due = not_before + life.mul_f64(2.0 / 3.0 - early);
        Ok(Self { ca, cert, key, not_before, not_after, due })
    }

    /// The pair in a directory; `ca_file` is what counts for the collector's certificate.
    pub(super) fn read(dir: &Path, ca_file: &Path, node: &str) -> Result<Self, String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "it is no PEM".to_owned());
        let file = |name| tls::read(dir, name).map_err(|error: TlsDirError| error.to_string());
        let ca = fs::read_to_string(ca_file)
            .map_err(|error| format!("cannot read {}: {error}", ca_file.display()))?;
        let key = Zeroizing::new(text(file("key.pem")?)?);
        Self::new(ca, text(file("cert.pem")?)?, key, node)
    }

    /// The client's side of mTLS with it.
    pub(super) fn tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.cert, self.key.as_bytes()))
    }

    /// How it stands at `now`.
    pub(super) fn standing(&self, now: SystemTime) -> Standing {
        if now >= self.not_after {
            return Standing::Expired;
        }
        if now < self.not_before {
            return Standing::NotYet;
        }
        match self.due.duration_since(now) {
            Ok(left) if !left.is_zero() => Standing::Good { left },
            _ => Standing::Due,
        }
    }

    /// Puts it into a TLS directory in place of the one there; durable on return.
    pub(super) fn keep(&self, dir: &Path) -> io::Result<()> {
        atomic_file::make_dir(dir).map_err(|(error, _)| error)?;
        let name = format!("{PAIR}{:016x}", OsRng.next_u64());
        let own = dir.join(&name);
        fs::DirBuilder::new().mode(0o700).create(&own)?;
        atomic_file::replace(&own.join("cert.pem"), self.cert.as_bytes())?;
        atomic_file::replace(&own.join("key.pem"), self.key.as_bytes())?;
        atomic_file::replace(&dir.join("ca.pem"), self.ca.as_bytes())?;
        link(dir, &name, CURRENT)?;
        for file in ["cert.pem", "key.pem"] {
            link(dir, &format!("{CURRENT}/{file}"), file)?;
        }
        fs::File::open(dir)?.sync_all()?;
        for entry in fs::read_dir(dir)?.flatten() {
            let other = entry.file_name();
            let is_pair = other.to_str().is_some_and(|other| other.starts_with(PAIR));
            if is_pair && other.to_str() != Some(&name) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Makes `name` in `dir` a link to `target`, in place of whatever it was.
fn link(dir: &Path, target: &str, name: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &new)?;
    fs::rename(&new, dir.join(name))
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        SystemTime::UNIX_EPOCH + seconds
    };
    let validity = certificate.validity();
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()))
}

#[cfg(test)]
mod tests;
