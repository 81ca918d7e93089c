//! SPIFFE ids as pcigate uses them: `spiffe://TRUST-DOMAIN/node/NAME` and `…/person/NAME`.

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A node: may ingest as that node, nothing else.
    Node(String),
    /// A person: may query and decide, with the whole id for the record.
    Person {
        /// The whole SPIFFE id.
        id: String,
    },
}

/// Reads a SAN URI.
///
/// # Errors
/// A sentence saying what is wrong with the URI.
pub fn parse(uri: &str) -> Result<Identity, String> {
    let wrong = || format!("`{uri}` is not spiffe://TRUST-DOMAIN/node/NAME or …/person/NAME");
    let path = uri.strip_prefix("spiffe://").ok_or_else(wrong)?;
    let mut parts = path.split('/');
    let (domain, role, name) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() || domain.is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let name = name.filter(|name| is_name(name)).ok_or_else(wrong)?;
    match role {
        Some("node") => Ok(Identity::Node(name.to_owned())),
        Some("person") => Ok(Identity::Person { id: uri.to_owned() }),
        _ => Err(wrong()),
    }
}

/// Whether a node or person name is allowed: letters, digits, `.`, `-`, `_`, `@`; 1–253 bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_a_person_are_told_apart() {
        assert_eq!(parse("spiffe://pcigate/node/n1"), Ok(Identity::Node("n1".into())));
        let id = "spiffe://pcigate/person/ana@example.com";
        assert_eq!(parse(id), Ok(Identity::Person { id: id.into() }));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for uri in ["", "spiffe://", "spiffe://d/node/", "spiffe://d/node/a/b", "https://d/node/a"]
        {
            assert!(parse(uri).is_err(), "{uri}");
        }
    }
}
