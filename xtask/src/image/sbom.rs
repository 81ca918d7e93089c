//! The list of what is in an image, as SPDX 2.3 JSON: our programs, every crate linked into them,
//! and the Debian packages whose libraries are copied.
//! <https://spdx.github.io/spdx-spec/v2.3/>

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::crates::{About, Crate, Graph};
use super::parts::{Package, Parts};
use super::{Build, Image, archive};

/// The list of an image, as text.
pub fn write(image: &Image, build: &Build, crates: &Graph, parts: &Parts) -> Result<String> {
    let mut packages = vec![of_image(image, build)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    let names: Vec<&str> = image.programs.iter().map(|program| program.package).collect();
    let linked = crates.linked(&names);
    for (one, about) in &linked {
        let mut package = of_crate(one, about);
        let built = image.programs.iter().find(|program| program.package == one.name);
        let built =
            built.and_then(|built| parts.programs.iter().find(|(name, _)| *name == built.name));
        if let Some((name, path)) = built {
            let digest = hex::encode(Sha256::digest(std::fs::read(path)?));
            package["primaryPackagePurpose"] = json!("APPLICATION");
            package["packageFileName"] = json!(format!("./usr/bin/{name}"));
            package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": digest}]);
        }
        packages.push(package);
        for needed in about.needs.iter().filter(|needed| linked.contains_key(needed)) {
            relations.push(relation(&id(one), "DEPENDS_ON", &id(needed)));
        }
    }
    for (one, _) in linked.iter().filter(|(one, _)| names.contains(&one.name.as_str())) {
        relations.push(relation("SPDXRef-Image", "CONTAINS", &id(one)));
    }
    for (name, package) in &parts.packages {
        packages.push(of_package(name, package));
        relations.push(relation("SPDXRef-Image", "CONTAINS", &debian_id(name)));
    }
    let what = json!(packages).to_string();
    let list = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", image.name, build.version),
        // Unique for its content, and the same for the same.
        "documentNamespace": format!(
            "https://pcigate.dev/spdx/{}-{}-{}", image.name, build.version,
            hex::encode(Sha256::digest(what))
        ),
        "creationInfo": {
            "created": archive::time(build.epoch),
            "creators": [format!("Tool: cargo-xtask-image-{}", build.version)],
        },
        "packages": packages,
        "relationships": relations,
    });
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

fn of_image(image: &Image, build: &Build) -> Value {
    json!({
        "SPDXID": "SPDXRef-Image",
        "name": image.name,
        "versionInfo": build.version,
        "description": image.description,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
    })
}

fn of_crate(one: &Crate, about: &About) -> Value {
    let locator = format!("pkg:cargo/{}@{}", one.name, one.version);
    let mut package = json!({
        "SPDXID": id(one),
        "name": one.name,
        "versionInfo": one.version,
        "primaryPackagePurpose": "LIBRARY",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence(&about.licence),
        "copyrightText": "NOASSERTION",
    });
    if !about.checksum.is_empty() {
        let from = format!("https://crates.io/api/v1/crates/{}/{}/download", one.name, one.version);
        package["downloadLocation"] = json!(from);
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": about.checksum}]);
        package["externalRefs"] = json!([{"referenceCategory": "PACKAGE-MANAGER",
                                          "referenceType": "purl", "referenceLocator": locator}]);
    }
    package
}

fn of_package(name: &str, package: &Package) -> Value {
    let architecture = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
    let files: Vec<String> = package.files.iter().map(|file| format!("/{file}")).collect();
    let locator = format!("pkg:deb/debian/{name}@{}?arch={architecture}", package.version);
    json!({
        "SPDXID": debian_id(name),
        "name": name,
        "versionInfo": package.version,
        "supplier": "Organization: Debian",
        "primaryPackagePurpose": "LIBRARY",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "licenseComments": format!("in the image: /usr/share/doc/{name}/copyright"),
        "comment": format!("copied: {}", files.join(", ")),
        "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                          "referenceLocator": locator}],
    })
}

/// Older manifests write a slash for OR, which is no licence expression.
fn licence(declared: &str) -> String {
    if declared.is_empty() { "NOASSERTION".to_owned() } else { declared.replace('/', " OR ") }
}

fn id(one: &Crate) -> String {
    plain(&format!("SPDXRef-Crate-{}-{}", one.name, one.version))
}

fn debian_id(name: &str) -> String {
    plain(&format!("SPDXRef-Debian-{name}"))
}

/// Letters, digits, `.` and `-` only.
fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '.' };
    text.chars().map(keep).collect()
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

#[cfg(test)]
mod tests {
    use super::{licence, plain};

    #[test]
    fn licences_and_names_are_as_spdx_wants_them() {
        assert_eq!(licence("MIT/Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(licence(""), "NOASSERTION");
        assert_eq!(plain("SPDXRef-Crate-a_b-1.0.0+x"), "SPDXRef-Crate-a.b-1.0.0.x");
    }
}
