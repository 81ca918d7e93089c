//! Asks the API server whose a token is (TokenReview, authentication.k8s.io/v1). The only place in
//! the collector that speaks with Kubernetes.

use std::{path::Path, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use pcigate_proto::spiffe;

/// How long the API server may take.
const WITHIN: Duration = Duration::from_secs(10);
/// What a bound token says beside its user, since Kubernetes 1.30.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Longest name believed, bytes (RFC 1123 subdomain).
const NAME_BYTES_MAX: usize = 253;

/// Why the API server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig, and no pod.
    #[error("there is no API server here: run the collector in a pod, or set enroll.kubeconfig")]
    NotInPod(#[source] InClusterError),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used (enroll.kubeconfig)")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// It proves nobody.
    #[error(
        "the kubeconfig {path} says insecure-skip-tls-verify: anybody could then say whose a token \
         is; give certificate-authority"
    )]
    Unverified {
        /// The file.
        path: String,
    },
    /// What they name cannot be used.
    #[error("the way to the API server cannot be used: check its certificates and token")]
    Client(#[source] Box<kube::Error>),
}

/// Who may enrol.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Namespace of the agents' ServiceAccount.
    pub(super) namespace: String,
    /// Its name.
    pub(super) service_account: String,
    /// The audience tokens must be for.
    pub(super) audience: String,
}

/// What the API server says of a token. Foreign text, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    pub(super) node: String,
}

/// Why a token opens nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody can say now.
    Away(String),
    /// It is not one of an agent.
    Token(Box<Bearer>, &'static str),
}

/// The way to the API server.
pub(super) struct Reviewer {
    reviews: Api<TokenReview>,
    wanted: Wanted,
}

impl Reviewer {
    /// Finds the way; nothing is sent yet.
    pub(super) async fn new(
        kubeconfig: Option<&Path>,
        wanted: Wanted,
    ) -> Result<Self, ConnectError> {
        let mut config = match kubeconfig {
            None => Config::incluster().map_err(ConnectError::NotInPod)?,
            Some(path) => by_kubeconfig(path).await?,
        };
        (config.connect_timeout, config.read_timeout) = (Some(WITHIN), Some(WITHIN));
        let client =
            Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
        Ok(Self { reviews: Api::all(client), wanted })
    }

    /// The agent pod a token is bound to.
    pub(super) async fn review(&self, token: String) -> Result<Bearer, Refusal> {
        let spec = TokenReviewSpec {
            audiences: Some(vec![self.wanted.audience.clone()]),
            token: Some(token),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let options = PostParams::default();
        let asked = tokio::time::timeout(WITHIN, self.reviews.create(&options, &review)).await;
        match asked {
            Ok(Ok(reviewed)) => judge(reviewed, &self.wanted),
            Ok(Err(error)) => Err(Refusal::Away(why(&error))),
            Err(_) => Err(Refusal::Away("the API server did not answer in time".to_owned())),
        }
    }
}

async fn by_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let shown = || path.display().to_string();
    let failed = |source| ConnectError::Kubeconfig { path: shown(), source: Box::new(source) };
    let read = Kubeconfig::read_from(path).map_err(failed)?;
    let of_it = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read, &of_it).await.map_err(failed)?;
    if config.accept_invalid_certs {
        return Err(ConnectError::Unverified { path: shown() });
    }
    Ok(config)
}

/// The server's words only where they say nothing of the token.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => format!(
            "the API server does not let the collector review tokens ({}): bind its ServiceAccount \
             to the ClusterRole system:auth-delegator",
            status.code
        ),
        kube::Error::Api(status) => format!("the API server answers {}", status.code),
        _ => "the API server does not answer".to_owned(),
    }
}

/// What of an answer can be believed.
fn judge(review: TokenReview, wanted: &Wanted) -> Result<Bearer, Refusal> {
    let status = review.status.unwrap_or_default();
    let user = status.user.unwrap_or_default();
    let bearer = bearer(&user);
    let refused = |why| Err(Refusal::Token(Box::new(bearer.clone()), why));
    if status.authenticated != Some(true) {
        return refused("the API server does not authenticate the token");
    }
    // A server that knows no audiences answers without any.
    if !status.audiences.unwrap_or_default().contains(&wanted.audience) {
        return refused("the token is for another audience");
    }
    let Wanted { namespace, service_account, .. } = wanted;
    let is_agent = user.username.as_deref()
        == Some(&format!("system:serviceaccount:{namespace}:{service_account}"));
    if !is_agent {
        return refused("the token is not of the agents' ServiceAccount");
    }
    if bearer.pod.is_empty() || bearer.pod_uid.is_empty() {
        return refused("the token is bound to no pod");
    }
    if !spiffe::is_name(&bearer.node) {
        return refused("the token names no node");
    }
    Ok(bearer)
}

fn bearer(user: &UserInfo) -> Bearer {
    let extra = |name: &str| {
        let told = user.extra.as_ref().and_then(|extra| extra.get(name));
        match told.map(Vec::as_slice) {
            Some([one]) if one.len() <= NAME_BYTES_MAX => one.clone(),
            _ => String::new(),
        }
    };
    let account = user.username.as_deref().and_then(|name| {
        let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (namespace.len() + name.len() <= 2 * NAME_BYTES_MAX)
            .then(|| (namespace.to_owned(), name.to_owned()))
    });
    let (namespace, service_account) = account.unwrap_or_default();
    Bearer {
        namespace,
        service_account,
        pod: extra(POD_NAME),
        pod_uid: extra(POD_UID),
        node: extra(NODE_NAME),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            namespace: "pcigate".into(),
            service_account: "agent".into(),
            audience: "pcigate-collector".into(),
        }
    }

    fn judged(change: &serde_json::Value) -> Result<Bearer, &'static str> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["pcigate-collector"],
            "user": {
                "username": "system:serviceaccount:pcigate:agent",
                "extra": {POD_NAME: ["agent-x"], POD_UID: ["u-1"], NODE_NAME: ["node-1"]},
            },
        });
        for (pointer, value) in change.as_object().unwrap() {
            *status.pointer_mut(pointer).unwrap() = value.clone();
        }
        let review = serde_json::from_value(json!({"spec": {}, "status": status})).unwrap();
        judge(review, &wanted()).map_err(|refusal| match refusal {
            Refusal::Token(_, why) => why,
            Refusal::Away(_) => "away",
        })
    }

    #[test]
    fn only_an_authenticated_token_of_the_agents_bound_to_a_pod_on_a_node_counts() {
        assert_eq!(judged(&json!({})).unwrap().node, "node-1");
        let extra = |name: &str| format!("/user/extra/{}", name.replace('/', "~1"));
        for (pointer, value, why) in [
            ("/authenticated".to_owned(), json!(false), "does not authenticate"),
            ("/authenticated".to_owned(), json!(null), "does not authenticate"),
            ("/audiences".to_owned(), json!(["https://kubernetes"]), "another audience"),
            ("/audiences".to_owned(), json!(null), "another audience"),
            (
                "/user/username".to_owned(),
                json!("system:serviceaccount:pcigate:agent2"),
                "not of the agents'",
            ),
            (
                "/user/username".to_owned(),
                json!("system:serviceaccount:other:agent"),
                "not of the agents'",
            ),
            ("/user/username".to_owned(), json!("agent"), "not of the agents'"),
            ("/user".to_owned(), json!(null), "not of the agents'"),
            (extra(POD_UID), json!([]), "bound to no pod"),
            (extra(POD_NAME), json!(["a", "b"]), "bound to no pod"),
            (extra(NODE_NAME), json!([]), "names no node"),
            (extra(NODE_NAME), json!(["node-1/../../person/eve"]), "names no node"),
            (extra(NODE_NAME), json!(["n".repeat(254)]), "names no node"),
        ] {
            let refused = judged(&json!({pointer.clone(): value.clone()})).unwrap_err();
            assert!(refused.contains(why), "{pointer} {value}: {refused}");
        }
    }
}
