//! Kernel tests: real programs, real hooks, in cgroups of their own. They need root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod egress;
mod exec;
mod ingress;
mod lsm;
mod rings;
mod sockets;
mod too_old;
