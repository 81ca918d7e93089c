//! `pcigate records`: rows of the ledger by filter, as a table or as NDJSON, and as they arrive.

use std::io::{self, StdoutLock, Write};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use pcigate_proto::query_reply::Message as Reply;
use pcigate_proto::record::KINDS;
use pcigate_proto::{Message, QueryReply, QueryRequest, Record, Row, Summary, Verdict};

use crate::collector;
use crate::failure::{Answer, Failure, remark};
use crate::table::{Tone, coloured, lines, wants_colour};
use crate::{Output, record_view, row, sql, time};

/// The filters of a query. All that are given must match.
#[derive(Args, Debug)]
pub struct Options {
    /// Only records from this time on: RFC 3339, or a duration back from now (15m, 2h, 1d).
    #[arg(long, value_name = "T", value_parser = time::parse)]
    since: Option<time::Given>,
    /// Only records before this time.
    #[arg(long, value_name = "T", value_parser = time::parse)]
    until: Option<time::Given>,
    /// Only this namespace.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    namespace: String,
    /// Only this pod.
    #[arg(long, default_value = "", hide_default_value = true)]
    pod: String,
    /// Only this ServiceAccount.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service_account: String,
    /// Only this kind of record; may be given several times.
    #[arg(long = "kind", value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS))]
    kinds: Vec<String>,
    /// Only records with this verdict.
    #[arg(long, value_parser = verdicts())]
    verdict: Option<Verdict>,
    /// Only this acting or requested program; a `*` matches any characters.
    #[arg(long, value_name = "GLOB", default_value = "", hide_default_value = true)]
    executable: String,
    /// Only this destination: ADDRESS, ADDRESS:PORT, PREFIX/BITS or :PORT.
    #[arg(long, value_name = "D", default_value = "", hide_default_value = true)]
    destination: String,
    /// Only records of this node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    node: String,
    /// Only records of this gated session: its id, or the beginning of it.
    #[arg(long, value_name = "ID", value_parser = session_id)]
    session: Option<String>,
    /// At most this many rows, the newest; 0 = the collector's limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// After the stored records print new ones as they become durable, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Show how the collector would answer, instead of the answer.
    #[arg(long)]
    explain: bool,
    /// How to write rows.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Nothing shortened, and more columns.
    #[arg(long)]
    wide: bool,
}

/// The beginning of a session's id, as it stands in records.
pub fn session_id(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|letter| letter.is_ascii_hexdigit());
    if digits && (1..=32).contains(&text.len()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("`{text}` is not the id of a session or its beginning: give up to 32 hex digits"))
}

fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    PossibleValuesParser::new(["allow", "deny", "gate", "ask"]).map(|word| match word.as_str() {
        "allow" => Verdict::Allow,
        "gate" => Verdict::Gate,
        "ask" => Verdict::Ask,
        _ => Verdict::Deny,
    })
}

/// Asks, and prints what comes.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let request = request(options, time::now())?;
    let url = &collector.collector;
    let mut client = collector::connect(url, collector).await?;
    let from_status = |status| Failure::from_status(url, status);
    let mut replies = client.query(request).await.map_err(from_status)?.into_inner();
    let mut printer = Printer::new(options);
    while let Some(QueryReply { message }) = replies.message().await.map_err(from_status)? {
        match message {
            Some(Reply::Row(row)) => printer.row(&row)?,
            Some(Reply::Summary(summary)) => printer.summary(&summary)?,
            Some(Reply::Plan(plan)) => {
                sql::print_plan(&plan)?;
                return Ok(Answer::Yes);
            }
            None => {}
        }
    }
    printer.finish()?;
    Ok(Answer::Yes)
}

fn request(options: &Options, now: u64) -> Result<QueryRequest, Failure> {
    let since = options.since.map_or(0, |given| given.unix_nano(now));
    let until = options.until.map_or(0, |given| given.unix_nano(now));
    if until != 0 && until <= since {
        return Err(Failure::input(format!(
            "--until ({}) is not later than --since ({}): no record can match",
            time::rfc3339(until, 3),
            time::rfc3339(since, 3)
        )));
    }
    if options.explain && options.follow {
        return Err(Failure::input("--explain shows the plan of one answer: leave out --follow"));
    }
    if options.follow && until != 0 {
        return Err(Failure::input("--follow has no end: leave out --until"));
    }
    Ok(QueryRequest {
        since_unix_nano: since,
        until_unix_nano: until,
        namespace: options.namespace.clone(),
        pod: options.pod.clone(),
        service_account: options.service_account.clone(),
        kinds: options.kinds.clone(),
        verdict: options.verdict.unwrap_or(Verdict::Unspecified).into(),
        executable: options.executable.clone(),
        destination: options.destination.clone(),
        node: options.node.clone(),
        session: options.session.clone().unwrap_or_default(),
        limit: options.limit,
        follow: options.follow,
        explain: options.explain,
    })
}

/// Writes rows: JSON and followed rows at once, a table when all are there.
struct Printer {
    output: Output,
    wide: bool,
    follow: bool,
    colour: bool,
    out: StdoutLock<'static>,
    waiting: Vec<(Vec<String>, Tone)>,
    shown: u64,
}

impl Printer {
    fn new(options: &Options) -> Self {
        let mut heads: Vec<String> = row::HEADS.map(str::to_owned).to_vec();
        if options.wide {
            heads.extend(row::MORE_HEADS.map(str::to_owned));
        }
        Self {
            output: options.output,
            wide: options.wide,
            follow: options.follow,
            colour: wants_colour(),
            out: io::stdout().lock(),
            waiting: vec![(heads, Tone::Head)],
            shown: 0,
        }
    }

    fn row(&mut self, row: &Row) -> Result<(), Failure> {
        self.shown += 1;
        let record = Record::decode(row.record.as_slice());
        if self.output == Output::Json {
            let value = match &record {
                Ok(record) => record_view::json(row.index, record),
                Err(error) => record_view::unreadable(row.index, &error.to_string()),
            };
            writeln!(self.out, "{}", record_view::line(&value))?;
            return Ok(());
        }
        self.waiting.push(match &record {
            Ok(record) => row::cells(row.index, record, self.wide),
            Err(error) => row::unreadable(row.index, &error.to_string()),
        });
        if self.follow { self.print_waiting(&row::FOLLOW_WIDTHS) } else { Ok(()) }
    }

    /// The stored rows are through.
    fn summary(&mut self, summary: &Summary) -> Result<(), Failure> {
        if summary.matched > self.shown {
            remark(&format!(
                "the newest {} of {} matching records: --limit shows more, filters narrow it down",
                self.shown, summary.matched
            ));
        }
        if self.follow && self.output == Output::Table {
            self.print_waiting(&row::FOLLOW_WIDTHS)?;
        }
        self.out.flush()?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.output == Output::Table {
            self.print_waiting(if self.follow { &row::FOLLOW_WIDTHS } else { &[] })?;
        }
        Ok(())
    }

    fn print_waiting(&mut self, widths: &[u16]) -> Result<(), Failure> {
        let (rows, tones): (Vec<_>, Vec<_>) = self.waiting.drain(..).unzip();
        for (line, tone) in lines(&rows, widths).iter().zip(tones) {
            writeln!(self.out, "{}", coloured(line, tone, self.colour))?;
        }
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(arguments: &str) -> Options {
        let line =
            Line::try_parse_from(["records"].into_iter().chain(arguments.split_whitespace()));
        line.unwrap_or_else(|error| panic!("{error}")).options
    }

    #[test]
    fn the_options_are_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_filter_reaches_the_request() {
        let options = parsed(
            "--since 1h --until 1m --namespace n --pod p --service-account s --kind exec \
             --kind egress --verdict deny --executable /bin/* --destination 10.0.0.0/8 --node k \
             --session 5E0 --limit 7",
        );
        let now = 10_000_000_000_000;
        let expected = QueryRequest {
            since_unix_nano: now - 3_600_000_000_000,
            until_unix_nano: now - 60_000_000_000,
            namespace: "n".into(),
            pod: "p".into(),
            service_account: "s".into(),
            kinds: vec!["exec".into(), "egress".into()],
            verdict: Verdict::Deny.into(),
            executable: "/bin/*".into(),
            destination: "10.0.0.0/8".into(),
            node: "k".into(),
            session: "5e0".into(),
            limit: 7,
            follow: false,
            explain: false,
        };
        assert_eq!(request(&options, now).expect("valid filters"), expected);
    }

    #[test]
    fn no_filter_asks_for_everything() {
        assert_eq!(request(&parsed(""), 1).expect("valid"), QueryRequest::default());
    }

    #[test]
    fn a_period_that_cannot_match_is_refused() {
        for arguments in ["--since 1h --until 2h", "--follow --until 1h", "--follow --explain"] {
            let refused = request(&parsed(arguments), 1_000_000_000_000_000);
            assert!(refused.is_err_and(|failure| failure.exit_code() == 2), "{arguments}");
        }
    }
}
