//! The probe's kept connection, and a peer for it.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};

/// How long an answer may take before it counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long the end of a connection is waited for.
const END_WITHIN: Duration = Duration::from_secs(20);

static OPEN: Mutex<Option<TcpStream>> = Mutex::new(None);

/// The namespace is the whole process's: it must not have threads yet.
pub fn own_network() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let up = Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status()?;
    if up.success() { Ok(()) } else { Err(io::Error::other("lo stays down")) }
}

pub fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    Ok(())
}

pub fn open(address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    Ok(())
}

pub fn ping() -> io::Result<()> {
    with(|stream| {
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    })
}

pub fn wait_end() -> io::Result<()> {
    with(|stream| {
        stream.set_read_timeout(Some(END_WITHIN))?;
        io::copy(stream, &mut io::sink()).map(drop)
    })
}

fn with(act: impl FnOnce(&mut TcpStream) -> io::Result<()>) -> io::Result<()> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    act(open.as_mut().ok_or_else(|| io::Error::other("nothing is open"))?)
}
