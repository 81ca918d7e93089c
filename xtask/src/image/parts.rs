//! The files of an image that come from this machine: our programs, without their debug
//! information, and the shared libraries they are linked with, each with its Debian package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Build, Image};
use crate::run::{command, read, run};
use crate::vm::libraries;

/// What was collected.
pub struct Parts {
    /// (name, where it lies now), in the order of the image.
    pub programs: Vec<(&'static str, PathBuf)>,
    /// Path in the image, below /usr, and where it lies now.
    pub libraries: BTreeMap<String, PathBuf>,
    /// The packages of the libraries.
    pub packages: BTreeMap<String, Package>,
}

/// A package of the machine that something is copied from.
pub struct Package {
    /// As dpkg has it.
    pub version: String,
    /// Its licences, in full.
    pub copyright: String,
    /// Paths in the image.
    pub files: BTreeSet<String>,
}

/// Collects them; programs are copied to `scratch`.
pub fn collect(image: &Image, build: &Build, scratch: &Path) -> Result<Parts> {
    let mut programs = Vec::new();
    for program in image.programs {
        let from = build.programs.join(program.name);
        if !from.is_file() {
            bail!("{} is missing: build it, or leave --programs out", from.display());
        }
        let to = scratch.join(program.name);
        // Nobody debugs in the image; and debug information names the paths of this machine.
        run(command("strip", ["--strip-debug", "-o"]).args([&to, &from]))
            .context("`strip` removes debug information: install binutils")?;
        programs.push((program.name, to));
    }
    let mut found = BTreeMap::new();
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for library in libraries(programs.iter().map(|(_, path)| path.as_path()))? {
        let place = below_usr(&library);
        let package = package_of(&library)?;
        let entry = match packages.entry(package) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let package = describe(new.key())?;
                new.insert(package)
            }
        };
        entry.files.insert(place.clone());
        found.insert(place, library);
    }
    Ok(Parts { programs, libraries: found, packages })
}

/// `/lib64/x` and `/usr/lib64/x` are one place, and images have it below /usr.
fn below_usr(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.strip_prefix("/usr").unwrap_or(&path);
    format!("usr{path}")
}

/// dpkg knows a file by the path it was installed with, which may be from before /usr was merged.
fn package_of(library: &Path) -> Result<String> {
    let place = below_usr(library);
    let real = fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let old = place.strip_prefix("usr").unwrap_or(&place).to_owned();
    for path in [format!("/{place}"), old, real.to_string_lossy().into_owned()] {
        let asked = command("dpkg", ["-S", &path]).output().context("`dpkg` cannot be started")?;
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        if let Some((package, _)) = said.split_once(": ")
            && asked.status.success()
        {
            return Ok(package.split(':').next().unwrap_or(package).to_owned());
        }
    }
    bail!(
        "{} belongs to no Debian package, so its version and licence are not known: build images \
         on Debian",
        library.display()
    )
}

fn describe(package: &str) -> Result<Package> {
    let version = read(&mut command("dpkg-query", ["-W", "-f", "${Version}\n", package]))?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    let path = format!("/usr/share/doc/{package}/copyright");
    let copyright = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}, the licence that has to go with a copy"))?;
    Ok(Package { version, copyright, files: BTreeSet::new() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::below_usr;

    #[test]
    fn a_library_lies_below_usr_whatever_the_loader_calls_it() {
        let place = "usr/lib/x86_64-linux-gnu/libc.so.6";
        assert_eq!(below_usr(Path::new("/lib/x86_64-linux-gnu/libc.so.6")), place);
        assert_eq!(below_usr(Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6")), place);
    }
}
