//! What users install: the images, the chart, and both at once in a real container runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stderr, reason = "a failed test shows what the runtime said")]

mod chart;
mod containerd;
mod cri;
mod image;
mod kubelet;
mod manifests;
mod others;
mod pods;
