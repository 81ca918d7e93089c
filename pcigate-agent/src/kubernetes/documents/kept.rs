//! The documents known last, as a file (mode 0600) in the state directory, which only root can
//! write.

use std::{io, path::Path};

use pcigate_policy::document::ObjectName;
use serde::{Deserialize, Serialize};

use super::words::{Kept, Kind, Memory, Version};
use crate::kubernetes::kept;

/// Largest file that is read: twice what is kept, escaped.
const BYTES_MAX: u64 = 256 << 20;

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    /// Kinds of which all was listed at some time.
    known: Vec<String>,
    documents: Vec<Document>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    created: String,
    generation: i64,
    spec: String,
    good: Option<Good>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Good {
    generation: i64,
    /// Left out where it is the newest.
    spec: Option<String>,
}

/// What was kept; nothing where there is no file.
pub(super) fn read(path: &Path) -> Result<Memory, String> {
    let file: File = kept::read(path, BYTES_MAX)?.unwrap_or_default();
    let known = Kind::ALL.map(|kind| file.known.iter().any(|known| known == kind.name()));
    let documents = file.documents.into_iter().map(|document| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == document.kind)?;
        let Document { namespace, name, uid, created, generation, spec, good, .. } = document;
        let good = good.map(|good| Version {
            generation: good.generation,
            spec: good.spec.unwrap_or_else(|| spec.clone()),
        });
        let newest = Version { generation, spec };
        Some(Kept { kind, name: ObjectName { namespace, name }, uid, created, newest, good })
    });
    let documents: Option<Vec<Kept>> = documents.collect();
    let documents =
        documents.ok_or_else(|| format!("{} has a kind that is not known", path.display()))?;
    Ok(Memory { known, documents })
}

/// Replaces the file.
pub(super) fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let known = Kind::ALL.into_iter().zip(memory.known).filter(|(_, known)| *known);
    let documents = memory.documents.iter().map(|kept| Document {
        kind: kept.kind.name().to_owned(),
        namespace: kept.name.namespace.clone(),
        name: kept.name.name.clone(),
        uid: kept.uid.clone(),
        created: kept.created.clone(),
        generation: kept.newest.generation,
        spec: kept.newest.spec.clone(),
        good: kept.good.as_ref().map(|good| Good {
            generation: good.generation,
            spec: (good.spec != kept.newest.spec).then(|| good.spec.clone()),
        }),
    });
    let file = File {
        known: known.map(|(kind, _)| kind.name().to_owned()).collect(),
        documents: documents.collect(),
    };
    kept::write(path, &file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_by_root_only_and_what_is_damaged_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("documents.json");
        assert_eq!(read(&path).unwrap(), Memory::default());
        let version = |generation, spec: &str| Version { generation, spec: spec.to_owned() };
        let kept = |name: &str, newest, good| Kept {
            kind: Kind::Target,
            name: ObjectName { namespace: "n".to_owned(), name: name.to_owned() },
            uid: "u".to_owned(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            newest,
            good,
        };
        let same = kept("same", version(1, "{}"), Some(version(1, "{}")));
        let other = kept("other", version(2, "null"), Some(version(1, "{\"a\":\"b\"}")));
        let never = kept("never", version(2, "[]"), None);
        let memory = Memory { known: [true, false, true], documents: vec![same, other, never] };
        write(&path, &memory).unwrap();
        assert_eq!(read(&path).unwrap(), memory);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{\"known\": [], \"documents\": [{}]}").unwrap();
        assert!(read(&path).unwrap_err().contains("damaged"));
    }
}
