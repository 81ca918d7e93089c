//! Records and the messages that carry them: decoding, completeness, and what a query finds.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_collector::cursors::Step;
use pcigate_collector::evidence::{Filter, LIMIT_MAX};
use pcigate_fuzz::cards;
use pcigate_proto::record::{KINDS, check_complete, kind};
use pcigate_proto::{Ack, Message, Proof, QueryReply, QueryRequest, Record, SendRequest};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    record: &'a [u8],
    query: &'a [u8],
    destination: Option<&'a str>,
}

fn check(record: &Record) {
    // Encoded again, it is the same record; unknown fields are gone.
    let bytes = record.encode_to_vec();
    assert_eq!(Record::decode(bytes.as_slice()).as_ref(), Ok(record));
    if let Some(event) = &record.event {
        assert!(KINDS.contains(&kind(event)));
    }
    if check_complete(record) == Ok(()) {
        assert!(record.time_unix_nano > 0 && record.subject.is_some() && record.event.is_some());
        assert!(record.origin.as_ref().is_some_and(|origin| !origin.node.is_empty()));
        assert!(record.outcome.as_ref().is_some_and(|outcome| outcome.result != 0));
    }
    let _ = Step::of(record);
}

fn filter(input: &Input<'_>) -> Option<Filter> {
    let mut query = QueryRequest::decode(input.query).ok()?;
    if let Some(destination) = input.destination {
        query.destination = destination.to_owned();
    }
    match Filter::new(&query) {
        Ok(filter) => {
            assert!((1..=LIMIT_MAX).contains(&filter.limit));
            Some(filter)
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!cards::shown_in(message.as_bytes()), "{message}");
            None
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let _ = SendRequest::decode(input.record);
    let _ = Ack::decode(input.record);
    let _ = Proof::decode(input.record);
    let _ = QueryReply::decode(input.record);
    let filter = filter(&input);
    if let Ok(record) = Record::decode(input.record) {
        check(&record);
        let _ = filter.is_some_and(|filter| filter.matches(&record));
    }
});
