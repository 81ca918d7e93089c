//! Who is at the other end of a connection: the SPIFFE id in the verified client certificate.

use std::time::Duration;

use pcigate_proto::spiffe::{self, Identity};
use tonic::{Request, Status};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::{
    logging::foreign,
    records::{masked, now_unix_nano},
};

/// Why a certificate names nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("the client certificate cannot be parsed")]
    Malformed,
    /// It must have exactly one URI name.
    #[error(
        "the client certificate has {count} URI names; it must have exactly one, \
         spiffe://TRUST-DOMAIN/node/NAME or …/person/NAME (`pcigate-collector issue`)"
    )]
    Names {
        /// URI names in it.
        count: usize,
    },
    /// The URI is not one of ours.
    #[error("the client certificate names nobody known here: {reason}")]
    Uri {
        /// What is wrong with the URI.
        reason: String,
    },
}

/// Reads the identity out of a certificate (DER), whose signature has been checked before.
///
/// # Errors
/// It does not carry exactly one URI name that is a pcigate SPIFFE id.
pub fn of_certificate(der: &[u8]) -> Result<Identity, IdentityError> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
        .map_err(|_| IdentityError::Malformed)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => spiffe::parse(uri).map_err(|reason| IdentityError::Uri { reason }),
        more => Err(IdentityError::Names { count: more.len() }),
    }
}

/// The node of a request; only nodes may ingest.
///
/// # Errors
/// `UNAUTHENTICATED` without an identity, `PERMISSION_DENIED` for a person.
pub fn node<T>(request: &Request<T>) -> Result<String, Status> {
    match of_request(request)? {
        Identity::Node(name) => Ok(name),
        Identity::Person { id } => {
            tracing::warn!(person = foreign(&id), "a person tried to ingest");
            Err(Status::permission_denied("only a node's certificate may send records"))
        }
    }
}

/// How long the certificate of a request counts from now; for ever where it cannot be read, which
/// [`node`] refuses.
pub fn left<T>(request: &Request<T>) -> Duration {
    let certificates = request.peer_certs();
    let first = certificates.as_deref().and_then(|chain| chain.first());
    let end = first.and_then(|der| {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        u64::try_from(parsed.validity().not_after.timestamp()).ok()
    });
    let now = Duration::from_nanos(now_unix_nano());
    end.map_or(Duration::MAX, |end| Duration::from_secs(end).saturating_sub(now))
}

/// The SPIFFE id of the person behind a request; only people may ask for evidence.
///
/// # Errors
/// `UNAUTHENTICATED` without an identity, `PERMISSION_DENIED` for a node.
pub fn person<T>(request: &Request<T>) -> Result<String, Status> {
    match of_request(request)? {
        Identity::Person { id } => Ok(id),
        Identity::Node(node) => {
            tracing::warn!(node = foreign(&node), "a node tried to read evidence");
            Err(Status::permission_denied("only a person's certificate may read evidence"))
        }
    }
}

fn of_request<T>(request: &Request<T>) -> Result<Identity, Status> {
    let certificates = request.peer_certs();
    let first = certificates.as_deref().and_then(|chain| chain.first());
    let Some(certificate) = first else {
        return Err(Status::unauthenticated("a client certificate is needed"));
    };
    of_certificate(certificate).map_err(|error| {
        // The error may quote the certificate.
        let (error, peer) = (masked(&error.to_string()), request.remote_addr());
        tracing::warn!(?error, ?peer, "unusable client certificate");
        Status::unauthenticated(error)
    })
}
