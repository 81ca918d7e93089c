//! The kernels of the virtual machines: Debian's cloud kernels, fetched by apt into target/vm.
//!
//! apt works with a configuration, lists and a cache of its own there: nothing of this system's is
//! read but its keys and proxies, nothing is written, and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{command, read, root, run};
use crate::verifier::on_path;

/// Suites that together have every kernel of the matrix: 5.10; 6.1 and 6.12; 6.18 and newer.
const SUITES: [(&str, &str); 3] = [
    ("http://deb.debian.org/debian-security", "bullseye-security"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
    ("http://deb.debian.org/debian", "trixie-backports"),
];
/// How the packages are named that may hold an image.
const KINDS: [&str; 2] = ["linux-image-", "linux-binary-"];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The image of the newest release of a series (`6.1`), fetched when it is not there yet.
pub fn image(series: &str) -> Result<PathBuf> {
    let image = place().join(series).join("vmlinuz");
    if !image.is_file() {
        fetch(series, &image).with_context(|| {
            format!(
                "the kernel {series} for the virtual machine is missing; put an image (bzImage) \
                 at {} yourself, or make this work",
                image.display()
            )
        })?;
    }
    Ok(image)
}

fn place() -> PathBuf {
    root().join("target/vm/kernels")
}

fn fetch(series: &str, image: &Path) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg"] {
        if !on_path(program) {
            bail!("there is no {program} here to fetch Debian's kernels with");
        }
    }
    let apt = Apt::prepare()?;
    let package = apt.newest(series)?;
    println!("fetching {package}");
    let place = image.parent().unwrap_or(image);
    let work = place.join("package");
    // What an interrupted run has left.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    run(apt.command("apt-get", &["download", &package]).current_dir(&work))?;
    let archive = below(&work, ".deb")?;
    run(command("dpkg", ["-x"]).arg(&archive).arg(work.join("files")))?;
    // In /boot, and in newer packages beside the modules.
    let found = below(&work.join("files"), "vmlinuz")?;
    fs::rename(&found, image).with_context(|| format!("cannot put {}", image.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot clean up {}", work.display()))
}

/// The first file below a directory whose name holds `part`.
fn below(directory: &Path, part: &str) -> Result<PathBuf> {
    let mut directories = vec![directory.to_owned()];
    while let Some(looked_at) = directories.pop() {
        let entries = fs::read_dir(&looked_at);
        let entries = entries.with_context(|| format!("cannot read {}", looked_at.display()))?;
        for entry in entries.flatten() {
            let kind = entry.file_type().ok();
            if kind.is_some_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(part) {
                return Ok(entry.path());
            }
        }
    }
    bail!("no file named *{part}* came into {}", directory.display())
}

/// apt with a configuration of our own.
struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Writes the configuration and reads the lists of packages.
    fn prepare() -> Result<Self> {
        let place = root().join("target/vm/apt");
        let path = |name: &str| place.join(name);
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = path(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let sources: String = SUITES
            .iter()
            .map(|(url, suite)| format!("deb [arch=amd64 signed-by={KEYS}] {url} {suite} main\n"))
            .collect();
        let config = format!(
            "Dir::State \"{}\";\nDir::Cache \"{}\";\nDir::Etc::sourcelist \"{}\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::State::status \"/dev/null\";\nAPT::Architecture \"amd64\";\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n",
            path("state").display(),
            path("cache").display(),
            path("sources.list").display()
        );
        for (name, text) in [("sources.list", sources), ("apt.conf", config)] {
            let path = path(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let apt = Self { config: path("apt.conf") };
        run(&mut apt.command("apt-get", &["update", "--error-on=any"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = command(program, words);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The package of the newest release of a series.
    fn newest(&self, series: &str) -> Result<String> {
        let mut names = String::new();
        for kind in KINDS {
            let begin = format!("{kind}{series}.");
            names += &read(&mut self.command("apt-cache", &["pkgnames", &begin]))?;
            names.push('\n');
        }
        newest(&names).with_context(|| {
            let suites = SUITES.map(|(_, suite)| suite).join(", ");
            format!("no package linux-image-{series}.*-cloud-amd64 in Debian's suites {suites}")
        })
    }
}

/// Where there is a `linux-binary-…` (from 6.19 on), it has the image; else `linux-image-…` has.
fn newest(names: &str) -> Option<String> {
    let cloud = names.lines().filter(|name| name.ends_with("-cloud-amd64"));
    cloud.max_by_key(|name| (numbers(name), name.starts_with(KINDS[1]))).map(str::to_owned)
}

/// The numbers of `linux-image-6.1.0-56-cloud-amd64`, to be compared from the left.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_release_is_found_by_its_numbers() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
                     linux-image-6.1.0-0.deb11.52-cloud-amd64\nlinux-image-6.1.0-57-amd64\n\
                     linux-image-6.1.0-99-cloud-amd64-unsigned\n";
        assert_eq!(newest(names).unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        let names = "linux-image-6.12.100+deb12-cloud-amd64\nlinux-image-6.12.99+deb12-cloud-amd64";
        assert_eq!(newest(names).unwrap(), "linux-image-6.12.100+deb12-cloud-amd64");
        let names = "linux-image-7.3.4-cloud-amd64\nlinux-binary-7.3.4-cloud-amd64\n\
                     linux-image-7.3.10-cloud-amd64\nlinux-binary-7.3.10-cloud-amd64\n";
        assert_eq!(newest(names).unwrap(), "linux-binary-7.3.10-cloud-amd64");
        assert_eq!(newest("linux-image-amd64\n"), None);
    }
}
