//! `cargo xtask verifier`: builds the Go program that verifies our ledger with code not ours.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::run;

/// Where Debian's golang-golang-x-mod-dev puts the tlog and note packages (Go's "GOPATH mode").
const GOPATH: &str = "/usr/share/gocode";

/// Build the independent ledger verifier (Go) into target/verifier/verifier.
///
/// Usage of the program: `target/verifier/verifier LEDGER-DIR VKEY-FILE`.
/// Exit 0 and `ok size=N root=BASE64`, 2 and `MISMATCH at entry N`, 1 for anything else.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Run the verifier's own tests as well.
    #[arg(long)]
    test: bool,
}

/// Builds the program and says where it is.
pub fn main(options: &Options) -> Result<ExitCode> {
    crate::setup::ensure(crate::setup::Scope::All)?;
    run::run(&mut build())?;
    if options.test {
        run::run(&mut test())?;
    }
    println!("{}", program().display());
    Ok(ExitCode::SUCCESS)
}

/// Whether Go and its tlog packages are on this machine.
pub fn is_possible() -> bool {
    on_path("go") && Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog").is_dir()
}

/// Whether Go and its driver of PostgreSQL are on this machine.
pub fn has_driver() -> bool {
    on_path("go") && Path::new(GOPATH).join("src/github.com/lib/pq").is_dir()
}

/// Whether a program of this name is on the PATH.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The command that builds it.
pub fn build() -> Command {
    go(["build", "-o", "target/verifier/verifier", "tests/verifier/main.go"])
}

/// The command that runs its own tests, a line per test.
pub fn test() -> Command {
    go(["test", "-v", "tests/verifier/main.go", "tests/verifier/main_test.go"])
}

fn program() -> PathBuf {
    run::root().join("target/verifier/verifier")
}

fn go<const N: usize>(args: [&str; N]) -> Command {
    let mut command = run::command("go", args);
    command
        .env("GO111MODULE", "off")
        .env("GOPATH", GOPATH)
        .env("GOCACHE", run::root().join("target/verifier/cache"))
        .env("GOFLAGS", "");
    command
}
