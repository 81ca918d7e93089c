//! Which files' digests rules may ask for: those below a root that match their patterns.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use pcigate_policy::glob::Glob;

/// Where programs usually lie: what is read for a rule that names no path.
const USUAL: [&str; 9] = [
    "/app",
    "/bin",
    "/opt",
    "/sbin",
    "/srv",
    "/usr/bin",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
];
/// Directory entries looked at in one scan; what lies beyond is read when it is first executed.
const ENTRIES_MAX: usize = 200_000;

/// The executable files below `root` whose path there matches a pattern, sorted. No symbolic link
/// is followed: patterns are of resolved paths.
pub fn candidates(root: &Path, globs: &[Glob]) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut budget = ENTRIES_MAX;
    let mut open: Vec<PathBuf> = bases(globs).into_iter().collect();
    while let Some(inside) = open.pop() {
        let Some(metadata) = real(root, &inside) else { continue };
        if metadata.is_dir() {
            for entry in fs::read_dir(below(root, &inside)).into_iter().flatten().flatten() {
                budget = budget.saturating_sub(1);
                if budget == 0 {
                    return found.into_iter().collect();
                }
                // Directories, and files that are sought; the rest costs no further look.
                let path = inside.join(entry.file_name());
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir || matches(globs, &path) {
                    open.push(path);
                }
            }
        } else if metadata.is_file() && metadata.mode() & 0o111 != 0 && matches(globs, &inside) {
            found.insert(below(root, &inside));
        }
    }
    found.into_iter().collect()
}

fn matches(globs: &[Glob], path: &Path) -> bool {
    globs.iter().any(|glob| glob.matches(path.as_os_str().as_bytes()))
}

/// A path of the root as a path of ours.
pub fn below(root: &Path, inside: &Path) -> PathBuf {
    root.join(inside.strip_prefix("/").unwrap_or(inside))
}

/// What a path is, where no directory on the way is a symbolic link.
fn real(root: &Path, inside: &Path) -> Option<fs::Metadata> {
    let mut at = root.to_owned();
    let mut last = fs::metadata(root).ok()?;
    for part in inside.strip_prefix("/").ok()?.components() {
        at.push(part);
        last = fs::symlink_metadata(&at).ok()?;
        if last.is_symlink() {
            return None;
        }
    }
    Some(last)
}

/// The deepest directories (or files) that the patterns cannot match outside of.
fn bases(globs: &[Glob]) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for glob in globs {
        let text = glob.text();
        let literal = text.find(['*', '?']).map_or(text, |wild| {
            let fixed = text.get(..wild).unwrap_or_default();
            fixed.rsplit_once('/').map_or("", |(directory, _)| directory)
        });
        if literal.is_empty() {
            all.extend(USUAL.map(PathBuf::from));
        } else {
            all.insert(PathBuf::from(OsStr::new(literal)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| Glob::parse(text).unwrap()).collect()
    }

    #[test]
    fn only_executable_files_that_match_are_candidates_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, mode: u32| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("usr/bin/python3.11", 0o755);
        put("usr/bin/pythonic", 0o755);
        put("usr/bin/python3.txt", 0o644);
        put("opt/x/y/tool", 0o755);
        put("home/x", 0o755);
        symlink("/usr/bin", root.path().join("bin")).unwrap();
        symlink("python3.11", root.path().join("usr/bin/python3")).unwrap();
        let found = |texts: &[&str]| {
            let found = candidates(root.path(), &globs(texts));
            let inside = |path: &PathBuf| path.strip_prefix(root.path()).unwrap().to_owned();
            found.iter().map(|path| inside(path).display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(&["/usr/bin/python3*"]), ["usr/bin/python3.11"]);
        assert_eq!(found(&["/usr/bin/pythonic"]), ["usr/bin/pythonic"]);
        assert_eq!(found(&["/bin/python3.11", "/usr/bin/python3"]), [""; 0]);
        assert_eq!(found(&["/opt/**/tool"]), ["opt/x/y/tool"]);
        let usual = ["opt/x/y/tool", "usr/bin/python3.11", "usr/bin/pythonic"];
        assert_eq!(found(&["/**"]), usual, "where programs usually lie");
    }
}
