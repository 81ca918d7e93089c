//! Builds the kernel programs (pcigate-ebpf) and hands their object to `src/enforcer.rs`.
//!
//! One shared target directory (`target/bpf`), so `core` is compiled once. With
//! `PCIGATE_SKIP_EBPF=1` the object is empty: check, clippy and unit tests then need no BPF
//! toolchain, and loading says plainly that no programs are embedded.

#![allow(clippy::expect_used, clippy::print_stderr, reason = "a build script talks to cargo")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pcigate.o");
    for name in
        ["PCIGATE_SKIP_EBPF", "PCIGATE_BPF_RUSTC", "PCIGATE_BPF_CARGO", "PCIGATE_BPF_LINKER"]
    {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os("PCIGATE_SKIP_EBPF").is_some_and(|value| value == "1") {
        fs::write(&out, []).expect("OUT_DIR is writable");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
    for watched in ["pcigate-ebpf/src", "pcigate-ebpf/Cargo.toml", "pcigate-common/src"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    match build(root) {
        Ok(object) => {
            fs::copy(object, &out).expect("OUT_DIR is writable");
        }
        Err(reason) => {
            eprintln!("error: the kernel programs cannot be built: {reason}");
            eprintln!(
                "`cargo xtask setup` installs what they need; PCIGATE_SKIP_EBPF=1 skips them"
            );
            std::process::exit(1);
        }
    }
}

/// How to call a compiler that can build `core` for the BPF target.
struct Toolchain {
    cargo: Vec<String>,
    rustc: Option<String>,
}

/// Debian's rustc-web, which brings the source of `core`; otherwise rustup's nightly.
fn toolchain() -> Toolchain {
    let debian = Path::new("/usr/bin/cargo").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/core").exists();
    let mut found = if debian {
        Toolchain { cargo: vec!["/usr/bin/cargo".into()], rustc: Some("/usr/bin/rustc".into()) }
    } else {
        Toolchain {
            cargo: ["rustup", "run", "nightly", "cargo"].map(String::from).to_vec(),
            rustc: None,
        }
    };
    if let Ok(cargo) = env::var("PCIGATE_BPF_CARGO") {
        found.cargo = vec![cargo];
    }
    if let Ok(rustc) = env::var("PCIGATE_BPF_RUSTC") {
        found.rustc = Some(rustc);
    }
    found
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let linker = env::var_os("PCIGATE_BPF_LINKER")
        .map_or_else(|| root.join("target/tools/bin/bpf-linker"), PathBuf::from);
    if !linker.exists() {
        return Err(format!("no bpf-linker at {}", linker.display()));
    }
    let target_dir = root.join("target/bpf");
    let toolchain = toolchain();
    let rustflags = [
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut command = Command::new(&toolchain.cargo[0]);
    command
        .args(&toolchain.cargo[1..])
        .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(root.join("pcigate-ebpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"))
        .env("RUSTC_BOOTSTRAP", "1");
    for inherited in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(inherited);
    }
    if let Some(rustc) = &toolchain.rustc {
        command.env("RUSTC", rustc);
    }
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let object = target_dir.join(TARGET).join("release/pcigate-ebpf");
    refuse_panics(&object)?;
    Ok(object)
}

/// A reachable panic would be refused by the verifier with a message nobody understands; an object
/// that still names one is refused here.
fn refuse_panics(object: &Path) -> Result<(), String> {
    let bytes = fs::read(object).map_err(|error| format!("{}: {error}", object.display()))?;
    let needle = b"4core9panicking";
    let symbols = bytes.windows(needle.len()).any(|window| window == needle);
    if symbols {
        Err("the object holds a reachable panic (core::panicking)".into())
    } else {
        Ok(())
    }
}
