//! `pcigate sessions`: one line for each gated session, from the collector or a ledger's directory.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use clap::Args;
use pcigate_proto::record::session;
use pcigate_proto::{QueryRequest, Record};

use crate::failure::{Answer, Failure, remark};
use crate::session::gaps;
use crate::session::source::{self, RECORDS_MAX, Source};
use crate::session::summary::{Counts, End, Summary};
use crate::session::words::{duration, escaped};
use crate::table::{Tone, beginning, coloured, lines, wants_colour};
use crate::{Output, collector, record_view, time};

/// Sessions without an end whose statements are counted one by one.
const COUNTED_MAX: usize = 16;
/// Digits of an id that the table shows: enough to name a session.
const ID_SHOWN: usize = 12;
const END_SHOWN: usize = 40;

/// Which sessions. All conditions that are given must hold.
#[derive(Args, Debug)]
#[command(
    after_help = "`pcigate session show ID` tells a session's story, `pcigate session replay \
    ID` what passed through it. Without --wide the ids are shortened: the beginning of one names \
    the session."
)]
pub struct Options {
    /// Only sessions that began or ended from this time on: RFC 3339, or a duration back from now
    /// (15m, 2h, 1d).
    #[arg(long, value_name = "T", value_parser = time::parse)]
    since: Option<time::Given>,
    /// Only sessions that began before this time.
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
    /// Only this Target: NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    target: String,
    /// Only this database.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    database: String,
    /// Only where this user was asked for, or this role was used.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// Only sessions through this node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    node: String,
    /// At most this many sessions, the newest.
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// How to write sessions.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Nothing shortened.
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    source: source::Options,
}

/// Asks, and prints the sessions by the time of their beginning.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let asked = request(options, time::now())?;
    let until = options.until.map_or(u64::MAX, |given| given.unix_nano(time::now()));
    let mut source = Source::open(collector, &options.source).await?;
    let mut known = Known::new(usize::try_from(options.limit).unwrap_or(usize::MAX));
    let left_out = source
        .each(&asked, |index, record| {
            known.take(index, &record);
            Ok(())
        })
        .await?;
    let dropped = known.dropped;
    let mut sessions: Vec<Summary> = known.sessions.into_values().collect();
    sessions.retain(|one| one.began < until && is_meant(one, options));
    sessions.sort_by_key(|one| (one.began, one.index));
    complete(&mut source, &mut sessions).await?;
    let mut out = io::stdout().lock();
    match options.output {
        Output::Json => {
            for one in &sessions {
                writeln!(out, "{}", record_view::line(&one.json()))?;
            }
        }
        Output::Table => {
            let (rows, tones) = table(&sessions, options.wide);
            let colour = wants_colour();
            for (line, tone) in lines(&rows, &[]).iter().zip(tones) {
                writeln!(out, "{}", coloured(line, tone, colour))?;
            }
        }
    }
    out.flush()?;
    if left_out > 0 || dropped {
        remark("there are earlier sessions: --limit shows more, filters narrow it down");
    }
    Ok(Answer::Yes)
}

fn request(options: &Options, now: u64) -> Result<QueryRequest, Failure> {
    let since = options.since.map_or(0, |given| given.unix_nano(now));
    let until = options.until.map_or(u64::MAX, |given| given.unix_nano(now));
    if until <= since {
        return Err(Failure::input(format!(
            "--until ({}) is not later than --since ({}): no session can match",
            time::rfc3339(until, 3),
            time::rfc3339(since, 3)
        )));
    }
    // What only we look at must not be cut before.
    let ours = [&options.target, &options.database, &options.user];
    let all = options.until.is_some() || ours.iter().any(|wanted| !wanted.is_empty());
    Ok(QueryRequest {
        since_unix_nano: since,
        namespace: options.namespace.clone(),
        pod: options.pod.clone(),
        service_account: options.service_account.clone(),
        node: options.node.clone(),
        kinds: vec!["session".to_owned()],
        // Each has two records.
        limit: if all { RECORDS_MAX } else { options.limit.saturating_mul(2) },
        ..QueryRequest::default()
    })
}

fn is_meant(one: &Summary, options: &Options) -> bool {
    let session = &one.session;
    let is = |wanted: &str, values: &[&str]| wanted.is_empty() || values.contains(&wanted);
    let name = session.target.rsplit('/').next().unwrap_or_default();
    is(&options.target, &[&session.target, name])
        && is(&options.database, &[&session.database])
        && is(&options.user, &[&session.user, &session.role])
}

/// The sessions so far, the newest of them.
struct Known {
    most: usize,
    /// By the place of their first record.
    sessions: BTreeMap<u64, Summary>,
    places: HashMap<Vec<u8>, u64>,
    dropped: bool,
}

impl Known {
    fn new(most: usize) -> Self {
        Self { most, sessions: BTreeMap::new(), places: HashMap::new(), dropped: false }
    }

    fn take(&mut self, index: u64, record: &Record) {
        let Some(id) = record.event.as_ref().and_then(session) else { return };
        if let Some(known) = self.places.get(id).and_then(|place| self.sessions.get_mut(place)) {
            known.take(record);
            return;
        }
        if let Some(summary) = Summary::of(index, record) {
            self.places.insert(id.to_vec(), index);
            self.sessions.insert(index, summary);
        }
        if self.sessions.len() > self.most
            && let Some((_, oldest)) = self.sessions.pop_first()
        {
            self.places.remove(&oldest.session.id);
            self.dropped = true;
        }
    }
}

/// Looks up what the records of sessions without an end do not tell.
async fn complete(source: &mut Source, sessions: &mut [Summary]) -> Result<(), Failure> {
    let mut open: Vec<&mut Summary> =
        sessions.iter_mut().filter(|one| one.end == End::Open).collect();
    gaps::explain_ends(source, &mut open).await?;
    let uncounted = open.len().saturating_sub(COUNTED_MAX);
    // The newest.
    for one in open.into_iter().rev().take(COUNTED_MAX) {
        let asked = QueryRequest {
            kinds: vec!["statement".to_owned(), "statement-end".to_owned()],
            session: one.id(),
            since_unix_nano: one.began,
            limit: RECORDS_MAX,
            ..QueryRequest::default()
        };
        let mut counts = Counts::default();
        source
            .each(&asked, |_, record| {
                counts.add(&record);
                Ok(())
            })
            .await?;
        one.counts = Some(counts);
    }
    if uncounted > 0 {
        remark(&format!(
            "the statements of {uncounted} sessions without an end are not counted: \
             `pcigate session show ID` counts them"
        ));
    }
    Ok(())
}

const HEADS: [&str; 14] = [
    "SESSION",
    "BEGAN",
    "DURATION",
    "WHO",
    "SERVICE ACCOUNT",
    "TARGET",
    "DATABASE",
    "USER ASKED",
    "ROLE",
    "ALLOWED/REFUSED",
    "ROWS",
    "BYTES",
    "MASKED",
    "END",
];

/// Heads and rows, and how each stands out.
pub fn table(sessions: &[Summary], wide: bool) -> (Vec<Vec<String>>, Vec<Tone>) {
    let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(|one| cells(one, wide)));
    let tone = |one: &Summary| match (&one.end, &one.counts) {
        (End::Missing(_), _) => Tone::Warning,
        (_, Some(counts)) if counts.refused > 0 => Tone::Refused,
        _ => Tone::Plain,
    };
    (rows, std::iter::once(Tone::Head).chain(sessions.iter().map(tone)).collect())
}

fn cells(one: &Summary, wide: bool) -> Vec<String> {
    let session = &one.session;
    let workload = one.workload();
    let who = workload.map(|workload| format!("{}/{}", workload.namespace, workload.pod));
    let account = workload.map_or("", |workload| &workload.service_account);
    let (id, end) = (one.id(), one.end_words());
    let (id, end) = match wide {
        true => (id, end),
        false => (id.chars().take(ID_SHOWN).collect(), beginning(&end, END_SHOWN)),
    };
    let count = |of: fn(&Counts) -> u64| {
        one.counts.as_ref().map_or("–".to_owned(), |counts| of(counts).to_string())
    };
    let refused = count(|counts| counts.refused);
    let allowed = count(|counts| counts.statements.saturating_sub(counts.refused));
    vec![
        id,
        time::rfc3339(one.began, 3),
        one.duration_ns().map_or("–".to_owned(), duration),
        escaped(&who.unwrap_or_default()),
        escaped(account),
        escaped(&session.target),
        escaped(&session.database),
        escaped(&session.user),
        escaped(&session.role),
        format!("{allowed}/{refused}"),
        count(|counts| counts.rows),
        count(|counts| counts.bytes),
        count(|counts| counts.masked.values().sum()),
        escaped(&end),
    ]
}

#[cfg(test)]
mod tests;
