//! Create, replace, patch and delete, with what each refuses.

use serde_json::{Value, json};

use super::{
    patch,
    route::Route,
    store::{Key, Resource, Store},
};

/// Why a request is refused: what becomes a `v1.Status`.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub(super) fn status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "message": self.message, "reason": self.reason, "code": self.code})
    }
}

/// A patch, by its content type.
pub(super) enum Patch {
    Merge,
    Strategic,
    Json,
    Apply { manager: String, force: bool },
}

impl Store {
    pub(super) fn get(&self, route: &Route) -> Result<Value, Refusal> {
        let found = self.objects.get(&key(route));
        found.map(|object| Value::clone(object)).ok_or_else(|| missing(route))
    }

    pub(super) fn create(
        &mut self,
        route: &Route,
        mut object: Value,
        dry: bool,
    ) -> Result<Value, Refusal> {
        let resource = self.resource(route)?;
        if object["kind"] != json!(resource.kind)
            || object["apiVersion"] != json!(resource.api_version())
        {
            let message =
                format!("the object provided is no {} {}", resource.api_version(), resource.kind);
            return Err(Refusal::new(400, "BadRequest", message));
        }
        let name = self.place(route, &resource, &mut object)?;
        let route = Route { name, ..route.clone() };
        let key = key(&route);
        if self.objects.contains_key(&key) {
            let message = format!("{} \"{}\" already exists", ruled(&route), route.name);
            return Err(Refusal::new(409, "AlreadyExists", message));
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid(self.newest()));
        metadata["creationTimestamp"] = json!(now());
        metadata["generation"] = json!(1);
        if resource.has_status
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        admit(&resource, &mut object);
        if dry {
            return Ok(object);
        }
        self.written(&resource, key, object)
    }

    /// Namespace and name of a new object.
    fn place(
        &self,
        route: &Route,
        resource: &Resource,
        object: &mut Value,
    ) -> Result<String, Refusal> {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        if resource.namespaced {
            let namespaces = Route {
                version: "v1".to_owned(),
                resource: "namespaces".to_owned(),
                name: route.namespace.clone(),
                ..Route::default()
            };
            self.get(&namespaces)?;
            let own = object["metadata"]["namespace"].as_str().unwrap_or(&route.namespace);
            if own != route.namespace {
                let message = "the namespace of the provided object is not that of the request";
                return Err(Refusal::new(400, "BadRequest", message));
            }
            object["metadata"]["namespace"] = json!(route.namespace);
        }
        let metadata = &object["metadata"];
        if let Some(name) = metadata["name"].as_str().filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
        let Some(prefix) = metadata["generateName"].as_str() else {
            let message = "metadata.name: Required value: name or generateName is required";
            return Err(Refusal::new(422, "Invalid", message));
        };
        let name = format!("{prefix}{:05x}", self.newest());
        object["metadata"]["name"] = json!(name);
        Ok(name)
    }

    pub(super) fn replace(
        &mut self,
        route: &Route,
        object: Value,
        dry: bool,
    ) -> Result<Value, Refusal> {
        let resource = self.resource(route)?;
        let before = self.get(route)?;
        for field in ["resourceVersion", "uid"] {
            let own = object["metadata"][field].as_str().unwrap_or_default();
            if !own.is_empty() && before["metadata"][field] != json!(own) {
                let message = format!(
                    "Operation cannot be fulfilled on {} \"{}\": the object has been modified; \
                     please apply your changes to the latest version and try again",
                    ruled(route),
                    route.name
                );
                return Err(Refusal::new(409, "Conflict", message));
            }
        }
        self.update(&resource, route, &before, object, dry)
    }

    fn update(
        &mut self,
        resource: &Resource,
        route: &Route,
        before: &Value,
        mut object: Value,
        dry: bool,
    ) -> Result<Value, Refusal> {
        if route.subresource == "status" {
            let status = object["status"].take();
            object = before.clone();
            object["status"] = status;
        } else {
            if resource.has_status {
                object["status"] = before["status"].clone();
            }
            for field in ["uid", "creationTimestamp", "generation", "name", "namespace"] {
                object["metadata"][field] = before["metadata"][field].clone();
            }
        }
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        prune_nulls(&mut object);
        if resource.plural == "pods" && moved(before, &object) {
            let message = "spec: Forbidden: pod updates may not change fields other than ...";
            return Err(Refusal::new(422, "Invalid", message));
        }
        if &object == before || dry {
            return Ok(object);
        }
        let content = |object: &Value| {
            let mut content = object.clone();
            content["metadata"] = Value::Null;
            content["status"] = Value::Null;
            content
        };
        if content(before) != content(&object) {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.written(resource, key(route), object)
    }

    pub(super) fn patch(
        &mut self,
        route: &Route,
        kind: &Patch,
        change: &Value,
        dry: bool,
    ) -> Result<Value, Refusal> {
        let resource = self.resource(route)?;
        let key = key(route);
        let before = match (self.get(route), kind) {
            (Ok(before), _) => before,
            (Err(_), Patch::Apply { manager, .. }) if route.subresource.is_empty() => {
                let mut object = change.clone();
                object["metadata"]["name"] = json!(route.name);
                let made = self.create(route, object, dry)?;
                if !dry {
                    self.applied.insert((key, manager.clone()), change.clone());
                }
                return Ok(made);
            }
            (Err(missing), _) => return Err(missing),
        };
        let mut object = before.clone();
        match kind {
            Patch::Merge => patch::merge(&mut object, change),
            Patch::Strategic => patch::strategic(&mut object, change),
            Patch::Json => patch::json(&mut object, change)
                .map_err(|message| Refusal::new(422, "Invalid", message))?,
            Patch::Apply { manager, force } => {
                let owner = self.applied.keys().find(|(of, by)| *of == key && by != manager);
                if let Some((_, owner)) = owner.filter(|_| !force) {
                    let message =
                        format!("Apply failed with 1 conflict: conflict with \"{owner}\"");
                    return Err(Refusal::new(409, "Conflict", message));
                }
                let mine = (key.clone(), manager.clone());
                patch::apply(&mut object, self.applied.get(&mine), change);
                if *force && !dry {
                    self.applied.retain(|(of, _), _| *of != key);
                }
                if !dry {
                    self.applied.insert(mine, change.clone());
                }
            }
        }
        let asked = &change["metadata"]["resourceVersion"];
        if asked.is_string() && *asked != before["metadata"]["resourceVersion"] {
            let message = format!("Operation cannot be fulfilled on \"{}\"", route.name);
            return Err(Refusal::new(409, "Conflict", message));
        }
        self.update(&resource, route, &before, object, dry)
    }

    pub(super) fn delete(&mut self, route: &Route, options: &Value) -> Result<Value, Refusal> {
        let resource = self.resource(route)?;
        let object = self.get(route)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if wanted.is_string() && *wanted != object["metadata"][field] {
                let message = format!("the {field} in the precondition does not match");
                return Err(Refusal::new(409, "Conflict", message));
            }
        }
        self.take(&key(route));
        match resource.plural.as_str() {
            "namespaces" => self.take_all(|key| key.2 == route.name),
            "customresourcedefinitions" => self.unregister(&object),
            _ => {}
        }
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                  "details": {"name": route.name, "group": resource.group,
                              "kind": resource.plural, "uid": object["metadata"]["uid"]}}))
    }

    fn take_all(&mut self, goes: impl Fn(&Key) -> bool) {
        let keys: Vec<Key> = self.objects.keys().filter(|key| goes(key)).cloned().collect();
        for key in keys {
            self.take(&key);
        }
    }

    fn written(
        &mut self,
        resource: &Resource,
        key: Key,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        if resource.plural == "customresourcedefinitions" {
            self.register(&mut object)?;
        }
        self.write(key, object)
    }

    /// Serves what a CustomResourceDefinition defines from now on.
    fn register(&mut self, crd: &mut Value) -> Result<(), Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| {
            value.as_array().into_iter().flatten().map(text).collect::<Vec<String>>()
        };
        let spec = &crd["spec"];
        let (group, names) = (text(&spec["group"]), &spec["names"]);
        let expected = format!("{}.{group}", text(&names["plural"]));
        if crd["metadata"]["name"] != json!(expected) {
            let message =
                format!("metadata.name: must be spec.names.plural+\".\"+spec.group: {expected}");
            return Err(Refusal::new(422, "Invalid", message));
        }
        let versions = spec["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] == true);
        let made: Vec<Resource> = served
            .map(|version| Resource {
                group: group.clone(),
                version: text(&version["name"]),
                plural: text(&names["plural"]),
                kind: text(&names["kind"]),
                namespaced: spec["scope"] == "Namespaced",
                has_status: version["subresources"]["status"].is_object(),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                schema: version.pointer("/schema/openAPIV3Schema").cloned(),
            })
            .collect();
        let plural = text(&names["plural"]);
        self.resources.retain(|known| known.group != group || known.plural != plural);
        self.resources.extend(made);
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Accepted"});
        let conditions = [condition("NamesAccepted"), condition("Established")];
        crd["status"] = json!({"conditions": conditions, "acceptedNames": names});
        Ok(())
    }

    fn unregister(&mut self, crd: &Value) {
        let (group, plural) = (&crd["spec"]["group"], &crd["spec"]["names"]["plural"]);
        self.take_all(|key| *group == json!(key.0) && *plural == json!(key.1));
        self.resources
            .retain(|known| *group != json!(known.group) || *plural != json!(known.plural));
    }

    /// As [`super::ApiServer::put`].
    pub(super) fn create_at(&mut self, collection: &str, object: Value) -> Value {
        let route = Route::read(collection).expect("a collection's path");
        let status = object["status"].clone();
        let made = self.create(&route, object, false).expect("an object that is accepted");
        if status.is_null() {
            return made;
        }
        let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let route = Route { name, subresource: "status".to_owned(), ..route };
        let change = json!({"status": status});
        self.patch(&route, &Patch::Merge, &change, false).expect("a status")
    }

    pub(super) fn object_at(&self, path: &str) -> Option<Value> {
        self.get(&Route::read(path)?).ok()
    }

    pub(super) fn delete_at(&mut self, path: &str) {
        let route = Route::read(path).expect("an object's path");
        let _ = self.delete(&route, &Value::Null);
    }

    pub(super) fn merge_at(&mut self, path: &str, change: &Value) {
        let route = Route::read(path).expect("an object's path");
        self.patch(&route, &Patch::Merge, change, false).expect("the object is there");
        let route = Route { subresource: "status".to_owned(), ..route };
        self.patch(&route, &Patch::Merge, change, false).expect("the object is there");
    }
}

pub(super) fn key(route: &Route) -> Key {
    let Route { group, resource, namespace, name, .. } = route.clone();
    (group, resource, namespace, name)
}

fn ruled(route: &Route) -> String {
    let dot = if route.group.is_empty() { "" } else { "." };
    format!("{}{dot}{}", route.resource, route.group)
}

fn missing(route: &Route) -> Refusal {
    Refusal::new(404, "NotFound", format!("{} \"{}\" not found", ruled(route), route.name))
}

/// Fields that were looked at are not fields that are there.
fn prune_nulls(object: &mut Value) {
    if let Some(fields) = object["metadata"].as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// Whether a pod that stands on a node is to stand elsewhere.
fn moved(before: &Value, now: &Value) -> bool {
    let (before, now) = (&before["spec"]["nodeName"], &now["spec"]["nodeName"]);
    before.is_string() && before != now
}

/// What the built-in admission and defaulting add that clients rely on.
fn admit(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            if !object["spec"]["serviceAccountName"].is_string() {
                object["spec"]["serviceAccountName"] = json!("default");
            }
            object["status"] = json!({"phase": "Pending"});
        }
        ("", "namespaces") => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["status"] = json!({"phase": "Active"});
        }
        _ => {}
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A UID like those of RFC 9562, version 4, that no other object has.
fn uid(count: u64) -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(count);
    let [high, low] = [random >> 32, random & 0xffff_ffff];
    format!(
        "{high:08x}-{:04x}-4{:03x}-8000-{low:08x}{:04x}",
        low & 0xffff,
        high & 0xfff,
        count & 0xffff
    )
}
