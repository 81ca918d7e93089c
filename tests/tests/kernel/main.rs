//! Kernel tests: real programs, real hooks, in cgroups of their own. They need root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod bypass;
mod egress;
mod exec;
mod exec_digests;
mod exec_ways;
mod flood;
mod grants;
mod guards;
mod identity;
mod ingress;
mod lsm;
mod names;
mod privileges;
mod redirect;
mod rings;
mod sockets;
mod start;
mod survival;
mod too_old;
mod verifier_cost;
