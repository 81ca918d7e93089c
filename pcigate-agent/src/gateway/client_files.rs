//! The files a Target names for its clients: certificate and key towards them, keys of tokens. Read
//! for each connection, so that what was exchanged counts at once.

use std::{fs, io, io::Read, sync::Arc};

use pcigate_gateway::{Tokens, TokensError, tls};
use pcigate_policy::document::{CertificateRef, Target};
use rustls::ServerConfig;
use zeroize::Zeroizing;

/// Bytes of one of these files.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is in them; nothing where the Target names none.
#[derive(Default)]
pub(super) struct ClientFiles {
    /// Certificate and key, both PEM.
    pub tls: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The key set for tokens.
    pub jwks: Option<Vec<u8>>,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientFilesError {
    #[error("cannot read {path} (Target {target}, {field})")]
    Unreadable {
        target: String,
        field: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "Target {target} says clientTls.secretRef, which is not read yet: use certFile and keyFile"
    )]
    Secret { target: String },
    #[error("TLS towards clients of Target {target} cannot be set up")]
    Tls {
        target: String,
        #[source]
        source: tls::TlsError,
    },
    #[error("tokens for Target {target} cannot be verified")]
    Tokens {
        target: String,
        #[source]
        source: TokensError,
    },
}

impl ClientFiles {
    /// Reads them.
    pub(super) fn read(target: &Target) -> Result<Self, ClientFilesError> {
        let read = |field, path: &str| {
            bounded(path).map_err(|source| ClientFilesError::Unreadable {
                target: target.name.to_string(),
                field,
                path: path.to_owned(),
                source,
            })
        };
        let mut files = Self::default();
        match target.client_tls.as_ref().map(|tls| &tls.certificate) {
            Some(CertificateRef::Files { cert, key }) => {
                let key = Zeroizing::new(read("clientTls.keyFile", key)?);
                files.tls = Some((read("clientTls.certFile", cert)?, key));
            }
            Some(CertificateRef::Secret(_)) => {
                return Err(ClientFilesError::Secret { target: target.name.to_string() });
            }
            None => {}
        }
        if let Some(token) = &target.token {
            files.jwks = Some(read("token.jwksFile", &token.jwks_file)?);
        }
        Ok(files)
    }

    /// TLS towards clients.
    pub(super) fn tls(
        &self,
        target: &Target,
    ) -> Result<Option<Arc<ServerConfig>>, ClientFilesError> {
        let Some((certificate, key)) = &self.tls else { return Ok(None) };
        let config = tls::to_clients(certificate, key);
        let target = target.name.to_string();
        config.map(Some).map_err(|source| ClientFilesError::Tls { target, source })
    }

    /// The keys of tokens.
    pub(super) fn tokens(&self, target: &Target) -> Result<Option<Arc<Tokens>>, ClientFilesError> {
        let (Some(token), Some(jwks)) = (&target.token, &self.jwks) else { return Ok(None) };
        let tokens = Tokens::new(token, jwks);
        let target = target.name.to_string();
        let tokens = tokens.map_err(|source| ClientFilesError::Tokens { target, source })?;
        Ok(Some(Arc::new(tokens)))
    }
}

fn bounded(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        return Ok(bytes);
    }
    Err(io::Error::other("longer than 1 MiB"))
}
