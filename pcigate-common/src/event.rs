//! The records the kernel programs put into the rings, and their checked decoding.
//!
//! Each record is a [`Header`] and then the struct of its [`Kind`]; an exec is followed by
//! `path_len` bytes of path, `invoked_len` bytes of the name it was called by and `argv_len` bytes
//! of NUL-separated arguments.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::maps::Decision;

/// What a record tells. The numbers are part of the contract between the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Kind {
    /// A governed process created another (`sched_process_fork`).
    Fork = 1,
    /// A program was started, or killed before its first instruction (`sched_process_exec`).
    Exec = 2,
    /// A program was refused by the LSM before it replaced the caller (`bprm_check_security`).
    ExecRefused = 3,
    /// A process ended (`sched_process_exit`).
    Exit = 4,
    /// A destination was asked for (`connect4/6`, `sendmsg4/6`).
    Egress = 5,
    /// Something else was asked for: see [`What`].
    Attempt = 6,
}

/// Bits of [`Header::flags`].
pub mod flags {
    /// argv did not fit [`crate::limits::ARGV_BYTES_MAX`].
    pub const ARGV_TRUNCATED: u32 = 1 << 0;
    /// argv could not be read.
    pub const ARGV_UNAVAILABLE: u32 = 1 << 1;
    /// The path could not be resolved up to the task's root.
    pub const PATH_UNRESOLVED: u32 = 1 << 2;
    /// Refused by killing the new program before its first instruction.
    pub const KILLED: u32 = 1 << 3;
    /// The kill itself failed: the refusal did not take effect.
    pub const KILL_FAILED: u32 = 1 << 4;
    /// The address was an IPv4 address in IPv6 form.
    pub const V4_MAPPED: u32 = 1 << 5;
    /// The name the program was called by did not fit.
    pub const INVOKED_TRUNCATED: u32 = 1 << 6;
    /// Decided by an LSM program rather than by the cgroup's or a tracepoint.
    pub const LSM: u32 = 1 << 8;
    /// The connection goes to the gateway: it was not refused.
    pub const REDIRECTED: u32 = 1 << 9;
    /// A rule asks for the file's digest, and it is not known.
    pub const DIGEST_UNKNOWN: u32 = 1 << 16;
}

/// The task that acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Task {
    /// Process id (the kernel's tgid) in the root pid namespace.
    pub pid: u32,
    /// Thread id in the root pid namespace.
    pub tid: u32,
    /// Start of the process, ns since boot including suspend: with `pid` the identity of a process.
    pub start_ns: u64,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Start of the parent, ns since boot.
    pub parent_start_ns: u64,
}
const _: () = assert!(size_of::<Task>() == 32);

impl Task {
    /// Not known: a packet is sent or received by whoever happens to run then.
    pub const NONE: Self =
        Self { pid: 0, tid: 0, start_ns: 0, parent_pid: 0, uid: 0, parent_start_ns: 0 };
}

/// First part of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Bits of [`flags`].
    pub flags: u32,
    /// `bpf_ktime_get_boot_ns` at the hook.
    pub time_ns: u64,
    /// Number of this record among those of [`Self::cpu`], from 0; lost records take numbers too.
    pub seq: u64,
    /// CPU the hook ran on.
    pub cpu: u32,
    /// Policy number the decision was taken by; 0 = none.
    pub policy: u32,
    /// cgroup the task is in.
    pub cgroup: u64,
    /// The governed ancestor of that cgroup (its id in `WORKLOADS`); 0 = unknown workload.
    pub workload: u64,
    /// Who acted.
    pub task: Task,
    /// What was decided.
    pub decision: Decision,
}
const _: () = assert!(size_of::<Header>() == 96);

/// A process was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    /// Who forked.
    pub header: Header,
    /// Start of the child, ns since boot.
    pub child_start_ns: u64,
    /// Process id of the child in the root pid namespace.
    pub child_pid: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Fork>() == 112);

/// A program was started or refused; path, invoked name and argv follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    /// Who executed.
    pub header: Header,
    /// Bytes of resolved path that follow, without NUL.
    pub path_len: u32,
    /// Bytes of the name it was called by that follow, without NUL.
    pub invoked_len: u32,
    /// Bytes of argv that follow, arguments separated by NUL.
    pub argv_len: u32,
    /// Bytes argv had in the process.
    pub argv_total: u32,
}
const _: () = assert!(size_of::<Exec>() == 112);

/// A process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    /// Who ended.
    pub header: Header,
    /// Wait status: exit code << 8 | signal, as `wait(2)` gives it.
    pub status: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Exit>() == 104);

/// The system call that named a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Operation {
    /// `connect(2)` and everything that connects (TFO, io_uring, MPTCP).
    Connect = 1,
    /// A datagram sent on an unconnected socket.
    Send = 2,
    /// A packet on its way out that neither was asked about (`cgroup_skb`).
    Packet = 3,
}

/// A destination was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Egress {
    /// Who asked.
    pub header: Header,
    /// Destination in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// How.
    pub operation: Operation,
    /// IP protocol number of the socket.
    pub protocol: u32,
    /// Destination port, host order.
    pub port: u32,
    /// Address family of the socket call: 2 `AF_INET`, 10 `AF_INET6`.
    pub family: u32,
}
const _: () = assert!(size_of::<Egress>() == 128);

/// What an [`Attempt`] asked for, and what its numbers and its text say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum What {
    /// A socket: family, type, protocol.
    Socket = 1,
    /// An address for a socket: family, protocol, port; the address.
    Bind = 2,
    /// A socket that listens: family, protocol, port; the address.
    Listen = 3,
    /// A connection from elsewhere: family, protocol, local port; the peer's address.
    Accept = 4,
    /// A unix socket: the text is its path, or its abstract name after a NUL.
    UnixConnect = 5,
    /// A signal: its number, the process.
    Signal = 6,
    /// Another process's memory: access mode, the process.
    Ptrace = 7,
    /// `bpf(2)`: the command.
    Bpf = 8,
    /// A privilege: number of the capability.
    Capability = 9,
    /// Another namespace: the `CLONE_NEW…` flags.
    Namespace = 10,
    /// A file that governs: the text is its name; magic number of its filesystem.
    Write = 11,
    /// `perf_event_open(2)`.
    Perf = 12,
    /// Another process's limits or scheduling: a [`setting`], the process.
    Process = 13,
}

/// What of another process was to be changed: first number of [`What::Process`].
pub mod setting {
    /// `prlimit(2)`
    pub const LIMIT: u32 = 1;
    /// `sched_setscheduler(2)`, `sched_setaffinity(2)` and the like
    pub const SCHEDULER: u32 = 2;
    /// `setpriority(2)`
    pub const NICE: u32 = 3;
}

/// Something other than a program or a destination was asked for; text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Attempt {
    /// Who asked.
    pub header: Header,
    /// For what.
    pub what: What,
    /// Bytes of text that follow.
    pub text_len: u32,
    /// See [`What`].
    pub numbers: [u32; 4],
    /// An address in network order, IPv4 as v4-mapped; zero where there is none.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<Attempt>() == 136);

/// A decoded record, borrowing its bytes from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// See [`Fork`].
    Fork(&'a Fork),
    /// See [`Exec`].
    Exec(ExecEvent<'a>),
    /// See [`Exit`].
    Exit(&'a Exit),
    /// See [`Egress`].
    Egress(&'a Egress),
    /// See [`Attempt`], and its text.
    Attempt(&'a Attempt, &'a [u8]),
}

/// An exec with its three byte strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecEvent<'a> {
    /// The fixed part.
    pub exec: &'a Exec,
    /// Resolved path; partial (its end) where flagged `PATH_UNRESOLVED`.
    pub path: &'a [u8],
    /// The name the program was called by, as given to `execve`.
    pub invoked: &'a [u8],
    /// Arguments separated by NUL.
    pub argv: &'a [u8],
}

/// Why bytes from a ring are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its header or than the struct of its kind.
    Short,
    /// The kind or another enumerated field holds an unknown number.
    Unknown,
    /// The lengths inside do not fit the record.
    Lengths,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Short => "kernel record shorter than its kind",
            Self::Unknown => "kernel record of unknown kind",
            Self::Lengths => "kernel record with lengths that do not fit it",
        })
    }
}

impl core::error::Error for DecodeError {}

/// Decodes one ring record. The bytes must be 8-byte aligned, which ring records are.
///
/// # Errors
/// See [`DecodeError`]; nothing is guessed.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (header, _) = Header::try_ref_from_prefix(bytes).map_err(kind_of)?;
    match header.kind {
        Kind::Fork => Ok(Event::Fork(fixed(bytes)?)),
        Kind::Exit => Ok(Event::Exit(fixed(bytes)?)),
        Kind::Egress => Ok(Event::Egress(fixed(bytes)?)),
        Kind::Attempt => {
            let (attempt, rest) = Attempt::try_ref_from_prefix(bytes).map_err(kind_of)?;
            let (text, _) = split(rest, attempt.text_len)?;
            Ok(Event::Attempt(attempt, text))
        }
        Kind::Exec | Kind::ExecRefused => {
            let (exec, rest) = Exec::try_ref_from_prefix(bytes).map_err(kind_of)?;
            let (path, rest) = split(rest, exec.path_len)?;
            let (invoked, rest) = split(rest, exec.invoked_len)?;
            let (argv, _) = split(rest, exec.argv_len)?;
            Ok(Event::Exec(ExecEvent { exec, path, invoked, argv }))
        }
    }
}

impl<'a> Event<'a> {
    /// The part every record begins with.
    #[must_use]
    pub fn header(&self) -> &'a Header {
        match self {
            Self::Fork(event) => &event.header,
            Self::Exec(event) => &event.exec.header,
            Self::Exit(event) => &event.header,
            Self::Egress(event) => &event.header,
            Self::Attempt(event, _) => &event.header,
        }
    }
}

fn fixed<T: TryFromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<&T, DecodeError> {
    T::try_ref_from_prefix(bytes).map(|(value, _)| value).map_err(kind_of)
}

fn split(bytes: &[u8], len: u32) -> Result<(&[u8], &[u8]), DecodeError> {
    bytes.split_at_checked(len as usize).ok_or(DecodeError::Lengths)
}

/// What a failed cast says of the bytes.
#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
fn kind_of<Src, Dst: ?Sized + TryFromBytes>(
    error: zerocopy::TryCastError<Src, Dst>,
) -> DecodeError {
    match error {
        zerocopy::ConvertError::Validity(_) => DecodeError::Unknown,
        zerocopy::ConvertError::Alignment(_) | zerocopy::ConvertError::Size(_) => {
            DecodeError::Short
        }
    }
}
