//! The authority of enrolment: signs certificates of nodes, nothing else.
//!
//! Its key is made by the collector, lies in `stateDir/enroll` (root only) and never leaves it. The
//! collector believes its certificates of nodes only (`certificates/clients.rs`), so it is not the
//! authority that issues for people, whose key stays off the collector.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    CertificateSigningRequestParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::issue::{self, Holder, IssueError};

/// What the authority calls itself; `pcigate-collector issue` uses another name.
const NAME: &str = "pcigate node CA";
/// Largest request taken, bytes; one for a P-256 key has 250.
const CSR_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a serial number (RFC 5280: at most 20).
const SERIAL_BYTES: usize = 16;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its files cannot be made or used.
    #[error("the authority of enrolment in {dir} cannot be used")]
    Files {
        /// Where it is.
        dir: String,
        /// Why.
        #[source]
        source: Box<IssueError>,
    },
    /// Its files cannot be put in place.
    #[error("cannot put the authority of enrolment into {dir}")]
    Place {
        /// Where it should be.
        dir: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its certificate is none.
    #[error("{dir}/ca.pem holds no certificate: restore it, or remove the directory for a new one")]
    Certificate {
        /// Where it is.
        dir: String,
    },
}

/// Why a request for a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too large.
    #[error("the request has more than {CSR_BYTES_MAX} bytes")]
    Large,
    /// Not a request, or its signature is wrong.
    #[error("it is no PKCS#10 request signed by the key it is for")]
    Malformed,
    /// A key we do not sign.
    #[error("its key is of another kind than ECDSA P-256, P-384 or Ed25519")]
    Key,
    /// The node's name cannot stand in a certificate.
    #[error("the node's name cannot stand in a certificate")]
    Name,
}

/// A certificate that was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) der: Vec<u8>,
    /// In hex.
    pub(super) serial: String,
    pub(super) sha256: [u8; 32],
    pub(super) not_after_unix_nano: u64,
}

/// A request whose signature is right.
pub(super) struct Asked(CertificateSigningRequestParams);

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    trust_domain: String,
    lifetime: Duration,
}

impl Authority {
    /// Opens the one in `state_dir`; made on first use, whole or not at all.
    ///
    /// # Errors
    /// Its files cannot be made or used.
    pub fn open(
        state_dir: &Path,
        trust_domain: &str,
        lifetime: Duration,
    ) -> Result<Self, AuthorityError> {
        let dir = state_dir.join("enroll");
        let shown = || dir.display().to_string();
        let files = |source| AuthorityError::Files { dir: shown(), source: Box::new(source) };
        if !dir.exists() {
            make(&dir).map_err(|failed| match failed {
                Failed::Issue(source) => files(source),
                Failed::Place(source) => AuthorityError::Place { dir: shown(), source },
            })?;
        }
        let (pem, issuer) = issue::authority(&dir, NAME).map_err(files)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        let certificate = certificate.map_err(|_| AuthorityError::Certificate { dir: shown() })?;
        Ok(Self { issuer, certificate, trust_domain: trust_domain.to_owned(), lifetime })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for the key of `asked` and the node `name`; whatever else was asked for does
    /// not count.
    pub(super) fn issue(&self, asked: &Asked, name: &str) -> Result<Issued, CsrError> {
        let holder = Holder::Node(name.to_owned());
        let mut params = issue::params(&holder, &self.trust_domain, self.lifetime)
            .map_err(|_| CsrError::Name)?;
        let serial = serial(asked.key());
        params.serial_number = Some(SerialNumber::from(serial.clone()));
        let not_after = params.not_after.unix_timestamp_nanos();
        let Asked(CertificateSigningRequestParams { public_key, .. }) = asked;
        let signed = params.signed_by(public_key, &self.issuer).map_err(|_| CsrError::Key)?;
        let der = signed.der().to_vec();
        Ok(Issued {
            serial: hex::encode(serial),
            sha256: Sha256::digest(&der).into(),
            der,
            not_after_unix_nano: u64::try_from(not_after).unwrap_or_default(),
        })
    }
}

impl Asked {
    /// Reads a request (DER) and checks that who sends it has the key.
    pub(super) fn read(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > CSR_BYTES_MAX {
            return Err(CsrError::Large);
        }
        let der = CertificateSigningRequestDer::from(der);
        let asked =
            CertificateSigningRequestParams::from_der(&der).map_err(|_| CsrError::Malformed)?;
        let known = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !known.contains(&asked.public_key.algorithm()) {
            return Err(CsrError::Key);
        }
        Ok(Self(asked))
    }

    fn key(&self) -> &[u8] {
        rcgen::PublicKeyData::der_bytes(&self.0.public_key)
    }
}

enum Failed {
    Issue(IssueError),
    Place(std::io::Error),
}

/// A crash in between leaves a directory of another name, which the next start makes anew.
fn make(dir: &Path) -> Result<(), Failed> {
    let making: PathBuf = dir.with_extension("making");
    if making.exists() {
        std::fs::remove_dir_all(&making).map_err(Failed::Place)?;
    }
    issue::authority(&making, NAME).map_err(Failed::Issue)?;
    let place = || {
        std::fs::File::open(&making)?.sync_all()?;
        std::fs::rename(&making, dir)?;
        std::fs::File::open(dir.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    place().map_err(Failed::Place)
}

/// A number that no two certificates of one key and moment share; positive, as RFC 5280 wants it.
fn serial(key: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let digest = Sha256::new().chain_update(key).chain_update(now.as_nanos().to_be_bytes());
    let mut serial: Vec<u8> = digest.finalize().into_iter().take(SERIAL_BYTES).collect();
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    serial
}

#[cfg(test)]
mod tests;
