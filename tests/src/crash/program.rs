//! The programs that are crashed, as processes.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{PoisonError, RwLock, RwLockReadGuard, mpsc},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a start or an end may take.
const WITHIN: Duration = Duration::from_secs(30);

/// A child has our open files until it becomes the program: also a lock we give up meanwhile.
static STARTING: RwLock<()> = RwLock::new(());

/// While this is held no program is started: for whoever opens a spool in this process.
pub fn nobody_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program.
///
/// # Panics
/// It cannot be started.
pub fn spawn(command: &mut Command) -> Child {
    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A process whose standard error goes to a file.
pub struct Program {
    child: Child,
    log: PathBuf,
    /// Its output, line by line; ends with the process.
    pub lines: mpsc::Receiver<String>,
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started at all.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let errors = File::options().create(true).append(true).open(log).expect("a log file");
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = spawn(command);
        let output = child.stdout.take().expect("its output is ours");
        // Bounded by what one run prints; the reader must not stop it.
        let (sender, lines) = mpsc::sync_channel(1 << 20);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, log: log.to_owned(), lines }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("pids are small"))
    }

    /// The first line that begins with `start`; `None` when the program ended before.
    ///
    /// # Errors
    /// Neither in time.
    pub fn line(&self, start: &str) -> Result<Option<String>, String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return Ok(Some(line)),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("no `{start}` within {WITHIN:?}\n{}", self.log_end()));
                }
            }
        }
    }

    /// Whether it runs still.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process is ours").is_none()
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// It does not end in time.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn end(&mut self, signal: Signal) -> Result<(), String> {
        // It may have ended already.
        let _ = kill(self.pid(), signal);
        self.wait().map(|_| ())
    }

    /// Waits for the end; whether it was a good one.
    ///
    /// # Errors
    /// It does not come in time.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn wait(&mut self) -> Result<bool, String> {
        let deadline = Instant::now() + WITHIN;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                // Its output is closed: it has ended, or is about to.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Ok(self.child.wait().expect("the process is ours").success());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("it did not end within {WITHIN:?}\n{}", self.log_end()));
                }
            }
        }
    }

    /// Whether its output goes on; waits for that a moment.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        let next = self.lines.recv_timeout(Duration::from_millis(5));
        !matches!(next, Err(mpsc::RecvTimeoutError::Disconnected))
    }

    /// The end of what it wrote to standard error.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
