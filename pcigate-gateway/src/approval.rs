//! The key of what needs approval: it names one statement exactly, so that an approval can be for
//! that and nothing else.

use hmac::{Hmac, Mac};
use pcigate_postgres::login::Secret;
use sha2::Sha256;

/// Everything that makes a statement mean what it means. Any other is another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks: [`crate::Workload::id`].
    pub workload: &'a str,
    /// The Target, as `namespace/name`.
    pub target: &'a str,
    /// The database.
    pub database: &'a str,
    /// The roles whose rights it would have.
    pub roles: &'a [&'a str],
    /// The search path; `None` = not known.
    pub search_path: Option<&'a [String]>,
    /// The text, byte by byte.
    pub text: &'a [u8],
    /// Types of its parameters as the client gives them; fewer or 0 = the server's choice.
    pub types: &'a [u32],
    /// Its parameters: whether they are binary, and their bytes; `None` = NULL.
    pub parameters: &'a [(bool, Option<&'a [u8]>)],
}

/// HMAC-SHA-256 over the whole request, under a key that only gateways know: without it nobody
/// can tell from a key what was asked for, or make one. Nothing where HMAC takes no such key, which
/// it always does (RFC 2104).
#[must_use]
pub fn request_key(secret: &Secret, request: &Request<'_>) -> Option<[u8; 32]> {
    let Request { workload, target, database, roles, search_path, text, types, parameters } =
        *request;
    let mut parts = Parts(Hmac::<Sha256>::new_from_slice(secret.bytes()).ok()?);
    parts.bytes(b"pcigate request 1");
    for name in [workload, target, database] {
        parts.bytes(name.as_bytes());
    }
    parts.number(roles.len());
    roles.iter().for_each(|role| parts.bytes(role.as_bytes()));
    parts.number(usize::from(search_path.is_some()));
    let path = search_path.unwrap_or_default();
    parts.number(path.len());
    path.iter().for_each(|schema| parts.bytes(schema.as_bytes()));
    parts.bytes(text);
    parts.number(types.len());
    types.iter().for_each(|oid| parts.0.update(&oid.to_be_bytes()));
    parts.number(parameters.len());
    for (binary, value) in parameters {
        parts.number(usize::from(*binary));
        parts.number(usize::from(value.is_some()));
        parts.bytes(value.unwrap_or_default());
    }
    Some(parts.0.finalize().into_bytes().into())
}

/// Each part says how long it is, so that no two requests are one text.
struct Parts(Hmac<Sha256>);

impl Parts {
    fn number(&mut self, number: usize) {
        self.0.update(&u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(request: &Request<'_>) -> [u8; 32] {
        request_key(&Secret::new(vec![7; 32]), request).unwrap()
    }

    #[test]
    fn any_change_of_any_part_is_another_request() {
        let (one, two) = (["public".to_owned()], ["public".to_owned(), "other".to_owned()]);
        let joined = ["public,other".to_owned()];
        let plain = Request {
            workload: "uid",
            target: "shop/db",
            database: "shop",
            roles: &["bot"],
            search_path: Some(&one),
            text: b"DELETE FROM a WHERE id = $1",
            types: &[23],
            parameters: &[(false, Some(b"1"))],
        };
        let others = [
            Request { workload: "uid2", ..plain },
            Request { target: "shop/db2", ..plain },
            // The same letters in other parts.
            Request { workload: "uidshop/db", target: "", ..plain },
            Request { database: "shopb", roles: &["ot"], ..plain },
            Request { database: "other", ..plain },
            Request { roles: &["bot", ""], ..plain },
            Request { roles: &[], ..plain },
            Request { search_path: None, ..plain },
            Request { search_path: Some(&[]), ..plain },
            Request { search_path: Some(&two), ..plain },
            Request { search_path: Some(&joined), ..plain },
            Request { text: b"DELETE FROM a WHERE id = $1 ", ..plain },
            Request { text: b"delete FROM a WHERE id = $1", ..plain },
            Request { types: &[], ..plain },
            Request { types: &[20], ..plain },
            Request { types: &[23, 0], ..plain },
            Request { parameters: &[], ..plain },
            Request { parameters: &[(true, Some(b"1"))], ..plain },
            Request { parameters: &[(false, None)], ..plain },
            Request { parameters: &[(false, Some(b""))], ..plain },
            Request { parameters: &[(false, Some(b"2"))], ..plain },
            Request { parameters: &[(false, Some(b"1")), (false, None)], ..plain },
        ];
        let keys: HashSet<[u8; 32]> = others.iter().chain([&plain]).map(key).collect();
        assert_eq!(keys.len(), others.len() + 1);
        assert_eq!(key(&plain), key(&plain.clone()));
        let other = request_key(&Secret::new(vec![8; 32]), &plain).unwrap();
        assert_ne!(other, key(&plain), "another gateway's secret");
    }

    proptest! {
        #[test]
        fn two_requests_have_one_key_only_where_they_are_one(
            a in (".{0,3}", ".{0,3}", prop::collection::vec(prop::option::of(".{0,2}"), 0..3)),
            b in (".{0,3}", ".{0,3}", prop::collection::vec(prop::option::of(".{0,2}"), 0..3)),
        ) {
            let of = |(database, text, values): &(String, String, Vec<Option<String>>)| {
                let values: Vec<(bool, Option<&[u8]>)> =
                    values.iter().map(|one| (false, one.as_deref().map(str::as_bytes))).collect();
                key(&Request {
                    workload: "w",
                    target: "t",
                    database,
                    roles: &[],
                    search_path: None,
                    text: text.as_bytes(),
                    types: &[],
                    parameters: &values,
                })
            };
            prop_assert_eq!(a == b, of(&a) == of(&b));
        }
    }
}
