//! The files a Target names: what proves its server and the gateway, keys of tokens, the password.
//! Read for each session, and the password for each login, so that what was exchanged counts at
//! once.

use std::{fs, io};

use pcigate_policy::document::{CertificateRef, KeyPair, PasswordRef, Target, TlsMode};
use zeroize::Zeroizing;

use super::wire::PASSWORD_MAX;

/// Bytes of one of these files.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A certificate and its key, both PEM.
pub(super) type Pair = (Vec<u8>, Zeroizing<Vec<u8>>);

/// What is in them; nothing where the Target names none.
#[derive(Default)]
pub(super) struct Files {
    /// PEM of those who may prove the server's name; empty where nobody has to.
    pub authorities: Vec<u8>,
    /// The credential's certificate and key.
    pub own: Option<Pair>,
    /// Certificate and key towards clients.
    pub client_tls: Option<Pair>,
    /// The key set for tokens.
    pub jwks: Option<Vec<u8>>,
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error("cannot read {path} (Target {target}, {field})")]
    Unreadable {
        target: String,
        field: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "Target {target} says no upstream.tls.caFile, so nobody can prove to be its server: add \
         the file with its authorities"
    )]
    NoAuthorities { target: String },
    #[error(
        "Target {target} says clientTls.secretRef, which is not read yet: use certFile and keyFile"
    )]
    Secret { target: String },
}

impl Files {
    /// Reads them.
    pub(super) fn read(target: &Target) -> Result<Self, FilesError> {
        let name = || target.name.to_string();
        let read = |field, path: &str| {
            let path = path.to_owned();
            let bytes = bounded(&path, FILE_BYTES_MAX);
            let target = name();
            bytes.map_err(|source| FilesError::Unreadable { target, field, path, source })
        };
        let mut files = Self::default();
        if target.upstream.tls == TlsMode::VerifyFull {
            let path = target.upstream.ca_file.as_ref();
            let path = path.ok_or_else(|| FilesError::NoAuthorities { target: name() })?;
            files.authorities = read("upstream.tls.caFile", path)?.to_vec();
        }
        let pair = |[cert_field, key_field]: [&'static str; 2], pair: &KeyPair| {
            let key = read(key_field, &pair.key)?;
            Ok((read(cert_field, &pair.cert)?.to_vec(), key))
        };
        let own = target.credential.as_ref().and_then(|of| of.certificate.as_ref());
        let own = own.map(|own| pair(["credential.certFile", "credential.keyFile"], own));
        files.own = own.transpose()?;
        match target.client_tls.as_ref().map(|tls| &tls.certificate) {
            Some(CertificateRef::Files(own)) => {
                let read = pair(["clientTls.certFile", "clientTls.keyFile"], own)?;
                files.client_tls = Some(read);
            }
            Some(CertificateRef::Secret(_)) => {
                return Err(FilesError::Secret { target: name() });
            }
            None => {}
        }
        if let Some(token) = target.token.as_ref().filter(|token| !token.review) {
            files.jwks = Some(read("token.jwksFile", &token.jwks_file)?.to_vec());
        }
        Ok(files)
    }
}

/// The credential's password; nothing where there is none, or none that can be read, which the
/// server then refuses.
pub(super) fn password(target: &Target) -> Option<Zeroizing<Vec<u8>>> {
    let name = target.name.to_string();
    match target.credential.as_ref()?.password.as_ref()? {
        PasswordRef::File(path) => match bounded(path, PASSWORD_MAX) {
            Ok(secret) => Some(without_line_end(secret)),
            Err(error) => {
                tracing::error!(%error, path, target = name, "the passwordFile cannot be read");
                None
            }
        },
        PasswordRef::Secret { .. } => {
            tracing::error!(target = name, "secretRef is not read yet: use passwordFile");
            None
        }
    }
}

/// All of a file, into memory that is overwritten when it goes.
fn bounded(path: &str, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    use io::Read;
    let file = fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // More than there is, so that it does not grow and leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(most) + 64));
    let one_more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// The content without the line end that editors leave.
fn without_line_end(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    while secret.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        secret.pop();
    }
    secret
}
