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

/// Longest SQL statement taken, bytes: its record holds all of it.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;

/// Nanoseconds since 1970, from the system clock.
#[must_use]
pub fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Text from outside, fit for a record: masked, and at most [`TEXT_BYTES_MAX`] bytes.
#[must_use]
pub fn masked(text: &str) -> String {
    masked_to(text, TEXT_BYTES_MAX)
}

/// Text that may quote something from outside, without card data.
#[must_use]
pub fn masked_whole(text: &str) -> String {
    Masked::new(text.as_bytes(), Cut::Whole).into_string()
}

fn masked_to(text: &str, bytes: usize) -> String {
    let mut text = masked_whole(text);
    text.truncate(text.floor_char_boundary(bytes));
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

/// A record of a person asking for evidence (PCI DSS 10.2.1.3). `filter` is masked here; a
/// statement is kept whole, because what stands at its end decides as much as what stands first.
#[must_use]
pub fn query(origin: &str, person: &str, operation: &str, filter: &str) -> Record {
    let subject = Subject::Person(Person { identity: person.to_owned() });
    let most = if operation == "sql" { STATEMENT_BYTES_MAX } else { TEXT_BYTES_MAX };
    let filter = masked_to(filter, most);
    let event = Event::Query(Query { operation: operation.to_owned(), filter });
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
        let Some(Event::Query(short)) = asked.event else { panic!("not a query") };
        assert!(!short.filter.contains("4111111111111111"), "{}", short.filter);
        assert_eq!(masked(&"ä".repeat(2_000)).len(), TEXT_BYTES_MAX);
        let statement = "x".repeat(STATEMENT_BYTES_MAX);
        let Some(Event::Query(whole)) = query("log", "p", "sql", &statement).event else {
            panic!("not a query")
        };
        assert_eq!(whole.filter, statement);
    }
}
