//! The compiler and the linker of the kernel programs: found, or installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::run::{cargo, command, root};

/// The release of bpf-linker that this project is tested with.
const LINKER: &str = "0.13.0";

/// What to do when the linker cannot be installed here.
pub const LINKER_REMEDY: &str = "bpf-linker 0.13.0 is needed: install it yourself and set \
    PCIGATE_BPF_LINKER to its path, or install the packages llvm-22-dev and libpolly-22-dev and \
    run `cargo xtask setup` again";

/// Debian's compiler, where its packages rustc-web and rust-web-src put it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Releases of LLVM that bpf-linker can be built with, and the variable that says where each is.
const LLVMS: &[(u32, &str)] =
    &[(22, "LLVM_SYS_221_PREFIX"), (23, "LLVM_SYS_231_PREFIX"), (21, "LLVM_SYS_211_PREFIX")];

/// The command that gives a usable compiler's version, if there is one: the overriding
/// `PCIGATE_BPF_RUSTC`, Debian's 1.96 or newer with its source, or rustup's nightly with rust-src.
pub fn compiler() -> Option<Vec<String>> {
    if let Ok(given) = std::env::var("PCIGATE_BPF_RUSTC") {
        return Some(vec![given]);
    }
    let debian = vec![DEBIAN_RUSTC.to_owned()];
    if Path::new("/usr/lib/rustlib/src/rust/library/core").is_dir()
        && Path::new("/usr/bin/cargo").is_file()
        && minor_of(&version(&debian)?).is_some_and(|minor| minor >= 96)
    {
        return Some(debian);
    }
    let nightly: Vec<String> = ["rustup", "run", "nightly", "rustc"].map(str::to_owned).into();
    let sysroot = quiet(&nightly, &["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    source.is_dir().then_some(nightly)
}

/// The command that makes rustup bring a usable compiler.
pub fn install_nightly() -> Command {
    let words =
        ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    command("rustup", words)
}

/// Whether the linker that the build will use answers with the release we want.
pub fn linker_works() -> bool {
    if let Ok(given) = std::env::var("PCIGATE_BPF_LINKER") {
        return quiet(&[given], &["--version"]).is_some();
    }
    let ours = vec![tools().join("bin/bpf-linker").to_string_lossy().into_owned()];
    quiet(&ours, &["--version"]).is_some_and(|said| said.trim().ends_with(LINKER))
}

/// The LLVM to build the linker with: it must read what the compiler writes, so it is never older.
pub fn llvm() -> Option<(u32, PathBuf)> {
    let wanted = compiler().and_then(|rustc| llvm_of(&version(&rustc)?)).unwrap_or(22);
    let places = LLVMS.iter().map(|(major, _)| (*major, format!("/usr/lib/llvm-{major}").into()));
    let mut places: Vec<(u32, PathBuf)> = places
        .filter(|(major, place): &(u32, PathBuf)| {
            *major >= wanted && place.join("include/llvm-c").is_dir()
        })
        .collect();
    places.sort();
    places.into_iter().next()
}

/// The command that builds and installs the linker into target/tools.
pub fn install_linker() -> Result<Command> {
    if std::env::var_os("PCIGATE_BPF_LINKER").is_some() {
        bail!("PCIGATE_BPF_LINKER is set, but that program does not run; correct or unset it");
    }
    let Some((major, place)) = llvm() else {
        bail!("no LLVM to build it with; {LINKER_REMEDY}");
    };
    let tools = tools().to_string_lossy().into_owned();
    let feature = format!("llvm-{major}");
    let words = ["install", "bpf-linker", "--version", LINKER, "--locked", "--force"];
    let mut command = cargo(words);
    command.args(["--no-default-features", "--features", &feature, "--root", &tools]);
    // Its own build script goes by LLVM_PREFIX (without it, by whatever llvm-config is on the
    // PATH), and makes the program find its LLVM wherever it is started.
    command.env("LLVM_PREFIX", &place);
    for (_, variable) in LLVMS.iter().filter(|(known, _)| *known == major) {
        command.env(variable, &place);
    }
    Ok(command)
}

fn tools() -> PathBuf {
    root().join("target/tools")
}

fn version(rustc: &[String]) -> Option<String> {
    quiet(rustc, &["-vV"])
}

/// What the command prints, or nothing when it is not there or fails.
fn quiet(words: &[String], more: &[&str]) -> Option<String> {
    let (program, args) = words.split_first()?;
    let mut command = command(program, args);
    // rustup would go by the toolchain of this chore, or speak about a missing one.
    command.args(more).env_remove("RUSTUP_TOOLCHAIN").stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The 96 of `release: 1.96.0`.
fn minor_of(version: &str) -> Option<u32> {
    let release = version.lines().find_map(|line| line.strip_prefix("release: 1."))?;
    release.split('.').next()?.parse().ok()
}

/// The 22 of `LLVM version: 22.1.8`.
fn llvm_of(version: &str) -> Option<u32> {
    let release = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    release.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{llvm_of, minor_of};

    #[test]
    fn versions_are_read_from_what_rustc_prints() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\n\
                    LLVM version: 22.1.8\n";
        assert_eq!((minor_of(said), llvm_of(said)), (Some(96), Some(22)));
        assert_eq!(minor_of("release: 1.98.0-nightly\n"), Some(98));
        assert_eq!((minor_of("rustc"), llvm_of("")), (None, None));
    }
}
