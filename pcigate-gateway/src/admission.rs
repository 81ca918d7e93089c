//! Whether a client is let in: over TLS where that is required, and by the token it brings as its
//! password.

use pcigate_policy::document::Token;
use pcigate_postgres::backend::{Authentication, Message};
use pcigate_postgres::{WireError, frontend};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::opening::ClientStream;
use crate::plan::Plan;
use crate::review::{self, Review, Unreviewed};
use crate::tokens::{self, Identity, TokenError, Tokens};

/// `invalid_authorization_specification` and `invalid_password` (manual, "PostgreSQL Error
/// Codes").
const NOT_SO: &str = "28000";
const NOT_YOU: &str = "28P01";
/// `cannot_connect_now`.
const NOT_NOW: &str = "57P03";

/// Kubernetes names its ServiceAccounts so in `sub`.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Who the client has proven to be; nothing where it has not and need not.
pub(crate) async fn admit<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Framed<ClientStream<C>>,
    plan: &Plan,
    tls: bool,
) -> Result<Option<Identity>, SessionEnd> {
    let target = &plan.target;
    if !tls && target.client_tls.as_ref().is_some_and(|tls| tls.required) {
        let remedy = "set sslmode=require or better";
        return Err(unproven(NOT_SO, "a connection in the clear is refused", remedy));
    }
    let Some(token) = &target.token else { return Ok(None) };
    let by = By::of(token, plan)?;
    if !tls {
        if !token.required {
            return Ok(None);
        }
        let remedy = "set sslmode=require or better, so that nobody else reads it";
        return Err(unproven(NOT_SO, "a token is asked for over TLS only", remedy));
    }
    let password = ask(client).await?;
    let identity = match by {
        By::Keys(tokens) => tokens.verify(&password).map_err(|source| refused(&source, tokens))?,
        By::Review(review) => {
            let verified = review::verify(password, token, review).await;
            verified.map_err(|source| unreviewed(&source, token))?
        }
    };
    identity.map(|identity| check(identity, plan)).transpose()
}

/// How tokens are verified.
enum By<'a> {
    Keys(&'a Tokens),
    Review(&'a Review),
}

impl<'a> By<'a> {
    fn of(token: &Token, plan: &'a Plan) -> Result<Self, SessionEnd> {
        let (by, remedy) = if token.review {
            (plan.review.as_ref().map(Self::Review), "run the agent in Kubernetes")
        } else {
            (plan.tokens.as_deref().map(Self::Keys), "check its jwksFile")
        };
        let what = "the Target asks for tokens and nobody can verify them";
        by.ok_or_else(|| unproven(NOT_SO, what, remedy))
    }
}

/// What the client sends as its password. Nobody else sees it.
async fn ask<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Framed<ClientStream<C>>,
) -> Result<Zeroizing<Vec<u8>>, SessionEnd> {
    let mut out = bytes::BytesMut::new();
    Message::Authentication(Authentication::CleartextPassword).encode(&mut out)?;
    let sent = client.send(&out).await;
    sent.map_err(|source| SessionEnd::Client { source: Some(source) })?;
    let limits = frontend::Limits { password: tokens::PASSWORD_MAX, ..Default::default() };
    let frame = loop {
        if let Some(frame) = frontend::next(&mut client.buffer, &limits).map_err(too_long)? {
            break frame;
        }
        match client.fill().await {
            Ok(0) => return Err(SessionEnd::Client { source: None }),
            Ok(_) => {}
            Err(source) => return Err(SessionEnd::Client { source: Some(source) }),
        }
    };
    match frontend::Message::decode(&frame)? {
        frontend::Message::Password(body) => {
            let password = frontend::password(body)?;
            Ok(Zeroizing::new(password.to_vec()))
        }
        _ => Err(unproven(NOT_SO, "another message than the password was sent", "log in first")),
    }
}

/// A longer password is no fault of the protocol.
fn too_long(error: WireError) -> SessionEnd {
    match error {
        WireError::TooLong { .. } => {
            unproven(NOT_YOU, "the password is longer than a token", "bring a shorter one")
        }
        other => other.into(),
    }
}

/// A token of a ServiceAccount must be of the one that the pod runs as.
fn check(identity: Identity, plan: &Plan) -> Result<Identity, SessionEnd> {
    let Some(of) = identity.subject.strip_prefix(SERVICE_ACCOUNT) else { return Ok(identity) };
    let own = plan.workload.service_account.as_ref();
    let own = own.is_some_and(|own| of.split_once(':') == own.split_once('/'));
    if own {
        return Ok(identity);
    }
    let what = "the token is of another ServiceAccount than the one that connects";
    Err(unproven(NOT_YOU, what, "use the token of the pod's own ServiceAccount"))
}

fn refused(source: &TokenError, tokens: &Tokens) -> SessionEnd {
    let what = format!("{source} (for audience {}, issuer {})", tokens.audience, tokens.issuer);
    unproven(NOT_YOU, &what, "bring a fresh token of that issuer as the password")
}

fn unreviewed(source: &Unreviewed, token: &Token) -> SessionEnd {
    let what = format!("{source} (for audience {}, by TokenReview)", token.audience);
    match source {
        Unreviewed::Refused(_) => {
            let remedy = "bring a fresh token of the pod's own, projected for that audience";
            unproven(NOT_YOU, &what, remedy)
        }
        Unreviewed::Later(_) => unproven(NOT_NOW, &what, "connect again later"),
    }
}

fn unproven(code: &'static str, what: &str, remedy: &'static str) -> SessionEnd {
    SessionEnd::Unproven { what: what.to_owned(), remedy, code }
}
