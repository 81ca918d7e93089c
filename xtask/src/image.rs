//! `cargo xtask image`: container images as OCI archives, without a daemon: the programs, the
//! libraries they are linked with, a list of what is in them, and nothing else.
//!
//! Two images, because one node program with privileges and one server without share no file but
//! the C library: the agent's image must not bring the collector's query engine to every node.

mod archive;
mod crates;
mod layer;
mod parts;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, command, read, root, run};
use archive::Archive;
use layer::Compression;

/// Build the container images as OCI archives (target/image/NAME.tar), without a daemon.
///
/// `ctr -n k8s.io images import`, `skopeo copy oci-archive:…`, `podman load` and `docker load` take
/// them. Beside each lies NAME.spdx.json, the list of what is in it, which is in the image as well.
/// The same programs and SOURCE_DATE_EPOCH (default: the last commit's time) give the same bytes.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The profile the programs are built with.
    #[arg(long, default_value = "release", value_name = "NAME")]
    profile: String,
    /// Take the programs from this directory instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Only this image: pcigate-agent or pcigate-collector.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How the layer is compressed.
    #[arg(long, value_enum, default_value_t = Compression::Gzip)]
    compression: Compression,
    /// The images' tag; default: the version of the workspace.
    #[arg(long)]
    tag: Option<String>,
    /// Where the archives go.
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    out: PathBuf,
}

/// What an image is made of.
pub struct Image {
    /// Of the image and its archive.
    pub name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// The programs; the first is what runs, each is built by the crate of that name.
    pub programs: &'static [Program],
    /// What it is started with.
    pub command: &'static [&'static str],
    /// User and group it runs as, where nobody says otherwise.
    pub user: u32,
}

/// A program of an image.
pub struct Program {
    /// Its file.
    pub name: &'static str,
    /// The crate that builds it.
    pub package: &'static str,
}

/// User and group of the collector: in the range distributions leave free, beside the gateway's
/// (`gateway/process/confined.rs` in the agent).
pub const COLLECTOR_USER: u32 = 65_528;
/// User and group of the gateway's process.
pub const GATEWAY_USER: u32 = 65_529;

const IMAGES: [Image; 2] = [
    Image {
        name: "pcigate-agent",
        description: "The node agent of pcigate: governs, gates and records the pods of its node",
        programs: &[Program { name: "pcigate-agent", package: "pcigate-agent" }],
        command: &["serve", "--config", "/etc/pcigate/agent.yaml"],
        // It loads kernel programs. What it keeps: ARCHITECTURE.md, What the agent may do.
        user: 0,
    },
    Image {
        name: "pcigate-collector",
        description: "The collector of pcigate, which keeps the evidence, and the command pcigate",
        programs: &[
            Program { name: "pcigate-collector", package: "pcigate-collector" },
            Program { name: "pcigate", package: "pcigate-cli" },
        ],
        command: &["serve", "--config", "/etc/pcigate/collector.yaml"],
        user: COLLECTOR_USER,
    },
];

/// What every image of a run shares.
pub struct Build {
    /// Of the workspace.
    pub version: String,
    /// Of the images.
    pub tag: String,
    /// The commit, where this is a clone.
    pub revision: String,
    /// Seconds since 1970: of every file and of the image.
    pub epoch: u64,
    /// Where the programs are.
    pub programs: PathBuf,
    /// How the layer is compressed.
    pub compression: Compression,
}

/// Builds the images and says where they are.
pub fn main(options: &Options) -> Result<ExitCode> {
    if let Some(name) = &options.only
        && !IMAGES.iter().any(|image| image.name == name)
    {
        bail!("there is no image {name}: --only takes pcigate-agent or pcigate-collector");
    }
    let build = prepare(options)?;
    let crates = crates::graph()?;
    let out = root().join(&options.out);
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let wanted = |image: &&Image| options.only.as_ref().is_none_or(|name| name == image.name);
    for image in IMAGES.iter().filter(wanted) {
        let path = make(image, &build, &crates, &out)?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(options: &Options) -> Result<Build> {
    let programs = match &options.programs {
        Some(directory) => root().join(directory),
        None => {
            run(&mut cargo(["build", "--workspace", "--bins", "--profile", &options.profile]))?;
            // Cargo's name for the directory of the profile `dev`.
            let directory = if options.profile == "dev" { "debug" } else { &options.profile };
            root().join("target").join(directory)
        }
    };
    let version = crates::version()?;
    let git = |format: &str| {
        let words = ["-c", "safe.directory=*", "log", "-1", &format!("--format={format}")];
        read(&mut command("git", words)).map(|said| said.trim().to_owned()).unwrap_or_default()
    };
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is `{seconds}`: give whole seconds since 1970")
        })?,
        Err(_) => git("%ct").parse().unwrap_or(0),
    };
    Ok(Build {
        tag: options.tag.clone().unwrap_or_else(|| version.clone()),
        version,
        revision: git("%H"),
        epoch,
        programs,
        compression: options.compression,
    })
}

/// Writes one image's archive and its list; the archive's path.
fn make(image: &Image, build: &Build, crates: &crates::Graph, out: &Path) -> Result<PathBuf> {
    let scratch = out.join(format!("{}.new", image.name));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let parts = parts::collect(image, build, &scratch)?;
    let list = sbom::write(image, build, crates, &parts)?;
    let layer = layer::write(image, build, &parts, &list, &scratch)?;
    let path = out.join(format!("{}.tar", image.name));
    Archive { image, build, layer: &layer }.write(&path)?;
    let beside = out.join(format!("{}.spdx.json", image.name));
    fs::write(&beside, &list).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    Ok(path)
}
