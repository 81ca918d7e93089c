//! How clients of a Target get in: TLS towards them, tokens, a role of the session's own. Holds
//! only references to secrets, never a secret.

use super::secret::{self, SecretKey};
use super::target::{Credential, KeyPair, TargetProtocol, absolute_path};
use crate::yaml::{Fields, shown};

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// What the gateway shows to clients.
    pub certificate: CertificateRef,
    /// Clients that do not ask for TLS are refused.
    pub required: bool,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateRef {
    /// PEM files on the node (documents loaded from disk only).
    Files(KeyPair),
    /// A Secret of type kubernetes.io/tls in the target's namespace.
    Secret(String),
}

/// Tokens that clients bring as their password: JSON Web Tokens (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who brings none, or a wrong one, is refused. Otherwise a token for this audience must be
    /// right, and any other password is ignored.
    pub required: bool,
    /// What `aud` must hold.
    pub audience: String,
    /// What `iss` must be; empty with `review`.
    pub issuer: String,
    /// File with the issuer's keys (JWK Set, RFC 7517); empty with `review`, and where they are in
    /// a Secret.
    pub jwks_file: String,
    /// The keys in a Secret of the target's namespace.
    pub jwks_secret: Option<SecretKey>,
    /// The API server says whose it is (TokenReview), and it must be the connecting pod's own.
    pub review: bool,
}

/// A role at the target for each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRole {
    /// Roles it is a member of: all its rights.
    pub grants: Vec<String>,
    /// How its name begins.
    pub prefix: String,
}

/// How the names of session roles begin where nothing is said.
const PREFIX: &str = "pcigate_";
/// `NAMEDATALEN - 1` (manual, "Identifiers and Key Words").
const NAME_MAX: usize = 63;
/// The rest of a session role's name: 16 hexadecimal digits.
const PREFIX_MAX: usize = NAME_MAX - 16;

impl ClientTls {
    /// `{certFile, keyFile}` or `{secretRef: {name}}`, and `required`.
    pub(super) fn decode(mut fields: Fields<'_, '_>) -> Option<Self> {
        let cert = fields.parsed("certFile", absolute_path);
        let key = fields.parsed("keyFile", absolute_path);
        let secret = secret::pair(&mut fields, "secretRef").map(CertificateRef::Secret);
        let files = fields.has("certFile") || fields.has("keyFile");
        if fields.has("certFile") != fields.has("keyFile") || files == fields.has("secretRef") {
            fields.mistake("", "needs either `certFile` and `keyFile`, or `secretRef`");
        }
        let required = fields.bool("required").unwrap_or(false);
        fields.finish();
        let files = cert.zip(key).map(|(cert, key)| CertificateRef::Files(KeyPair { cert, key }));
        Some(Self { certificate: files.or(secret)?, required })
    }
}

impl Token {
    /// The mapping `token` of a Target's `spec`.
    pub(super) fn decode(spec: &mut Fields<'_, '_>) -> Option<Self> {
        let given = spec.has("token");
        let token = spec.fields("token").and_then(|mut fields| {
            if !fields.has("required") {
                let message = "is required; say whether clients without a token are refused";
                fields.mistake("required", message);
            }
            let required = fields.bool("required");
            let audience = fields.required_string("audience");
            let review = fields.bool("tokenReview").unwrap_or(false);
            let given = ["issuer", "jwksFile", "jwksSecretRef"].map(|name| fields.has(name));
            let issuer = fields.string("issuer").unwrap_or_default();
            let jwks_file = fields.parsed("jwksFile", absolute_path).unwrap_or_default();
            let jwks_secret = SecretKey::decode(&mut fields, "jwksSecretRef");
            let fits = match given {
                [false, false, false] => review,
                [true, file, secret] => !review && file != secret,
                _ => false,
            };
            if !fits {
                let message = "needs either `issuer` and one of `jwksFile` and `jwksSecretRef`, or \
                               `tokenReview`";
                fields.mistake("", message);
            }
            fields.finish();
            Some(Self { required: required?, audience, issuer, jwks_file, jwks_secret, review })
        });
        if given && !spec.has("clientTls") {
            let message = "is asked for over TLS only, because whoever reads it can use it; \
                           add `clientTls`";
            spec.mistake("token", message);
        }
        token
    }
}

impl SessionRole {
    /// The mapping `sessionRole` of a Target's `spec`.
    pub(super) fn decode(
        spec: &mut Fields<'_, '_>,
        protocol: Option<TargetProtocol>,
        credential: Option<&Credential>,
    ) -> Option<Self> {
        let given = spec.has("sessionRole");
        let role = spec.fields("sessionRole").map(|mut fields| {
            let grants = fields.parsed_list("grants", name);
            if grants.is_empty() {
                let message = "is required; name the roles whose rights a session has";
                fields.mistake("grants", message);
            }
            if credential.is_some_and(|of| grants.contains(&of.username)) {
                let message = "names the credential's own role, which makes and drops the others; \
                               grant a role with the rights of a session only";
                fields.mistake("grants", message);
            }
            let prefix = fields.parsed("prefix", prefix).unwrap_or_else(|| PREFIX.to_owned());
            fields.finish();
            Self { grants, prefix }
        });
        if given && protocol.is_some_and(|of| of != TargetProtocol::Postgres) {
            spec.mistake("sessionRole", "is for `protocol: postgres` only; remove it");
        }
        if given && !spec.has("credential") {
            let message = "needs a `credential`, which makes and drops the roles; add it";
            spec.mistake("sessionRole", message);
        }
        role
    }
}

/// A role of the server, as it is spelled there.
fn name(text: &str) -> Result<String, String> {
    if (1..=NAME_MAX).contains(&text.len()) && !text.contains('\0') {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not the name of a role; write 1 to {NAME_MAX} bytes", shown(text)))
}

/// What needs no quotes, so that nobody has to guess how it is spelled.
fn prefix(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if letters && begins && text.len() <= PREFIX_MAX && !text.starts_with("pg_") {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} cannot begin the name of a role; write lowercase letters, digits and `_`, at most \
         {PREFIX_MAX}, and not `pg_` first",
        shown(text)
    ))
}
