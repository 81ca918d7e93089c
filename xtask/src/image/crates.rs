//! Which crates are linked into a program, by what cargo itself resolves: normal dependencies of
//! this machine's target with the features of the whole workspace; no proc-macros, no build or test
//! dependencies. The kernel programs are a workspace of their own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::run::{command, read, root};

/// A crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    pub name: String,
    pub version: String,
}

/// What is known of a crate.
#[derive(Debug, Default)]
pub struct About {
    /// As its manifest has it.
    pub licence: String,
    /// SHA-256 of its archive; empty for ours.
    pub checksum: String,
    /// What it is linked with.
    pub needs: BTreeSet<Crate>,
}

/// All crates of both workspaces.
#[derive(Debug, Default)]
pub struct Graph {
    crates: BTreeMap<Crate, About>,
}

const FORMAT: &str = "|{p}|{l}";

/// Asks cargo.
pub fn graph() -> Result<Graph> {
    let mut graph = Graph::default();
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    for (manifest, target, lock) in [
        ("Cargo.toml", host.as_str(), "Cargo.lock"),
        // The target of the kernel programs is known to another compiler only; it decides nothing.
        ("pcigate-ebpf/Cargo.toml", host.as_str(), "pcigate-ebpf/Cargo.lock"),
    ] {
        let words = ["tree", "--workspace", "--locked", "--manifest-path", manifest];
        let what = ["-e", "normal,no-proc-macro", "--prefix", "depth", "--format", FORMAT];
        let mut tree = command("cargo", words);
        let said = read(tree.args(what).args(["--target", target]))?;
        graph.read(&said)?;
        let lock_text = std::fs::read_to_string(root().join(lock))
            .with_context(|| format!("cannot read {lock}"))?;
        graph.checksums(&lock_text);
    }
    Ok(graph)
}

/// Version of the workspace.
pub fn version() -> Result<String> {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).context("Cargo.toml")?;
    let line = text.lines().find_map(|line| line.strip_prefix("version = \""));
    let version = line.and_then(|line| line.strip_suffix('"'));
    Ok(version.context("Cargo.toml lacks the workspace's version")?.to_owned())
}

impl Graph {
    /// Everything linked into the programs of these packages, themselves included. The agent
    /// carries the kernel programs.
    pub fn linked(&self, packages: &[&str]) -> BTreeMap<&Crate, &About> {
        let mut found = BTreeMap::new();
        let mut names: BTreeSet<&str> = packages.iter().copied().collect();
        if names.contains("pcigate-agent") {
            names.insert("pcigate-ebpf");
        }
        let mut next: Vec<&Crate> =
            self.crates.keys().filter(|known| names.contains(known.name.as_str())).collect();
        while let Some(one) = next.pop() {
            if let Some((one, about)) = self.crates.get_key_value(one)
                && found.insert(one, about).is_none()
            {
                next.extend(&about.needs);
            }
        }
        found
    }

    /// Reads what `cargo tree` prints: `DEPTH|NAME vVERSION (PATH)|LICENCE`, with ` (*)` behind a
    /// crate whose needs were printed before.
    fn read(&mut self, said: &str) -> Result<()> {
        let mut above: Vec<Crate> = Vec::new();
        for line in said.lines().filter(|line| !line.is_empty()) {
            let mut fields = line.split('|');
            let depth = fields.next().and_then(|depth| depth.parse::<usize>().ok());
            let (Some(depth), Some(package), Some(licence)) = (depth, fields.next(), fields.next())
            else {
                bail!("`cargo tree` printed `{line}`, which is not understood");
            };
            let mut words = package.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let version = words.next().and_then(|version| version.strip_prefix('v'));
            let version = version.with_context(|| format!("no version in `{line}`"))?.to_owned();
            let one = Crate { name, version };
            let about = self.crates.entry(one.clone()).or_default();
            licence.trim_end_matches(" (*)").clone_into(&mut about.licence);
            above.truncate(depth);
            if let Some(by) = above.last() {
                self.crates.entry(by.clone()).or_default().needs.insert(one.clone());
            }
            above.push(one);
        }
        Ok(())
    }

    fn checksums(&mut self, lock: &str) {
        for block in lock.split("[[package]]") {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|value| value.strip_prefix(" = \"")?.strip_suffix('"'))
            };
            let (Some(name), Some(version), Some(checksum)) =
                (field("name"), field("version"), field("checksum"))
            else {
                continue;
            };
            let one = Crate { name: name.to_owned(), version: version.to_owned() };
            if let Some(about) = self.crates.get_mut(&one) {
                checksum.clone_into(&mut about.checksum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;

    #[test]
    fn what_is_linked_follows_the_tree_also_where_cargo_prints_a_crate_once() {
        let said = "0|a v1.0.0 (/p/a)|Apache-2.0\n1|x v2.0.0|MIT/Apache-2.0\n2|y v3.0.0|MIT\n\
                    1|z v4.0.0|MIT\n\n0|b v1.0.0 (/p/b)|Apache-2.0\n\
                    1|x v2.0.0|MIT/Apache-2.0 (*)\n";
        let mut graph = Graph::default();
        graph.read(said).unwrap();
        graph.checksums("[[package]]\nname = \"y\"\nversion = \"3.0.0\"\nchecksum = \"abc\"\n");
        let names = |package: &str| {
            let linked = graph.linked(&[package]);
            linked.keys().map(|one| one.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("a"), "a x y z");
        assert_eq!(names("b"), "b x y", "and not what only the other is linked with");
        let linked = graph.linked(&["b"]);
        let y = linked.iter().find(|(one, _)| one.name == "y").unwrap();
        assert_eq!((y.1.checksum.as_str(), y.1.licence.as_str()), ("abc", "MIT"));
        assert!(Graph::default().read("what is this").is_err());
    }
}
