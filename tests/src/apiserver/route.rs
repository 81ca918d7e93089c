//! What a request's path and query name.

use std::collections::BTreeMap;

/// A collection, an object or a subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    /// Empty: cluster-scoped, or over all namespaces.
    pub(super) namespace: String,
    /// Empty: the collection.
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Route {
    /// Reads a path below `/api/v1` or `/apis/GROUP/VERSION`.
    pub(super) fn read(path: &str) -> Option<Self> {
        let mut parts = path.split('/').skip(1).filter(|part| !part.is_empty());
        let (group, version) = match parts.next()? {
            "api" => (String::new(), parts.next()?.to_owned()),
            "apis" => (parts.next()?.to_owned(), parts.next()?.to_owned()),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            // A namespace's own subresources, not resources in it.
            ["namespaces", _, "status" | "finalize"] => ("", rest.as_slice()),
            ["namespaces", namespace, inside @ ..] if !inside.is_empty() => (*namespace, inside),
            all => ("", all),
        };
        let at = |index: usize| rest.get(index).map_or_else(String::new, |part| decode(part));
        (!rest.is_empty() && rest.len() <= 3).then(|| Self {
            group,
            version,
            resource: at(0),
            namespace: decode(namespace),
            name: at(1),
            subresource: at(2),
        })
    }

    /// `resource` or `resource/subresource`, as rules of RBAC name it.
    pub(super) fn ruled(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// The parameters of a query.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// Percent-encoding and `+`; a wrong escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|two| std::str::from_utf8(two).ok());
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_objects_and_subresources() {
        let read = |path| {
            let route: Route = Route::read(path).unwrap();
            [route.group, route.namespace, route.resource, route.name, route.subresource].join("|")
        };
        assert_eq!(read("/api/v1/pods"), "||pods||");
        assert_eq!(read("/api/v1/namespaces"), "||namespaces||");
        assert_eq!(read("/api/v1/namespaces/x"), "||namespaces|x|");
        assert_eq!(read("/api/v1/namespaces/x/status"), "||namespaces|x|status");
        assert_eq!(read("/api/v1/namespaces/x/pods/y/status"), "|x|pods|y|status");
        assert_eq!(read("/apis/apps/v1/namespaces/x/replicasets/y"), "apps|x|replicasets|y|");
        assert_eq!(Route::read("/version"), None);
        assert_eq!(query("a=b%2Cc&d=e+f")["a"], "b,c");
    }
}
