//! The digests of the files that rules may ask for, kept in the kernel's table.
//!
//! One thread: it reads what the rules of the governed workloads name, inside the roots of their
//! processes, and what was refused because its digest was not known. A file that has changed has
//! another key in the kernel, so nothing has to be watched for an old digest not to count; files
//! are looked for again so that new ones become known.

pub mod file;
mod scan;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use pcigate_common::maps::FileKey;
use pcigate_policy::glob::Glob;

use self::file::{Pace, Unknown};
use crate::{cgroup, enforcer::FileTable};

/// Files waiting to be read because they were refused; one more is read when it is refused again.
const SEEN_MAX: usize = 256;
/// How often a file that is being changed is looked at again, and how often in all.
const AGAIN_AFTER: Duration = Duration::from_millis(120);
const AGAIN_MAX: u32 = 5;
/// How often workloads are looked at for roots that have not been scanned.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a root is scanned again for new files.
const SCAN_EVERY: Duration = Duration::from_secs(60);
/// Bytes read in a second, so that the node's disk stays its workloads'.
const BYTES_PER_SECOND: u32 = 128 * 1024 * 1024;
/// Processes of a workload whose roots are looked at.
const PROCESSES_MAX: usize = 64;
/// Devices that layers of overlay filesystems may lie on.
const LAYER_DEVICES_MAX: usize = 8;

/// A workload some rule of which names digests.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its cgroup.
    pub cgroup_id: u64,
    /// The files to read.
    pub globs: Arc<Vec<Glob>>,
}

/// What is governed, as the governor sees it.
pub type SharedWanted = Arc<Mutex<Vec<Wanted>>>;

enum Message {
    /// A program of a workload was refused, because its digest was not known.
    Seen {
        cgroup_id: u64,
        path: PathBuf,
    },
    Stop,
}

/// Where refused programs are named to the thread.
#[derive(Clone)]
pub struct Handle(SyncSender<Message>);

impl Handle {
    /// Has a program read. Where too many wait it is left out, until it is refused again.
    pub fn seen(&self, cgroup_id: u64, path: PathBuf) {
        let _ = self.0.try_send(Message::Seen { cgroup_id, path });
    }
}

/// The thread, until it is stopped or dropped.
pub struct Digests {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Digests {
    /// Starts it for the workloads below `root`, a directory of cgroup2. Reads what is there
    /// already for at most `first` before it returns, so that what runs is not refused when it
    /// runs again.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(
        root: PathBuf,
        wanted: SharedWanted,
        files: FileTable,
        first: Duration,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(SEEN_MAX);
        let books = Books::new(files, BYTES_PER_SECOND);
        let (scanned, unread) = (HashMap::new(), VecDeque::new());
        let mut reader = Reader { root, wanted, books, scanned, unread };
        reader.read_for(first);
        let thread = std::thread::Builder::new()
            .name("digests".to_owned())
            .spawn(move || reader.run(&receiver))?;
        Ok(Self { handle: Handle(sender), thread: Some(thread) })
    }

    /// To name refused programs by.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Digests {
    fn drop(&mut self) {
        // A full queue is drained by the thread, so this waits for the file it reads, if any.
        let _ = self.handle.0.send(Message::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads digests ended by a panic");
        }
    }
}

/// Reads what the rules name below `root` at once: before a command starts that shares this root.
pub fn read_now(root: &Path, wanted: &[Wanted], files: &FileTable) {
    let mut books = Books::new(files.clone(), u32::MAX);
    for one in wanted {
        for path in scan::candidates(root, &one.globs) {
            books.learn(&path);
        }
    }
}

/// What has been read, and the table for it.
struct Books {
    files: FileTable,
    pace: Pace,
    layer_devices: Vec<u32>,
}

impl Books {
    fn new(files: FileTable, bytes_per_second: u32) -> Self {
        Self { files, pace: Pace::new(bytes_per_second), layer_devices: layer_devices() }
    }

    /// Makes the digest of a file known, unless it is.
    fn learn(&mut self, path: &Path) {
        for _ in 0..AGAIN_MAX {
            match self.try_learn(path) {
                Err(Unknown::Changing) => std::thread::sleep(AGAIN_AFTER),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "digest unknown");
                    return;
                }
                Ok(()) => return,
            }
        }
    }

    fn try_learn(&mut self, path: &Path) -> Result<(), Unknown> {
        let file = file::open(path)?;
        let layered = file::is_layered(&file)?;
        if self.keys(&file::key(&file)?, layered).all(|key| self.files.get(&key).is_some()) {
            return Ok(());
        }
        let (key, sha256) = file::read(&file, &mut self.pace)?;
        for key in self.keys(&key, layered) {
            if let Err(error) = self.files.put(&key, sha256) {
                tracing::warn!(path = %path.display(), %error, "the digest stays unknown");
            }
        }
        Ok(())
    }

    /// The keys the kernel may know a file by. Below an overlay it is the inode of the layer: its
    /// number is what stat(2) gives, its device is not. An entry for a device the layer is not on
    /// is never looked up: two files do not share number, size and the ns of their last change.
    fn keys<'a>(&'a self, key: &FileKey, layered: bool) -> impl Iterator<Item = FileKey> + 'a {
        keys(&self.layer_devices, key, layered)
    }
}

fn keys<'a>(
    layer_devices: &'a [u32],
    key: &FileKey,
    layered: bool,
) -> impl Iterator<Item = FileKey> + 'a {
    let key = *key;
    let own = (!layered).then_some(key.device);
    let layers = layer_devices.iter().copied().filter(move |_| layered);
    own.into_iter().chain(layers).map(move |device| FileKey { device, ..key })
}

/// Looks up digests that have been read; reads no file itself.
pub struct Known {
    files: FileTable,
    layer_devices: Vec<u32>,
}

impl Known {
    /// Of this table.
    #[must_use]
    pub fn new(files: FileTable) -> Self {
        Self { files, layer_devices: layer_devices() }
    }

    /// The digest of what a process executes, where it is known.
    #[must_use]
    pub fn of_process(&self, pid: u32) -> Option<[u8; 32]> {
        let file = fs::File::open(format!("/proc/{pid}/exe")).ok()?;
        let layered = file::is_layered(&file).ok()?;
        let key = file::key(&file).ok()?;
        keys(&self.layer_devices, &key, layered).find_map(|key| self.files.get(&key))
    }
}

/// The devices of the machine's mounted filesystems that tell of every change.
fn layer_devices() -> Vec<u32> {
    let mounts = fs::read_to_string("/proc/1/mountinfo")
        .or_else(|_| fs::read_to_string("/proc/self/mountinfo"))
        .unwrap_or_default();
    let of = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let (major, minor) = before.split(' ').nth(2)?.split_once(':')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        matches!(kind, "ext2" | "ext3" | "ext4" | "xfs" | "f2fs").then_some(major << 20 | minor)
    };
    let devices: BTreeSet<u32> = mounts.lines().filter_map(of).collect();
    devices.into_iter().take(LAYER_DEVICES_MAX).collect()
}

/// A root filesystem view: inode of the mount namespace, and the patterns it was scanned for.
type Scanned = (u64, usize);

struct Reader {
    root: PathBuf,
    wanted: SharedWanted,
    books: Books,
    scanned: HashMap<Scanned, Instant>,
    /// What scans have found; read one by one, so that what was refused does not wait for it.
    unread: VecDeque<PathBuf>,
}

impl Reader {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let patience = if self.unread.is_empty() { LOOK_EVERY } else { Duration::ZERO };
            match messages.recv_timeout(patience) {
                Ok(Message::Seen { cgroup_id, path }) => self.read_seen(cgroup_id, &path),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => match self.unread.pop_front() {
                    Some(path) => self.books.learn(&path),
                    None => self.look(),
                },
            }
        }
    }

    /// Reads what is found now, until it is read or `patience` is over.
    fn read_for(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        if !patience.is_zero() {
            self.look();
        }
        while Instant::now() < end
            && let Some(path) = self.unread.pop_front()
        {
            self.books.learn(&path);
        }
    }

    /// Reads a program that was refused, by its path in the workload's roots.
    fn read_seen(&mut self, cgroup_id: u64, path: &Path) {
        let cgroups = self.cgroups(&HashSet::from([cgroup_id]));
        for root in cgroups.values().flat_map(|cgroup| roots(cgroup)) {
            self.books.learn(&scan::below(&root.1, path));
        }
    }

    /// Scans the roots that have not been, or not for long.
    fn look(&mut self) {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if wanted.is_empty() {
            return;
        }
        self.scanned.retain(|_, when| when.elapsed() < SCAN_EVERY);
        let cgroups = self.cgroups(&wanted.iter().map(|one| one.cgroup_id).collect());
        for one in wanted {
            let Some(cgroup) = cgroups.get(&one.cgroup_id) else { continue };
            for (namespace, root) in roots(cgroup) {
                let scanned = (namespace, Arc::as_ptr(&one.globs).addr());
                if self.scanned.contains_key(&scanned) {
                    continue;
                }
                self.unread.extend(scan::candidates(&root, &one.globs));
                self.scanned.insert(scanned, Instant::now());
            }
        }
    }

    /// The directories of cgroups.
    fn cgroups(&self, ids: &HashSet<u64>) -> HashMap<u64, PathBuf> {
        let cgroups = cgroup::walk(&self.root).unwrap_or_default().into_iter();
        cgroups.filter(|of| ids.contains(&of.id)).map(|of| (of.id, of.path)).collect()
    }
}

/// The roots of a workload's processes, one per mount namespace, with its inode.
fn roots(cgroup: &Path) -> HashMap<u64, PathBuf> {
    let mut roots = HashMap::new();
    let mut left = PROCESSES_MAX;
    for cgroup in cgroup::walk(cgroup).unwrap_or_default() {
        let processes = fs::read_to_string(cgroup.path.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().take(left) {
            left -= 1;
            if let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/mnt")) {
                let root = PathBuf::from(format!("/proc/{pid}/root"));
                roots.entry(namespace.ino()).or_insert(root);
            }
        }
    }
    roots
}
