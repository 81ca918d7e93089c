//! A program that tries things and says how each ended: the workload of tests and of the demo.
//!
//! `pcigate-probe [--cgroup DIR] ACTION…` joins a cgroup first, where given, then does one action
//! after the other and prints a line `ACTION RESULT` for each. RESULT is `ok`, an errno name such
//! as `EPERM`, or for `exec:` how the program ended. Actions:
//!
//! ```text
//! tcp:ADDRESS:PORT            connect (an IPv6 address makes an AF_INET6 socket, also when mapped)
//! udp:ADDRESS:PORT            send a datagram on an unconnected socket
//! udp-connected:ADDRESS:PORT  connect a datagram socket
//! udp-from:ADDRESS:ADDRESS:PORT  as udp, from a socket bound to the first address
//! repeat:N:ACTION             an action N times; the result of the last
//! exec:PROGRAM[ ARG]…         run a program to its end (arguments split at spaces)
//! fork-exec:N:PROGRAM         N programs one after the other
//! memfd-exec:PROGRAM          run a copy of a program that has no path
//! fd-exec:PROGRAM             run a program by way of /proc/self/fd
//! fexecve:PROGRAM             run a program by its descriptor alone (execveat, AT_EMPTY_PATH)
//! argv0-exec:NAME PROGRAM[ ARG]…  run a program under another name
//! map-write:PATH              change a file through a mapping, and leave it as long as it was
//! swap-exec:N:A:B             run A, N times, while a thread puts A and B in each other's place
//! thread-exec:PROGRAM         replace the image from a second thread
//! chroot-exec:DIRECTORY PROGRAM  run a program in a changed root
//! socket:FAMILY,TYPE,PROTOCOL make a socket, by numbers
//! write:PATH                  open a file for writing and write a byte
//! call:NAME                   a system call that must be refused: bpf, unshare-user, mount, setns
//! read-line                   wait for a line on standard input
//! ```
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::Mode,
    },
    unistd::fexecve,
};

/// How often programs are swapped at least while they are executed.
const SWAPS_MIN: u32 = 1_000;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "--cgroup").is_some() {
        let directory = arguments.next().unwrap_or_default();
        if let Err(error) = fs::write(format!("{directory}/cgroup.procs"), "0") {
            println!("--cgroup {error}");
            return ExitCode::from(2);
        }
    }
    for action in arguments {
        let result = act(&action);
        println!("{action} {result}");
        let _ = io::stdout().flush();
    }
    ExitCode::SUCCESS
}

fn act(action: &str) -> String {
    let (kind, rest) = action.split_once(':').unwrap_or((action, ""));
    match kind {
        "repeat" => {
            let (n, inner) = rest.split_once(':').unwrap_or(("0", ""));
            let n: u32 = n.parse().unwrap_or(0);
            (0..n).fold(String::new(), |_, _| act(inner))
        }
        "exec" => exec(rest),
        "fork-exec" => {
            let (n, program) = rest.split_once(':').unwrap_or(("0", ""));
            let n: u32 = n.parse().unwrap_or(0);
            (0..n).fold(String::new(), |_, _| exec(program))
        }
        "memfd-exec" => memfd_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "fd-exec" => fd_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "fexecve" => ended(Command::new("/proc/self/exe").arg(format!("replace:{rest}"))),
        "replace" => word(replace(rest).map_err(io::Error::from)),
        "argv0-exec" => argv0_exec(rest),
        "map-write" => word(pcigate_tests::system_calls::change_through_mapping(rest)),
        "swap-exec" => swap_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "thread-exec" => thread_exec(rest.to_owned()),
        "chroot-exec" => chroot_exec(rest),
        "read-line" => word(io::stdin().read_line(&mut String::new()).map(drop)),
        "write" => word(
            fs::OpenOptions::new()
                .append(true)
                .open(rest)
                .and_then(|mut file| file.write_all(b"1")),
        ),
        "socket" => word(socket(rest)),
        "call" => word(call(rest).map_err(io::Error::from)),
        _ => word(network(kind, rest)),
    }
}

fn network(kind: &str, address: &str) -> io::Result<()> {
    let (source, address) = match address.split_once(':') {
        Some((source, rest)) if kind == "udp-from" => (source, rest),
        _ => ("", address),
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let any: SocketAddr =
        if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    match kind {
        "tcp" => TcpStream::connect_timeout(&address, CONNECT_WITHIN).map(drop),
        "udp" => UdpSocket::bind(any)?.send_to(b"x", address).map(drop),
        "udp-from" => UdpSocket::bind((source, 0))?.send_to(b"x", address).map(drop),
        "udp-connected" => UdpSocket::bind(any)?.connect(address),
        other => Err(io::Error::other(format!("unknown action {other}"))),
    }
}

fn exec(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    ended(Command::new(program).args(words))
}

/// How a command ended.
fn ended(command: &mut Command) -> String {
    match command.stdout(Stdio::null()).status() {
        Err(error) => word(Err(error)),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "ok".into(),
            (Some(code), _) => format!("code-{code}"),
            (None, Some(signal)) => format!("signal-{signal}"),
            (None, None) => "ended".into(),
        },
    }
}

fn argv0_exec(rest: &str) -> String {
    let mut words = rest.split(' ');
    let (name, program) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    ended(Command::new(program).arg0(name).args(words))
}

/// By way of a descriptor that the new process inherits.
fn fd_exec(program: &str) -> io::Result<String> {
    let file = fs::File::open(program)?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(exec(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// Becomes the program, by its descriptor.
fn replace(program: &str) -> nix::Result<()> {
    let path = CString::new(program).map_err(|_| Errno::EINVAL)?;
    let file = nix::fcntl::open(path.as_c_str(), OFlag::O_PATH, Mode::empty())?;
    let none: [CString; 0] = [];
    fexecve(&file, &[path], &none).map(|_| ())
}

/// A ends with code 0, B with 1 and must never run.
fn swap_exec(rest: &str) -> io::Result<String> {
    let mut parts = rest.split(':');
    let times: u32 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let (Some(fine), Some(denied)) = (parts.next(), parts.next()) else {
        return Err(io::Error::other("two programs are needed"));
    };
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    let (mut ran, mut refused, mut fines) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = pcigate_tests::system_calls::exchange(fine, denied);
                swaps.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        while ran + refused + fines < times || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            match exec(fine).as_str() {
                "code-1" => ran += 1,
                "ok" => fines += 1,
                _ => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    Ok(format!("denied-ran={ran},refused={},fine={}", refused > 0, fines > 0))
}

/// In a process of its own, which `chroot` and the program replace.
fn chroot_exec(rest: &str) -> String {
    let (directory, program) = rest.split_once(' ').unwrap_or((rest, ""));
    exec(&format!("/usr/sbin/chroot {directory} {program}"))
}

/// From an anonymous file, by way of a descriptor that the new process inherits.
fn memfd_exec(program: &str) -> io::Result<String> {
    let file = memfd_create("copy", MFdFlags::empty())?;
    let mut file = fs::File::from(file);
    file.write_all(&fs::read(program)?)?;
    Ok(exec(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

fn thread_exec(program: String) -> String {
    let thread = std::thread::spawn(move || word(Err(Command::new(program).exec())));
    thread.join().unwrap_or_default()
}

fn socket(numbers: &str) -> io::Result<()> {
    let numbers: Vec<i32> = numbers.split(',').filter_map(|n| n.parse().ok()).collect();
    let &[family, kind, protocol] = numbers.as_slice() else {
        return Err(io::Error::other("three numbers are needed"));
    };
    pcigate_tests::system_calls::socket(family, kind, protocol)
}

fn call(name: &str) -> Result<(), Errno> {
    match name {
        "bpf" => pcigate_tests::system_calls::bpf(),
        "unshare-user" => unshare(CloneFlags::CLONE_NEWUSER),
        "mount" => mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>),
        "setns" => match fs::File::open("/proc/self/ns/net") {
            Ok(file) => setns(file, CloneFlags::empty()),
            Err(_) => Err(Errno::ENOENT),
        },
        _ => Err(Errno::EINVAL),
    }
}

/// `ok`, the name of an errno, or the text of another error.
fn word(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.to_string(),
        },
    }
}
