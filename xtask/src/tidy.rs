//! `cargo xtask tidy`: the rules of shape and layering that no compiler checks.

mod layers;
mod lexer;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::run;

/// Check the shape of every file and the layering of the crates; report all findings at once.
///
/// Looks at every file git knows or would add. Each finding names its file, line and remedy.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

/// One broken rule, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    /// From 1.
    pub line: usize,
    pub what: String,
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.remedy)
    }
}

/// Checks, and says that all is well.
pub fn main(_: &Options) -> Result<ExitCode> {
    check()?;
    println!("tidy");
    Ok(ExitCode::SUCCESS)
}

/// Prints every finding; an error when there is one.
pub fn check() -> Result<()> {
    let mut findings = Vec::new();
    let mut texts = Vec::new();
    for path in files()? {
        let place = run::root().join(&path);
        // A file that git knows but that is gone, and one that is not text, has nothing to check.
        if let Ok(text) = std::fs::read_to_string(&place) {
            texts.push((path, text));
        }
    }
    for (path, text) in &texts {
        findings.extend(source::any_file(path, text));
        if path.ends_with(".rs") {
            findings.extend(source::rust_file(path, text));
        }
        if path.ends_with("Cargo.toml") {
            findings.extend(layers::manifest(path, text));
        }
    }
    let text_of = |wanted: &str| {
        texts.iter().find(|(path, _)| path == wanted).map_or("", |(_, text)| text.as_str())
    };
    findings.extend(layers::explained(text_of("Cargo.toml"), text_of(layers::EXPLANATIONS)));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings, each with its remedy, above", findings.len());
    }
    Ok(())
}

/// Every file that is committed or would be, relative to the workspace folder.
fn files() -> Result<Vec<String>> {
    // Under sudo the clone is somebody else's, which git refuses otherwise.
    let mut git = run::command("git", ["-c", "safe.directory=*", "ls-files", "-z"]);
    let listed = run::read(git.args(["--cached", "--others", "--exclude-standard"]))
        .context("tidy reads what git knows; run it in a clone with git installed")?;
    Ok(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}
