//! What users install: the images, the chart, and both at once in a real container runtime.
#![allow(clippy::print_stderr, reason = "a failed test shows what the runtime said")]

mod chart;
mod containerd;
mod cri;
mod image;
mod kubelet;
mod manifests;
mod others;
mod pods;
