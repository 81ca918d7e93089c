//! The node this agent may speak for: the name in its own certificate.

use std::path::{Path, PathBuf};

use pcigate_proto::spiffe::{self, Identity};
use pcigate_proto::tls::{self, TlsDirError};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// Why a certificate does not name a node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The TLS directory is incomplete.
    #[error("the TLS directory cannot be used")]
    Dir {
        /// Which file.
        #[source]
        source: TlsDirError,
    },
    /// Not a certificate.
    #[error("{} does not hold a PEM certificate: have one issued for this node", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate, but not a node's.
    #[error(
        "{} is not a node's certificate: it needs exactly one SAN URI \
         spiffe://TRUST-DOMAIN/node/NAME, it has {found}", path.display()
    )]
    NotANode {
        /// The file.
        path: PathBuf,
        /// What it has instead.
        found: String,
    },
}

/// The node named by `cert.pem` of a TLS directory. Records must carry this name: the collector
/// accepts no other from this certificate.
///
/// # Errors
/// The file is missing, malformed, or not a node's certificate.
pub fn node_name_of(tls_dir: &Path) -> Result<String, IdentityError> {
    let pem = tls::read(tls_dir, "cert.pem").map_err(|source| IdentityError::Dir { source })?;
    let path = tls_dir.join("cert.pem");
    let uris = uris(&pem).ok_or_else(|| IdentityError::Certificate { path: path.clone() })?;
    match uris.as_slice() {
        [uri] => match spiffe::parse(uri) {
            Ok(Identity::Node(name)) => Ok(name),
            Ok(Identity::Person { .. }) | Err(_) => {
                Err(IdentityError::NotANode { path, found: format!("`{uri}`") })
            }
        },
        [] => Err(IdentityError::NotANode { path, found: "none".to_owned() }),
        several => Err(IdentityError::NotANode { path, found: several.len().to_string() }),
    }
}

/// The node named by a certificate (PEM), where it names one.
pub(crate) fn node_of(pem: &[u8]) -> Option<String> {
    match uris(pem)?.as_slice() {
        [uri] => match spiffe::parse(uri) {
            Ok(Identity::Node(name)) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// The SAN URIs of the first certificate.
fn uris(pem: &[u8]) -> Option<Vec<String>> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    if pem.label != "CERTIFICATE" {
        return None;
    }
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(
        names
            .map(|names| names.value.general_names.iter().filter_map(uri).collect())
            .unwrap_or_default(),
    )
}
