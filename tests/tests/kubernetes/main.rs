//! What speaks with a Kubernetes API server, against one of the tests' own; and kubectl against
//! that, so that it can be believed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod apiserver;
mod crds;
mod plugin;
mod secrets;
mod source;
mod status;
