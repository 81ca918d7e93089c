//! The records and services of pcigate, generated from `proto/`, and the rules a record must keep.
//!
//! The one file that touches a disk is `tls`, which reads a TLS directory.

pub mod record;
pub mod spiffe;
pub mod tls;

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]
mod generated {
    tonic::include_proto!("pcigate.v1");
}

pub use generated::*;
/// Encoding and decoding of messages.
pub use prost::Message;
