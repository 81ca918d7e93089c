//! System tests: collector, agent and CLI as processes, over real mTLS, on real kernel events.
//! They need root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod bad_input;
mod custom_resources;
mod enroll;
mod evidence;
mod examples;
mod gated;
mod index;
mod kubernetes;
mod metrics;
mod operations;
mod outages;
mod reviewed;
mod sandbox;
mod serve;
