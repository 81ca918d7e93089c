//! The files and Secrets a Target names: what proves its server and the gateway, keys of tokens,
//! the password. Read for each session, and the password for each login, so that what was
//! exchanged counts at once.

use std::{fs, io};

use pcigate_policy::document::{CertificateRef, PasswordRef, SecretKey, Target, TlsMode};
use zeroize::Zeroizing;

use super::wire::PASSWORD_MAX;
use crate::kubernetes::secrets::{SecretError, Secrets};

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
        "Target {target} says no upstream.tls.caFile or caSecretRef, so nobody can prove to be its \
         server: add its authorities"
    )]
    NoAuthorities { target: String },
    #[error("cannot read what Target {target} names in {field}")]
    Secret {
        target: String,
        field: &'static str,
        #[source]
        source: SecretError,
    },
    #[error("the password that Target {target} names is longer than {PASSWORD_MAX} bytes")]
    LongPassword { target: String },
}

impl Files {
    /// Reads them.
    pub(super) fn read(target: &Target, secrets: &Secrets) -> Result<Self, FilesError> {
        let from = Places { target, secrets };
        let mut files = Self::default();
        if target.upstream.tls == TlsMode::VerifyFull {
            let of = &target.upstream;
            let read = match (&of.ca_file, &of.ca_secret) {
                (Some(path), _) => from.file("upstream.tls.caFile", path),
                (None, Some(key)) => from.secret("upstream.tls.caSecretRef", key),
                (None, None) => Err(FilesError::NoAuthorities { target: target.name.to_string() }),
            };
            files.authorities = read?.to_vec();
        }
        let own = target.credential.as_ref().and_then(|of| of.certificate.as_ref());
        let fields = ["credential.certFile", "credential.keyFile"];
        let own = own.map(|own| from.pair(fields, "credential.certificateSecretRef", own));
        files.own = own.transpose()?;
        let shown = target.client_tls.as_ref().map(|tls| &tls.certificate);
        let fields = ["clientTls.certFile", "clientTls.keyFile"];
        let shown = shown.map(|shown| from.pair(fields, "clientTls.secretRef", shown));
        files.client_tls = shown.transpose()?;
        if let Some(token) = target.token.as_ref().filter(|token| !token.review) {
            let read = match &token.jwks_secret {
                Some(key) => from.secret("token.jwksSecretRef", key),
                None => from.file("token.jwksFile", &token.jwks_file),
            };
            files.jwks = Some(read?.to_vec());
        }
        // Only whether there is one: each login reads it anew.
        from.password().map(drop)?;
        Ok(files)
    }
}

/// Where what a Target names is read.
struct Places<'a> {
    target: &'a Target,
    secrets: &'a Secrets,
}

impl Places<'_> {
    fn file(&self, field: &'static str, path: &str) -> Result<Zeroizing<Vec<u8>>, FilesError> {
        let (target, path) = (self.target.name.to_string(), path.to_owned());
        let bytes = bounded(&path, FILE_BYTES_MAX);
        bytes.map_err(|source| FilesError::Unreadable { target, field, path, source })
    }

    fn secret(
        &self,
        field: &'static str,
        key: &SecretKey,
    ) -> Result<Zeroizing<Vec<u8>>, FilesError> {
        let value = self.secrets.value(&self.target.name.namespace, key);
        let target = self.target.name.to_string();
        value.map_err(|source| FilesError::Secret { target, field, source })
    }

    fn pair(
        &self,
        [cert_field, key_field]: [&'static str; 2],
        secret_field: &'static str,
        pair: &CertificateRef,
    ) -> Result<Pair, FilesError> {
        match pair {
            CertificateRef::Files(pair) => {
                let key = self.file(key_field, &pair.key)?;
                Ok((self.file(cert_field, &pair.cert)?.to_vec(), key))
            }
            CertificateRef::Secret(name) => {
                let [cert, key] = SecretKey::pair(name);
                let key = self.secret(secret_field, &key)?;
                Ok((self.secret(secret_field, &cert)?.to_vec(), key))
            }
        }
    }

    /// The password in a Secret; nothing where there is none there.
    fn password(&self) -> Result<Option<Zeroizing<Vec<u8>>>, FilesError> {
        let credential = self.target.credential.as_ref();
        let Some(PasswordRef::Secret(key)) = credential.and_then(|of| of.password.as_ref()) else {
            return Ok(None);
        };
        let value = self.secret("credential.secretRef", key)?;
        if value.len() > PASSWORD_MAX {
            return Err(FilesError::LongPassword { target: self.target.name.to_string() });
        }
        Ok(Some(without_line_end(value)))
    }
}

/// The credential's password; nothing where there is none, or none that can be read, which the
/// server then refuses.
pub(super) fn password(target: &Target, secrets: &Secrets) -> Option<Zeroizing<Vec<u8>>> {
    match target.credential.as_ref()?.password.as_ref()? {
        PasswordRef::File(path) => match bounded(path, PASSWORD_MAX) {
            Ok(secret) => Some(without_line_end(secret)),
            Err(error) => {
                let target = target.name.to_string();
                tracing::error!(%error, path, target, "the passwordFile cannot be read");
                None
            }
        },
        PasswordRef::Secret(_) => match (Places { target, secrets }).password() {
            Ok(password) => password,
            Err(error) => {
                tracing::error!("{}", crate::causes::chain(&error));
                None
            }
        },
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
