//! The records the collector itself appends to the ledger.

use std::time::{SystemTime, UNIX_EPOCH};

use pcigate_policy::mask::{Cut, Masked};
use pcigate_proto::{
    Component, Coverage, Origin, Outcome, Person, Query, Record, Result as Success,
    coverage::State,
    record::{Event, Subject},
};

/// Longest filter or reason text kept in a record, bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Nanoseconds since 1970, from the system clock.
#[must_use]
pub fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Text from outside, fit for a record: masked, and at most [`TEXT_BYTES_MAX`] bytes.
#[must_use]
pub fn masked(text: &str) -> String {
    let mut text = Masked::new(text.as_bytes(), Cut::Whole).into_string();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// A record of the log `origin` about something the collector did.
#[must_use]
pub fn own(origin: &str, event: Event) -> Record {
    let result = match &event {
        Event::Conflict(_) => Success::Refused,
        Event::Gap(_) => Success::Failed,
        _ => Success::Success,
    };
    let component =
        Component { name: "collector".into(), version: env!("CARGO_PKG_VERSION").into() };
    record(origin, Subject::Component(component), result, event)
}

/// A record of a person asking for evidence (PCI DSS 10.2.1.3). `filter` is masked here.
#[must_use]
pub fn query(origin: &str, person: &str, operation: &str, filter: &str) -> Record {
    let subject = Subject::Person(Person { identity: person.to_owned() });
    let event = Event::Query(Query { operation: operation.to_owned(), filter: masked(filter) });
    record(origin, subject, Success::Success, event)
}

/// The collector's own coverage record at start and stop.
#[must_use]
pub fn coverage(origin: &str, state: State) -> Record {
    let message = match state {
        State::Start => "the collector is ready",
        State::Stop => "the collector stops",
        _ => "the collector changes",
    };
    let coverage =
        Coverage { state: state.into(), message: message.to_owned(), capabilities: Vec::new() };
    own(origin, Event::Coverage(coverage))
}

/// The collector's own coverage record of something that is not as it was.
#[must_use]
pub fn change(origin: &str, message: &str) -> Record {
    let message = masked(message);
    let coverage = Coverage { state: State::Change.into(), message, capabilities: Vec::new() };
    own(origin, Event::Coverage(coverage))
}

fn record(origin: &str, subject: Subject, result: Success, event: Event) -> Record {
    Record {
        origin: Some(Origin { node: origin.to_owned(), ..Origin::default() }),
        time_unix_nano: now_unix_nano(),
        subject: Some(subject),
        outcome: Some(Outcome { result: result.into(), ..Outcome::default() }),
        event: Some(event),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use pcigate_proto::record::check_complete;

    use super::*;

    #[test]
    fn the_collectors_own_records_are_complete() {
        assert_eq!(check_complete(&coverage("log", State::Start)), Ok(()));
        let asked = query("log", "spiffe://d/person/ana", "records", "");
        assert_eq!(check_complete(&asked), Ok(()));
    }

    #[test]
    fn filter_text_is_masked_and_short() {
        let asked = query("log", "p", "records", "executable=*4111111111111111*");
        let Some(Event::Query(query)) = asked.event else { panic!("not a query") };
        assert!(!query.filter.contains("4111111111111111"), "{}", query.filter);
        assert_eq!(masked(&"ä".repeat(2_000)).len(), TEXT_BYTES_MAX);
    }
}
