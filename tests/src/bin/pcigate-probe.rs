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
//! thread-exec:PROGRAM         replace the image from a second thread
//! chroot-exec:DIRECTORY PROGRAM  run a program in a changed root
//! socket:FAMILY,TYPE,PROTOCOL make a socket, by numbers
//! write:PATH                  open a file for writing and write a byte
//! call:NAME                   a system call that must be refused: bpf, unshare-user, mount, setns
//! read-line                   wait for a line on standard input
//! ```
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, ExitCode},
    time::Duration,
};

#[path = "pcigate-probe/names.rs"]
mod names;

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::memfd::{MFdFlags, memfd_create},
};

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
        "fork-exec" => {
            let (n, program) = rest.split_once(':').unwrap_or(("0", ""));
            let n: u32 = n.parse().unwrap_or(0);
            (0..n).fold(String::new(), |_, _| exec(program))
        }
        "memfd-exec" => memfd_exec(rest).unwrap_or_else(|error| word(Err(error))),
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
        "resolve" => word(names::resolve(rest)),
        "forge" => word(names::forge(rest)),
        "lookup" => word(names::lookup(rest)),
        "call" => word(call(rest).map_err(io::Error::from)),
        _ => word(network(kind, rest)),
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
    match Command::new(program).args(words).stdout(std::process::Stdio::null()).status() {
        Err(error) => word(Err(error)),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "ok".into(),
            (Some(code), _) => format!("code-{code}"),
            (None, Some(signal)) => format!("signal-{signal}"),
            (None, None) => "ended".into(),
        },
    }
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
