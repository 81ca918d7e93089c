//! A site of a test's own: certificates, a collector, agents and the CLI as real processes over
//! real mTLS on loopback. Everything ends with the site.
#![allow(clippy::print_stderr, reason = "a failed test shows what the collector said")]

mod process;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::program;
pub use process::{Mounted, Running, fail, line_with, output, rest, start, succeed};

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
    /// Further lines of the collector's configuration.
    extra: String,
    /// Where its metrics are.
    web: String,
    /// Where agents enrol; empty where they cannot.
    enroll: String,
    collector: Option<Running>,
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
        let site = Self {
            directory,
            listen: "127.0.0.1:0".into(),
            extra: String::new(),
            web: String::new(),
            enroll: String::new(),
            collector: None,
        };
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

    /// Adds lines to the collector's configuration, from its next start on.
    pub fn configure(&mut self, extra: &str) {
        extra.clone_into(&mut self.extra);
    }

    /// Starts the collector; at the same address where it ran before. What it logs goes to the
    /// file `collector.log` of the site.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start_collector(&mut self) {
        let root = self.directory.path().display();
        let config = format!(
            "listen: {}\nstateDir: {root}\ntlsDir: {root}/tls/collector\n\
             origin: example.com/test\nwebListen: 127.0.0.1:0\n{}",
            self.listen, self.extra
        );
        self.write("collector.yaml", &config);
        let mut command = self.command("pcigate-collector");
        let log = fs::File::options().create(true).append(true).open(self.path("collector.log"));
        command.args(["serve", "--config", "collector.yaml"]).stderr(log.expect("a log"));
        let (mut running, line) = start(&mut command);
        let address = line.strip_prefix("pcigate-collector ready on ");
        address.expect("the collector says where it listens").clone_into(&mut self.listen);
        if self.extra.contains("enroll:") {
            let line = line_with(&mut running.output, "agents enrol at ");
            line.trim().trim_start_matches("agents enrol at ").clone_into(&mut self.enroll);
        }
        let line = line_with(&mut running.output, "metrics and health on ");
        let web = line.trim().strip_prefix("metrics and health on http://");
        web.expect("the collector says where its metrics are").clone_into(&mut self.web);
        self.collector = Some(running);
    }

    /// Asks the collector's web port; status and body.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn web(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.web).expect("the web port is open");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let answer = rest(&mut stream);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// What the collectors of this site have logged.
    #[must_use]
    pub fn collector_log(&self) -> String {
        fs::read_to_string(self.path("collector.log")).unwrap_or_default()
    }

    /// The running collector, out of the site's hands.
    ///
    /// # Panics
    /// None runs.
    pub fn take_collector(&mut self) -> Running {
        self.collector.take().expect("a collector runs")
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

    /// The address of enrolment, where the collector has one.
    #[must_use]
    pub fn enroll(&self) -> &str {
        &self.enroll
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

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the collector's log:\n{}", self.collector_log());
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}
