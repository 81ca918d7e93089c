//! What a SQL text would do: its effects, tables, columns and functions, by the server's own
//! grammar (`pg_query` 18, PostgreSQL's parser as a library). Pure: text in, description out.
//!
//! ```
//! use pcigate_policy::document::Effect;
//! use pcigate_sql::{Cache, Catalog, Session, text};
//!
//! // The effective path of the server: `SELECT current_schemas(false)`.
//! let mut session = Session::new("billing_ro", &["public"]);
//! let mut cache = Cache::new(64 << 20);
//! let query = text(b"SELECT pan FROM cards WHERE id = $1\0")?;
//! let statements = cache.classify(query, &session, &Catalog::default(), 0)?;
//! assert_eq!(statements[0].facts.effects, [Effect::Read]);
//! // Decide: `pcigate_policy::statement::decide(&rules, &target.columns, database, &facts)`.
//! for statement in statements.iter() {
//!     session.after(statement, true);
//! }
//! session.ready(b'I');
//! # Ok::<(), pcigate_sql::Refusal>(())
//! ```
//!
//! For a connection:
//! * Query and Parse: [`classify`] (or [`Cache::classify`]); a [`Refusal`] or a denial of *any*
//!   statement refuses the message. Classify a named statement again at Bind: what its names mean
//!   follows the search path, as in the server. [`Session::prepare`] makes it known to `EXECUTE`.
//! * After each CommandComplete or ErrorResponse: [`Session::after`]; at each ReadyForQuery:
//!   [`Session::ready`]; at each ParameterStatus: [`Session::parameter_status`]. Where a text with
//!   several statements fails outside of a transaction, [`Session::restore`] what
//!   [`Session::settings`] was before.
//! * [`Statement::outputs`] says where each column of the answer comes from, also through views and
//!   `COPY`, where the protocol's own description does not.
//!
//! What no parser can tell, and who holds it instead: a function of one's own with the name of one
//! of `pg_catalog` and better fitting argument types, operators and casts likewise, triggers and
//! rules behind a table, code inside functions. Creating any of these needs `dcl`; name existing
//! ones to the [`Catalog`]. Casts to types of one's own are not effects. Without a catalog a view
//! is a table, and a bare column of a query over several tables may be any table's.

#![forbid(unsafe_code)]

mod bounds;
mod cache;
mod catalog;
mod classify;
mod data;
mod ddl;
mod normal;
mod parse;
mod refusal;
mod session;
mod settings;
mod statement;
mod utility;
mod walk;

pub use bounds::{MAX_STATEMENTS, MAX_TEXT, MAX_TOKENS};
pub use cache::Cache;
pub use catalog::{Catalog, Relation};
pub use classify::{classify, text};
pub use normal::{Normal, normalised};
pub use refusal::Refusal;
pub use session::{MAX_HELD, MAX_PREPARED, Session, Settings};
pub use statement::{Copy, CopyEnd, Naming, Output, Source, Statement};
