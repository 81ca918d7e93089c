//! The token of a client as the API server knows it, joined to the pod that the kernel has proven:
//! what the gateway's process asks for and what it is told, and what of it counts for records.

use std::sync::Arc;

use pcigate_gateway::{Identity, Unreviewed};
use pcigate_policy::document::Token;
use tokio::task::JoinSet;

use super::{
    session::Attended,
    wire::{ClientToken, told::Told},
};
use crate::{
    draft::Workload,
    kubernetes::tokens::{Bearer, Reviewer, Unknown},
};

/// Who says so, in records.
const ISSUER: &str = "TokenReview";

/// The review a session asks for, once.
#[derive(Default)]
pub(super) struct Review {
    asked: bool,
    pub(super) under_way: JoinSet<Said>,
    proven: Option<Identity>,
}

/// How it ended.
pub(super) type Said = Result<Identity, Unreviewed>;

impl Review {
    /// Begins it. One that asks twice does not keep to the protocol.
    pub(super) fn begin(&mut self, of: &Attended, token: ClientToken) {
        if std::mem::replace(&mut self.asked, true) {
            return of.session.give_up();
        }
        let reviewer = of.cluster.reviewer.clone();
        let (workload, target) = (Arc::clone(&of.workload), Arc::clone(&of.gate.target));
        self.under_way.spawn(async move {
            let audience = target.token.as_ref().filter(|token| token.review);
            let audience = audience.map_or("", |token| token.audience.as_str());
            review(reviewer.as_deref(), &token, audience, &workload).await
        });
    }

    /// Answers it. A refusal is on record before anybody hears of it.
    pub(super) async fn end(&mut self, of: &Attended, said: Said) {
        match &said {
            Ok(identity) => self.proven = Some(identity.clone()),
            Err(Unreviewed::Refused(why)) => of.recording.refused(why).await,
            Err(Unreviewed::Later(_)) => {}
        }
        let (running, session) = of.session.answers();
        // The process is gone otherwise, and the session with it.
        let _ = running.reviewed(session, said).await;
    }

    /// Puts into what was told whom this agent had reviewed, and nobody else. Whether a session may
    /// have begun at all.
    pub(super) fn vouch(&self, token: Option<&Token>, told: &mut [Told]) -> bool {
        let Some(token) = token.filter(|token| token.review) else { return true };
        told.iter_mut().all(|told| match told {
            Told::Started(started) => {
                started.identity =
                    self.proven.as_ref().map(|of| (of.subject.clone(), of.issuer.clone()));
                started.identity.is_some() || !token.required
            }
            _ => true,
        })
    }
}

async fn review(
    reviewer: Option<&Reviewer>,
    token: &ClientToken,
    audience: &str,
    workload: &Workload,
) -> Said {
    let later = |why: &str| Err(Unreviewed::Later(why.to_owned()));
    let Some(reviewer) = reviewer else {
        return later("this agent knows no API server (workloads.source is not kubernetes)");
    };
    if audience.is_empty() {
        return later("the Target has no tokenReview");
    }
    let Ok(text) = std::str::from_utf8(token.bytes()) else {
        return Err(Unreviewed::Refused("the password is no token".to_owned()));
    };
    match reviewer.review(text, audience, workload.pod_uid.as_str()).await {
        Ok(bearer) => join(bearer, workload),
        Err(Unknown::Refused(why)) => Err(Unreviewed::Refused(why.to_owned())),
        Err(Unknown::Later(why)) => Err(Unreviewed::Later(why)),
    }
}

/// A token counts for the pod it is bound to, and only where the kernel has seen that pod connect.
fn join(bearer: Bearer, workload: &Workload) -> Result<Identity, Unreviewed> {
    let Bearer { username, pod, pod_uid } = bearer;
    let own = workload.pod_uid.as_str();
    let refused = |why: String| Err(Unreviewed::Refused(why));
    if pod_uid.is_empty() {
        return refused("the token is bound to no pod".to_owned());
    }
    if own.is_empty() || own != pod_uid {
        return refused(format!(
            "the token is of another pod ({pod}) than the one that connects ({}/{})",
            workload.namespace.as_str(),
            workload.pod.as_str()
        ));
    }
    let (namespace, account) = (workload.namespace.as_str(), workload.service_account.as_str());
    if username != format!("system:serviceaccount:{namespace}:{account}") {
        return refused("the token is of another ServiceAccount than the pod's".to_owned());
    }
    Ok(Identity { subject: username, issuer: ISSUER.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{Subject, samples};
    use crate::gateway::wire::told::Started;

    fn workload() -> Arc<Workload> {
        match samples::workload("bot") {
            Subject::Workload(workload) => workload,
            _ => unreachable!("a sample of a workload"),
        }
    }

    fn bearer(username: &str, pod_uid: &str) -> Bearer {
        let (username, pod_uid) = (username.to_owned(), pod_uid.to_owned());
        Bearer { username, pod: "bot-1".to_owned(), pod_uid }
    }

    #[test]
    fn a_token_counts_only_for_the_pod_that_the_kernel_has_seen() {
        let own = "system:serviceaccount:bot:bot";
        let proven = join(bearer(own, "bot"), &workload()).unwrap();
        assert_eq!((proven.subject.as_str(), proven.issuer.as_str()), (own, "TokenReview"));
        for (username, uid, why) in [
            (own, "another", "another pod (bot-1) than the one that connects (bot/bot)"),
            (own, "", "bound to no pod"),
            ("system:serviceaccount:bot:other", "bot", "another ServiceAccount"),
            ("system:serviceaccount:other:bot", "bot", "another ServiceAccount"),
            ("admin", "bot", "another ServiceAccount"),
        ] {
            let Err(Unreviewed::Refused(said)) = join(bearer(username, uid), &workload()) else {
                panic!("{username} {uid}");
            };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn what_a_process_says_of_a_token_counts_only_as_it_was_reviewed_here() {
        let rule = |required, review| Token {
            required,
            audience: "db".to_owned(),
            issuer: String::new(),
            jwks_file: String::new(),
            jwks_secret: None,
            review,
        };
        let forged = || {
            let identity = Some(("somebody".to_owned(), "TokenReview".to_owned()));
            [Told::Started(Box::new(Started { identity, ..Started::default() }))]
        };
        let told = |[told]: &[Told; 1]| match told {
            Told::Started(started) => started.identity.clone(),
            _ => None,
        };
        let mut review = Review::default();
        let mut started = forged();
        assert!(!review.vouch(Some(&rule(true, true)), &mut started), "it began unproven");
        assert!(review.vouch(Some(&rule(false, true)), &mut started));
        assert_eq!(told(&started), None);
        let proven = Identity { subject: "bot".to_owned(), issuer: ISSUER.to_owned() };
        review.proven = Some(proven);
        let mut started = forged();
        assert!(review.vouch(Some(&rule(true, true)), &mut started));
        assert_eq!(told(&started), Some(("bot".to_owned(), ISSUER.to_owned())));
        let mut started = forged();
        assert!(review.vouch(Some(&rule(true, false)), &mut started));
        assert_eq!(told(&started).unwrap().0, "somebody", "keys are the process's own business");
    }

    #[test]
    fn who_connects_from_no_pod_is_nobodys_bearer() {
        let mut nobody = Workload::clone(&workload());
        nobody.pod_uid = samples::masked("");
        assert!(join(bearer("system:serviceaccount:bot:bot", ""), &nobody).is_err());
    }
}
