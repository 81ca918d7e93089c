//! The directory as a file: for the next agent, which finds records of this one in the rings.
//!
//! JSON, masked text only; it is masked again when it is read, because it is foreign then.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use pcigate_policy::{
    document::{MaskStyle, Masking},
    mask::{Cut, Detector, Masked},
};
use serde_json::{Value, json};

use super::{Directory, RuleTable, rules::Masks};
use crate::{
    atomic_file,
    draft::{Rule, Workload},
};

/// Whether records would say the same of both.
pub(super) fn same(a: &Workload, b: &Workload) -> bool {
    texts(a).iter().zip(texts(b)).all(|(a, b)| a.as_str() == b.as_str())
}

/// How many texts agents before owners and images were known wrote.
const FIRST_TEXTS: usize = 7;

fn texts(workload: &Workload) -> [&Masked; 11] {
    let Workload { namespace, pod, pod_uid, service_account, container, container_id, .. } =
        workload;
    let Workload { cgroup_path, owner_kind, owner_name, image, image_digest, .. } = workload;
    [
        namespace,
        pod,
        pod_uid,
        service_account,
        container,
        container_id,
        cgroup_path,
        owner_kind,
        owner_name,
        image,
        image_digest,
    ]
}

/// Replaces the file.
pub(super) fn write(path: &Path, directory: &Directory) -> io::Result<()> {
    let workloads = directory.workloads.iter().map(|(cgroup_id, workload)| {
        let texts = texts(workload).map(Masked::as_str);
        json!({"cgroupId": cgroup_id, "texts": texts})
    });
    let rules = directory.rules.iter().map(|(number, table)| {
        let rules = table.rules.iter().map(|rule| [rule.policy.as_str(), rule.id.as_str()]);
        let masking = table.masks.as_ref().map(|masks| masking(&masks.masking));
        json!({"policy": number, "hash": u64::from_be_bytes(table.hash),
               "rules": rules.collect::<Vec<_>>(), "mask": masking})
    });
    let all = json!({
        "workloads": workloads.collect::<Vec<_>>(),
        "policies": rules.collect::<Vec<_>>(),
    });
    atomic_file::replace(path, all.to_string().as_bytes())
}

/// Reads the file; entries that are wrong name nothing.
pub(super) fn read(path: &Path) -> Option<Directory> {
    let all: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let list = |name: &str| all.get(name).and_then(Value::as_array).into_iter().flatten();
    let workloads = list("workloads").filter_map(workload);
    let rules = list("policies").filter_map(rule_table);
    Some(Directory { workloads: workloads.collect(), rules: rules.collect() })
}

fn masked(text: &Value) -> Option<Masked> {
    Some(Masked::new(text.as_str()?.as_bytes(), Cut::Whole))
}

fn workload(entry: &Value) -> Option<(u64, Arc<Workload>)> {
    let cgroup_id = entry.get("cgroupId")?.as_u64()?;
    let texts: Option<Vec<Masked>> = entry.get("texts")?.as_array()?.iter().map(masked).collect();
    let mut texts = texts?;
    if texts.len() == FIRST_TEXTS {
        texts.resize(11, Masked::new(b"", Cut::Whole));
    }
    let [
        namespace,
        pod,
        pod_uid,
        service_account,
        container,
        container_id,
        cgroup_path,
        owner_kind,
        owner_name,
        image,
        image_digest,
    ] = <[Masked; 11]>::try_from(texts).ok()?;
    let workload = Workload {
        namespace,
        pod,
        pod_uid,
        service_account,
        container,
        container_id,
        cgroup_id,
        cgroup_path,
        owner_kind,
        owner_name,
        image,
        image_digest,
    };
    Some((cgroup_id, Arc::new(workload)))
}

fn rule_table(entry: &Value) -> Option<(u32, Arc<RuleTable>)> {
    let number = u32::try_from(entry.get("policy")?.as_u64()?).ok()?;
    let hash = entry.get("hash")?.as_u64()?.to_be_bytes();
    let rules: Option<Vec<Arc<Rule>>> = entry.get("rules")?.as_array()?.iter().map(rule).collect();
    let gates = BTreeMap::new();
    let masks = match entry.get("mask") {
        None | Some(Value::Null) => None,
        Some(mask) => Some(masks(mask)?),
    };
    Some((number, Arc::new(RuleTable { hash, rules: rules?, gates, masks, policies: Vec::new() })))
}

/// In the spelling of a file of settings, which is JSON too.
fn masking(masking: &Masking) -> String {
    let Masking { style, card_data, secrets, fields, detectors } = masking;
    let detectors = detectors.iter().map(|Detector { name, pattern, luhn }| {
        json!({"name": name, "pattern": pattern, "checksum": if *luhn { "luhn" } else { "none" }})
    });
    let style = match style {
        MaskStyle::Truncate => "truncate",
        MaskStyle::Last4 => "last4",
        MaskStyle::Full => "full",
    };
    json!({"default": style, "cardData": card_data, "secrets": secrets, "fields": fields,
           "detectors": detectors.collect::<Vec<_>>()})
    .to_string()
}

fn masks(written: &Value) -> Option<Masks> {
    let (masking, _) = Masking::read("mask", written.as_str()?).ok()?;
    Masks::new(masking).ok()
}

fn rule(entry: &Value) -> Option<Arc<Rule>> {
    let [policy, id] = entry.as_array()?.as_slice() else { return None };
    Some(Arc::new(Rule { policy: masked(policy)?, id: masked(id)? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Masked {
        Masked::new(text.as_bytes(), Cut::Whole)
    }

    #[test]
    fn what_was_written_is_read_and_masked_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut directory = Directory::default();
        let workload = Workload {
            namespace: text("payments"),
            pod: text("bot"),
            pod_uid: text("uid"),
            service_account: text("sa"),
            container: text("c"),
            container_id: text("id"),
            cgroup_id: 9,
            cgroup_path: text("a/b"),
            owner_kind: text("Deployment"),
            owner_name: text("bot"),
            image: text("registry/bot:1"),
            image_digest: text("sha256:1f"),
        };
        directory.workloads.insert(9, Arc::new(workload));
        let rule = Rule { policy: text("payments/bot"), id: text("no-encoders") };
        let rules = vec![Arc::new(rule)];
        let mask = "default: full\nsecrets: true\nfields: [ssn]\n\
                    detectors: [{name: staff, pattern: 'E-[0-9]{6}', checksum: luhn}]\n";
        let masking = Masking::read("mask", mask).unwrap().0;
        let masks = Some(Masks::new(masking.clone()).unwrap());
        let hash = [200, 1, 2, 3, 4, 5, 6, 7];
        let policies = Vec::new();
        let table = RuleTable { hash, rules, gates: BTreeMap::new(), masks, policies };
        directory.rules.insert(3, Arc::new(table));
        write(file.path(), &directory).unwrap();
        let read = Directory::kept(file.path());
        assert!(same(read.workload(9).unwrap(), directory.workload(9).unwrap()));
        let (before, after) = (directory.rules(3).unwrap(), read.rules(3).unwrap());
        assert_eq!((before.hash, before.rules.len()), (after.hash, after.rules.len()));
        assert_eq!(after.rules[0].id.as_str(), "no-encoders");
        assert_eq!(after.masks.as_ref().unwrap().masking, masking);

        let raw = fs::read_to_string(file.path()).unwrap();
        fs::write(file.path(), raw.replace("\"bot\"", "\"4111111111111111\"")).unwrap();
        let read = Directory::kept(file.path());
        assert_eq!(read.workload(9).unwrap().pod.as_str(), "411111******1111");
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(
            content in any::<Vec<u8>>(),
            json in "[\\[\\]{}\",:a-z0-9]{0,60}",
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            for bytes in [content.as_slice(), json.as_bytes()] {
                fs::write(file.path(), bytes).unwrap();
                let _ = Directory::kept(file.path());
            }
        }
    }
}
