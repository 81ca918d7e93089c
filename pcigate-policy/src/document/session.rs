//! What one whole session at a target may use.

use std::time::Duration;

use crate::yaml::{Fields, shown};

/// The longest time a document can name.
const LONGEST: u64 = 7 * 24 * 3600;

/// Most of each over all statements of a session; `None` = no limit here. Where several speak of
/// one session (its gate rule, its Target), the least counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionBudget {
    /// Rows of all answers.
    pub max_rows: Option<u64>,
    /// Bytes of all answers.
    pub max_bytes: Option<u64>,
    /// Statements that are run.
    pub max_statements: Option<u64>,
    /// From the login to the end; what runs then is cancelled.
    pub max_duration: Option<Duration>,
    /// How long the client may ask for nothing while nothing runs.
    pub idle: Option<Duration>,
}

impl SessionBudget {
    /// The mapping `session`; all empty where there is none.
    pub(super) fn decode(of: &mut Fields<'_, '_>) -> Self {
        let Some(mut fields) = of.fields("session") else { return Self::default() };
        let mut number = |name| {
            let number = fields.integer(name, 1..=i64::MAX);
            number.and_then(|number| u64::try_from(number).ok())
        };
        let (max_rows, max_bytes) = (number("maxRows"), number("maxBytes"));
        let max_statements = number("maxStatements");
        let max_duration = fields.parsed("maxDuration", time);
        let idle = fields.parsed("idle", time);
        let known = ["maxRows", "maxBytes", "maxStatements", "maxDuration", "idle"];
        if !known.into_iter().any(|name| fields.has(name)) {
            fields.mistake("", format!("limits nothing; name any of {}", known.join(", ")));
        }
        fields.finish();
        Self { max_rows, max_bytes, max_statements, max_duration, idle }
    }
}

/// A whole number and its unit: `90s`, `15m`, `8h`.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let parts = units.iter().find_map(|(unit, each)| {
        let number = text.strip_suffix(unit)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| number.parse::<u64>().ok()?.checked_mul(*each)).flatten()
    });
    match parts {
        Some(seconds) if (1..=LONGEST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "{} is not a time from 1s to 168h; write a whole number and s, m or h, as in `15m`",
            shown(text)
        )),
    }
}
