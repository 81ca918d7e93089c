//! What is recorded, and first: no record, no request.

use bytes::Bytes;
use pcigate_gateway::Event;
use pcigate_postgres::{backend, frontend::Message};
use pcigate_tests::{postgres::Postgres, wait};

use super::gate::{EVERYTHING, Gate, PAN, schema};

#[test]
fn a_recorder_that_says_no_lets_nothing_upstream() {
    let postgres = Postgres::start("log_statement = all");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    assert_eq!(client.query("SELECT 'heard of'")[1], "query: row heard of");
    wait::until("the log", || postgres.log().contains("heard of").then_some(()));
    gate.refuse_records(true);
    client.send(&Message::Query(Bytes::from_static(b"SELECT 'unheard of'")), "query");
    let told = client.read_raw(1);
    let backend::Message::ErrorResponse(report) = &told[0] else { panic!("no error") };
    assert_eq!(report.code(), b"58030");
    assert!(gate.psql(&postgres, "SELECT 'unheard of'").contains("not recorded"));
    gate.refuse_records(false);
    assert_eq!(gate.psql(&postgres, "SELECT 'heard again'"), "heard again\n");
    wait::until("the log", || postgres.log().contains("heard again").then_some(()));
    assert!(!postgres.log().contains("unheard of"));
}

#[test]
fn statements_parameters_and_outcomes_are_recorded_without_card_data() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let script = format!(
        "SELECT id FROM orders WHERE note = '{PAN}' LIMIT 3;\n\
         SELECT note FROM orders WHERE id < $1 \\bind 4 \\g\n"
    );
    let told = gate.psql(&postgres, &script.replace("\\bind 4 \\g", ";").replace("$1", "4"));
    assert!(told.contains("order 3"), "{told}");
    let mut client = gate.raw();
    client.query("SELECT nothing FROM nowhere");
    drop(client);
    wait::until("two sessions' ends", || {
        let ended = |event: &&Event| matches!(event, Event::SessionEnded { .. });
        (gate.events.lock().unwrap().iter().filter(ended).count() == 2).then_some(())
    });
    let recorded = gate.recorded();
    assert!(!recorded.contains(PAN), "{recorded}");
    assert!(recorded.contains("411111******1111"), "{recorded}");
    assert!(recorded.contains("public.orders") && recorded.contains("42P01"), "{recorded}");
    let events = gate.events.lock().unwrap();
    let ends = events.iter().filter(|event| matches!(event, Event::StatementEnded(_))).count();
    let begun = events.iter().filter(|event| matches!(event, Event::Statement(_))).count();
    assert_eq!(begun, ends);
}
