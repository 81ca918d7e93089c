//! Reads the console of a virtual machine line by line, and judges from it how the run went.
//!
//! No clock and no process in here: the caller says how long the machine has run.

use std::time::Duration;

/// What process 1 of the machine says once it runs, and QEMU's exit codes for its three results
/// (`tests/src/bin/pcigate-vm-init.rs`: 0x10, 0x11 and 0x12, each times two and one).
const INIT: &str = "pcigate-vm-init: ";
const PASSED: i32 = 0x21;
const FAILED: i32 = 0x23;
const CANNOT_RUN: i32 = 0x25;

/// How long a machine may take; generous, because a loaded machine without KVM is slow.
pub const BOOT_MAX: Duration = Duration::from_secs(90);
/// Without a line for so long, nothing goes on any more.
pub const SILENCE_MAX: Duration = Duration::from_secs(150);
/// All of it.
pub const RUN_MAX: Duration = Duration::from_secs(25 * 60);
/// A panic is followed by the state of the machine, which is worth keeping.
const PANIC_MAX: Duration = Duration::from_secs(5);

/// What the kernel prints when a CPU or a task no longer comes forward.
const STALLS: &[&str] = &[
    "soft lockup - CPU",
    "hard LOCKUP on cpu",
    "self-detected stall on CPU",
    "detected stalls on CPUs",
    "detected expedited stalls",
    "blocked for more than",
];

/// Why a run is no good. Each is one sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The machine ended, or said nothing, before process 1 ran.
    #[error("the kernel does not boot: {0}")]
    NoBoot(String),
    /// The kernel gave up.
    #[error("the kernel panicked: {0}")]
    Panic(String),
    /// The kernel says that something hangs.
    #[error("the kernel reports a stall: {0}")]
    Stall(String),
    /// Nothing was printed for long.
    #[error("the machine was silent for {} s after `{after}` and was ended", SILENCE_MAX.as_secs())]
    Silence {
        /// The last line.
        after: String,
    },
    /// It went on and on.
    #[error("the tests did not end within {} minutes and were ended", RUN_MAX.as_secs() / 60)]
    TimeOut,
    /// The machine ended without a result.
    #[error("the machine ended without a result (QEMU's {end}) after `{after}`")]
    Died {
        /// QEMU's end, in words.
        end: String,
        /// The last line.
        after: String,
    },
    /// Process 1 could not start the tests.
    #[error("the tests could not be run in the machine: {0}")]
    CannotRun(String),
    /// The exit status says one thing, and what was printed another.
    #[error("the machine says that the tests passed, but their result is missing on its console")]
    Cut,
    /// Tests failed, as their own lines say.
    #[error("tests failed")]
    Failed,
}

/// What has been seen of one machine.
#[derive(Debug, Default)]
pub struct Console {
    booted: bool,
    results: u32,
    last_line: String,
    last_at: Duration,
    init_said: String,
    panic: Option<(String, Duration)>,
    stall: Option<String>,
}

impl Console {
    /// Takes a line that was printed when the machine had run for `at`.
    pub fn take(&mut self, line: &str, at: Duration) {
        self.last_at = at;
        if line.trim().is_empty() {
            return;
        }
        line.trim().clone_into(&mut self.last_line);
        if let Some(said) = after(line, INIT) {
            self.booted = true;
            said.clone_into(&mut self.init_said);
        } else if let Some(why) = after(line, "Kernel panic - not syncing: ") {
            self.panic.get_or_insert((why.to_owned(), at));
        } else if STALLS.iter().any(|stall| line.contains(stall)) {
            self.stall.get_or_insert(line.trim().to_owned());
        } else if line.contains("test result: ") {
            self.results += 1;
        }
    }

    /// Whether the machine has to be ended now, and why.
    pub fn overdue(&self, now: Duration) -> Option<Trouble> {
        let silent = now.saturating_sub(self.last_at) > SILENCE_MAX;
        match &self.panic {
            Some((why, at)) => (now.saturating_sub(*at) > PANIC_MAX).then(|| self.panicked(why)),
            None if self.stall.is_some() => self.stall.clone().map(Trouble::Stall),
            None if !self.booted && now > BOOT_MAX => {
                let seconds = BOOT_MAX.as_secs();
                Some(Trouble::NoBoot(format!("{} within {seconds} s", self.reached())))
            }
            None if now > RUN_MAX => Some(Trouble::TimeOut),
            None if silent => Some(Trouble::Silence { after: self.last_line.clone() }),
            None => None,
        }
    }

    /// Judges a machine that ended by itself: QEMU's exit code, and what QEMU itself complained of.
    pub fn ended(&self, code: Option<i32>, complaint: &str) -> Result<(), Trouble> {
        if let Some((why, _)) = &self.panic {
            return Err(self.panicked(why));
        }
        let end = code.map_or("signal".to_owned(), |code| format!("exit code {code}"));
        match code {
            Some(PASSED) if self.results > 0 => Ok(()),
            Some(PASSED) => Err(Trouble::Cut),
            Some(FAILED) if self.results > 0 => Err(Trouble::Failed),
            Some(FAILED | CANNOT_RUN) => Err(Trouble::CannotRun(self.init_said.clone())),
            _ if self.booted => Err(Trouble::Died { end, after: self.last_line.clone() }),
            _ => {
                let why = complaint.lines().find(|line| !line.trim().is_empty());
                let why = why.map_or_else(|| self.reached(), |line| line.trim().to_owned());
                Err(Trouble::NoBoot(format!("{why} (QEMU's {end})")))
            }
        }
    }

    /// How far a machine came that did not boot.
    fn reached(&self) -> String {
        if self.last_line.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("it came as far as `{}`", self.last_line)
        }
    }

    fn panicked(&self, why: &str) -> Trouble {
        let when = if self.booted { "" } else { " (before process 1 ran)" };
        Trouble::Panic(format!("{why}{when}"))
    }
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    Some(line.split_once(mark)?.1.trim())
}

#[cfg(test)]
mod tests;
