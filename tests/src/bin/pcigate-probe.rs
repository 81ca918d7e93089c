//! A program that tries things and says how each ended: the workload of tests and of the demo.
//!
//! `pcigate-probe [--netns FILE] [--resolver ADDRESS] [--cgroup DIR] ACTION…` enters a network
//! namespace, makes an address its resolver (in a mount namespace of its own) and joins a cgroup
//! first, where given in this order, then does one action after the other and prints a line
//! `ACTION RESULT` for each. RESULT is `ok`, an errno name such as `EPERM`, or for `exec:` how the
//! program ended. Actions:
//!
//! ```text
//! tcp:ADDRESS:PORT            connect (an IPv6 address makes an AF_INET6 socket, also when mapped)
//! udp:ADDRESS:PORT            send a datagram on an unconnected socket
//! udp-many:N:ADDRESS:PORT     N datagrams on one unconnected socket; the result of the last
//! udp-connected:ADDRESS:PORT  connect a datagram socket
//! udp-from:ADDRESS:ADDRESS:PORT  as udp, from a socket bound to the first address
//! resolve:HOW,TYPE,NAME@SERVER  send a DNS query (HOW: udp, or tcp; TYPE: a number) to an address
//!                             and port, and wait for whatever comes back
//! forge:NAME=ADDRESS@SERVER   send a DNS query, and its answer oneself from that same address
//! lookup:NAME                 ask the C library for the addresses of a name
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
//! …                           sockets in every other way: see `pcigate_tests::probe_sockets`
//! until-line:ACTION           an action every millisecond until standard input ends or has a line;
//!                             says `at N` every tenth time; the result is `N/HOW-OFTEN-OK`
//! watch:ACTION                an action every millisecond until standard input ends; a line with
//!                             the result each time it is another
//! own-network                 go into a network namespace with nothing but a loopback
//! serve:ADDRESS:PORT          send back what connections send, in a thread, as long as this runs
//! open:ADDRESS:PORT           connect, and keep the connection
//! ping                        send a byte over it, and wait a second for it to come back
//! wait-end                    wait until it ends
//! read-line                   wait for a line on standard input
//! peer:HOW:ADDRESS:PORT, …    see `pcigate_tests::probe_peers`
//! attack:…, inside:ACTION, enter:PID   see `pcigate_tests::probe_guards`
//! ```
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "pcigate-probe/line.rs"]
mod line;

use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

#[path = "pcigate-probe/names.rs"]
mod names;

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::Mode,
    },
    unistd::fexecve,
};
use pcigate_tests::{probe_peers, probe_sockets, system_calls};

/// How often programs are swapped at least while they are executed.
const SWAPS_MIN: u32 = 1_000;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "--netns").is_some() {
        let file = fs::File::open(arguments.next().unwrap_or_default());
        let entered = file.and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        if let Err(error) = entered {
            println!("--netns {error}");
            return ExitCode::from(2);
        }
    }
    if arguments.next_if(|argument| argument == "--resolver").is_some()
        && let Err(error) = resolver(&arguments.next().unwrap_or_default())
    {
        println!("--resolver {error}");
        return ExitCode::from(2);
    }
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
        "until-line" => until_line(rest),
        "watch" => watch(rest),
        "fork-exec" => {
            let (n, program) = rest.split_once(':').unwrap_or(("0", ""));
            let n: u32 = n.parse().unwrap_or(0);
            (0..n).fold(String::new(), |_, _| exec(program))
        }
        "udp-many" => word(send_many(rest)),
        "memfd-exec" => memfd_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "fd-exec" => fd_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "fexecve" => ended(Command::new("/proc/self/exe").arg(format!("replace:{rest}"))),
        "replace" => word(replace(rest).map_err(io::Error::from)),
        "argv0-exec" => argv0_exec(rest),
        "map-write" => word(pcigate_tests::system_calls::change_through_mapping(rest)),
        "swap-exec" => swap_exec(rest).unwrap_or_else(|error| word(Err(error))),
        "thread-exec" => thread_exec(rest.to_owned()),
        "chroot-exec" => chroot_exec(rest),
        "own-network" => word(line::own_network()),
        "serve" => word(line::serve(rest)),
        "open" => word(line::open(rest)),
        "ping" => word(line::ping()),
        "wait-end" => word(line::wait_end()),
        "read-line" => word(io::stdin().read_line(&mut String::new()).map(drop)),
        "write" => word(
            fs::OpenOptions::new()
                .append(true)
                .open(rest)
                .and_then(|mut file| file.write_all(b"1")),
        ),
        "socket" => word(socket(rest)),
        "resolve" => word(names::resolve(rest)),
        "forge" => word(names::forge(rest)),
        "lookup" => word(names::lookup(rest)),
        "call" => word(call(rest).map_err(io::Error::from)),
        "inside" => {
            pcigate_tests::probe_guards::inside(rest).unwrap_or_else(|error| word(Err(error)))
        }
        "enter" => word(pcigate_tests::probe_guards::enter(rest)),
        "attack" => word(pcigate_tests::probe_guards::attack(rest)),
        "peer" | "peer-after" | "hold" => {
            probe_peers::act(kind, rest).unwrap_or_else(|error| word(Err(error)))
        }
        _ => {
            let done = probe_sockets::act(kind, rest);
            word(done.unwrap_or_else(|| network(kind, rest)))
        }
    }
}

/// Files above `/etc/resolv.conf` and `/etc/nsswitch.conf` that only this process sees.
fn resolver(address: &str) -> io::Result<()> {
    let directory = std::env::temp_dir().join(format!("pcigate-probe-{}", std::process::id()));
    fs::create_dir(&directory)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), &directory, Some("tmpfs"), MsFlags::empty(), none)?;
    for (name, text) in [
        ("resolv.conf", format!("nameserver {address}\noptions timeout:5 attempts:1\n")),
        ("nsswitch.conf", "hosts: dns\n".to_owned()),
    ] {
        let (ours, seen) = (directory.join(name), std::path::Path::new("/etc").join(name));
        fs::write(&ours, text)?;
        if !seen.exists() {
            fs::write(&seen, "")?;
        }
        mount(Some(&ours), &seen, none, MsFlags::MS_BIND, none)?;
    }
    // Only the mounts keep the files; the name would stay behind in the machine's own directory.
    nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH)?;
    fs::remove_dir(&directory)
}

/// One try a millisecond, whatever happens meanwhile; no second thread, so that one process ends
/// once.
fn until_line(action: &str) -> String {
    let stdin = io::stdin();
    let (mut tries, mut succeeded) = (0u64, 0u64);
    loop {
        tries += 1;
        succeeded += u64::from(act(action) == "ok");
        if tries.is_multiple_of(10) {
            println!("at {tries}");
        }
        let mut ended = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, 1_u8) != Ok(0) {
            return format!("{tries}/{succeeded}");
        }
    }
}

fn watch(action: &str) -> String {
    let stdin = io::stdin();
    let mut last = String::new();
    loop {
        let result = act(action);
        if result != last {
            println!("{result}");
            last = result;
        }
        let mut ended = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, 1_u8) != Ok(0) {
            return last;
        }
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

fn send_many(rest: &str) -> io::Result<()> {
    let (n, address) = rest.split_once(':').unwrap_or(("0", rest));
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let n: u32 = n.parse().map_err(io::Error::other)?;
    let mut last = Ok(());
    for _ in 0..n {
        last = socket.send_to(b"x", address).map(drop);
    }
    last
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
    let [family, kind, protocol] = probe_sockets::numbers(numbers)?;
    system_calls::open_socket(family, kind, protocol).map(drop)
}

fn call(name: &str) -> Result<(), Errno> {
    match name {
        "bpf" => system_calls::bpf(),
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
