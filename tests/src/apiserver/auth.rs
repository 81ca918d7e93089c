//! Who asks (401), what they may not do (403), and what a TokenReview says of a token.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Somebody with a bearer token.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// Such as `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// Uid of the user.
    pub uid: String,
    /// Where the token is a ServiceAccount's: the pod it is bound to.
    pub pod: Option<Subject>,
    /// Audiences the token is for; empty: the API server's own.
    pub audiences: Vec<String>,
}

/// The pod a token is bound to.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Name of the pod.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its node, which tokens tell since Kubernetes 1.32.
    pub node: String,
}

/// The audience of a token that names none.
pub(super) const OWN_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

pub(super) struct Users {
    by_token: BTreeMap<String, User>,
    /// (user, verb, resource).
    forbidden: BTreeSet<(String, String, String)>,
}

impl Users {
    pub(super) fn with_admin(token: &str) -> Self {
        let admin = User { name: "admin".to_owned(), ..User::default() };
        Self { by_token: [(token.to_owned(), admin)].into(), forbidden: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, token: &str, user: User) {
        self.by_token.insert(token.to_owned(), user);
    }

    pub(super) fn remove(&mut self, token: &str) {
        self.by_token.remove(token);
    }

    pub(super) fn forbid(&mut self, user: &str, verb: &str, resource: &str) {
        self.forbidden.insert((user.to_owned(), verb.to_owned(), resource.to_owned()));
    }

    /// The user of an `Authorization` header; one for another audience is nobody here.
    pub(super) fn authenticate(&self, header: Option<&str>) -> Option<User> {
        let user = self.by_token.get(header?.strip_prefix("Bearer ")?)?;
        let is_ours = user.audiences.is_empty()
            || user.audiences.iter().any(|audience| audience == OWN_AUDIENCE);
        is_ours.then(|| user.clone())
    }

    pub(super) fn may(&self, user: &User, verb: &str, resource: &str) -> bool {
        let forbidden = |verb: &str, resource: &str| {
            let rule = (user.name.clone(), verb.to_owned(), resource.to_owned());
            self.forbidden.contains(&rule)
        };
        !(forbidden(verb, resource) || forbidden("*", resource) || forbidden(verb, "*"))
    }

    /// A TokenReview with its status.
    pub(super) fn review(&self, mut review: Value) -> Value {
        let asked: Vec<String> = review["spec"]["audiences"].as_array().map_or_else(
            || vec![OWN_AUDIENCE.to_owned()],
            |all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        );
        let user = self.by_token.get(review["spec"]["token"].as_str().unwrap_or_default());
        review["status"] = match user {
            None => json!({"authenticated": false, "error": "invalid bearer token"}),
            Some(user) => {
                let own = vec![OWN_AUDIENCE.to_owned()];
                let has = if user.audiences.is_empty() { &own } else { &user.audiences };
                let both: Vec<&String> =
                    asked.iter().filter(|audience| has.contains(audience)).collect();
                if both.is_empty() {
                    json!({"authenticated": false, "error": "token audiences do not match"})
                } else {
                    json!({"authenticated": true, "audiences": both, "user": of(user)})
                }
            }
        };
        review
    }
}

fn of(user: &User) -> Value {
    let mut told = json!({"username": user.name, "uid": user.uid,
                          "groups": ["system:authenticated"]});
    if let Some(pod) = &user.pod {
        told["extra"] = json!({
            "authentication.kubernetes.io/pod-name": [pod.name],
            "authentication.kubernetes.io/pod-uid": [pod.uid],
            "authentication.kubernetes.io/node-name": [pod.node],
        });
    }
    told
}
