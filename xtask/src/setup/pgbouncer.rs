//! pgbouncer, which the gateway is measured against: unpacked into target/pgbouncer and never
//! installed, because Debian's package would start a service.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::{command, root, run};
use crate::verifier;

/// With the libraries a machine may lack.
const PACKAGES: [&str; 3] = ["pgbouncer", "libc-ares2", "libevent-2.1-7"];

fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root().join("target"), PathBuf::from).join("pgbouncer")
}

/// Brings it where it is missing.
pub fn ensure() -> Result<()> {
    let directory = directory();
    if directory.join("usr/sbin/pgbouncer").exists() {
        return Ok(());
    }
    ensure!(
        verifier::on_path("apt-get") && verifier::on_path("dpkg-deb"),
        "no apt-get and dpkg-deb to bring pgbouncer with"
    );
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut download = command("apt-get", ["download"].iter().chain(&PACKAGES));
    run(download.current_dir(&directory))?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, &directory)?;
        }
    }
    Ok(())
}

fn unpack(package: &Path, directory: &Path) -> Result<()> {
    let words = ["--extract".as_ref(), package.as_os_str(), directory.as_os_str()];
    run(&mut command("dpkg-deb", words))?;
    fs::remove_file(package).with_context(|| format!("cannot remove {}", package.display()))
}
