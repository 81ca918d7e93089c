//! Processes and mounts of a test: started, waited for, and gone with it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that is ended when it is dropped.
pub struct Running {
    child: Child,
    /// The rest of its standard output.
    pub output: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the process is ours");
    }

    /// Waits for the end; whether it was a good one.
    ///
    /// # Panics
    /// It cannot be waited for.
    #[must_use]
    pub fn wait(mut self) -> bool {
        self.child.wait().expect("the process is ours").success()
    }

    /// Waits for the end; the exit code.
    ///
    /// # Panics
    /// It cannot be waited for, or a signal ended it.
    #[must_use]
    pub fn code(mut self) -> i32 {
        let status = self.child.wait().expect("the process is ours");
        status.code().expect("no signal ended it")
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().expect("the process is ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program that says on its first line that it is ready.
///
/// # Panics
/// It ends instead; its errors are in the test's output.
pub fn start(command: &mut Command) -> (Running, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let output = child.stdout.take().expect("its output is ours");
    let mut running = Running { child, output: BufReader::new(output) };
    let mut line = String::new();
    running.output.read_line(&mut line).expect("its output can be read");
    assert!(!line.is_empty(), "{command:?} ended instead of getting ready");
    (running, line.trim().to_owned())
}

/// Runs a command to its end, or ends it when that does not come.
///
/// # Panics
/// It does not start, or does not end in time.
pub fn output(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are small"));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(crate::wait::DEADLINE) else {
        kill(pid, Signal::SIGKILL).expect("the process is ours");
        panic!("{command:?} did not end within {:?}", crate::wait::DEADLINE);
    };
    output.expect("its output can be read")
}

/// Runs a command that must succeed.
///
/// # Panics
/// It does not.
pub fn succeed(command: &mut Command) -> Output {
    let output = output(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output
}

/// Runs a command that must fail with an exit code; what it wrote to standard error.
///
/// # Panics
/// It succeeds, or fails otherwise.
pub fn fail(command: &mut Command, code: i32) -> String {
    let output = output(command);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}:\n{errors}");
    errors
}

/// A file system mounted for a test.
pub struct Mounted {
    /// Where.
    pub path: PathBuf,
}

impl Mounted {
    /// Mounts `kind` at a new directory.
    ///
    /// # Panics
    /// The system refuses.
    #[must_use]
    pub fn new(kind: &str, path: &Path, options: &str, flags: MsFlags) -> Self {
        fs::create_dir_all(path).expect("a mount point");
        mount(Some(kind), path, Some(kind), flags, Some(options)).expect("a mount");
        Self { path: path.to_owned() }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A busy mount would be reported by the removal of its directory.
        let _ = umount(&self.path);
    }
}

/// Reads lines until one satisfies the condition.
///
/// # Panics
/// The output ends before.
pub fn line_with(output: &mut impl BufRead, what: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let read = output.read_line(&mut line).expect("the output can be read");
        assert!(read > 0, "the output ended without `{what}`:\n{seen}");
        if line.contains(what) {
            return line;
        }
        seen.push_str(&line);
    }
}

/// Everything a reader still has.
pub fn rest(output: &mut impl Read) -> String {
    let mut text = String::new();
    // What is not UTF-8 cannot be what a test looks for.
    let _ = output.read_to_string(&mut text);
    text
}
