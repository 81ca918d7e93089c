//! Connections that ask nothing, and what the agent needs for them.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use nix::sys::signal::Signal;
use pcigate_tests::{figures::status_kib, postgres::DATABASE, site::start};

use super::ways::Bench;

/// Threads that connect side by side.
const THREADS: u64 = 8;

/// KiB of the agent's processes.
pub struct Memory {
    /// Anonymous, with one connection.
    pub one: f64,
    /// Anonymous, with all.
    pub many: f64,
    /// Resident, with all.
    pub rss: f64,
}

/// Opens `count` connections through the gateway, and looks.
pub fn measure(bench: &Bench, count: u64) -> Memory {
    let (one, _) = with(bench, 1);
    let (many, rss) = with(bench, count);
    Memory { one, many, rss }
}

fn with(bench: &Bench, count: u64) -> (f64, f64) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let (port, count) = (bench.port().to_string(), count.to_string());
    let (agent, line) = start(&mut bench.governed(&[&own, "driven", &port, &count]));
    assert_eq!(line, "ready", "the connections stand");
    let pids = processes(u32::try_from(agent.pid()).unwrap());
    let sum = |field| pids.iter().map(|pid| status_kib(*pid, field)).sum();
    let told = (sum("RssAnon"), sum("VmRSS"));
    agent.end(Signal::SIGTERM);
    told
}

/// The agent and those of its descendants that run its program.
fn processes(agent: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: &u32| {
        let mut next = Some(*pid);
        while let Some(pid) = next.filter(|pid| *pid > 1) {
            if pid == agent {
                return true;
            }
            next = parent(pid);
        }
        false
    };
    all.filter(|pid| program(*pid) == program(agent)).filter(ours).collect()
}

/// The workload: holds its connections until it is ended.
pub fn hold(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<u64>().unwrap();
    let (port, count) = (u16::try_from(number(0)).unwrap(), number(1));
    let threads = THREADS.min(count);
    let connected = std::thread::scope(|scope| {
        let open = move |thread| {
            let mine = (0..count).filter(|at| at % threads == thread);
            mine.map(|_| connect(port)).collect::<Vec<_>>()
        };
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || open(thread))).collect();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    println!("ready");
    // Until it is told to end; a connection that ends before is a fault.
    let mut rest = Vec::new();
    if let Some(mut first) = connected.first() {
        let _ = first.read_to_end(&mut rest);
    }
    panic!("a connection ended: {}", String::from_utf8_lossy(&rest));
}

/// A session that has begun: protocol 3.0, up to the first ReadyForQuery.
fn connect(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut words = 196_608_u32.to_be_bytes().to_vec();
    words.extend(format!("user\0bench\0database\0{DATABASE}\0\0").into_bytes());
    let length = u32::try_from(words.len() + 4).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], &words].concat()).unwrap();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        stream.read_exact(&mut body).unwrap();
        match head[0] {
            b'Z' => return stream,
            b'E' => panic!("refused: {}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}
