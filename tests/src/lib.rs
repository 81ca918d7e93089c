//! What kernel and system tests share: a governed cgroup, the programs under test, waiting for a
//! condition with a deadline. Tests themselves are in `tests/`.

#![allow(clippy::expect_used, reason = "a test that cannot go on should say where")]

pub mod apiserver;
pub mod attack;
pub mod crash;
pub mod dns;
pub mod faults;
pub mod figures;
pub mod issuer;
pub mod kernel;
pub mod line;
pub mod needs;
pub mod network;
pub mod port;
pub mod postgres;
pub mod probe_guards;
pub mod probe_peers;
pub mod probe_sockets;
pub mod site;
pub mod system_calls;
pub mod table;
pub mod uring;
pub mod wait;

use std::path::PathBuf;

/// A program of this workspace, built by `cargo xtask test` beside the tests.
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process has a path");
    // target/debug/deps/kernel-… → target/debug, where our own programs are.
    let directory = test.parent().expect("a program is in a directory");
    let is_test = directory.ends_with("deps");
    let directory =
        if is_test { directory.parent().expect("deps has a parent") } else { directory };
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// Fails loudly where a test cannot run, instead of passing without having looked.
///
/// # Panics
/// Not root.
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "kernel and system tests need root: run `sudo cargo xtask test` \
         (`cargo xtask test --no-root` runs the others)"
    );
}
