//! DuckDB, the other engine that answers the index must agree with: a Python package.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run};

/// The release that the tests are written for.
const VERSION: &str = "2.0.0";

/// What to do when it cannot be installed here.
const REMEDY: &str = "DuckDB is needed to check the index with another engine: install pip for \
    python3 (Debian: python3-pip) and let it reach a package index, or put the Python package \
    duckdb 2.0.0 into target/duckdb yourself";

/// Whether the release is in target/duckdb.
pub fn present() -> bool {
    directory().join(format!("duckdb-{VERSION}.dist-info")).is_dir()
}

/// Whether it is there already, or python3 has a pip to bring it.
pub fn possible() -> bool {
    present() || has_pip()
}

/// Whether python3 has a pip.
pub fn has_pip() -> bool {
    let mut pip = command("python3", ["-m", "pip", "--version"]);
    pip.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

/// Brings it, in a directory of its own: no Python of this machine sees it otherwise.
pub fn install() -> Result<()> {
    let quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
    let what = ["--upgrade", "--no-deps", "--only-binary", ":all:", "--target"];
    let mut pip = command("python3", ["-m", "pip", "install"]);
    pip.args(quiet).args(what).arg(directory()).arg(format!("duckdb=={VERSION}"));
    run(&mut pip).with_context(|| REMEDY)?;
    if !present() {
        bail!("pip did not bring DuckDB {VERSION}; {REMEDY}");
    }
    Ok(())
}

fn directory() -> PathBuf {
    root().join("target/duckdb")
}
