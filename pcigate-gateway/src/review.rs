//! Tokens that somebody else verifies: the API server of Kubernetes, whom only the caller can ask.

use std::{future::Future, pin::Pin};

use jsonwebtoken::decode_header;
use pcigate_policy::document::Token;
use zeroize::Zeroizing;

use crate::tokens::{self, Identity, PASSWORD_MAX};

/// Has a token reviewed: whose it is, and whether that is who connects.
pub type Review = Box<dyn Fn(Zeroizing<Vec<u8>>) -> Reviewing + Send + Sync>;

/// A review under way.
pub type Reviewing = Pin<Box<dyn Future<Output = Result<Identity, Unreviewed>> + Send>>;

/// Why a review proves nobody. No text holds anything of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreviewed {
    /// It is nobody's, or somebody else's.
    #[error("{0}")]
    Refused(String),
    /// Nobody can say now.
    #[error("{0}")]
    Later(String),
}

/// Whose a password is. Nothing where it is no token for us and none is required.
pub(crate) async fn verify(
    password: Zeroizing<Vec<u8>>,
    token: &Token,
    review: &Review,
) -> Result<Option<Identity>, Unreviewed> {
    let refused = |why: &str| Err(Unreviewed::Refused(why.to_owned()));
    let optional = |why: &str| if token.required { refused(why) } else { Ok(None) };
    if password.len() > PASSWORD_MAX {
        return refused("the token is longer than tokens are");
    }
    // What goes into a request as text: a JSON Web Token in its compact form is nothing else.
    let plain = password.iter().all(u8::is_ascii_graphic);
    if !plain || decode_header(&password[..]).is_err() {
        return optional("the password is no token");
    }
    if !tokens::claims(&password, &token.audience) {
        return optional("the token is for another audience");
    }
    review(password).await.map(Some)
}
