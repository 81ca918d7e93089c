//! The CustomResourceDefinitions: deploy/crds is what is described here, and what is described here
//! is what the decoder of documents knows: no field more, none less, the same words and bounds.
//!
//! `PCIGATE_BLESS=1` writes the files anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod coverage;
mod decoder;
mod definition;
mod policy;
mod rules;
mod schema;
mod structural;
mod target;
mod yaml;

use std::{fs, path::PathBuf};

use serde_json::Value;

/// All of them: (file, definition).
fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("agentpolicies.yaml", policy::namespaced()),
        ("clusteragentpolicies.yaml", policy::cluster()),
        ("targets.yaml", target::definition()),
        ("nodecoverages.yaml", coverage::definition()),
    ]
}

#[test]
fn the_files_in_deploy_are_what_is_described_here() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for (name, definition) in all() {
        let text = yaml::file(&definition);
        let path = directory.join(name);
        if std::env::var_os("PCIGATE_BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let is = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            is == text,
            "deploy/crds/{name} is stale: run `PCIGATE_BLESS=1 cargo test -p pcigate-policy --test \
             crds` and look at the difference"
        );
        // What is written is what is meant.
        let read = pcigate_policy::yaml::read_one(name, &text).unwrap();
        assert!(read.to_json() == definition, "{name} reads as something else");
    }
}
