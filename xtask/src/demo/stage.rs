//! The processes of the demo: started by name, ended by pid, whatever happens.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::place::Place;
use super::typed;
use crate::run;

/// How often a running process and the interrupt flag are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A process that was told to end and has not after this is killed.
const END_WITHIN: Duration = Duration::from_secs(15);

/// The running parts of the demo.
pub struct Stage {
    /// Where the data are.
    pub place: Place,
    collector: Option<Child>,
    interrupted: Arc<AtomicBool>,
}

/// Makes Ctrl-C and SIGTERM set a flag, so that the demo can clean up behind itself.
pub fn catch_interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot catch signals")?;
    }
    Ok(flag)
}

/// A program built by this workspace.
pub fn built(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| run::root().join("target"), PathBuf::from);
    target.join("debug").join(name)
}

impl Stage {
    /// Nothing runs yet.
    pub fn new(place: Place, interrupted: Arc<AtomicBool>) -> Self {
        Self { place, collector: None, interrupted }
    }

    /// A program of ours, run in the demo's directory.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(built(name));
        command.current_dir(self.place.root()).stdin(Stdio::null());
        command
    }

    /// Shows and runs a command to its end.
    pub fn run(&self, program: &str, args: &[&str], more: &[&str]) -> Result<()> {
        let mut command = self.program(program);
        command.args(args).args(more).stdout(Stdio::null());
        println!("   $ {}", typed(&command));
        let child = command.spawn().with_context(|| typed(&command))?;
        self.finish(child, &command).map(drop)
    }

    /// Asks the ordinary CLI; what it printed.
    pub fn ask(&self, verb: &[&str], args: &[&str]) -> Result<String> {
        let mut command = self.program("pcigate");
        command.args(verb).args(args);
        self.output(&mut command)
    }

    /// Runs a command to its end; what it printed. Its messages go to our terminal.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        let child = command.stdout(Stdio::piped()).spawn().with_context(|| typed(command))?;
        self.finish(child, command)
    }

    /// Waits for the end of a process, or ends it when the demo is interrupted.
    fn finish(&self, mut child: Child, command: &Command) -> Result<String> {
        let mut output = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(output) = &mut output {
                // What is not text shows as missing in the checks that follow.
                let _ = output.read_to_string(&mut text);
            }
            text
        });
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                end(&mut child)?;
                bail!("interrupted");
            }
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "`{}` failed ({status})", typed(command));
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(reader.join().unwrap_or_default())
    }

    /// Starts the collector; its URL.
    pub fn start_collector(&mut self) -> Result<String> {
        let root = self.place.root().display();
        let config = format!(
            "listen: 127.0.0.1:0\nstateDir: {root}\ntlsDir: {root}/tls/collector\n\
             origin: example.com/pcigate-demo\nwebListen: off\n"
        );
        self.place.write("collector.yaml", &config)?;
        let mut command = self.program("pcigate-collector");
        command.args(["serve", "--config", "collector.yaml"]).stdout(Stdio::piped());
        println!("   $ {}", typed(&command));
        let mut child = command.spawn().with_context(|| typed(&command))?;
        let output = child.stdout.take();
        self.collector = Some(child);
        let mut line = String::new();
        BufReader::new(output.context("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("pcigate-collector ready on ");
        Ok(format!("https://{}", address.context("the collector did not start")?))
    }

    /// Ends the collector and waits until its ledger is at rest.
    pub fn stop_collector(&mut self) -> Result<()> {
        match self.collector.take() {
            Some(mut collector) => end(&mut collector),
            None => Ok(()),
        }
    }

    /// Ends what still runs and makes sure that nothing of the demo is left on the machine.
    pub fn strike(mut self) -> Result<()> {
        self.stop_collector()?;
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let cgroups = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(point))
        });
        for mount in cgroups {
            for entry in fs::read_dir(mount)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let left = name.starts_with("pcigate-exec-") && !is_alive(&name);
                ensure!(!left, "the cgroup {} stayed behind", entry.path().display());
            }
        }
        Ok(())
    }
}

/// Whether the process a cgroup is named after lives: another run beside ours.
fn is_alive(cgroup: &str) -> bool {
    cgroup.rsplit('-').next().is_some_and(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false))
}

/// Asks a process to end, and kills it if it does not.
fn end(child: &mut Child) -> Result<()> {
    let pid = child.id().to_string();
    Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status()?;
    let deadline = Instant::now() + END_WITHIN;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(collector) = &mut self.collector {
            // The process may have ended by the same interrupt.
            let _ = end(collector);
        }
    }
}
