//! Why a stream to the collector ended or could not begin, and what to do about it.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsError};

use crate::spool::SpoolError;

/// Why a stream ended or could not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the collector's address `{url}` cannot be used")]
    Address {
        url: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("this node has no certificate yet: {why}")]
    NoCertificate { why: String },
    #[error("cannot connect to the collector")]
    Connect {
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the collector ended the stream: {} ({:?})", status.message(), status.code())]
    Status {
        /// Not a `#[source]`: its message is shown, its own sources are looked at by `kind`.
        status: Box<tonic::Status>,
        /// Whether the collector had answered Hello before.
        answered: bool,
    },
    #[error("the collector closed the stream")]
    Ended,
    #[error("the collector did not answer within {seconds} s")]
    Silent { seconds: u64 },
    #[error("the collector's answer makes no sense: {what}")]
    Protocol { what: String },
    #[error("the spool cannot be read")]
    Spool {
        #[source]
        source: SpoolError,
    },
    #[error("the exporter's own work was cancelled")]
    Cancelled,
}

/// Troubles with the same remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Address,
    NoCertificate,
    Unreachable,
    ServerName,
    ServerCertificate,
    ClientCertificate,
    NotAllowed,
    Interrupted,
    Protocol,
    Spool,
}

impl Trouble {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } => Kind::Address,
            Self::NoCertificate { .. } => Kind::NoCertificate,
            Self::Connect { source } => tls_kind(source).unwrap_or(Kind::Unreachable),
            // TLS 1.3 tells the client that its certificate is refused after the handshake; the
            // alert often drowns in the error of the first write. A status that the collector
            // itself sent has no source.
            Self::Status { status, answered: false } if status.source().is_some() => {
                Kind::ClientCertificate
            }
            Self::Status { status, .. } => tls_kind(&**status).unwrap_or(match status.code() {
                tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Kind::NotAllowed,
                tonic::Code::InvalidArgument
                | tonic::Code::FailedPrecondition
                | tonic::Code::Unimplemented => Kind::Protocol,
                _ => Kind::Interrupted,
            }),
            Self::Ended | Self::Silent { .. } | Self::Cancelled => Kind::Interrupted,
            Self::Protocol { .. } => Kind::Protocol,
            Self::Spool { .. } => Kind::Spool,
        }
    }
}

impl Kind {
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Address => "write collector.url as https://HOST:7443",
            Self::NoCertificate => "it is asked for again by itself (collector.enroll)",
            Self::Unreachable => {
                "check that the collector runs and that collector.url, DNS and firewalls lead to it"
            }
            Self::ServerName => {
                "collector.url must use a name that stands in the collector's certificate"
            }
            Self::ServerCertificate => {
                "ca.pem of collector.tlsDir must be the CA that issued the collector's \
                 certificate, and both clocks must be right"
            }
            Self::ClientCertificate => {
                "most likely the collector refuses cert.pem of collector.tlsDir: have it issued \
                 by the collector's CA (`pcigate-collector issue`), and check that it has \
                 not expired"
            }
            Self::NotAllowed => {
                "cert.pem of collector.tlsDir must be a node's certificate \
                 (spiffe://TRUST-DOMAIN/node/NAME)"
            }
            Self::Interrupted => "the agent connects again by itself",
            Self::Protocol => "run an agent and a collector of versions that belong together",
            Self::Spool => "see the error; evidence stays on this node until it is repaired",
        }
    }
}

fn tls_kind(error: &(dyn Error + 'static)) -> Option<Kind> {
    Some(match tls_error(error)? {
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Kind::ServerName,
        TlsError::InvalidCertificate(_) => Kind::ServerCertificate,
        TlsError::AlertReceived(_) => Kind::ClientCertificate,
        _ => return None,
    })
}

/// The TLS error at the bottom of an error, also inside an `io::Error`.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(inner) = inner
            && let Some(found) = tls_error(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}
