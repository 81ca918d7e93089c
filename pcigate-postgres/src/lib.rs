//! The PostgreSQL frontend/backend protocol, versions 3.0 to 3.2: bytes to messages and back,
//! following a session, and logging in to a server. Pure: no socket, no clock, no async; bytes and
//! messages go in, messages and answers come out. What SQL means is not known here.
//!
//! A gateway between a client and a server uses it in this order:
//!
//! 1. [`startup::next`] on the client's bytes: SSLRequest, CancelRequest, StartupMessage.
//! 2. [`login::Login`] with the server: [`login::Login::begin`] gives the startup message,
//!    [`login::Login::received`] takes each [`backend::Message`] and says what to send, until
//!    [`login::Step::Done`].
//! 3. Both ways: [`frontend::next`] and [`backend::next`] take whole messages ([`frame::Frame`])
//!    off a `BytesMut`, under limits for each type; [`frontend::Message::decode`] and
//!    [`backend::Message::decode`] read them. Rows and data are slices of the buffer: a DataRow
//!    that needs no change is [`frame::Frame::bytes`], sent on; one that does is written by
//!    [`backend::encode_row`].
//! 4. [`session::Session`] between the two:
//!    * a client's message: [`session::Session::about`] says what statement and portal it is about,
//!      or that it must wait or be dropped; then [`session::Session::sent`] *before* it is sent on,
//!      or [`session::Session::refused`], which gives what to send in its place;
//!    * a server's message: [`session::Session::received`] says which request it answers, with the
//!      columns of a row, whatever Describe told them and however long ago.
//! 5. [`denial::Denial`]: the words of a refusal, in place of the server's error.
//!
//! ```
//! use bytes::BytesMut;
//! use pcigate_postgres::{backend, frontend, session};
//!
//! let mut from_client = BytesMut::from(&b"Q\0\0\0\x0dselect 1\0"[..]);
//! let frame = frontend::next(&mut from_client, &frontend::Limits::default())?.unwrap();
//! let message = frontend::Message::decode(&frame)?;
//!
//! let mut session = session::Session::new(session::Limits::default());
//! if let session::About::Decide { .. } = session.about(&message)? {
//!     // The policy allows it: record it, tell the session, send `frame.bytes()` to the server.
//!     session.sent(&message, session::Origin::Client, "the caller's")?;
//! }
//!
//! let mut from_server = BytesMut::from(&b"C\0\0\0\x0dSELECT 1\0"[..]);
//! let frame = backend::next(&mut from_server, &backend::Limits::default())?.unwrap();
//! let answer = session.received(&backend::Message::decode(&frame)?)?;
//! assert_eq!(answer.request.map(|request| request.tag), Some("the caller's"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the caller must see to:
//!
//! * A row whose [`session::Answer::shape`] is nothing was never described: mask it by content, or
//!   refuse it. One with [`session::Source::Statement`] has the right types and names, but maybe
//!   not the right tables: to decide by table, send a Describe of the portal behind each Bind
//!   ([`session::Origin::Gateway`], and keep its answer from the client), and refuse Parse of FETCH
//!   and EXECUTE, whose portals look a name up only when they run.
//! * SQL that makes or forgets names (PREPARE, DEALLOCATE, DECLARE, CLOSE, DISCARD) is told by
//!   [`session::Session::will`]; functions that do it inside of the server cannot be seen.
//! * Errors of this crate never quote contents; reports of the server ([`backend::Report`]) do.

pub mod backend;
pub mod denial;
mod error;
pub mod frame;
pub mod frontend;
pub mod login;
mod reader;
pub mod session;
pub mod startup;
pub mod values;
mod writer;

pub use error::{Side, What, WireError};

#[cfg(test)]
mod tests;
