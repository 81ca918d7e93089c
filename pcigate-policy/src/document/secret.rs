//! References to Kubernetes Secrets of a Target's own namespace. Never a secret.

use super::access::CertificateRef;
use super::names::dns_subdomain;
use super::target::{PasswordRef, Target};
use crate::yaml::{Fields, shown};

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key within it.
    pub key: String,
}

impl SecretKey {
    /// `{name, key}` under this name.
    pub(super) fn decode(of: &mut Fields<'_, '_>, name: &'static str) -> Option<Self> {
        let mut fields = of.fields(name)?;
        let name = fields.required_parsed("name", dns_subdomain);
        let key = fields.required_parsed("key", key);
        fields.finish();
        Some(Self { name: name?, key: key? })
    }
}

/// `{name}` of a Secret of type kubernetes.io/tls.
pub(super) fn pair(of: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    let mut fields = of.fields(name)?;
    let name = fields.required_parsed("name", dns_subdomain);
    fields.finish();
    name
}

/// As Kubernetes has it (`IsConfigMapKey`).
fn key(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=253).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with("..") {
        return Ok(text.to_owned());
    }
    let message = "is not a key of a Secret; use 1 to 253 letters, digits, `-`, `_` and `.`";
    Err(format!("{} {message}", shown(text)))
}

/// The keys of a Secret of type kubernetes.io/tls.
const PAIR: [&str; 2] = ["tls.crt", "tls.key"];

impl Target {
    /// The keys of Secrets of its namespace that it names.
    #[must_use]
    pub fn secret_keys(&self) -> Vec<SecretKey> {
        let pair = |of: Option<&CertificateRef>| match of {
            Some(CertificateRef::Secret(name)) => SecretKey::pair(name).to_vec(),
            _ => Vec::new(),
        };
        let credential = self.credential.as_ref();
        let password = credential.and_then(|of| match &of.password {
            Some(PasswordRef::Secret(key)) => Some(key.clone()),
            _ => None,
        });
        let own = pair(credential.and_then(|of| of.certificate.as_ref()));
        let shown = pair(self.client_tls.as_ref().map(|tls| &tls.certificate));
        let jwks = self.token.as_ref().and_then(|token| token.jwks_secret.clone());
        let single = [password, self.upstream.ca_secret.clone(), jwks].into_iter().flatten();
        single.chain(own).chain(shown).collect()
    }
}

impl SecretKey {
    /// Certificate and key in a Secret of type kubernetes.io/tls.
    #[must_use]
    pub fn pair(name: &str) -> [Self; 2] {
        PAIR.map(|key| Self { name: name.to_owned(), key: key.to_owned() })
    }
}
