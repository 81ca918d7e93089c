//! cgroup v2: where it is mounted, ids and levels, and the cgroups pcigate makes itself.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

/// Every cgroup we make begins with this.
pub const PREFIX: &str = "pcigate-";
/// Inode number of the initial cgroup namespace (include/linux/proc_ns.h `PROC_CGROUP_INIT_INO`).
const INITIAL_NAMESPACE: u64 = 0xefff_fffb;
/// How long the kernel may take to empty a killed cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// Why a cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup2 filesystem is mounted.
    #[error(
        "no cgroup2 filesystem is mounted: pcigate knows workloads by their cgroup v2 \
         (`mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot with \
         systemd.unified_cgroup_hierarchy=1)"
    )]
    NotMounted,
    /// The path is not inside of the cgroup2 mount.
    #[error(
        "{path} is not a cgroup below {mount}: cgroupRoot must be a directory of the cgroup2 mount"
    )]
    Outside {
        /// What was given.
        path: PathBuf,
        /// Where cgroup2 is mounted.
        mount: PathBuf,
    },
    /// The kernel counts levels from the real root, which cannot be seen from here.
    #[error(
        "the cgroup tree at {mount} is not the machine's whole tree: run the agent in the host's \
         cgroup namespace (a pod with hostPID and SYS_ADMIN, docker --cgroupns=host) with the \
         whole tree mounted"
    )]
    PartOfTree {
        /// Where cgroup2 is mounted.
        mount: PathBuf,
    },
    /// The root of the tree would govern the whole machine.
    #[error(
        "{path} is the root of the cgroup tree: pcigate never governs the whole machine; \
             name the pods' slice, such as kubepods.slice"
    )]
    Root {
        /// What was given.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} the cgroup {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The mount point of cgroup2, also in hybrid layouts.
///
/// # Errors
/// There is none.
pub fn mount_point() -> Result<PathBuf, CgroupError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    find_mount(&mounts).ok_or(CgroupError::NotMounted)
}

fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

/// Whether the mount shows the tree from its root: not from a cgroup namespace of our own, and not
/// a subtree. The kernel programs find the governed root by its level below the real root.
fn is_whole_tree(mount: &Path) -> bool {
    let own = fs::metadata("/proc/self/ns/cgroup").map(|namespace| namespace.ino());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let whole = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next(), fields.next());
        root == Some("/") && point.is_some_and(|point| Path::new(point) == mount)
    });
    own.is_ok_and(|own| own == INITIAL_NAMESPACE) && whole
}

/// Leaves the cgroup namespace of a container for the machine's, for this thread and those it
/// starts: runtimes give one of its own to each container that is not privileged. Where that is not
/// to be had, [`open`] says so.
pub fn enter_machines_namespace() {
    let inode = |path: &Path| fs::metadata(path).map(|namespace| namespace.ino()).ok();
    if inode(Path::new("/proc/self/ns/cgroup")) == Some(INITIAL_NAMESPACE) {
        return;
    }
    // Process 1 is in it, but who may not look at that one may look at others (hostPID).
    let others = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places = [PathBuf::from("/proc/1")].into_iter().chain(others);
    let first = places.find_map(|place| {
        let path = place.join("ns/cgroup");
        (inode(&path) == Some(INITIAL_NAMESPACE)).then_some(path)
    });
    let Some(first) = first else { return };
    let entered =
        fs::File::open(&first).and_then(|first| Ok(setns(first, CloneFlags::CLONE_NEWCGROUP)?));
    if let Err(error) = entered {
        let first = first.display();
        tracing::warn!("cannot enter the machine's cgroup namespace ({first}: {error})");
    }
}

/// A cgroup as the kernel programs know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its directory.
    pub path: PathBuf,
    /// Inode number of the directory: the kernel's cgroup id.
    pub id: u64,
    /// Steps below the root of the tree.
    pub level: u32,
}

/// Opens a cgroup that may be governed.
///
/// # Errors
/// It does not exist, is outside of the cgroup2 mount, or is the root of the tree.
pub fn open(path: &Path) -> Result<Cgroup, CgroupError> {
    let mount = mount_point()?;
    if !is_whole_tree(&mount) {
        return Err(CgroupError::PartOfTree { mount });
    }
    let path = path.canonicalize().map_err(io_error("open", path))?;
    let below = path
        .strip_prefix(&mount)
        .map_err(|_| CgroupError::Outside { path: path.clone(), mount: mount.clone() })?;
    let level = u32::try_from(below.components().count()).unwrap_or(u32::MAX);
    if level == 0 {
        return Err(CgroupError::Root { path });
    }
    let id = fs::metadata(&path).map_err(io_error("open", &path))?.ino();
    Ok(Cgroup { path, id, level })
}

/// A cgroup of ours; everything in it is killed and it is removed when this is dropped.
#[derive(Debug)]
pub struct Owned {
    /// Where it is.
    pub cgroup: Cgroup,
}

/// Makes a cgroup `pcigate-NAME` at the top of the tree.
///
/// # Errors
/// No cgroup2, no permission, or the name is taken.
pub fn create(name: &str) -> Result<Owned, CgroupError> {
    let path = mount_point()?.join(format!("{PREFIX}{name}"));
    fs::create_dir(&path).map_err(io_error("make", &path))?;
    match open(&path) {
        Ok(cgroup) => Ok(Owned { cgroup }),
        Err(error) => {
            let _ = fs::remove_dir(&path);
            Err(error)
        }
    }
}

/// Removes the cgroups `pcigate-NAME-PID` of processes that were killed before they could.
pub fn sweep(name: &str) {
    let Ok(mount) = mount_point() else { return };
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let pid = file_name.to_str().and_then(|own| own.strip_prefix(PREFIX)?.strip_prefix(name));
        let Some(pid) = pid.and_then(|pid| pid.strip_prefix('-')?.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            // Only an empty one goes; what is not empty is somebody's.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.cgroup.path) {
            tracing::warn!(path = %self.cgroup.path.display(), %error, "cgroup stays behind");
        }
    }
}

/// Kills everything in a cgroup and removes it with all below it.
///
/// # Errors
/// It does not become empty in time, or cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    // Best effort: the file does not exist before 5.14, and removal below tells what matters.
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            // Killed tasks leave one after the other; nothing notifies of the last.
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// A cgroup's directory and id.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Its inode number.
    pub id: u64,
}

/// Every cgroup below `root` (the root included), parents first.
///
/// # Errors
/// The root cannot be read; cgroups that vanish meanwhile are no error.
pub fn walk(root: &Path) -> io::Result<Vec<Directory>> {
    let mut found = vec![Directory { path: root.to_owned(), id: fs::metadata(root)?.ino() }];
    let mut parents = vec![root.to_owned()];
    while let Some(path) = parents.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if path == root => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            // A directory has a link for its name, one for itself, and one for each in it.
            if metadata.nlink() != 2 {
                parents.push(path.clone());
            }
            found.push(Directory { path, id: metadata.ino() });
        }
    }
    Ok(found)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_in_a_hybrid_layout() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find_mount(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("proc /proc proc rw 0 0\n"), None);
    }
}
