//! PostgreSQL's protocol against a real PostgreSQL 15: logging in, following sessions, and every
//! byte of its own client programs through our decoders and encoders.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod client;
mod login;
mod relay;
mod session;
