//! Where the records of sessions come from: the collector, or a ledger's directory.

use std::path::{Path, PathBuf};

use clap::Args;
use pcigate_ledger::{Directory, TileSource, entries};
use pcigate_proto::evidence_client::EvidenceClient;
use pcigate_proto::query_reply::Message as Reply;
use pcigate_proto::record::{Event, Subject, kind, session};
use pcigate_proto::{Message, QueryReply, QueryRequest, Record};
use tonic::transport::Channel;

use crate::collector;
use crate::failure::{Failure, remark};
use crate::key;

/// Most records the collector gives for one question.
pub const RECORDS_MAX: u32 = 1_000_000;

/// Another place to read from than the collector.
#[derive(Args, Debug)]
#[group(id = "source")]
pub struct Options {
    /// Read a ledger's directory (with `checkpoint` and `tile/`) instead of asking the collector:
    /// every leaf of it, without an index. `pcigate verify DIR` shows that nothing was changed.
    #[arg(long, value_name = "DIR", help_heading = "Collector")]
    ledger: Option<PathBuf>,
    /// The verifier key of that ledger: a file or the text NAME+HASH+BASE64. Without it the file
    /// ledger.vkey beside the directory is taken.
    #[arg(long, value_name = "FILE|VKEY", requires = "ledger", help_heading = "Collector")]
    key: Option<String>,
}

/// An open one.
pub enum Source {
    /// Answers from its index.
    Collector {
        /// For messages.
        url: String,
        /// The connection.
        client: EvidenceClient<Channel>,
    },
    /// Read from the first leaf to the last.
    Ledger {
        /// Its files.
        directory: Directory,
        /// For messages.
        path: PathBuf,
        /// Leaves below its signed checkpoint.
        size: u64,
    },
}

impl Source {
    /// Connects, or reads the signed checkpoint.
    pub async fn open(collector: &collector::Options, options: &Options) -> Result<Self, Failure> {
        let Some(path) = &options.ledger else {
            let url = collector.collector.clone();
            let client = collector::connect(&url, collector).await?;
            return Ok(Self::Collector { url, client });
        };
        let directory = Directory::new(path);
        let size = size(path, &directory, options.key.as_deref())?;
        Ok(Self::Ledger { directory, path: path.clone(), size })
    }

    /// Gives every record that matches to `see`, with its index, in the order of the ledger. How
    /// many more match than were given: the collector gives the newest.
    pub async fn each(
        &mut self,
        asked: &QueryRequest,
        mut see: impl FnMut(u64, Record) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        match self {
            Self::Collector { url, client } => {
                let from_status = |status| Failure::from_status(url, status);
                let replies = client.query(asked.clone()).await.map_err(from_status)?;
                let mut replies = replies.into_inner();
                let (mut given, mut matched) = (0, 0);
                while let Some(QueryReply { message }) =
                    replies.message().await.map_err(from_status)?
                {
                    match message {
                        Some(Reply::Row(row)) => {
                            given += 1;
                            readable(row.index, &row.record, &mut see)?;
                        }
                        Some(Reply::Summary(summary)) => matched = summary.matched,
                        _ => {}
                    }
                }
                Ok(u64::saturating_sub(matched, given))
            }
            Self::Ledger { directory, path, size } => {
                for entry in entries(directory, *size, 0..*size) {
                    let (index, bytes) = entry.map_err(|error| {
                        let path = path.display();
                        let sentence =
                            format!("the ledger {path} cannot be read: `pcigate verify` it");
                        Failure::because(sentence, error)
                    })?;
                    let matching = |index, record: Record| {
                        if matches(asked, &record) { see(index, record) } else { Ok(()) }
                    };
                    readable(index, &bytes, matching)?;
                }
                Ok(0)
            }
        }
    }
}

fn readable(
    index: u64,
    bytes: &[u8],
    mut see: impl FnMut(u64, Record) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match Record::decode(bytes) {
        Ok(record) => see(index, record),
        Err(error) => {
            remark(&format!("leaf {index} is no record this program can read: {error}"));
            Ok(())
        }
    }
}

/// The size its signed checkpoint tells.
fn size(path: &Path, directory: &Directory, key: Option<&str>) -> Result<u64, Failure> {
    if !path.is_dir() {
        return Err(Failure::input(format!(
            "there is no directory {}: give the collector's ledger directory with --ledger",
            path.display()
        )));
    }
    let key = match key {
        Some(given) => key::given(given)?,
        None => key::beside(path)?,
    };
    let unreadable = |cause| Failure::Input {
        sentence: format!(
            "there is no checkpoint in {} that can be read: is it a ledger's directory?",
            path.display()
        ),
        cause,
    };
    let note = directory.read("checkpoint").map_err(|error| unreadable(Some(error.into())))?;
    let note = note.ok_or_else(|| unreadable(None))?;
    let checkpoint = key.open(&note).map_err(|error| {
        let sentence = format!(
            "the checkpoint in {} was not signed with this key: the ledger was replaced, or the \
             key is another's",
            path.display()
        );
        Failure::because(sentence, error)
    })?;
    Ok(checkpoint.size)
}

/// What the collector's filter does, for the conditions that questions about sessions have.
fn matches(asked: &QueryRequest, record: &Record) -> bool {
    let Some(event) = &record.event else { return false };
    let empty = Default::default();
    let workload = match &record.subject {
        Some(Subject::Workload(workload)) => workload,
        _ => &empty,
    };
    let node = record.origin.as_ref().map_or("", |origin| origin.node.as_str());
    let about = match event {
        Event::Gap(gap) => gap.node.as_str(),
        _ => "",
    };
    let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
    let of_session =
        || session(event).is_some_and(|id| hex::encode(id).starts_with(&asked.session));
    record.time_unix_nano >= asked.since_unix_nano
        && (asked.until_unix_nano == 0 || record.time_unix_nano < asked.until_unix_nano)
        && (asked.kinds.is_empty() || asked.kinds.iter().any(|wanted| wanted == kind(event)))
        && is(&asked.namespace, &workload.namespace)
        && is(&asked.pod, &workload.pod)
        && is(&asked.service_account, &workload.service_account)
        && (is(&asked.node, node) || is(&asked.node, about))
        && (asked.session.is_empty() || of_session())
}
