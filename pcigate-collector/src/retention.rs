//! How long the records of a class can be queried, and the pass that ends it.
//!
//! What is old is told to the index by a Deletion record in the ledger: whoever reads the evidence
//! sees what was taken out of it, and an index that is built anew comes to the same answers. The
//! ledger itself keeps every leaf.

mod pass;

use std::collections::BTreeMap;

use pcigate_policy::yaml::{Fields, shown};
use pcigate_proto::record::KINDS;

pub use pass::start;

/// Nanoseconds of an hour, the step in which records grow old.
const HOUR: u64 = 3_600_000_000_000;
/// Days the audit log must be at hand for analysis at least (PCI DSS 10.5.1: three months).
const AT_HAND_DAYS: u32 = 90;
/// Days the audit log must be kept at least (PCI DSS 10.5.1: twelve months).
const KEPT_DAYS: u32 = 365;
/// More is as good as for ever.
const DAYS_MAX: u32 = 36_500;
/// Classes whose records are no audit events of PCI DSS 10.2.1 by themselves: they say where a
/// process came from and went, and when a batch arrived.
const HELPERS: [&str; 3] = ["fork", "exit", "received"];

/// Days per class; a class that is not there is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    days: BTreeMap<&'static str, u32>,
}

impl Retention {
    /// Reads the field `retention` of the configuration; mistakes are noted.
    pub fn read(top: &mut Fields<'_, '_>) -> Self {
        let mut days = BTreeMap::new();
        let Some(mut classes) = top.fields("retention") else { return Self { days } };
        for class in KINDS {
            if let Some(kept) = classes.parsed(class, |text| parse(class, text)) {
                days.insert(class, kept);
            }
        }
        classes.finish();
        Self { days }
    }

    /// Whether everything is kept for ever.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// Each class with the time before which its records are old at `now` (both ns since 1970): a
    /// whole hour in UTC.
    pub fn old(&self, now: u64) -> impl Iterator<Item = (&'static str, u64)> {
        self.days.iter().map(move |(class, days)| {
            let before = now.saturating_sub(u64::from(*days) * 24 * HOUR);
            (*class, before - before % HOUR)
        })
    }
}

fn parse(class: &str, text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').filter(|digits| !digits.starts_with('+'));
    let Some(days) = number.and_then(|digits| digits.parse::<u32>().ok()) else {
        return Err(format!("{} is not a number of days, for example 400d", shown(text)));
    };
    let audit = !HELPERS.contains(&class);
    let least = if audit { KEPT_DAYS } else { AT_HAND_DAYS };
    match days {
        _ if class == "deletion" => {
            Err("records of deletions are kept for ever, they say what is no longer there; \
                 remove it"
                .to_owned())
        }
        days if days < least && audit => Err(format!(
            "`{days}d` is too short: these records are the audit log, which must be kept for 12 \
             months (PCI DSS 10.5.1); give {least}d or more"
        )),
        days if days < least => Err(format!(
            "`{days}d` is too short: the last three months must be at hand (PCI DSS 10.5.1); \
             give {least}d or more"
        )),
        DAYS_MAX.. => Err(format!("`{days}d` is more than 100 years; remove it to keep for ever")),
        days => Ok(days),
    }
}

#[cfg(test)]
mod tests {
    use pcigate_policy::yaml::{self, Mistakes};

    use super::*;

    fn read(text: &str) -> Result<Retention, String> {
        let root = yaml::read_one("c.yaml", text).map_err(|mistakes| mistakes.to_string())?;
        let mut mistakes = Mistakes::default();
        let mut top = Fields::of(&root, "", &mut mistakes);
        let retention = Retention::read(&mut top);
        top.finish();
        mistakes.into_result(retention).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_class_that_is_not_named_is_kept_for_ever() {
        let retention = read("retention: {fork: 90d, exec: 400d}").unwrap();
        let old: Vec<_> = retention.old(500 * 24 * HOUR + 7).collect();
        assert_eq!(old, [("exec", 100 * 24 * HOUR), ("fork", 410 * 24 * HOUR)]);
        assert!(read("retention: {}").unwrap().is_empty());
    }

    #[test]
    fn records_grow_old_by_whole_hours_and_none_before_1970() {
        let retention = read("retention: {fork: 90d}").unwrap();
        let day = 24 * HOUR;
        for (now, before) in [
            (100 * day + HOUR - 1, 10 * day),
            (100 * day + HOUR, 10 * day + HOUR),
            (89 * day, 0),
            (u64::MAX, u64::MAX - 90 * day - (u64::MAX - 90 * day) % HOUR),
        ] {
            assert_eq!(retention.old(now).collect::<Vec<_>>(), [("fork", before)]);
        }
    }

    #[test]
    fn less_than_the_standard_asks_for_is_refused_with_the_reason() {
        for (text, wanted) in [
            ("retention: {exec: 364d}", "retention.exec: `364d` is too short: these records are"),
            ("retention: {query: 90d}", "12 months (PCI DSS 10.5.1); give 365d or more"),
            ("retention: {fork: 89d}", "the last three months must be at hand"),
            ("retention: {deletion: 400d}", "retention.deletion: records of deletions are kept"),
            ("retention: {exec: 13 months}", "`13 months` is not a number of days"),
            ("retention: {exec: '400'}", "`400` is not a number of days, for example 400d"),
            ("retention: {exec: +400d}", "is not a number of days"),
            ("retention: {exec: 99999d}", "100 years"),
            ("retention: {dance: 400d}", "retention.dance: unknown field"),
            ("retention: 1y", "retention: expected a mapping of fields"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
