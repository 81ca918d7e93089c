//! References to Kubernetes Secrets of a Target's own namespace. Never a secret.

use super::names::dns_subdomain;
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
