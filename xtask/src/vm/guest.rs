//! The file system a virtual machine starts with: the programs, their libraries, some programs of
//! this machine that the tests run, and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::programs::{Programs, libraries};

/// Programs of this machine that the tests run. busybox is also the shell of `--shell`.
const USED: [&str; 6] = [
    "/bin/busybox",
    "/usr/bin/env",
    "/usr/bin/false",
    "/usr/bin/sh",
    "/usr/bin/true",
    "/usr/sbin/chroot",
];

/// Where programs lie in the machine: as in a target directory, so that the tests find them.
const PROGRAMS: &str = "/target/debug";
const TEST: &str = "/target/debug/deps/kernel";

/// Debian has merged these into /usr.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Directories that only have to be there.
const EMPTY: [&str; 8] = ["dev", "etc", "mnt", "opt", "proc", "root", "sys", "tmp"];

const HELLO: &str = "
  All tests:   /target/debug/deps/kernel --test-threads=2
  Some tests:  /target/debug/deps/kernel FILTER
  The agent:   /target/debug/pcigate-agent doctor
  Leave:       exit (or Ctrl-A, then X)
";

/// Writes the archive to `path` and gives the name of the test program in it.
pub fn write(programs: &Programs, path: &Path) -> Result<&'static str> {
    let place = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    // A machine of another run may be about to read the old one.
    let new = path.with_extension("new");
    let file = File::create(&new).with_context(|| format!("cannot write {}", new.display()))?;
    let mut image = Image { archive: Archive::new(BufWriter::new(file)), made: BTreeSet::new() };
    image.fill(programs)?;
    let written = image.archive.finish().and_then(|mut file| file.flush());
    let written = written.and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(TEST)
}

struct Image<W> {
    archive: Archive<W>,
    made: BTreeSet<String>,
}

impl<W: Write> Image<W> {
    fn fill(&mut self, programs: &Programs) -> Result<()> {
        for name in MERGED {
            self.directories(&format!("/usr/{name}/x"))?;
            self.archive.link(name, &format!("usr/{name}"))?;
        }
        for name in EMPTY {
            self.directories(&format!("/{name}/x"))?;
        }
        self.archive.console()?;
        self.file(&programs.init, "/init")?;
        self.file(&programs.test, TEST)?;
        for program in &programs.beside {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            self.file(program, &format!("{PROGRAMS}/{name}"))?;
        }
        for used in USED {
            self.file(Path::new(used), used)?;
        }
        let ours = programs.beside.iter().chain([&programs.init, &programs.test]);
        let all = ours.map(PathBuf::as_path).chain(USED.map(Path::new));
        for library in libraries(all)? {
            self.file(&library, &library.to_string_lossy())?;
        }
        self.archive.program("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")?;
        self.archive.program("etc/motd", HELLO.as_bytes())?;
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from)
            .with_context(|| format!("cannot read {} for the virtual machine", from.display()))?;
        let to = unmerged(to);
        self.directories(&to)?;
        self.archive.program(to.trim_start_matches('/'), &content)?;
        Ok(())
    }

    /// Every directory above `path`, once.
    fn directories(&mut self, path: &str) -> Result<()> {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let directory = path.get(..at).unwrap_or_default();
            if self.made.insert(directory.to_owned()) {
                self.archive.directory(directory)?;
            }
        }
        Ok(())
    }
}

/// `/lib64/x` is `/usr/lib64/x`.
fn unmerged(path: &str) -> String {
    let first = path.split('/').nth(1).unwrap_or_default();
    if MERGED.contains(&first) { format!("/usr{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::unmerged;

    #[test]
    fn a_file_goes_where_the_links_of_a_merged_usr_lead() {
        assert_eq!(unmerged("/lib64/ld-linux-x86-64.so.2"), "/usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(unmerged("/usr/lib/x"), "/usr/lib/x");
        assert_eq!(unmerged("/library/x"), "/library/x");
    }
}
