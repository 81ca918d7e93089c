//! What is served, as clients discover it: /version, /api, /apis, /openapi/v3.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::store::{Resource, Store};

/// The Kubernetes release whose API this is.
const RELEASE: (&str, &str) = ("1", "36");

/// The answer to a path of discovery.
pub(super) fn answer(store: &Store, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
    let of = |group: &str, version: &str| {
        let is = |known: &&Resource| known.group == group && known.version == version;
        store.resources.iter().filter(is).cloned().collect::<Vec<_>>()
    };
    match parts.as_slice() {
        ["version"] => Some(json!({"major": RELEASE.0, "minor": RELEASE.1,
                                   "gitVersion": format!("v{}.{}.0", RELEASE.0, RELEASE.1),
                                   "platform": "linux/amd64"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => Some(json!({"kind": "APIGroupList", "apiVersion": "v1",
                                "groups": groups(store)})),
        ["apis", group] => groups(store).into_iter().find(|known| known["name"] == *group),
        ["api", version] => list(&of("", version)),
        ["apis", group, version] => list(&of(group, version)),
        ["openapi", "v3"] => Some(openapi_index(store)),
        ["openapi", "v3", "api", version] => Some(openapi(&of("", version))),
        ["openapi", "v3", "apis", group, version] => Some(openapi(&of(group, version))),
        _ => None,
    }
}

fn groups(store: &Store) -> Vec<Value> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for known in store.resources.iter().filter(|known| !known.group.is_empty()) {
        versions.entry(&known.group).or_default().insert(&known.version);
    }
    let of = |(group, versions): (&str, BTreeSet<&str>)| {
        let versions: Vec<Value> = versions
            .into_iter()
            .map(
                |version| json!({"groupVersion": format!("{group}/{version}"), "version": version}),
            )
            .collect();
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": group,
               "preferredVersion": versions.last(), "versions": versions})
    };
    versions.into_iter().map(of).collect()
}

fn list(resources: &[Resource]) -> Option<Value> {
    let first = resources.first()?;
    let mut all = Vec::new();
    for known in resources {
        all.push(json!({"name": known.plural, "singularName": known.kind.to_lowercase(),
                        "kind": known.kind, "namespaced": known.namespaced, "verbs": verbs(known),
                        "shortNames": known.short_names, "categories": known.categories}));
        if known.has_status {
            let name = format!("{}/status", known.plural);
            all.push(json!({"name": name, "singularName": "", "kind": known.kind,
                            "namespaced": known.namespaced,
                            "verbs": ["get", "patch", "update"]}));
        }
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": first.api_version(), "resources": all}))
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.plural == "tokenreviews" {
        return &["create"];
    }
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
}

/// Where a collection is.
pub(super) fn collection(resource: &Resource) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("{root}/{}{namespace}/{}", resource.api_version(), resource.plural)
}

fn openapi_index(store: &Store) -> Value {
    let mut paths = serde_json::Map::new();
    for known in &store.resources {
        let root = if known.group.is_empty() { "api" } else { "apis" };
        let at = format!("{root}/{}", known.api_version());
        let url = format!("/openapi/v3/{at}?hash={}", store.newest());
        paths.insert(at, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// What kubectl looks for before it sends an object: that the server itself validates fields.
fn openapi(resources: &[Resource]) -> Value {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    for known in resources {
        let kind = json!([{"group": known.group, "version": known.version, "kind": known.kind}]);
        let parameter = |name: &str| {
            json!({"name": name, "in": "query",
                                            "schema": {"type": "string", "uniqueItems": true}})
        };
        let parameters = ["dryRun", "fieldManager", "fieldValidation", "force"].map(parameter);
        let of = |action: &str| {
            json!({"parameters": parameters, "responses": {},
                                         "x-kubernetes-action": action,
                                         "x-kubernetes-group-version-kind": kind[0]})
        };
        let at = format!("{}/{{name}}", collection(known));
        paths.insert(at, json!({"patch": of("patch")}));
        let name = format!("tests.{}.{}", known.version, known.kind);
        let any = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let mut schema = known.schema.clone().unwrap_or_else(any);
        schema["x-kubernetes-group-version-kind"] = kind;
        schemas.insert(name, schema);
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"},
           "paths": paths, "components": {"schemas": schemas}})
}
