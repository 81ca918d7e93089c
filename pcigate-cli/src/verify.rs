//! `pcigate verify`: recomputes a whole ledger, in a directory or read through the collector.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Args;
use pcigate_ledger::{Checkpoint, Directory, Report, TileSource, VerifierKey, VerifyError};
use pcigate_proto::evidence_client::EvidenceClient;
use pcigate_proto::{ProveRequest, ReadLedgerRequest};
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::failure::{Answer, Failure};
use crate::key::{self, Trust};
use crate::table::{lines, plain};
use crate::{Output, collector, record_view};

/// Leaves between two signs of progress.
const PROGRESS_LEAVES: u64 = 64 * 256;

/// Which ledger, and what it is held against.
#[derive(Args, Debug)]
#[command(after_help = "Reads every entry and tile once. A ledger that was extended while being \
    read is checked as far as its checkpoint said at the start.")]
pub struct Options {
    /// The ledger's directory (with `checkpoint` and `tile/`), or the https:// URL of a collector.
    #[arg(value_name = "LEDGER")]
    ledger: String,
    /// The ledger's verifier key: a file or the text NAME+HASH+BASE64. Without it the file
    /// ledger.vkey beside the directory, or the collector's own word, is taken: both prove less.
    #[arg(long, value_name = "FILE|VKEY")]
    key: Option<String>,
    /// A signed checkpoint kept from earlier, which the ledger must extend.
    #[arg(long, value_name = "CHECKPOINT_FILE")]
    since: Option<String>,
    /// How to write the result.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// Checks the ledger and prints what was found.
pub fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let given = options.key.as_deref().map(key::given).transpose()?;
    if options.ledger.contains("://") {
        let remote = Remote::connect(&options.ledger, collector)?;
        let (key, trust) = match given {
            Some(key) => (key, Trust::Given),
            None => (remote.key()?, Trust::Collector),
        };
        let checked = check(&remote, &key, options)?;
        // An answer that never came is no finding against the ledger.
        if let Some(status) = remote.failed.take() {
            return Err(Failure::from_status(&options.ledger, status));
        }
        return print(options, &key, trust, checked);
    }
    let path = Path::new(&options.ledger);
    if !path.is_dir() {
        return Err(Failure::input(format!(
            "there is no directory {}: give the collector's ledger directory or its https:// URL",
            path.display()
        )));
    }
    let (key, trust) = match given {
        Some(key) => (key, Trust::Given),
        None => (key::beside(path)?, Trust::Beside),
    };
    let checked = check(&Directory::new(path), &key, options)?;
    print(options, &key, trust, checked)
}

type Checked = Result<Report, VerifyError>;

fn check(
    source: &impl TileSource,
    key: &VerifierKey,
    options: &Options,
) -> Result<Checked, Failure> {
    let since = options.since.as_deref().map(|path| earlier(path, key)).transpose()?;
    let show = io::stderr().is_terminal();
    let mut last = 0;
    let checked = pcigate_ledger::verify(source, key, since.as_ref(), |leaves| {
        if show && leaves - last >= PROGRESS_LEAVES {
            last = leaves;
            progress(&format!("{leaves} leaves checked"));
        }
    });
    if last > 0 {
        progress("");
    }
    Ok(checked)
}

fn progress(text: &str) {
    // Progress is no part of the answer.
    let _ = write!(io::stderr(), "\r\u{1b}[K{text}");
}

fn earlier(path: &str, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let note = std::fs::read(path).map_err(|error| {
        let sentence = format!(
            "cannot read the checkpoint {path}: give a file kept from earlier with --since"
        );
        Failure::because(sentence, error)
    })?;
    key.open(&note).map_err(|error| {
        let sentence = format!("{path} is no checkpoint signed with this key: check --since");
        Failure::because(sentence, error)
    })
}

fn print(
    options: &Options,
    key: &VerifierKey,
    trust: Trust,
    checked: Checked,
) -> Result<Answer, Failure> {
    let mut out = io::stdout().lock();
    let answer = if checked.is_ok() { Answer::Yes } else { Answer::No };
    match (options.output, checked) {
        (Output::Json, Ok(report)) => {
            let value = json!({
                "ok": true,
                "origin": report.origin,
                "size": report.size,
                "root": hex::encode(report.root),
                "verifier_key": key.to_string(),
                "key_from": trust.word(),
            });
            writeln!(out, "{}", record_view::line(&value))?;
        }
        (Output::Json, Err(error)) => {
            let value = json!({
                "ok": false,
                "origin": key.name(),
                "error": chain(&error),
                "verifier_key": key.to_string(),
                "key_from": trust.word(),
            });
            writeln!(out, "{}", record_view::line(&value))?;
        }
        (Output::Table, Ok(report)) => {
            let rows = [
                ("origin", plain(&report.origin)),
                ("size", report.size.to_string()),
                ("root", hex::encode(report.root)),
                ("key", format!("{key} ({})", trust.word())),
            ];
            let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
            for line in lines(&rows, &[]) {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "ok")?;
        }
        (Output::Table, Err(error)) => {
            writeln!(out, "origin  {}", plain(key.name()))?;
            writeln!(out, "WRONG   {}", plain(&chain(&error)))?;
        }
    }
    out.flush()?;
    Ok(answer)
}

/// The error and everything behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A ledger read through the collector, one file per call.
struct Remote {
    url: String,
    runtime: tokio::runtime::Runtime,
    client: EvidenceClient<Channel>,
    /// The first call that got no answer.
    failed: RefCell<Option<Status>>,
}

impl Remote {
    fn connect(url: &str, options: &collector::Options) -> Result<Self, Failure> {
        let runtime = collector::runtime()?;
        let client = runtime.block_on(collector::connect(url, options))?;
        Ok(Self { url: url.to_owned(), runtime, client, failed: RefCell::new(None) })
    }

    /// The key as the collector names it, which it does in a proof.
    fn key(&self) -> Result<VerifierKey, Failure> {
        let mut client = self.client.clone();
        let proof = self.runtime.block_on(client.prove(ProveRequest { index: 0 }));
        let proof = proof.map_err(|status| Failure::from_status(&self.url, status))?;
        key::from_collector(&proof.into_inner().verifier_key)
    }
}

impl TileSource for Remote {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let mut client = self.client.clone();
        let request = ReadLedgerRequest { path: path.to_owned() };
        match self.runtime.block_on(client.read_ledger(request)) {
            Ok(file) => Ok(Some(file.into_inner().content)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => {
                let sentence = format!("the collector did not answer: {}", status.message());
                self.failed.borrow_mut().get_or_insert(status);
                Err(io::Error::other(sentence))
            }
        }
    }
}
