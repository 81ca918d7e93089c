//! The programs that run in a virtual machine: the very files of the native run, and the shared
//! libraries they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, command, read, shown};

/// What is built, and where each file lies.
pub struct Programs {
    /// The kernel tests, as `cargo test` runs them.
    pub test: PathBuf,
    /// The programs the tests start; they have to lie one directory above the tests.
    pub beside: Vec<PathBuf>,
    /// Process 1 of the machine.
    pub init: PathBuf,
}

const INIT: &str = "pcigate-vm-init";
const BESIDE: [&str; 3] = ["pcigate-agent", "pcigate-attack", "pcigate-probe"];
const TEST: &str = "kernel";

/// Builds them. After `cargo xtask test` has built everything, this only finds them: selection and
/// profile are the same, so the files are.
pub fn build() -> Result<Programs> {
    let mut words = vec!["build", "--workspace", "--test", TEST, "--bin", INIT];
    words.extend(BESIDE.iter().flat_map(|name| ["--bin", name]));
    words.push("--message-format=json-render-diagnostics");
    let mut build = cargo(words);
    println!("$ {}", shown(&build));
    let messages = read(&mut build)?;
    let find = |kind: &str, name: &str| {
        let found = messages.lines().find_map(|line| executable(line, kind, name));
        found.with_context(|| format!("cargo built no {kind} {name}"))
    };
    let beside = BESIDE.iter().map(|name| find("bin", name)).collect::<Result<_>>()?;
    Ok(Programs { test: find("test", TEST)?, beside, init: find("bin", INIT)? })
}

/// The file in a message of cargo about this target.
fn executable(message: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let kinds = target.get("kind")?.as_array()?;
    let is_it = target.get("name")? == name && kinds.iter().any(|known| known == kind);
    is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
}

/// The shared libraries of these programs, with the loader, as `ldd` names them.
pub fn libraries<'a>(programs: impl Iterator<Item = &'a Path>) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = command("ldd", [program]).output();
        let output = output.with_context(|| "`ldd` cannot be started: install libc-bin")?;
        let said = String::from_utf8_lossy(&output.stdout);
        found.extend(paths(&said).with_context(|| format!("libraries of {}", program.display()))?);
    }
    Ok(found)
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; a
/// static program has none.
fn paths(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines() {
        let line = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
        if line.starts_with("not found") {
            bail!("a library is missing on this machine: {said}");
        }
        if line.starts_with('/') {
            found.extend(line.split(" (").next().map(PathBuf::from));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{executable, paths};

    #[test]
    fn the_test_program_is_found_among_cargo_s_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},
            "executable":"/t/debug/deps/kernel-1f"}"#;
        let found = executable(message, "test", "kernel");
        assert_eq!(found, Some(PathBuf::from("/t/debug/deps/kernel-1f")));
        assert_eq!(executable(message, "bin", "kernel"), None);
        assert_eq!(executable(message, "test", "system"), None);
        assert_eq!(executable("   Compiling kernel", "test", "kernel"), None);
    }

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(said).unwrap(), expected);
        assert!(paths("\tstatically linked\n").unwrap().is_empty());
        assert!(paths("\tlibx.so => not found\n").is_err());
    }
}
