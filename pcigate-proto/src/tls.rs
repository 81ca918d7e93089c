//! A TLS directory (`ca.pem`, `cert.pem`, `key.pem`) as the client side of a tonic channel.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Why a TLS directory cannot be used.
#[derive(Debug)]
pub struct TlsDirError {
    /// The file that cannot be read.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

impl std::fmt::Display for TlsDirError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot read {}: a TLS directory holds ca.pem, cert.pem and key.pem \
             (`pcigate-collector issue` makes one)",
            self.path.display()
        )
    }
}

impl std::error::Error for TlsDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Reads one file of a TLS directory.
///
/// # Errors
/// Names the file and the remedy.
pub fn read(dir: &Path, file: &str) -> Result<Vec<u8>, TlsDirError> {
    let path = dir.join(file);
    std::fs::read(&path).map_err(|source| TlsDirError { path, source })
}

/// The client side of mTLS: trusts `ca.pem` only, shows `cert.pem`.
///
/// # Errors
/// A file is missing or unreadable.
pub fn client(dir: &Path) -> Result<ClientTlsConfig, TlsDirError> {
    let ca = Certificate::from_pem(read(dir, "ca.pem")?);
    let identity = Identity::from_pem(read(dir, "cert.pem")?, read(dir, "key.pem")?);
    Ok(ClientTlsConfig::new().ca_certificate(ca).identity(identity))
}
