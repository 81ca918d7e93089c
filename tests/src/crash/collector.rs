//! Rounds against a collector: nodes send, something goes wrong at a random storage call, and
//! afterwards everything it had acknowledged must be there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use pcigate_proto::{
    QueryRequest, evidence_client::EvidenceClient, query_reply::Message as Reply, tls,
};
use tonic::transport::Endpoint;

use super::{
    Site, any_fault, check,
    node::{End, Node},
    program::{Program, spawn},
};
use crate::{
    faults::{FaultyDisk, Random},
    program,
};

/// Nodes that send at the same time.
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// Sessions a collector that lives on gets to take everything after a fault.
const ATTEMPTS: usize = 4;
const LIMIT: u32 = 1_000_000;

/// A collector with its nodes, for some rounds.
pub struct World<'a> {
    site: &'a Site,
    directory: PathBuf,
    random: Random,
    nodes: Vec<Node>,
    running: Option<(Program, String)>,
    /// Last: it is unmounted when nothing runs on it.
    disk: FaultyDisk,
}

impl<'a> World<'a> {
    /// An empty disk; nothing runs yet.
    ///
    /// # Errors
    /// The TLS directories cannot be read.
    pub fn new(site: &'a Site, directory: &Path, seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let mut nodes = Vec::new();
        for name in NODES {
            let tls = tls::client(&site.path(name)).map_err(|error| error.to_string())?;
            nodes.push(Node::new(name, tls, &mut random));
        }
        let disk = FaultyDisk::mount(&directory.join("disk"), random.bits());
        let directory = directory.to_owned();
        Ok(Self { site, directory, disk, random, nodes, running: None })
    }

    /// The disk, for the account of a failure.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        &self.disk
    }

    fn state(&self) -> PathBuf {
        state(&self.disk)
    }

    /// One round; what went wrong on the way, as a line.
    ///
    /// # Errors
    /// A broken promise.
    pub fn round(&mut self) -> Result<String, String> {
        let fault = any_fault(&mut self.random);
        let early = self.running.is_none() || self.random.chance(30);
        self.disk.note(&format!("round: {fault:?}, early {early}"));
        if early {
            self.stop(Signal::SIGTERM)?;
            self.disk.plan(fault);
        }
        if self.running.is_none() {
            match self.start()? {
                Some(running) => self.running = Some(running),
                None if self.disk.fired() => {}
                None => return Err("the collector ended although nothing went wrong".into()),
            }
        }
        if !early {
            self.disk.plan(fault);
        }
        if self.running.is_some() {
            let more = 1 + self.random.below(200);
            self.send(more)?;
            self.live_on()?;
        }
        let stats = self.disk.stats();
        self.crash()?;
        self.check()?;
        Ok(stats.fired.unwrap_or_else(|| "nothing".to_owned()))
    }

    /// Ends the collector and looks at its ledger once more, with the programs people use.
    ///
    /// # Errors
    /// A broken promise.
    pub fn end(&mut self) -> Result<(), String> {
        let Some((_, url)) = &self.running else { return Ok(()) };
        let mut ask = Command::new(program("pcigate"));
        ask.args(["records", "--output", "json", "--limit", "1000000"])
            .env("PCIGATE_COLLECTOR", url)
            .env("PCIGATE_TLS_DIR", self.site.path("person"));
        let said = run(&mut ask)?;
        let expected: u64 = self.nodes.iter().map(|node| node.acked).sum();
        let answered = said.lines().filter(|line| line.contains("\"seq\":")).count() as u64;
        if answered < expected {
            return Err(format!("`pcigate records` shows {answered} of {expected} records"));
        }
        self.stop(Signal::SIGTERM)?;
        let mut verify = Command::new(program("pcigate"));
        verify.args(["verify", "ledger", "--key", "ledger.vkey"]).current_dir(self.state());
        run(&mut verify).map(|_| ())
    }

    /// `None` when it ended instead of getting ready.
    fn start(&mut self) -> Result<Option<(Program, String)>, String> {
        start(self.site, &self.directory, &self.disk, "127.0.0.1:0")
    }

    fn stop(&mut self, signal: Signal) -> Result<(), String> {
        match self.running.take() {
            Some((mut program, _)) => program.end(signal),
            None => Ok(()),
        }
    }

    /// All nodes send at the same time; whether all of them could.
    fn send(&mut self, more: u64) -> Result<bool, String> {
        let Some((_, url)) = &self.running else { return Ok(false) };
        let ends = self.site.runtime.block_on(async {
            let mut sessions = tokio::task::JoinSet::new();
            for mut node in self.nodes.drain(..) {
                let url = url.clone();
                sessions.spawn(async move {
                    let end = node.send(&url, more).await;
                    (node, end)
                });
            }
            sessions.join_all().await
        });
        let mut all = true;
        let mut broken = None;
        for (node, end) in ends {
            self.nodes.push(node);
            match end {
                Ok(End::Done) => {}
                Ok(End::Broken(why)) => {
                    all = false;
                    self.disk.note(&why);
                }
                Err(promise) => broken = Some(promise),
            }
        }
        self.nodes.sort_by(|one, other| one.name.cmp(&other.name));
        broken.map_or(Ok(all), Err)
    }

    /// A collector that was not killed must take everything once the disk is well again.
    fn live_on(&mut self) -> Result<(), String> {
        let killed = self.disk.stats().without_power || !self.is_running();
        if killed {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            if self.send(0)? {
                return Ok(());
            }
            if !self.is_running() {
                return Ok(());
            }
        }
        Err("the disk is well again, but the collector takes nothing".into())
    }

    fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(program, _)| program.is_running())
    }

    /// Ends the round on the disk: by what the fault has done, or by a crash of our own.
    fn crash(&mut self) -> Result<(), String> {
        let killed = self.disk.stats().without_power || !self.is_running();
        let fired = self.disk.stats().fired.unwrap_or_default();
        if killed && self.running.is_some() && fired.starts_with("Fail") {
            let log = self.running.as_ref().map(|(program, _)| program.log_end());
            return Err(format!("it ended after {fired}\n{}", log.unwrap_or_default()));
        }
        match self.random.below(4) {
            _ if killed => {}
            0 => {
                self.disk.restore();
                return Ok(());
            }
            1 => self.disk.note("killed between two calls"),
            2 => self.disk.cut_power(),
            _ => {
                self.disk.note("told to stop");
                self.stop(Signal::SIGTERM)?;
            }
        }
        self.stop(Signal::SIGKILL)?;
        self.disk.restore();
        Ok(())
    }

    /// Starts without faults, sends the rest, and looks at everything.
    fn check(&mut self) -> Result<(), String> {
        if self.running.is_none() {
            self.disk.note("check: start");
            self.running = self.start()?;
            if self.running.is_none() {
                let log = fs::read_to_string(self.directory.join("collector.log"));
                let log = log.unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("the collector does not start again: {}", last.join("\n")));
            }
        }
        if !self.send(1)? {
            return Err("the collector does not take what nodes send again".into());
        }
        let (Some(node), Some((_, url))) = (self.nodes.first(), &self.running) else {
            return Ok(());
        };
        let key = node.seen.key.as_ref().ok_or("no key was ever shown")?;
        let leaves = check::ledger(&self.state(), key)?;
        check::rows(&leaves, &self.nodes, "ledger")?;
        let answer = self.site.runtime.block_on(query(self.site, url))?;
        check::rows(&answer, &self.nodes, "query")?;
        let state = self.state();
        for node in &mut self.nodes {
            check::history(&state, &node.seen.checkpoints)?;
            // The newest stands for all of them from here on.
            let newest = node.seen.checkpoints.pop();
            node.seen.checkpoints = newest.into_iter().collect();
        }
        Ok(())
    }
}

/// Starts a collector on a disk; `None` when it ended instead of getting ready.
pub fn start(
    site: &Site,
    directory: &Path,
    disk: &FaultyDisk,
    listen: &str,
) -> Result<Option<(Program, String)>, String> {
    let config = format!(
        "listen: {listen}\nstateDir: {}\ntlsDir: {}\norigin: example.com/crash\nwebListen: off\n",
        state(disk).display(),
        site.path("collector").display()
    );
    let file = directory.join("collector.yaml");
    fs::write(&file, config).map_err(|error| error.to_string())?;
    let mut command = Command::new(program("pcigate-collector"));
    command.args(["serve", "--config"]).arg(&file).env("RUST_LOG", "info,h2=off");
    let mut collector = Program::start(&mut command, &directory.join("collector.log"));
    disk.set_victim(Some(collector.pid()));
    let ready = collector.line("pcigate-collector ready on ")?;
    let Some(address) = ready.as_deref().and_then(|line| line.rsplit(' ').next()) else {
        collector.wait()?;
        return Ok(None);
    };
    let url = format!("https://{address}");
    Ok(Some((collector, url)))
}

/// The collector's state directory: not the root of the disk, so that it has to be made.
pub fn state(disk: &FaultyDisk) -> PathBuf {
    disk.path().join("lib/collector")
}

async fn query(site: &Site, url: &str) -> Result<Vec<check::Row>, String> {
    let tls = tls::client(&site.path("person")).map_err(|error| error.to_string())?;
    let endpoint = Endpoint::from_shared(url.to_owned()).and_then(|it| it.tls_config(tls));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let request = QueryRequest { limit: LIMIT, ..QueryRequest::default() };
    let answer = EvidenceClient::new(channel).max_decoding_message_size(1 << 24);
    let answer = { answer }.query(request).await.map_err(|status| status.to_string())?;
    let (mut replies, mut rows) = (answer.into_inner(), Vec::new());
    while let Some(reply) = replies.message().await.map_err(|status| status.to_string())? {
        if let Some(Reply::Row(row)) = reply.message {
            rows.push((row.index, row.record));
        }
    }
    Ok(rows)
}

fn run(command: &mut Command) -> Result<String, String> {
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let output = child.wait_with_output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
