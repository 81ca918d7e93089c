//! The node agent: the kernel programs' other half.
//!
//! The way of an event, in reading order: `sensor` takes it from the kernel's ring, `attribution`
//! says who it was (`workloads`, `processes`), `recorder` makes a record of it in the `spool`,
//! `exporter` sends it. The way of a policy: `workloads` finds who is there, `governor` compiles,
//! `enforcer` writes the kernel's maps.

mod atomic_file;
pub mod config;
mod memory;
pub mod policies;

pub mod btf;
pub mod causes;
pub mod cgroup;
pub mod offsets;
pub mod preflight;

pub mod connections;
pub mod digests;
pub mod enforcer;
pub mod enroll;
pub mod gateway;
pub mod governor;
pub mod grants;
pub mod hooks;
pub mod kubernetes;
pub mod workloads;

pub mod attribution;
pub mod beat;
pub mod pipeline;
pub mod processes;
pub mod sensor;

pub mod coverage;
pub mod draft;
pub mod exporter;
pub mod recorder;
pub mod spool;

pub mod downtime;
pub mod handover;

pub mod privileges;
pub mod sandbox;
mod seccomp;
mod stage;

pub mod admin;
pub mod notify;
pub mod running;
