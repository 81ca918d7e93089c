//! A program that tries things and says how each ended: the workload of tests and of the demo.
//!
//! `pcigate-probe [--cgroup DIR] ACTION…` joins a cgroup first, where given, then does one action
//! after the other and prints a line `ACTION RESULT` for each. RESULT is `ok`, an errno name such
//! as `EPERM`, or for `exec:` how the program ended. Actions:
//!
//! ```text
//! tcp:ADDRESS:PORT            connect (an IPv6 address makes an AF_INET6 socket, also when mapped)
//! udp:ADDRESS:PORT            send a datagram on an unconnected socket
//! udp-many:N:ADDRESS:PORT     N datagrams on one unconnected socket; the result of the last
//! udp-connected:ADDRESS:PORT  connect a datagram socket
//! udp-from:ADDRESS:ADDRESS:PORT  as udp, from a socket bound to the first address
//! repeat:N:ACTION             an action N times; the result of the last
//! exec:PROGRAM[ ARG]…         run a program to its end (arguments split at spaces)
//! fork-exec:N:PROGRAM         N programs one after the other
//! memfd-exec:PROGRAM          run a copy of a program that has no path
//! thread-exec:PROGRAM         replace the image from a second thread
//! chroot-exec:DIRECTORY PROGRAM  run a program in a changed root
//! socket:FAMILY,TYPE,PROTOCOL make a socket, by numbers
//! write:PATH                  open a file for writing and write a byte
//! call:NAME                   a system call that must be refused: bpf, unshare-user, mount, setns
//! until-line:ACTION           an action every millisecond until standard input ends or has a line;
//!                             says `at N` every tenth time; the result is `N/HOW-OFTEN-OK`
//! read-line                   wait for a line on standard input
//! ```
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, ExitCode},
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, poll},
    sched::{CloneFlags, setns, unshare},
    sys::memfd::{MFdFlags, memfd_create},
};

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
        "until-line" => until_line(rest),
        "fork-exec" => {
            let (n, program) = rest.split_once(':').unwrap_or(("0", ""));
            let n: u32 = n.parse().unwrap_or(0);
            (0..n).fold(String::new(), |_, _| exec(program))
        }
        "udp-many" => word(send_many(rest)),
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
        "call" => word(call(rest).map_err(io::Error::from)),
        _ => word(network(kind, rest)),
    }
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
