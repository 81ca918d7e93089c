//! Names in documents and the rules they follow.

use std::fmt;
use std::sync::Arc;

use pcigate_common::limits::DNS_NAME_BYTES_MAX;

use crate::yaml::{Node, shown};

/// Name of a document. Only a ClusterAgentPolicy has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Kubernetes namespace; empty for cluster-scoped documents.
    pub namespace: String,
    /// Name within the namespace.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name as given to `Documents::read`.
    pub file: Arc<str>,
    /// Line, from 1; 0 where there are none.
    pub line: usize,
}

/// `FILE:LINE`; the file alone where there are no lines.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

impl Place {
    pub(super) fn of(node: &Node) -> Self {
        Self { file: Arc::clone(&node.file), line: node.line }
    }
}

/// RFC 1123 label: the form of Kubernetes namespaces and of our documents' names.
pub(super) fn dns_label(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} is not a DNS label; use 1 to 63 of a-z, 0-9 and `-`, not starting or ending with `-`",
        shown(text)
    ))
}

/// RFC 1123 subdomain: DNS labels joined by dots, at most 253 characters.
pub(super) fn dns_subdomain(text: &str) -> Result<String, String> {
    if is_dns_subdomain(text) {
        return Ok(text.to_owned());
    }
    let text = shown(text);
    Err(format!("{text} is not a DNS name; use labels of a-z, 0-9 and `-` joined by dots"))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Id of a rule or statement.
pub(super) fn rule_id(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not an id; use 1 to 63 of a-z, 0-9 and `-`", shown(text)))
}

/// Whether a Kubernetes object can carry this label (else a selector would never match).
pub(super) fn label(key: &str, value: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("x", key));
    if name.is_empty() || !is_label_text(name) || !is_dns_subdomain(prefix) {
        return Err(format!("{} is not a label key, so no object can carry it", shown(key)));
    }
    if !is_label_text(value) {
        return Err(format!("{} is not a label value, so no object can carry it", shown(value)));
    }
    Ok(())
}

/// Empty, or at most 63 characters of a-z A-Z 0-9 `-` `_` `.`, alphanumeric at both ends.
fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A destination name: exact, or `*.` for every name below (any depth, not the name itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fqdn {
    /// Lower-case name without `*.`.
    pub name: String,
    /// Whether it stands for the names below instead.
    pub below: bool,
}

impl Fqdn {
    /// Whether a resolved name is meant. Case does not count.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match name.strip_suffix(&self.name) {
            Some("") => !self.below,
            Some(above) => self.below && above.len() > 1 && above.ends_with('.'),
            None => false,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let lower = name.to_ascii_lowercase();
        if lower.len() >= DNS_NAME_BYTES_MAX {
            return Err(format!(
                "{} is longer than the kernel's tables hold; use at most {} characters",
                shown(text),
                DNS_NAME_BYTES_MAX - 1
            ));
        }
        if is_dns_subdomain(&lower.replace('_', "-")) && lower.parse::<std::net::IpAddr>().is_err()
        {
            return Ok(Self { name: lower, below });
        }
        Err(format!(
            "{} is not a host name; write `api.example.com`, or `*.example.com` for all below \
             (addresses go into `cidr`)",
            shown(text)
        ))
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}
