//! `pcigate session`: one gated session, as the story of its statements or as it passed.

pub mod gaps;
mod replay;
mod show;
pub mod source;
mod story;
pub mod summary;
mod transcript;
pub mod words;

use clap::{Args, Subcommand};
use pcigate_proto::QueryRequest;
use pcigate_proto::record::session;

use crate::collector;
use crate::failure::{Answer, Failure};
use crate::records::session_id;
use source::{RECORDS_MAX, Source};
use summary::{End, Summary};

/// What to see of a session.
#[derive(Subcommand)]
pub enum Verb {
    /// Tell a session's story: who, each statement with what was decided, and how it ended.
    Show(show::Options),
    /// Replay what passed through a session, in its time.
    Replay(replay::Options),
}

/// Which session, and where it is recorded.
#[derive(Args, Debug)]
pub struct Which {
    /// Id of the session, as `pcigate sessions` shows it, or the beginning of one.
    #[arg(value_name = "ID", value_parser = session_id)]
    id: String,
    #[command(flatten)]
    source: source::Options,
}

/// Runs one of both.
pub async fn run(collector: &collector::Options, verb: &Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Show(options) => show::run(collector, options).await,
        Verb::Replay(options) => replay::run(collector, options).await,
    }
}

/// The one session that is meant.
async fn find(source: &mut Source, id: &str) -> Result<Summary, Failure> {
    let of_kinds = |kinds: &[&str]| QueryRequest {
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        session: id.to_owned(),
        limit: RECORDS_MAX,
        ..QueryRequest::default()
    };
    let mut found = summaries(source, &of_kinds(&["session"])).await?;
    if found.is_empty() {
        // Its beginning and end are lost, or were taken out of the index.
        found = summaries(source, &of_kinds(&[])).await?;
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (None, _) => Err(Failure::input(format!(
            "there is no record of a session {id}: `pcigate sessions` lists them"
        ))),
        (Some(first), Some(second)) => Err(Failure::input(format!(
            "the ids of several sessions begin with {id} ({}, {}…): give more of it",
            first.id(),
            second.id()
        ))),
        (Some(mut only), None) => {
            if only.end == End::Open {
                gaps::explain_ends(source, &mut [&mut only]).await?;
            }
            Ok(only)
        }
    }
}

/// The sessions of the records that match; no more than two of them, which is one too many.
async fn summaries(source: &mut Source, asked: &QueryRequest) -> Result<Vec<Summary>, Failure> {
    let mut found: Vec<Summary> = Vec::new();
    source
        .each(asked, |index, record| {
            let id = record.event.as_ref().and_then(session);
            let known = |one: &&mut Summary| Some(one.session.id.as_slice()) == id;
            if let Some(known) = found.iter_mut().find(known) {
                known.take(&record);
            } else if found.len() < 2 {
                found.extend(Summary::of(index, &record));
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// All records of the session that are of these kinds.
fn all_of(summary: &Summary, kinds: &[&str]) -> QueryRequest {
    QueryRequest {
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        session: summary.id(),
        // So that the index need not look at earlier files.
        since_unix_nano: summary.began.saturating_sub(1).max(1),
        limit: RECORDS_MAX,
        ..QueryRequest::default()
    }
}
