//! Why the collector does not start, or did not end orderly.

use std::net::SocketAddr;

use crate::{
    certificates::CertificateError, enroll, index::RebuildError, ledger::OpenError,
    writer::WriteError,
};

/// Why the collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Ledger {
        /// Why.
        #[source]
        source: Box<OpenError>,
    },
    /// The cursors cannot be rebuilt.
    #[error("the ledger cannot be read")]
    Index {
        /// Why.
        #[source]
        source: Box<RebuildError>,
    },
    /// The TLS directory cannot be used.
    #[error("`tlsDir` cannot be used")]
    Certificates {
        /// The file, or what does not fit.
        #[source]
        source: Box<CertificateError>,
    },
    /// The address cannot be bound.
    #[error("`{key}: {address}` cannot be bound: give an address of this machine that is free")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The authority of enrolment cannot be used.
    #[error("`enroll` cannot be used")]
    Authority {
        /// Why.
        #[source]
        source: enroll::AuthorityError,
    },
    /// The way to the API server is not known.
    #[error("`enroll` cannot be used")]
    Kubernetes {
        /// Why.
        #[source]
        source: enroll::ConnectError,
    },
    /// The system gives no thread.
    #[error("no thread for the writer")]
    Thread {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The first record cannot be written.
    #[error("the start cannot be recorded")]
    Record {
        /// Why.
        #[source]
        source: WriteError,
    },
}

/// Why serving ended, or did not end orderly.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The server failed.
    #[error("serving failed")]
    Serve {
        /// What tonic says.
        #[source]
        source: tonic::transport::Error,
    },
    /// The stop cannot be recorded.
    #[error("the stop cannot be recorded")]
    Record {
        /// Why.
        #[source]
        source: WriteError,
    },
    /// A part of the program panicked.
    #[error("the {part} ended unexpectedly")]
    Panicked {
        /// Which part.
        part: &'static str,
    },
}
