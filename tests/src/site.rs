//! A site of a test's own: certificates, a collector, agents and the CLI as real processes over
//! real mTLS on loopback. Everything ends with the site.

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
use serde_json::Value;
use tempfile::TempDir;

use crate::program;

/// What is policy and who is there, for most tests.
pub const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {matchLabels: {app: billing-bot}, serviceAccountNames: [billing-bot]}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {id: no-encoders, action: deny, paths: [\"/usr/bin/base64\"]}
  egress:
    defaultAction: deny
";
/// UID of the pod in [`Site::pod_list`].
pub const POD_UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";
/// Container id of the pod's container.
pub const CONTAINER_ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Directories and certificates; a collector while one runs.
pub struct Site {
    directory: TempDir,
    listen: String,
    collector: Option<Running>,
}

/// A process that is ended when it is dropped.
pub struct Running {
    child: Child,
    /// The rest of its standard output.
    pub output: BufReader<std::process::ChildStdout>,
}

impl Site {
    /// Makes certificates; nothing runs yet.
    ///
    /// # Panics
    /// Not root, or a program fails.
    #[must_use]
    pub fn new() -> Self {
        crate::need_root();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let site = Self { directory, listen: "127.0.0.1:0".into(), collector: None };
        site.write("policy.yaml", POLICY);
        for (holder, out) in [
            (["--server", "127.0.0.1"], "tls/collector"),
            (["--node", "node-1"], "tls/node"),
            (["--node", "node-2"], "tls/node-2"),
            (["--person", "ana@example.com"], "tls/person"),
        ] {
            site.issue("ca", holder, out);
        }
        site
    }

    /// Makes a TLS directory.
    ///
    /// # Panics
    /// The program fails.
    pub fn issue(&self, ca: &str, holder: [&str; 2], out: &str) {
        let mut command = self.command("pcigate-collector");
        command.args(["issue", "--ca-dir", ca, "--out", out]).args(holder);
        succeed(&mut command);
    }

    /// A path in the site's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the site.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the site is writable");
    }

    /// A program of ours, run in the site's directory.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Starts the collector; at the same address where it ran before.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start_collector(&mut self) {
        let root = self.directory.path().display();
        let config = format!(
            "listen: {}\nstateDir: {root}\ntlsDir: {root}/tls/collector\n\
             origin: example.com/test\n",
            self.listen
        );
        self.write("collector.yaml", &config);
        let mut command = self.command("pcigate-collector");
        command.args(["serve", "--config", "collector.yaml"]);
        let (running, line) = start(&mut command);
        let address = line.strip_prefix("pcigate-collector ready on ");
        address.expect("the collector says where it listens").clone_into(&mut self.listen);
        self.collector = Some(running);
    }

    /// Ends the collector with a signal and waits for its end.
    pub fn stop_collector(&mut self, signal: Signal) {
        if let Some(collector) = self.collector.take() {
            collector.end(signal);
        }
    }

    /// The collector's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.listen)
    }

    /// `pcigate-agent exec` as the pod payments/billing-bot, sending to the collector.
    #[must_use]
    pub fn exec(&self, command: &[&str]) -> Command {
        let mut agent = self.command("pcigate-agent");
        agent
            .args(["exec", "--policy", "policy.yaml", "--name", "payments/billing-bot"])
            .args(["--service-account", "billing-bot", "--label", "app=billing-bot"])
            .args(["--collector", &self.url(), "--tls-dir", "tls/node", "--state-dir", "exec"])
            .arg("--")
            .args(command);
        agent
    }

    /// The CLI, asking this collector as ana@example.com.
    #[must_use]
    pub fn pcigate(&self, args: &[&str]) -> Command {
        let mut command = self.command("pcigate");
        command
            .args(args)
            .env("PCIGATE_COLLECTOR", self.url())
            .env("PCIGATE_TLS_DIR", self.path("tls/person"));
        command
    }

    /// Records that match, as JSON.
    ///
    /// # Panics
    /// The question fails.
    #[must_use]
    pub fn records(&self, filter: &[&str]) -> Vec<Value> {
        let mut command = self.pcigate(&["records", "--output", "json"]);
        let output = succeed(command.args(filter));
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    /// A `v1.PodList` with the pod payments/billing-bot.
    #[must_use]
    pub fn pod_list() -> String {
        format!(
            "apiVersion: v1
kind: PodList
items:
- metadata:
    name: billing-bot
    namespace: payments
    uid: {POD_UID}
    labels: {{app: billing-bot}}
  spec: {{serviceAccountName: billing-bot, containers: [{{name: bot}}]}}
  status:
    containerStatuses:
    - name: bot
      containerID: \"containerd://{CONTAINER_ID}\"
      image: x
      imageID: x
      ready: true
      restartCount: 0
"
        )
    }

    /// The widest partial tile below a directory of the ledger: the one of the last checkpoint.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn newest_partial(&self, directory: &str) -> PathBuf {
        let width = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        let partials = fs::read_dir(self.path(directory)).expect("the ledger has partial tiles");
        let partials = partials.map(|entry| entry.expect("a readable directory").path());
        partials.max_by_key(width).expect("a partial tile")
    }

    /// Files of the site that hold a text.
    #[must_use]
    pub fn files_holding(&self, text: &str) -> Vec<PathBuf> {
        let mut holding = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let content = fs::read(&path).unwrap_or_default();
                    if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                        holding.push(path);
                    }
                }
            }
        }
        holding
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
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
