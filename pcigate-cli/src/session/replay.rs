//! `pcigate session replay`: what passed through a session as a transcript, in its time.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use pcigate_proto::Record;
use pcigate_proto::record::Event;

use super::gaps::{self, Missing};
use super::summary::{End, Summary};
use super::words::{escaped, several};
use super::{Which, all_of, find, transcript};
use crate::failure::{Answer, Failure, remark};
use crate::record_view::verdict_word;
use crate::session::source::Source;
use crate::table::{Tone, coloured, wants_colour};
use crate::{collector, time};

const KINDS: [&str; 3] = ["session", "statement", "traffic"];
/// Most text of a session that is held while it is replayed in its time. Nodes keep 16 MiB of
/// traffic a session by default.
const HELD_MAX: usize = 256 << 20;

/// Which session, and how fast.
#[derive(Args, Debug)]
#[command(after_help = "A line begins with the seconds since the session began, and `>` from the \
    client or `<` to it; `|` goes on with a message, `!!` says what is missing. Values are shown \
    as they were masked; what could steer a terminal is written as \\x1b, bytes that are no text \
    as \\x and hexadecimal digits. Where traffic is not kept any more, statements stand for it.")]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// How many times as fast as it was; max = without waiting.
    #[arg(long, value_name = "N|max", value_parser = speed, default_value = "1")]
    speed: Speed,
    /// Longest wait between two lines, before --speed: 500ms, 2s, 1m.
    #[arg(long, value_name = "T", value_parser = pause, default_value = "2s")]
    max_pause: Duration,
    /// Only what this side said.
    #[arg(long, value_enum, default_value = "both")]
    from: Side,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

/// Whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    /// The client's.
    Client,
    /// The server's, as they came to the client.
    Server,
    /// All.
    Both,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times >= 0.001 => Ok(Speed::Times(times)),
        _ => Err(format!("`{text}` is no speed: give a number from 0.001 on, or max")),
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let millis = units.iter().find_map(|(unit, factor)| {
        text.strip_suffix(unit)?.parse::<u32>().ok().map(|number| u64::from(number) * factor)
    });
    let wrong = || format!("`{text}` is no time: give a whole number with ms, s or m, as in 500ms");
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// Asks, and plays.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let mut source = Source::open(collector, &options.which.source).await?;
    let summary = find(&mut source, &options.which.id).await?;
    let missing = gaps::within(&mut source, &summary).await?;
    let mut script = Script::new(&summary, options.from, missing);
    let mut player = Player { out: io::stdout(), colour: wants_colour(), last: summary.began };
    player.lines(&[Line::note(heading(&summary))])?;
    let waits = options.speed != Speed::Max;
    let (mut held, mut size) = (Vec::new(), 0);
    let left_out = source
        .each(&all_of(&summary, &KINDS), |_, record| {
            let at = record.time_unix_nano;
            let lines = script.push(&record);
            if !waits {
                return player.lines(&lines);
            }
            // The collector does not wait for who waits: all is fetched before it is played.
            size += lines.iter().map(|line| line.text.len()).sum::<usize>();
            if size > HELD_MAX {
                return Err(Failure::input(
                    "the session is too long to be replayed in its time: give --speed max",
                ));
            }
            held.push((at, lines));
            Ok(())
        })
        .await?;
    for (at, lines) in held {
        if !player.wait(at, options).await {
            remark("the replay was interrupted");
            return Ok(Answer::Yes);
        }
        player.lines(&lines)?;
    }
    if left_out > 0 {
        let text = format!("{left_out} records of the session's beginning: too many to be shown");
        player.lines(&[Line::missing(&text)])?;
    }
    player.lines(&script.finish(&summary))?;
    Ok(Answer::Yes)
}

/// A line of the transcript.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    tone: Tone,
}

impl Line {
    fn note(text: String) -> Self {
        Self { text, tone: Tone::Head }
    }

    fn missing(text: &str) -> Self {
        Self { text: format!("!! MISSING: {}", escaped(text)), tone: Tone::Warning }
    }
}

/// Makes lines of records.
struct Script {
    began: u64,
    from: Side,
    missing: Vec<Missing>,
    /// Number the next statement must have.
    next: u64,
    /// Traffic is not kept any more.
    truncated: bool,
    /// Something was shown of what passed.
    shown: bool,
}

impl Script {
    fn new(summary: &Summary, from: Side, missing: Vec<Missing>) -> Self {
        let began = summary.began;
        Self { began, from, missing, next: 1, truncated: false, shown: false }
    }

    fn push(&mut self, record: &Record) -> Vec<Line> {
        let missing = gaps::before(&mut self.missing, record);
        let mut lines: Vec<Line> = missing.iter().map(|one| Line::missing(&one.text)).collect();
        let at = self.offset(record.time_unix_nano);
        match &record.event {
            Some(Event::Traffic(traffic)) if traffic.truncated => {
                self.truncated = true;
                let text = format!("!! TRAFFIC ENDS HERE: {}", escaped(&traffic.text));
                lines.push(Line { text, tone: Tone::Warning });
            }
            Some(Event::Traffic(traffic)) => {
                let side = if traffic.from_client { Side::Client } else { Side::Server };
                if [side, Side::Both].contains(&self.from) {
                    self.shown = true;
                    let arrow = if traffic.from_client { '>' } else { '<' };
                    lines.extend(passed(&at, arrow, &traffic.text));
                }
            }
            Some(Event::Statement(statement)) => {
                if statement.number > self.next {
                    let count = statement.number - self.next;
                    let text = format!("the records of {count} statements before this one");
                    lines.push(Line::missing(&text));
                }
                self.next = self.next.max(statement.number.saturating_add(1));
                if self.truncated && self.from != Side::Server {
                    let outcome = record.outcome.clone().unwrap_or_default();
                    let verdict = verdict_word(outcome.verdict());
                    let text = several(&statement.text).join(" ");
                    let text = format!("{at}  > ({verdict}) {text}");
                    lines.push(Line { text, tone: Tone::Plain });
                }
            }
            _ => {}
        }
        lines
    }

    fn finish(mut self, summary: &Summary) -> Vec<Line> {
        let mut lines = Vec::new();
        if !matches!(summary.end, End::Recorded(..)) {
            lines.extend(self.missing.drain(..).map(|one| Line::missing(&one.text)));
        }
        if !self.shown && !self.truncated {
            let text = "no traffic of this session was kept: `pcigate session show` tells what \
                        was decided";
            lines.push(Line { text: format!("!! {text}"), tone: Tone::Warning });
        }
        let totals = several(&summary.totals()).join("; ");
        lines.push(Line::note(format!("-- {totals}")));
        lines
    }

    /// Seconds since it began.
    fn offset(&self, time: u64) -> String {
        let millis = time.saturating_sub(self.began) / 1_000_000;
        format!("{:>5}.{:03}", millis / 1_000, millis % 1_000)
    }
}

/// The lines of one record of traffic.
fn passed(at: &str, arrow: char, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let blank = " ".repeat(at.len());
    for message in transcript::messages(text) {
        let refused = message.first().is_some_and(|line| line.starts_with("ERROR:  "));
        let tone = if refused && arrow == '<' { Tone::Refused } else { Tone::Plain };
        let begin = if lines.is_empty() { at } else { &blank };
        for (number, line) in message.into_iter().enumerate() {
            let text = match number {
                0 => format!("{begin}  {arrow} {line}"),
                _ => format!("{blank}  | {line}"),
            };
            lines.push(Line { text, tone });
        }
    }
    lines
}

fn heading(summary: &Summary) -> String {
    let who = summary.workload().map(|workload| format!("{}/{}", workload.namespace, workload.pod));
    let (who, target) = (who.unwrap_or_default(), &summary.session.target);
    let (id, began) = (summary.id(), time::rfc3339(summary.began, 3));
    let database = &summary.session.database;
    escaped(&format!("-- session {id}: {who} with {target}, database {database}, began {began}"))
}

/// How long to wait where it took so many ns.
fn before(nanoseconds: u64, speed: Speed, longest: Duration) -> Duration {
    let pause = Duration::from_nanos(nanoseconds).min(longest);
    match speed {
        Speed::Times(times) => pause.div_f64(times),
        Speed::Max => Duration::ZERO,
    }
}

/// Writes lines, and waits between them as long as it took.
struct Player<W> {
    out: W,
    colour: bool,
    last: u64,
}

impl<W: Write> Player<W> {
    fn lines(&mut self, lines: &[Line]) -> Result<(), Failure> {
        for line in lines {
            writeln!(self.out, "{}", coloured(&line.text, line.tone, self.colour))?;
        }
        Ok(self.out.flush()?)
    }

    /// `false` when it was interrupted meanwhile.
    async fn wait(&mut self, at: u64, options: &Options) -> bool {
        let pause = before(at.saturating_sub(self.last), options.speed, options.max_pause);
        self.last = self.last.max(at);
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.is_err(),
            () = tokio::time::sleep(pause) => true,
        }
    }
}
