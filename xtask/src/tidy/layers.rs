//! The layering of the crates, read from their manifests, and the reason for each dependency.

use super::Finding;

/// Where each dependency of the workspace is explained, one row per crate.
pub const EXPLANATIONS: &str = "docs/dependencies.md";

/// Which pcigate crates each crate may depend on. A crate with `None` may use all.
const LAYERS: &[(&str, Option<&[&str]>)] = &[
    ("pcigate-common", Some(&[])),
    ("pcigate-ebpf", Some(&["pcigate-common"])),
    ("pcigate-policy", Some(&["pcigate-common", "pcigate-corpus"])),
    ("pcigate-sql", Some(&["pcigate-policy"])),
    ("pcigate-proto", Some(&[])),
    ("pcigate-ledger", Some(&[])),
    ("pcigate-postgres", Some(&[])),
    ("pcigate-gateway", Some(&["pcigate-policy", "pcigate-postgres", "pcigate-sql"])),
    (
        "pcigate-agent",
        Some(&[
            "pcigate-common",
            "pcigate-policy",
            "pcigate-proto",
            "pcigate-ledger",
            "pcigate-postgres",
            "pcigate-gateway",
        ]),
    ),
    ("pcigate-index", Some(&["pcigate-proto", "pcigate-ledger"])),
    (
        "pcigate-collector",
        Some(&["pcigate-policy", "pcigate-proto", "pcigate-ledger", "pcigate-index"]),
    ),
    ("pcigate-cli", Some(&["pcigate-policy", "pcigate-proto", "pcigate-ledger", "pcigate-corpus"])),
    ("xtask", Some(&[])),
    ("tests/corpus", Some(&[])),
    ("tests/fuzz", None),
    ("tests", None),
];

/// The dependency rules of one crate's manifest; the manifest of the workspace has none.
pub fn manifest(path: &str, text: &str) -> Vec<Finding> {
    let Some(name) = path.strip_suffix("/Cargo.toml") else { return Vec::new() };
    let finding = |line, what, remedy| Finding { path: path.to_owned(), line, what, remedy };
    let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == name) else {
        let remedy = "a further crate must enforce a rule: add it to LAYERS in the tidy chore";
        return vec![finding(1, format!("the crate {name} has no place in the layers"), remedy)];
    };
    let Some(allowed) = allowed else { return Vec::new() };
    let mut findings = Vec::new();
    for (line, on) in dependencies(text) {
        if on.starts_with("pcigate") && !allowed.contains(&on.as_str()) {
            let remedy = "see the table of crates in ARCHITECTURE.md; move the shared part down";
            findings.push(finding(line, format!("{name} must not depend on {on}"), remedy));
        }
    }
    findings
}

/// Every dependency of the workspace has its row, and every row its dependency.
pub fn explained(workspace: &str, explanations: &str) -> Vec<Finding> {
    let used: Vec<(usize, String)> =
        dependencies(workspace).filter(|(_, name)| !name.starts_with("pcigate")).collect();
    let rows: Vec<(usize, &str)> = (1..)
        .zip(explanations.lines())
        .filter_map(|(line, row)| Some((line, row.strip_prefix("| `")?.split_once('`')?.0)))
        .collect();
    let mut findings = Vec::new();
    for (line, name) in &used {
        if !rows.iter().any(|(_, row)| row == name) {
            findings.push(Finding {
                path: "Cargo.toml".to_owned(),
                line: *line,
                what: format!("the dependency {name} is not explained"),
                remedy: "add its row to docs/dependencies.md: what it is for, what it replaces",
            });
        }
    }
    for (line, row) in rows {
        // The kernel programs are a workspace of their own, with a dependency of their own.
        if row != "aya-ebpf" && !used.iter().any(|(_, name)| name == row) {
            findings.push(Finding {
                path: EXPLANATIONS.to_owned(),
                line,
                what: format!("{row} is explained, but is no dependency of the workspace"),
                remedy: "take the row out",
            });
        }
    }
    findings
}

/// The names of all dependencies (also of tests, build scripts and single targets), with lines.
/// Reads the plain forms of TOML that manifests here use.
fn dependencies(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut in_table = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            in_table = table.ends_with("dependencies");
            // `[dependencies.NAME]`
            let (before, name) = table.rsplit_once('.')?;
            return before.ends_with("dependencies").then(|| (number, name.to_owned()));
        }
        let (key, value) = line.split_once('=')?;
        // `alias = { package = "NAME" }` is a dependency on NAME, in whatever table it stands.
        let renamed = value.split_once("package = \"").and_then(|(_, rest)| rest.split_once('"'));
        let name = renamed.map_or(key, |(name, _)| name).trim().trim_matches('"');
        let name = name.strip_suffix(".workspace").unwrap_or(name);
        in_table.then(|| (number, name.to_owned()))
    })
}
