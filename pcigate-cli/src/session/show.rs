//! `pcigate session show`: who, each statement with what was decided and what became of it.

use std::io::{self, Write};

use clap::Args;
use pcigate_proto::record::Event;
use pcigate_proto::{Outcome, Parameter, QueryRequest, Record, Statement, StatementEnd};
use serde_json::{Value, json};

use super::story::{After, Leaf, Piece, Story};
use super::summary::{Counts, End, Summary};
use super::words::{duration, escaped, findings, several};
use super::{Which, all_of, find, gaps};
use crate::failure::{Answer, Failure};
use crate::record_view::verdict_word;
use crate::session::source::Source;
use crate::table::{Tone, coloured, wants_colour};
use crate::{Output, collector, record_view, time};

const KINDS: [&str; 4] = ["session", "statement", "statement-end", "traffic"];

/// Which session, and how to write its story.
#[derive(Args, Debug)]
#[command(after_help = "In JSON the first object is the session, then each statement with its \
    `statement` and `end` as in `pcigate records`; what is missing is an object `missing`, the \
    end of kept traffic `truncated`, and the last one `totals`.")]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// How to write it.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// Asks, and prints piece by piece.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let mut source = Source::open(collector, &options.which.source).await?;
    let summary = find(&mut source, &options.which.id).await?;
    let missing = gaps::within(&mut source, &summary).await?;
    // Locked for each piece only: nothing else writes, and a lock must not be held while waiting.
    let mut out = Printer { out: io::stdout(), output: options.output, colour: wants_colour() };
    out.head(&summary)?;
    let (mut story, mut counts) = (Story::new(missing), Counts::default());
    let asked: QueryRequest = all_of(&summary, &KINDS);
    let left_out = source
        .each(&asked, |index, record| {
            counts.add(&record);
            story.push(index, record).iter().try_for_each(|piece| out.piece(piece))
        })
        .await?;
    let ended = matches!(summary.end, End::Recorded(..));
    story.finish(ended).iter().try_for_each(|piece| out.piece(piece))?;
    if left_out > 0 {
        out.piece(&Piece::Missing(format!(
            "the first {left_out} records are not shown: too many"
        )))?;
    }
    let counts = summary.counts.clone().or(Some(counts));
    out.totals(&Summary { counts, ..summary })?;
    Ok(Answer::Yes)
}

struct Printer<W> {
    out: W,
    output: Output,
    colour: bool,
}

impl<W: Write> Printer<W> {
    fn head(&mut self, summary: &Summary) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.json(&summary.json());
        }
        self.line(&format!("session {}", summary.id()), Tone::Head)?;
        for (name, text) in head(summary) {
            self.line(&format!("  {name:<9} {text}"), Tone::Plain)?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.json(&piece_json(piece));
        }
        match piece {
            Piece::Statement(begun, after) => {
                let (lines, tone) = statement(begun, after);
                writeln!(self.out)?;
                for line in lines {
                    self.line(&line, tone)?;
                }
                Ok(())
            }
            Piece::Missing(text) => {
                self.line(&format!("\n!! MISSING: {}", escaped(text)), Tone::Warning)
            }
            Piece::Truncated(text) => {
                let text = escaped(text);
                self.line(&format!("\n!! TRAFFIC ENDS HERE: {text}"), Tone::Warning)
            }
        }
    }

    fn totals(&mut self, summary: &Summary) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.json(&json!({"totals": summary.json()}));
        }
        writeln!(self.out)?;
        for line in several(&summary.totals()) {
            self.line(&line, Tone::Plain)?;
        }
        Ok(self.out.flush()?)
    }

    fn line(&mut self, line: &str, tone: Tone) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", coloured(line, tone, self.colour))?)
    }

    fn json(&mut self, value: &Value) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", record_view::line(value))?)
    }
}

fn piece_json(piece: &Piece) -> Value {
    let record = |(index, record): &Leaf| record_view::json(*index, record);
    match piece {
        Piece::Statement(begun, after) => match after {
            After::End(end) => json!({"statement": record(begun), "end": record(end)}),
            After::Nothing => json!({"statement": record(begun)}),
            After::Missing => json!({"statement": record(begun), "end": null}),
        },
        Piece::Missing(text) => json!({"missing": text}),
        Piece::Truncated(text) => json!({"truncated": text}),
    }
}

/// Names and values of what the kernel, the policy and the client say.
fn head(summary: &Summary) -> Vec<(&'static str, String)> {
    let session = &summary.session;
    let mut rows = Vec::new();
    if let Some(workload) = summary.workload() {
        let mut text = format!("{}/{}", workload.namespace, workload.pod);
        text.push_str(&format!(", ServiceAccount {}", workload.service_account));
        if !workload.container.is_empty() {
            text.push_str(&format!(", container {}", workload.container));
        }
        rows.push(("pod", escaped(&text)));
    }
    if let Some(process) = &summary.record.process {
        let text = format!("{} (pid {}, uid {})", process.executable, process.pid, process.uid);
        rows.push(("process", escaped(&text)));
    }
    if let Some(origin) = &summary.record.origin {
        rows.push(("node", escaped(&origin.node)));
    }
    if let Some(outcome) = &summary.record.outcome {
        let hash = hex::encode(&outcome.policy_hash);
        let text = format!("{}, policy hash {hash}", rule(outcome));
        rows.push(("rule", escaped(&text)));
    }
    let protocol = &session.protocol;
    let text = format!(
        "{} ({protocol}), database {}, as role {}",
        session.target, session.database, session.role
    );
    rows.push(("target", escaped(&text)));
    let tls = if session.client_tls { ", over TLS" } else { "" };
    let text = format!(
        "user {}, application {} (the client's own words); {}{tls}",
        session.user, session.application, session.client
    );
    rows.push(("asked as", escaped(&text)));
    if !session.token_subject.is_empty() {
        let text = format!("{}, by the word of {}", session.token_subject, session.token_issuer);
        rows.push(("token", escaped(&text)));
    }
    rows.push(("began", time::rfc3339(summary.began, 3)));
    rows
}

fn rule(outcome: &Outcome) -> String {
    match (outcome.policy.as_str(), outcome.rule.as_str()) {
        ("", rule) => rule.to_owned(),
        (policy, rule) => format!("{policy}/{rule}"),
    }
}

/// The lines of one statement.
fn statement(begun: &Leaf, after: &After) -> (Vec<String>, Tone) {
    let (index, record) = begun;
    let Some(Event::Statement(statement)) = &record.event else { return (Vec::new(), Tone::Plain) };
    let outcome = record.outcome.clone().unwrap_or_default();
    let verdict = verdict_word(outcome.verdict());
    let refused = outcome.result() == pcigate_proto::Result::Refused;
    let verdict = if refused { verdict.to_uppercase() } else { verdict.to_owned() };
    let at = time::rfc3339(record.time_unix_nano, 3);
    let head = format!(
        "{:>4}  {at}  {verdict} by {}  {} ({}, record {index})",
        statement.number,
        rule(&outcome),
        statement.command,
        statement.step
    );
    let mut lines = vec![escaped(&head)];
    lines.extend(several(&statement.text).into_iter().map(|line| format!("      {line}")));
    lines.extend(about(statement).into_iter().map(|line| format!("      -- {line}")));
    lines.extend(what_became(record, statement, after).map(|line| format!("      -- {line}")));
    let failed = matches!(after, After::End(end) if sqlstate(&end.1).is_some());
    let tone = match after {
        _ if refused => Tone::Refused,
        After::Missing => Tone::Warning,
        _ if failed => Tone::Warning,
        _ => Tone::Plain,
    };
    (lines, tone)
}

fn about(statement: &Statement) -> Vec<String> {
    let mut lines = Vec::new();
    let kept = statement.text.len() as u64;
    if statement.text.ends_with('…') || statement.text_bytes > kept.saturating_add(64) {
        let total = statement.text_bytes;
        lines.push(format!("TEXT CUT: it had {total} bytes, this is its beginning"));
    }
    let parameters =
        statement.parameters.iter().enumerate().map(|(at, Parameter { null, text })| {
            let value = if *null { "NULL".to_owned() } else { format!("'{}'", escaped(text)) };
            format!("${} = {value}", at + 1)
        });
    let mut parameters: Vec<String> = parameters.collect();
    if statement.parameters_truncated {
        parameters.push("PARAMETERS CUT: there were more or longer ones".to_owned());
    }
    if !parameters.is_empty() {
        lines.push(parameters.join(", "));
    }
    let tables = if statement.tables.is_empty() { "none" } else { &statement.tables.join(", ") };
    lines.push(escaped(&format!("effects {}; tables {tables}", statement.effects.join(", "))));
    lines
}

fn what_became(
    record: &Record,
    statement: &Statement,
    after: &After,
) -> impl Iterator<Item = String> {
    let line = match after {
        After::End(end) => Some(ended(&end.1)),
        After::Missing => Some("NO END ON RECORD: it was sent, nothing says what came".to_owned()),
        After::Nothing if !statement.request_key.is_empty() => {
            let key = hex::encode(&statement.request_key);
            Some(format!("refused: {} (request {key})", statement.reason))
        }
        After::Nothing if !statement.reason.is_empty() => {
            Some(format!("refused: {}", statement.reason))
        }
        After::Nothing => None,
    };
    let mut counts = Counts::default();
    counts.add_masked(&record.masked);
    let masked = Some(findings(&counts.masked)).filter(|words| !words.is_empty());
    let masked = masked.map(|words| format!("in its record{}", words.replacen(';', ":", 1)));
    line.into_iter().chain(masked).map(|line| escaped(&line))
}

fn sqlstate(record: &Record) -> Option<&str> {
    match &record.event {
        Some(Event::StatementEnd(end)) => Some(end.sqlstate.as_str()).filter(|s| !s.is_empty()),
        _ => None,
    }
}

fn ended(record: &Record) -> String {
    let Some(Event::StatementEnd(end)) = &record.event else { return String::new() };
    let StatementEnd { rows, bytes, duration_ns, .. } = end;
    let how = sqlstate(record).map_or("done".to_owned(), |state| format!("failed with {state}"));
    let mut counts = Counts::default();
    counts.add_masked(&record.masked);
    let masked = findings(&counts.masked);
    format!("{how} in {}: {rows} rows, {bytes} bytes{masked}", duration(*duration_ns))
}
