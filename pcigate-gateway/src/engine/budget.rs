//! What a whole session may use: counted over all its statements, and what is said beyond it.

use std::time::{Duration, Instant};

use pcigate_policy::document::SessionBudget;

use crate::error::SessionEnd;

/// The least of each limit, by whom, and what is used of it.
pub(crate) struct Budget<'p> {
    rows: Option<Most<'p, u64>>,
    bytes: Option<Most<'p, u64>>,
    statements: Option<Most<'p, u64>>,
    duration: Option<Most<'p, Duration>>,
    idle: Option<Most<'p, Duration>>,
    used: Used,
    began: Instant,
    /// When the client last asked for something, or got the end of an answer.
    active: Instant,
    /// A limit is passed: what the client is told from then on.
    over: Option<String>,
}

#[derive(Default)]
struct Used {
    rows: u64,
    bytes: u64,
    statements: u64,
}

#[derive(Clone, Copy)]
struct Most<'p, T> {
    most: T,
    of: &'p str,
}

const REMEDY: &str = "open a new session, or ask for more leave";

impl<'p> Budget<'p> {
    /// The least of all; each with the name of who says so. `idle` is the gateway's own.
    pub(crate) fn new(all: &'p [(String, SessionBudget)], idle: Option<Duration>) -> Self {
        let now = Instant::now();
        let idle = idle.map(|most| Most { most, of: "the gateway" });
        Self {
            rows: least(all, |budget| budget.max_rows),
            bytes: least(all, |budget| budget.max_bytes),
            statements: least(all, |budget| budget.max_statements),
            duration: least(all, |budget| budget.max_duration),
            idle: least(all, |budget| budget.idle)
                .into_iter()
                .chain(idle)
                .min_by_key(|limit| limit.most),
            used: Used::default(),
            began: now,
            active: now,
            over: None,
        }
    }

    /// Takes statements that are about to be run, all or none.
    ///
    /// # Errors
    /// A limit is passed: what to tell the client.
    pub(crate) fn run(&mut self, statements: usize) -> Result<(), String> {
        let used = self.used.statements.saturating_add(wide(statements));
        if let (None, Some(limit)) = (&self.over, self.statements)
            && used > limit.most
        {
            self.over = Some(over(limit.most, "statements", "maxStatements", limit.of));
        }
        match &self.over {
            Some(over) => Err(over.clone()),
            None => {
                self.used.statements = used;
                Ok(())
            }
        }
    }

    /// Counts what is about to go to the client; what to tell it instead where that is too much.
    pub(crate) fn answer(&mut self, rows: u64, bytes: u64) -> Option<&str> {
        if self.over.is_none() {
            self.used.rows = self.used.rows.saturating_add(rows);
            self.used.bytes = self.used.bytes.saturating_add(bytes);
            self.over = match (self.rows, self.bytes) {
                (Some(limit), _) if self.used.rows > limit.most => {
                    Some(over(limit.most, "rows", "maxRows", limit.of))
                }
                (_, Some(limit)) if self.used.bytes > limit.most => {
                    Some(over(limit.most, "bytes", "maxBytes", limit.of))
                }
                _ => None,
            };
        }
        self.over.as_deref()
    }

    /// The client has asked for something, or an answer has ended.
    pub(crate) fn is_active(&mut self) {
        self.active = Instant::now();
    }

    /// When the session ends by itself, and why; `idle` = nothing is running.
    pub(crate) fn deadline(&self, idle: bool) -> Option<(Instant, SessionEnd)> {
        let duration = self.duration.map(|limit| {
            let what = "it has been open for its whole time";
            (self.began + limit.most, spent(what, limit, "maxDuration", "57P01"))
        });
        let idle = self.idle.filter(|_| idle).map(|limit| {
            let what = "the client has asked for nothing too long";
            (self.active + limit.most, spent(what, limit, "idle", "57P05"))
        });
        duration.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
}

fn least<'p, T: Ord + Copy>(
    all: &'p [(String, SessionBudget)],
    field: impl Fn(&SessionBudget) -> Option<T>,
) -> Option<Most<'p, T>> {
    let limits = all.iter().filter_map(|(of, budget)| Some(Most { most: field(budget)?, of }));
    limits.min_by_key(|limit| limit.most)
}

fn over(most: u64, what: &str, name: &str, of: &str) -> String {
    format!("the session may have {most} {what} in all (session.{name} of {of}); {REMEDY}")
}

fn spent(what: &str, limit: Most<'_, Duration>, name: &str, code: &'static str) -> SessionEnd {
    let seconds = limit.most.as_secs();
    let what = format!("{what}, {seconds} s (session.{name} of {})", limit.of);
    SessionEnd::Spent { what, code }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(budgets: &[(&str, SessionBudget)]) -> Vec<(String, SessionBudget)> {
        budgets.iter().map(|(of, budget)| ((*of).to_owned(), budget.clone())).collect()
    }

    #[test]
    fn the_least_limit_counts_and_is_named() {
        let few =
            SessionBudget { max_rows: Some(2), max_statements: Some(9), ..Default::default() };
        let more =
            SessionBudget { max_rows: Some(5), max_statements: Some(1), ..Default::default() };
        let all = budgets(&[("rule a", few), ("Target b", more)]);
        let mut budget = Budget::new(&all, None);
        assert!(budget.answer(2, 1 << 40).is_none());
        assert!(budget.run(1).is_ok());
        let told = budget.answer(1, 1).unwrap();
        assert!(told.contains("2 rows in all (session.maxRows of rule a)"), "{told}");
        let told = budget.run(1).unwrap_err();
        assert!(told.contains("maxRows of rule a"), "what was passed first: {told}");
        let mut budget = Budget::new(&all, None);
        let told = budget.run(2).unwrap_err();
        assert!(told.contains("1 statements in all (session.maxStatements of Target b)"), "{told}");
    }

    #[test]
    fn a_session_without_limits_goes_on_for_ever() {
        let all = budgets(&[("rule a", SessionBudget::default())]);
        let mut budget = Budget::new(&all, None);
        assert!(budget.run(usize::MAX).is_ok() && budget.run(usize::MAX).is_ok());
        assert!(budget.answer(u64::MAX, u64::MAX).is_none());
        assert!(budget.deadline(true).is_none());
    }

    #[test]
    fn silence_counts_from_the_last_that_was_asked_and_only_while_nothing_runs() {
        let second = Duration::from_secs(1);
        let idle = SessionBudget {
            idle: Some(2 * second),
            max_duration: Some(60 * second),
            ..Default::default()
        };
        let all = budgets(&[("rule a", idle)]);
        let mut budget = Budget::new(&all, Some(30 * second));
        let (at, end) = budget.deadline(true).unwrap();
        assert_eq!(at, budget.active + 2 * second);
        assert!(end.to_string().contains("2 s (session.idle of rule a)"), "{end}");
        let (at, end) = budget.deadline(false).unwrap();
        assert_eq!(at, budget.began + 60 * second);
        assert!(end.to_string().contains("60 s (session.maxDuration of rule a)"), "{end}");
        budget.active = budget.began + 59 * second;
        assert_eq!(budget.deadline(true).unwrap().0, budget.began + 60 * second);
    }
}
