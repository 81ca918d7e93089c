//! Kernel tests: real programs, real hooks, in cgroups of their own. They need root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod egress;
mod exec;
mod flood;
mod grants;
mod identity;
mod lsm;
mod rings;
mod start;
mod too_old;
mod verifier_cost;
