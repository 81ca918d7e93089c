//! One virtual machine: QEMU started, its console read to the end, its result taken or its end
//! forced.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::console::Console;
use crate::run::command;
use crate::verifier::on_path;

/// QEMU's program. Its emulation (TCG) needs neither root nor KVM.
pub const QEMU: &str = "qemu-system-x86_64";
/// What to do when it is missing.
pub const QEMU_REMEDY: &str = "install the package qemu-system-x86 (`cargo xtask setup` does it)";

/// How often the deadlines are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Lines of a console that wait to be read.
const LINES_MAX: usize = 1024;

/// What to boot.
pub struct Machine<'a> {
    /// The kernel's image.
    pub kernel: &'a Path,
    /// The archive of its first file system.
    pub initramfs: &'a Path,
    /// The `lsm=` list.
    pub modules: &'a str,
    /// What process 1 is told: see `tests/src/bin/pcigate-vm-init.rs`.
    pub work: &'a str,
}

impl Machine<'_> {
    fn qemu(&self) -> Command {
        // Where it is, setpriv makes QEMU end when this chore is killed.
        let mut qemu = if on_path("setpriv") {
            command("setpriv", ["--pdeathsig", "KILL", QEMU])
        } else {
            command::<&str>(QEMU, [])
        };
        // Two CPUs on one thread: with a thread each, emulation misses code that the other CPU is
        // just rewriting, and a kernel died of an invalid opcode.
        qemu.args([
            "-machine",
            "pc",
            "-accel",
            "tcg,thread=single",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1280",
        ]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        // This machine may be a slow one: stalls are told later than by default, and the timer is
        // taken to work, which a kernel otherwise doubts when it gets no time to see it tick.
        let line = format!(
            "console=ttyS0 quiet panic=-1 lsm={} no_timer_check watchdog_thresh=30 \
             rcupdate.rcu_cpu_stall_timeout=60 -- {}",
            self.modules, self.work
        );
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        qemu.args(["-append", &line]);
        qemu
    }

    /// Runs the tests; every line of the console goes to `log` and to `seen`.
    pub fn test(&self, log: &Path, seen: &mut dyn FnMut(&str)) -> Result<()> {
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut qemu = self.qemu();
        qemu.args(["-serial", "stdio"]).stdin(Stdio::null());
        let child = qemu.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = Ended(child.with_context(cannot_start)?);
        let lines = lines_of(&mut child.0)?;
        let began = Instant::now();
        let mut console = Console::default();
        loop {
            match lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => {
                    // Best effort: a full disk must not hide the result of the tests.
                    let _ = writeln!(file, "{line}");
                    console.take(&line, began.elapsed());
                    seen(&line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(trouble) = console.overdue(began.elapsed()) {
                return Err(trouble.into());
            }
        }
        let status = child.0.wait().context("QEMU's end")?;
        let mut complaint = String::new();
        if let Some(mut stderr) = child.0.stderr.take() {
            let _ = stderr.read_to_string(&mut complaint);
        }
        let _ = file.write_all(complaint.as_bytes());
        Ok(console.ended(status.code(), &complaint)?)
    }

    /// Hands the console to the person at this terminal.
    pub fn shell(&self) -> Result<()> {
        let mut qemu = self.qemu();
        qemu.args(["-serial", "mon:stdio"]);
        qemu.status().with_context(cannot_start).map(drop)
    }
}

fn cannot_start() -> String {
    format!("{QEMU} cannot be started: {QEMU_REMEDY}")
}

/// Ended when it is dropped, however the run went.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of the console; the queue blocks QEMU's output when nobody reads it.
fn lines_of(child: &mut Child) -> Result<Receiver<String>> {
    let output = child.stdout.take().ok_or_else(|| anyhow!("QEMU has no output"))?;
    let (send, receive) = sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if send.send(plain(&line)).is_err() {
                break;
            }
            line.clear();
        }
    });
    Ok(receive)
}

/// A line without its end and without what steers a terminal, which the firmware prints.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Where the logs lie.
pub fn logs() -> PathBuf {
    crate::run::root().join("target/vm/logs")
}
