//! One gated PostgreSQL session: who may say what, what comes back masked, and what is recorded
//! first. Between a client's stream and a Target's server, whatever the streams are; nothing here
//! listens, reads files or knows of pods.
//!
//! How it is wired, once for the process: [`Keys::new`]. Once for each workload and Target: a
//! [`Plan`] (rules of the gate rules that lead to the Target, the Target itself, a [`Password`],
//! TLS by [`tls`], [`Maskers`], [`Limits`]), and a [`Dial`] that opens a connection to the server
//! from wherever it has to be opened. For each connection of a client: [`serve`], which returns
//! when it is over.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use pcigate_gateway::{Client, Dial, Door, Keys, Plan, serve};
//! # use tokio::net::TcpStream;
//! # async fn accepted(stream: TcpStream, plan: Arc<Plan>, keys: Arc<Keys>, door: Door) {
//! let dial: Dial<TcpStream> = Box::new(|| Box::pin(TcpStream::connect("10.0.0.5:5432")));
//! // Keep `revoke`: sending a reason ends the session at once.
//! let (revoke, end) = tokio::sync::oneshot::channel();
//! let client = Client { stream, address: "10.1.2.3:40000".to_owned(), end };
//! if let Err(why) = serve(client, &plan, &dial, &keys, &door).await {
//!     // Already told to the client and recorded: a line for the log.
//!     eprintln!("{why}");
//! }
//! # drop(revoke);
//! # }
//! ```
//!
//! The other end of the [`Door`] is the recorder's. It takes each [`Entry`] in order, adds session
//! id and actor, and where `durable` is set answers once that record **and all before it** are on
//! disk. One that answers with [`NotRecorded`], or not at all, ends the session: the client is told
//! (SQLSTATE 58030) and nothing of that batch goes upstream.
//!
//! What holds:
//!
//! * A statement goes upstream only when its record is on disk. All messages that have come by
//!   then wait together: one wait for each batch, however many statements are in it.
//! * A refusal is an ErrorResponse (42501), and the session goes on: the server gets something
//!   that fails in the statement's place, so transactions are where the client thinks they are.
//!   Statements with `ask` are refused with the key of the request ([`request_key`]), which covers
//!   parameters: prepared ones are refused when they are bound.
//! * A batch behind a statement that changes what texts mean (SET, DDL, functions) waits for its
//!   answer before it is read.
//! * A row goes on as it came or as a whole new one. A value that cannot be read is NULL; data of
//!   COPY that cannot be read end the session.
//! * Tagged columns are known by table and attribute number, of every portal anew (the server is
//!   asked once for each Bind, unseen by the client); views and partitions that show them are
//!   tagged as they are. Codes (class `sad`) are always NULL.
//! * A budget (`maxRows`, `maxBytes`) ends the statement by a cancel request and an error (54000).
//!   One that was done before the cancel reached it has done what it does; its answer stays cut.
//! * Where the Target has `sessionRole`, a session logs in as a role of its own: made before it,
//!   dropped behind it, or by a later session where that fails.
//! * [`Plan::budgets`] count over a whole session: its later statements are refused, or it ends and
//!   what runs is cancelled.
//! * What is known of the database is read when a session begins, and again behind its own DDL and
//!   before a relation is used that is not known: statements and rows wait for that. What somebody
//!   else changes in a known relation is seen with the next reading.
//!
//! Memory: an idle session holds its state and no buffer, and shares what is known of the database
//! with the others. A busy one holds [`Limits::buffer`] twice and the largest message. Half-open
//! peers end by [`Limits::stalled`] when something waits for them; otherwise by the caller's TCP
//! keepalive.

#![forbid(unsafe_code)]

mod admission;
mod approval;
mod cancel;
mod engine;
mod error;
mod framed;
mod known;
mod opening;
mod plan;
mod record;
mod review;
mod rows;
mod serve;
mod session_role;
mod stream;
pub mod tls;
mod tokens;
mod upstream;

pub use approval::{Request, request_key};
pub use cancel::Keys;
pub use error::SessionEnd;
pub use known::Knowledge;
pub use plan::{Dial, Dialling, Limits, Maskers, Password, Plan, Workload};
pub use record::{
    Direction, Door, Entry, Event, MaskedCounts, NotRecorded, StatementEnd, StatementEvent, Step,
};
pub use review::{Review, Reviewing, Unreviewed};
pub use rows::mask_row;
pub use serve::{Client, serve};
pub use tokens::{Identity, Tokens, TokensError};

pub use pcigate_policy::mask::Masked;
