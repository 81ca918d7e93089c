//! `cargo xtask setup`: makes this machine able to build and test, or says exactly how to.

mod bpf;
pub mod pgbouncer;
pub mod postgres;
mod python;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::run::{command, is_root, run};
use crate::{verifier, vm};

/// Install what building and testing need. Does nothing, quickly, when nothing is missing.
///
/// Debian 12 as root: packages by apt-get. Elsewhere: the BPF compiler by rustup (nightly with
/// rust-src). bpf-linker goes to target/tools and Python packages to directories below target,
/// never to the user's own programs.
/// Where it may not install something, it prints the commands to run, and fails.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

/// How much of it a chore needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The host crates, rustfmt and clippy: what checks and unit tests need.
    Host,
    /// The host crates and the kernel programs: what running the product needs.
    Kernel,
    /// Both of these, QEMU with kernels for other kernels, and what is not ours to check ours with:
    /// Go, DuckDB, kubectl, helm, containerd, PostgreSQL and its drivers.
    All,
}

/// One thing that may be missing, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    scope: Scope,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler (crates with C inside)",
        scope: Scope::Host,
        present: || verifier::on_path("cc"),
        packages: &["gcc", "libc6-dev"],
    },
    Need {
        what: "libclang (bindings of PostgreSQL's parser in pcigate-sql)",
        scope: Scope::Host,
        present: libclang,
        packages: &["libclang-14-dev"],
    },
    Need {
        what: "rustc 1.96 or newer with its library source (kernel programs)",
        scope: Scope::Kernel,
        present: || bpf::compiler().is_some(),
        packages: &["rustc-web", "cargo-web", "rust-web-src"],
    },
    Need {
        what: "LLVM to build bpf-linker with",
        scope: Scope::Kernel,
        present: || bpf::linker_works() || bpf::llvm().is_some(),
        packages: &["llvm-22-dev", "libpolly-22-dev"],
    },
    Need {
        what: "Go with golang.org/x/mod (the independent ledger verifier)",
        scope: Scope::All,
        present: verifier::is_possible,
        packages: &["golang-go", "golang-golang-x-mod-dev"],
    },
    Need {
        what: "a static busybox (kernel tests run it in another root)",
        scope: Scope::All,
        present: || std::path::Path::new("/bin/busybox").exists(),
        packages: &["busybox-static"],
    },
    Need {
        what: "QEMU (kernel tests on other kernels)",
        scope: Scope::All,
        present: || verifier::on_path(vm::QEMU),
        packages: &["qemu-system-x86"],
    },
    Need {
        what: "runc (kernel tests start containers with our hook)",
        scope: Scope::All,
        present: || verifier::on_path("runc"),
        packages: &["runc"],
    },
    Need {
        what: "containerd with CNI plugins (tests start the images as pods)",
        scope: Scope::All,
        present: || {
            verifier::on_path("containerd") && std::path::Path::new("/usr/lib/cni/ptp").exists()
        },
        packages: &["containerd", "containernetworking-plugins"],
    },
    Need {
        what: "strip (images hold no debug information)",
        scope: Scope::All,
        present: || verifier::on_path("strip"),
        packages: &["binutils"],
    },
    Need {
        what: "PostgreSQL 15 (the gateway's tests start servers and clients of it)",
        scope: Scope::All,
        present: postgres::present,
        packages: &[postgres::PACKAGE],
    },
    Need {
        what: "lib/pq for Go (the gateway's tests serve programs in Go)",
        scope: Scope::All,
        present: verifier::has_driver,
        packages: &["golang-go", "golang-github-lib-pq-dev"],
    },
    Need {
        what: "pip for Python (it brings an engine, a driver, kubectl)",
        scope: Scope::All,
        present: python::possible,
        packages: &["python3-pip"],
    },
];

/// Sets everything up and says so.
pub fn main(_: &Options) -> Result<ExitCode> {
    ensure(Scope::All)?;
    vm::fetch_kernels()?;
    println!("ready: `cargo xtask test` runs every test");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that all of the scope is there; silent when it is.
pub fn ensure(scope: Scope) -> Result<()> {
    let missing = missing(scope);
    if !missing.is_empty() {
        for need in &missing {
            println!("missing: {}", need.what);
        }
        install(&missing)?;
    }
    if scope != Scope::Kernel {
        rust_components()?;
    }
    if scope >= Scope::Kernel && !bpf::linker_works() {
        run(&mut bpf::install_linker()?).with_context(|| bpf::LINKER_REMEDY)?;
        if !bpf::linker_works() {
            bail!("bpf-linker was installed but does not run; {}", bpf::LINKER_REMEDY);
        }
    }
    if scope == Scope::All && !python::present() {
        python::install()?;
    }
    Ok(())
}

/// What PostgreSQL needs, where it is missing and may be installed; what to run otherwise.
pub fn ensure_postgres() -> Result<()> {
    let missing: Vec<&Need> =
        NEEDS.iter().filter(|need| need.packages == [postgres::PACKAGE]).collect();
    if postgres::present() {
        return Ok(());
    }
    install(&missing)
}

fn missing(scope: Scope) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.scope <= scope && !(need.present)()).collect()
}

/// Installs by apt-get where that is allowed, the BPF compiler by rustup otherwise.
fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let get = [&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat();
    if is_root() && verifier::on_path("apt-get") {
        run(command("apt-get", ["update"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
        let _restored = packages
            .contains(&postgres::PACKAGE)
            .then(postgres::prevent_cluster)
            .transpose()
            .context("apt-get cannot prepare PostgreSQL")?;
        let installed = run(command("apt-get", &get).env("DEBIAN_FRONTEND", "noninteractive"));
        if installed.is_ok() && missing.iter().all(|need| (need.present)()) {
            return Ok(());
        }
        println!("apt-get did not bring everything; trying rustup for the compiler");
    }
    if bpf::compiler().is_none() && verifier::on_path("rustup") {
        run(&mut bpf::install_nightly())
            .with_context(|| "rustup could not bring the compiler of the kernel programs")?;
    }
    let still: Vec<&str> =
        missing.iter().filter(|need| !(need.present)()).map(|need| need.what).collect();
    if still.is_empty() {
        return Ok(());
    }
    bail!(
        "still missing: {}. On Debian 12, as root: `apt-get update && apt-get {}`. \
         Elsewhere: `rustup toolchain install nightly --component rust-src`, \
         LLVM 22 with its headers in /usr/lib/llvm-22, and your system's packages of the rest",
        still.join("; "),
        get.join(" "),
    )
}

/// Where the bindings' generator looks for it by itself (clang-sys): its variable, or the system's
/// library directories and those of every LLVM.
fn libclang() -> bool {
    let is_library = |name: &str| name.starts_with("libclang") && name.contains(".so");
    let holds = |directory: &std::path::Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| is_library(&name) && !name.starts_with("libclang-cpp"))
    };
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu"];
    let of_llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let of_llvm = of_llvm.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"));
    std::env::var_os("LIBCLANG_PATH").is_some()
        || usual.iter().any(|directory| holds(directory.as_ref()))
        || of_llvm.map(|entry| entry.path().join("lib")).any(|directory| holds(&directory))
}

/// rustfmt and clippy belong to the toolchain that runs this chore.
fn rust_components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if !verifier::on_path(program) {
            let add = run(&mut command("rustup", ["component", "add", component]));
            add.with_context(|| {
                format!("{program} is not on the PATH; is ~/.cargo/bin, where rustup puts it?")
            })?;
        }
    }
    Ok(())
}
