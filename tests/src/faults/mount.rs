//! The faulty disk as a mounted file system: FUSE calls in, faults at the call they are planned
//! for.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Call, Disk, Effect, Fault, Random,
    disk::{Number, Stat},
};

/// Nothing is cached: after a cut the same names show other content.
const UNCACHED: Duration = Duration::ZERO;
/// Calls kept for the account of a failure.
const CALLS_KEPT: usize = 400;

/// A disk, mounted.
pub struct FaultyDisk {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

/// What became of the planned fault.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The call it met, if it has happened.
    pub fired: Option<String>,
    /// Whether it took the power.
    pub without_power: bool,
    /// The last calls, oldest first.
    pub calls: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    disk: Disk,
    random: Random,
    fault: Option<Fault>,
    seen: u64,
    /// Calls of this kind still to fail.
    failing: Option<(Call, Errno, u64)>,
    victim: Option<Pid>,
    stats: Stats,
}

/// What to do with a call.
enum Go {
    Do,
    Short,
    /// Do it, and answer an error nobody will see.
    DoAndFail,
    Fail(Errno),
}

impl FaultyDisk {
    /// Mounts an empty disk at `path`, which is made.
    ///
    /// # Panics
    /// Not root, or no FUSE here.
    #[must_use]
    pub fn mount(path: &Path, seed: u64) -> Self {
        need_fuse();
        fs::create_dir_all(path).expect("a mount point");
        let state = State {
            disk: Disk::default(),
            random: Random::new(seed),
            fault: None,
            seen: 0,
            failing: None,
            victim: None,
            stats: Stats::default(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("faulty".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Calls(Arc::clone(&shared)), path, &config);
        let session = session.expect("a FUSE mount (as root, with /dev/fuse)");
        Self { path: path.to_owned(), shared, session: Some(session) }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Plans a fault. A program that it kills must be named by [`Self::set_victim`].
    pub fn plan(&self, fault: Fault) {
        let mut state = self.lock();
        state.fault = Some(fault);
        state.seen = 0;
    }

    /// The program that dies with a kill or a cut.
    pub fn set_victim(&self, pid: Option<Pid>) {
        self.lock().victim = pid;
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    /// Whether the planned fault has happened.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.lock().stats.fired.is_some()
    }

    /// Waits until the planned fault has happened, or for `patience`.
    #[must_use]
    pub fn wait_fired(&self, patience: Duration) -> bool {
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.lock(), patience, |state| state.stats.fired.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.stats.fired.is_some()
    }

    /// Takes the power now: every call fails until [`Self::restore`].
    pub fn cut_power(&self) {
        self.lock().stats.without_power = true;
    }

    /// Ends a round, when no program uses the disk any more: after a cut the disk is what such a
    /// machine finds. Nothing is planned any more.
    pub fn restore(&self) {
        let mut state = self.lock();
        let State { disk, random, stats, .. } = &mut *state;
        if stats.without_power {
            disk.cut_power(random);
        } else {
            disk.sweep();
        }
        let calls = std::mem::take(&mut stats.calls);
        state.stats = Stats { calls, ..Stats::default() };
        (state.fault, state.failing, state.victim) = (None, None, None);
    }

    /// Copies what programs see to a directory of the machine.
    ///
    /// # Errors
    /// The system refuses.
    pub fn copy_to(&self, directory: &Path) -> std::io::Result<()> {
        self.lock().disk.copy_to(directory)
    }

    /// Writes a line among the calls kept for the account of a failure.
    pub fn note(&self, text: &str) {
        self.lock().keep(format!("-- {text}"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.restore();
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
            && !std::thread::panicking()
        {
            panic!("{} could not be unmounted: {error}", self.path.display());
        }
    }
}

/// Makes `/dev/fuse` where it is only missing.
fn need_fuse() {
    crate::need_root();
    let device = Path::new("/dev/fuse");
    if !device.exists() {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        let number = nix::sys::stat::makedev(10, 229);
        let made = nix::sys::stat::mknod(device, nix::sys::stat::SFlag::S_IFCHR, mode, number);
        made.expect("/dev/fuse is missing and cannot be made: the crash tests need FUSE");
    }
    let kind = fs::metadata(device).expect("/dev/fuse can be looked at").file_type();
    assert!(kind.is_char_device(), "/dev/fuse is no device: the crash tests need FUSE");
}

impl State {
    fn keep(&mut self, line: String) {
        if self.stats.calls.len() >= CALLS_KEPT {
            self.stats.calls.drain(..CALLS_KEPT / 2);
        }
        self.stats.calls.push(line);
    }

    fn decide(&mut self, call: Call, what: &dyn Fn() -> String) -> Go {
        if self.stats.without_power {
            return Go::Fail(Errno::EIO);
        }
        if let Some((kind, errno, left)) = self.failing.take()
            && kind.meets(call)
        {
            self.failing = left.checked_sub(1).map(|left| (kind, errno, left));
            return Go::Fail(errno);
        }
        let Some(fault) = self.fault.filter(|fault| fault.call.meets(call)) else { return Go::Do };
        self.seen += 1;
        if self.seen < fault.nth {
            return Go::Do;
        }
        self.fault = None;
        self.stats.fired = Some(format!("{:?} at {}", fault.effect, what()));
        self.keep(format!("** {:?}", fault.effect));
        match fault.effect {
            Effect::Fail { errno, more } => {
                self.failing = more.checked_sub(1).map(|left| (call, errno, left));
                Go::Fail(errno)
            }
            Effect::Short => Go::Short,
            Effect::Kill { done } => {
                self.kill();
                if done { Go::Do } else { Go::Fail(Errno::EINTR) }
            }
            Effect::CutPower { done } => {
                self.kill();
                self.stats.without_power = true;
                if done { Go::DoAndFail } else { Go::Fail(Errno::EIO) }
            }
        }
    }

    fn kill(&self) {
        if let Some(pid) = self.victim {
            // It may have ended by itself.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The file system as FUSE calls it: one thread.
struct Calls(Arc<Shared>);

impl Calls {
    /// Does a call, unless a fault is planned for it. `short` says that a write takes only a part.
    fn call<T>(
        &self,
        call: Call,
        what: impl Fn() -> String,
        work: impl FnOnce(&mut State, bool) -> Result<T, Errno>,
    ) -> Result<T, fuser::Errno> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let go = state.decide(call, &what);
        if call != Call::Read && call != Call::Open {
            let outcome = match go {
                Go::Do => "",
                Go::Short => " short",
                Go::DoAndFail => " done, no answer",
                Go::Fail(_) => " FAILS",
            };
            let line = format!("{call:?} {}{outcome}", what());
            state.keep(line);
        }
        let done = match go {
            Go::Do => work(&mut state, false),
            Go::Short => work(&mut state, true),
            Go::DoAndFail => work(&mut state, false).and(Err(Errno::EIO)),
            Go::Fail(errno) => Err(errno),
        };
        drop(state);
        self.0.changed.notify_all();
        done.map_err(from_errno)
    }

    fn look<T>(&self, work: impl FnOnce(&Disk) -> Result<T, Errno>) -> Result<T, fuser::Errno> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&state.disk).map_err(from_errno)
    }
}

fn from_errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

fn attributes(number: Number, stat: Stat) -> FileAttr {
    let kind = if stat.is_directory { FileType::Directory } else { FileType::RegularFile };
    FileAttr {
        ino: INodeNo(number),
        size: stat.size,
        blocks: stat.size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: u16::try_from(stat.mode & 0o7777).unwrap_or(0o600),
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Filesystem for Calls {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(|disk| {
            let number = disk.find(parent.0, name)?;
            Ok(attributes(number, disk.stat(number)?))
        });
        match found {
            Ok(attr) => reply.entry(&UNCACHED, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(|disk| disk.stat(ino.0)) {
            Ok(stat) => reply.attr(&UNCACHED, &attributes(ino.0, stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        length: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let what = || format!("{ino:?} to {length:?}");
        let done = match length {
            Some(length) => self.call(Call::Resize, what, |state, _| {
                state.disk.resize(ino.0, size(length))?;
                state.disk.stat(ino.0)
            }),
            None => self.look(|disk| disk.stat(ino.0)),
        };
        if let Some(mode) = mode {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Reported by the answer below, should it be gone.
            let _ = state.disk.set_mode(ino.0, mode);
        }
        match done {
            Ok(stat) => reply.attr(&UNCACHED, &attributes(ino.0, stat)),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.call(
            Call::MakeDir,
            || format!("{name:?}"),
            |state, _| {
                let number = state.disk.make(parent.0, name, mode, true)?;
                Ok(attributes(number, state.disk.stat(number)?))
            },
        );
        match made {
            Ok(attr) => reply.entry(&UNCACHED, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = |state: &mut State, _| state.disk.remove(parent.0, name);
        finish(reply, self.call(Call::Remove, || format!("{name:?}"), remove));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(req, parent, name, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = |state: &mut State, _| state.disk.rename(parent.0, name, newparent.0, newname);
        finish(reply, self.call(Call::Rename, || format!("{name:?} to {newname:?}"), rename));
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.call(
            Call::Create,
            || format!("link {newname:?}"),
            |state, _| {
                state.disk.link(ino.0, newparent.0, newname)?;
                Ok(attributes(ino.0, state.disk.stat(ino.0)?))
            },
        );
        match linked {
            Ok(attr) => reply.entry(&UNCACHED, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.call(
            Call::Open,
            || format!("{ino:?}"),
            |state, _| state.disk.stat(ino.0).map(|_| ()),
        );
        match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.call(
            Call::Create,
            || format!("{name:?}"),
            |state, _| {
                let number = state.disk.make(parent.0, name, mode, false)?;
                Ok(attributes(number, state.disk.stat(number)?))
            },
        );
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        match made {
            Ok(attr) => reply.created(&UNCACHED, &attr, Generation(0), FileHandle(0), direct),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.call(
            Call::Read,
            || format!("{ino:?} at {offset}"),
            |state, _| {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                state.disk.read(ino.0, size(offset), length).map(<[u8]>::to_vec)
            },
        );
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let what = || format!("{ino:?} {} bytes at {offset}", data.len());
        let written = self.call(Call::Write, what, |state, short| {
            let length = if short { data.len().div_ceil(2) } else { data.len() };
            let taken = data.get(..length).unwrap_or(data);
            state.disk.write(ino.0, size(offset), taken)?;
            Ok(u32::try_from(length).unwrap_or(u32::MAX))
        });
        match written {
            Ok(length) => reply.written(length),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let done = self.call(Call::Sync, || format!("{ino:?}"), |state, _| state.disk.sync(ino.0));
        // A sync that was interrupted has lost nothing.
        if done.as_ref().is_err_and(|errno| errno.code() != Errno::EINTR as i32) {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            let State { disk, random, .. } = &mut *state;
            disk.fail_sync(ino.0, random);
        }
        finish(reply, done);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let sync = |state: &mut State, _| state.disk.sync(ino.0);
        finish(reply, self.call(Call::SyncDir, || format!("{ino:?}"), sync));
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.call(
            Call::Read,
            || format!("names of {ino:?}"),
            |state, _| {
                let names = state.disk.list(ino.0)?;
                let entry = |(name, number): (_, Number)| {
                    Ok((name, number, state.disk.stat(number)?.is_directory))
                };
                names.into_iter().map(entry).collect::<Result<Vec<_>, Errno>>()
            },
        );
        let names = match listed {
            Ok(names) => names,
            Err(errno) => return reply.error(errno),
        };
        for (at, (name, number, is_directory)) in (1_u64..).zip(names).skip(size(offset)) {
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(number), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        // 4 GiB, nearly all of it free.
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

fn finish(reply: ReplyEmpty, done: Result<(), fuser::Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}
