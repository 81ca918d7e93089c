//! `pcigate sql`: one SELECT over the records, as a table, as NDJSON or as CSV.

mod cells;

use std::io::{self, Read, StdoutLock, Write};

use clap::{Args, ValueEnum};
use pcigate_proto::sql_reply::Message as Reply;
use pcigate_proto::{SqlColumns, SqlReply, SqlRequest, SqlRow, SqlSummary};

use crate::collector;
use crate::failure::{Answer, Failure, remark};
use crate::table::{Tone, coloured, lines, plain, wants_colour};

/// Longest statement the collector takes, bytes.
const STATEMENT_BYTES_MAX: u64 = 16 * 1024;

const EXAMPLES: &str = "\
The table is `records`, one row per record; `leaf` is its position in the ledger, so that \
`pcigate record LEAF --proof` proves any row that carries it. Every column is explained in \
docs/sql.md; `SELECT * FROM records LIMIT 0` lists them.

Examples:
  Who was refused most, by which rule:
    pcigate sql \"SELECT namespace, pod, rule, count(*) AS refused FROM records
                 WHERE result = 'refused' GROUP BY ALL ORDER BY refused DESC\"
  Connections per hour and destination, as CSV:
    pcigate sql --output csv \"SELECT date_trunc('hour', time) AS hour, address, port, count(*) AS n
                 FROM records WHERE kind = 'egress' GROUP BY ALL ORDER BY hour, n DESC\"
  Every command line with curl in it, each row provable:
    pcigate sql \"SELECT leaf, time, pod, command FROM records
                 WHERE command LIKE '%curl%' ORDER BY leaf\"

In CSV a text that begins with = + - or @ gets a ' in front, so that no spreadsheet takes it for \
a formula. The collector records the statement and who asked; it ends a statement after 30 \
seconds.";

/// The statement, and how its answer is written.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
#[command(after_help = "Examples and the columns: --help, docs/sql.md")]
pub struct Options {
    /// One SELECT over the table `records`; `-` reads it from standard input.
    statement: String,
    /// At most this many rows, the first; 0 = the collector's limit (10,000).
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u32,
    /// How to write rows.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
    /// Show how the collector would answer, instead of the answer.
    #[arg(long)]
    explain: bool,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: one JSON object per line.
    Json,
    /// For spreadsheets: RFC 4180 with a line of names; NULL is empty, an empty text is "".
    Csv,
}

/// Asks, and prints what comes.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let statement = statement(&options.statement, io::stdin().lock())?;
    let request = SqlRequest { statement, limit: options.limit, explain: options.explain };
    let url = &collector.collector;
    let mut client = collector::connect(url, collector).await?;
    let from_status = |status| Failure::from_status(url, status);
    let mut replies = client.sql(request).await.map_err(from_status)?.into_inner();
    let mut printer = Printer::new(options.output);
    while let Some(SqlReply { message }) = replies.message().await.map_err(from_status)? {
        match message {
            Some(Reply::Columns(columns)) => printer.columns(&columns)?,
            Some(Reply::Row(row)) => printer.row(&row)?,
            Some(Reply::Summary(summary)) => printer.summary(&summary)?,
            Some(Reply::Plan(plan)) => print_plan(&plan)?,
            None => {}
        }
    }
    Ok(Answer::Yes)
}

/// Prints how a question is answered; a plan may quote what was asked.
pub fn print_plan(plan: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for line in plan.lines() {
        writeln!(out, "{}", plain(line))?;
    }
    out.flush()?;
    Ok(())
}

/// The statement as given, or all of standard input.
fn statement(given: &str, input: impl Read) -> Result<String, Failure> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        input.take(STATEMENT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
            Failure::because("cannot read the statement from standard input: give text", error)
        })?;
    }
    if text.trim().is_empty() {
        let remedy = "for example: pcigate sql 'SELECT kind, count(*) FROM records GROUP BY kind'";
        return Err(Failure::input(format!("the statement is empty: give one SELECT, {remedy}")));
    }
    if text.len() as u64 > STATEMENT_BYTES_MAX {
        return Err(Failure::input(format!(
            "the statement is longer than {STATEMENT_BYTES_MAX} bytes: the record of the question \
             must hold all of it; ask a shorter one"
        )));
    }
    Ok(text)
}

/// Writes rows: JSON and CSV at once, a table when all are there.
struct Printer {
    format: Format,
    out: StdoutLock<'static>,
    names: Vec<String>,
    waiting: Vec<Vec<String>>,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, out: io::stdout().lock(), names: Vec::new(), waiting: Vec::new() }
    }

    fn columns(&mut self, columns: &SqlColumns) -> Result<(), Failure> {
        self.names = cells::distinct(columns.columns.iter().map(|column| column.name.as_str()));
        match self.format {
            Format::Table => {
                self.waiting.push(self.names.iter().map(|name| plain(name)).collect());
            }
            Format::Csv => writeln!(self.out, "{}", cells::csv_head(&self.names))?,
            Format::Json => {}
        }
        Ok(())
    }

    fn row(&mut self, row: &SqlRow) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.waiting.push(row.values.iter().map(cells::cell).collect()),
            Format::Csv => writeln!(self.out, "{}", cells::csv(&row.values))?,
            Format::Json => writeln!(self.out, "{}", cells::json(&self.names, &row.values))?,
        }
        Ok(())
    }

    fn summary(&mut self, summary: &SqlSummary) -> Result<(), Failure> {
        let colour = wants_colour();
        for (number, line) in lines(&self.waiting, &[]).iter().enumerate() {
            let tone = if number == 0 { Tone::Head } else { Tone::Plain };
            writeln!(self.out, "{}", coloured(line, tone, colour))?;
        }
        self.out.flush()?;
        if summary.cut {
            remark(&format!(
                "the first {} rows: there are more, --limit shows up to 1,000,000",
                summary.rows
            ));
        }
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

    #[test]
    fn the_options_are_consistent() {
        Line::command().debug_assert();
        let line = Line::try_parse_from(["sql", "SELECT 1", "--output", "csv", "--explain"]);
        let options = line.unwrap_or_else(|error| panic!("{error}")).options;
        assert_eq!((options.output, options.explain, options.limit), (Format::Csv, true, 0));
    }

    #[test]
    fn a_dash_reads_the_statement_from_standard_input() {
        assert_eq!(statement("-", "SELECT 1\n".as_bytes()).expect("text"), "SELECT 1\n");
        assert_eq!(statement("SELECT 2", "x".as_bytes()).expect("text"), "SELECT 2");
    }

    #[test]
    fn an_empty_a_binary_and_an_endless_statement_are_refused_with_the_remedy() {
        let endless = "SELECT 1 -- ".to_owned() + &"x".repeat(20_000);
        for (given, input, remedy) in [
            ("-", &b" \n"[..], "give one SELECT"),
            ("", &b""[..], "give one SELECT"),
            ("-", &b"\xff\xfe"[..], "give text"),
            ("-", endless.as_bytes(), "ask a shorter one"),
            (endless.as_str(), &b""[..], "ask a shorter one"),
        ] {
            match statement(given, input) {
                Err(Failure::Input { sentence, .. }) => {
                    assert!(sentence.contains(remedy), "{sentence}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
