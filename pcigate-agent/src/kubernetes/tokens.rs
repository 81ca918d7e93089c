//! Whose a token is that a client brings: the API server says so (TokenReview,
//! authentication.k8s.io/v1). What it said holds for a short while, so that a pool of connections
//! is one review.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, api::PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Connection;

/// How long the API server may take, waiting for a turn included.
const WITHIN: Duration = Duration::from_secs(10);
/// How long its word holds: a token is worth nothing any more when its pod is gone, and then nobody
/// connects from there.
const HOLDS: Duration = Duration::from_secs(30);
/// How long a refusal does: a pod that tries again and again is no load.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);
/// Answers that are kept.
const KEPT_MAX: usize = 1024;
/// Reviews at a time.
const AT_A_TIME: usize = 16;
/// How many tokens one pod may have reviewed in a window.
const WINDOW: Duration = Duration::from_secs(10);
const PER_WINDOW: u32 = 20;
/// Pods that are counted.
const PODS_MAX: usize = 4096;
/// Bytes of a name that is believed.
const NAME_MAX: usize = 253;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Whose a token is. Names as the API server tells them, bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// The pod it is bound to; empty where to none.
    pub pod: String,
    /// That pod's UID.
    pub pod_uid: String,
}

/// Why that is not known. No text holds anything of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is nobody's.
    Refused(&'static str),
    /// Nobody can say now.
    Later(String),
}

/// Asks the API server.
pub struct Reviewer {
    reviews: Api<TokenReview>,
    turns: Semaphore,
    kept: Mutex<HashMap<[u8; 32], Kept>>,
    asked: Mutex<HashMap<String, (Instant, u32)>>,
}

/// An answer, and when it was given.
#[derive(Clone)]
struct Kept(Instant, Result<Bearer, &'static str>);

impl Kept {
    fn holds(&self, now: Instant) -> bool {
        let holds = if self.1.is_ok() { HOLDS } else { REFUSAL_HOLDS };
        now.saturating_duration_since(self.0) < holds
    }
}

impl Reviewer {
    /// By this way.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        Self {
            reviews: Api::all(connection.client.clone()),
            turns: Semaphore::new(AT_A_TIME),
            kept: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Whose a token for `audience` is; `pod_uid` says who asks.
    ///
    /// # Errors
    /// See [`Unknown`].
    pub async fn review(
        &self,
        token: &str,
        audience: &str,
        pod_uid: &str,
    ) -> Result<Bearer, Unknown> {
        let key = key(token, audience);
        let now = Instant::now();
        let kept = lock(&self.kept).get(&key).filter(|kept| kept.holds(now)).cloned();
        if let Some(Kept(_, said)) = kept {
            return said.map_err(Unknown::Refused);
        }
        if !may_ask(&mut lock(&self.asked), pod_uid, now) {
            return Err(Unknown::Later("this pod has too many tokens reviewed".to_owned()));
        }
        let spec = TokenReviewSpec {
            audiences: Some(vec![audience.to_owned()]),
            token: Some(token.to_owned()),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let options = PostParams::default();
        let asking = async {
            // It is never closed.
            let _turn = self.turns.acquire().await;
            self.reviews.create(&options, &review).await
        };
        let said = match tokio::time::timeout(WITHIN, asking).await {
            Ok(Ok(reviewed)) => judge(reviewed, audience),
            Ok(Err(error)) => return Err(Unknown::Later(why(&error))),
            Err(_) => {
                let why = "the API server did not say in time whose the token is";
                return Err(Unknown::Later(why.to_owned()));
            }
        };
        keep(&mut lock(&self.kept), key, Kept(Instant::now(), said.clone()));
        said.map_err(Unknown::Refused)
    }
}

fn key(token: &str, audience: &str) -> [u8; 32] {
    let length = (audience.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(audience).chain_update(token).finalize().into()
}

fn keep(kept: &mut HashMap<[u8; 32], Kept>, key: [u8; 32], said: Kept) {
    if kept.len() >= KEPT_MAX {
        kept.retain(|_, kept| kept.holds(said.0));
    }
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, said);
}

/// Whether a pod may have one more reviewed.
fn may_ask<K: Eq + Hash + From<&'static str>>(
    asked: &mut HashMap<K, (Instant, u32)>,
    pod: impl Into<K>,
    now: Instant,
) -> bool {
    let is_over = |begun: Instant| now.saturating_duration_since(begun) >= WINDOW;
    if asked.len() >= PODS_MAX {
        asked.retain(|_, (begun, _)| !is_over(*begun));
    }
    if asked.len() >= PODS_MAX {
        return false;
    }
    let (begun, count) = asked.entry(pod.into()).or_insert((now, 0));
    if is_over(*begun) {
        (*begun, *count) = (now, 0);
    }
    *count = count.saturating_add(1);
    *count <= PER_WINDOW
}

/// The server's words may be of the token; only its code is told.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => format!(
            "the API server does not let the agent review tokens ({}): give its ServiceAccount \
             `create` on tokenreviews",
            status.code
        ),
        kube::Error::Api(status) => format!("the API server answers {}", status.code),
        _ => "the API server does not answer".to_owned(),
    }
}

fn judge(review: TokenReview, audience: &str) -> Result<Bearer, &'static str> {
    let status = review.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err("the API server does not authenticate the token");
    }
    // A server that knows no audiences answers without any.
    if !status.audiences.unwrap_or_default().iter().any(|one| one == audience) {
        return Err("the token is for another audience");
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.clone().unwrap_or_default();
    if username.is_empty() || username.len() > 3 * NAME_MAX {
        return Err("the token is nobody's");
    }
    Ok(Bearer { username, pod: extra(&user, POD_NAME), pod_uid: extra(&user, POD_UID) })
}

fn extra(user: &UserInfo, name: &str) -> String {
    let told = user.extra.as_ref().and_then(|extra| extra.get(name));
    match told.map(Vec::as_slice) {
        Some([one]) if one.len() <= NAME_MAX => one.clone(),
        _ => String::new(),
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: &serde_json::Value) -> Result<Bearer, &'static str> {
        judge(serde_json::from_value(json!({"spec": {}, "status": status})).unwrap(), "db")
    }

    #[test]
    fn only_what_is_authenticated_for_our_audience_is_somebodys() {
        let user = json!({"username": "system:serviceaccount:shop:bot",
                          "extra": {POD_NAME: ["bot-1"], POD_UID: ["u-1"]}});
        let good = json!({"authenticated": true, "audiences": ["other", "db"], "user": user});
        let bearer = judged(&good).unwrap();
        assert_eq!((bearer.pod.as_str(), bearer.pod_uid.as_str()), ("bot-1", "u-1"));
        for (field, value) in [
            ("authenticated", json!(false)),
            ("authenticated", json!(null)),
            ("audiences", json!(["other"])),
            ("audiences", json!(null)),
            ("user", json!(null)),
            ("user", json!({"username": "n".repeat(1_000)})),
        ] {
            let mut wrong = good.clone();
            wrong[field] = value.clone();
            assert!(judged(&wrong).is_err(), "{field}: {value}");
        }
        let mut ambiguous = good;
        ambiguous["user"]["extra"][POD_UID] = json!(["u-1", "u-2"]);
        assert_eq!(judged(&ambiguous).unwrap().pod_uid, "", "of two pods it is nobody's");
    }

    #[test]
    fn what_was_said_holds_for_a_bounded_time_and_number() {
        let now = Instant::now();
        let bearer = Bearer { username: "u".into(), pod: String::new(), pod_uid: String::new() };
        let good = Kept(now, Ok(bearer));
        let bad = Kept(now, Err("no"));
        assert!(good.holds(now + HOLDS / 2) && !good.holds(now + HOLDS));
        assert!(bad.holds(now) && !bad.holds(now + REFUSAL_HOLDS));
        let mut kept = HashMap::new();
        for number in 0..3 * KEPT_MAX {
            keep(&mut kept, key(&number.to_string(), "db"), good.clone());
            assert!(kept.len() <= KEPT_MAX);
        }
        assert_ne!(key("a", "db"), key("a", "d"), "another audience is another question");
    }

    #[test]
    fn a_pod_that_tries_token_after_token_has_to_wait_and_others_do_not() {
        let (now, mut asked) = (Instant::now(), HashMap::<String, _>::new());
        let may = (0..=PER_WINDOW).map(|_| may_ask(&mut asked, "a", now)).filter(|may| *may);
        assert_eq!(may.count(), PER_WINDOW as usize);
        assert!(may_ask(&mut asked, "b", now));
        assert!(may_ask(&mut asked, "a", now + WINDOW));
    }
}
