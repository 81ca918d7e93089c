//! What is recorded, and first: no record, no request.

use bytes::Bytes;
use pcigate_gateway::Event;
use pcigate_postgres::{backend, frontend::Message};
use pcigate_tests::{postgres::Postgres, wait};

use super::gate::{EVERYTHING, Gate, PAN, Setup, schema};

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

#[test]
fn what_the_target_names_is_masked_in_answers_and_records() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let target = "  mask: {default: last4, secrets: true, detectors: [{name: staff, \
                  pattern: 'E-[0-9]{6}'}]}";
    let gate = Gate::with(&postgres, Setup { statements: EVERYTHING, target, ..Setup::default() });
    let told = gate.psql(&postgres, &format!("SELECT 'E-' || 123456, '{PAN}', 'E-12'"));
    assert_eq!(told, "[MASKED]|************1111|E-12\n");
    let mut client = gate.raw();
    client.query("SELECT 'E-654321' /* mysql --password=hunter22 */");
    drop(client);
    wait::until("its end", || (gate.ends.lock().unwrap().len() == 2).then_some(()));
    wait::until("the records", || {
        (gate.recorded().matches("SessionEnded").count() == 2).then_some(())
    });
    let recorded = gate.recorded();
    assert!(recorded.contains("--password=[SECRET]"), "{recorded}");
    assert!(!recorded.contains("E-654321") && !recorded.contains("hunter22"), "{recorded}");
}

#[test]
fn codes_are_in_no_record_even_where_nothing_marks_them() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    for sql in [
        "INSERT INTO cards VALUES (7, 'x', '9517', 'Cy')",
        "INSERT INTO cards (id, cvv) VALUES (8, '9517')",
        "UPDATE cards SET cvv = '9517' WHERE id = 8",
        "SELECT id FROM cards WHERE cvv = '9517'",
        "BEGIN; DECLARE c CURSOR FOR SELECT id FROM cards WHERE cvv = '9517'; COMMIT",
        "EXPLAIN SELECT id FROM cards WHERE cvv = '9517'",
        "PREPARE find AS SELECT id FROM cards WHERE cvv = $1; EXECUTE find('9517')",
    ] {
        client.query(sql);
    }
    drop(client);
    wait::until("its end", || (gate.ends.lock().unwrap().len() == 1).then_some(()));
    wait::until("the last record", || gate.recorded().contains("SessionEnded").then_some(()));
    assert!(!gate.recorded().contains("9517"), "{}", gate.recorded());
}

#[test]
fn a_session_ends_at_once_when_its_grant_does() {
    let postgres = Postgres::start("");
    let gate = Gate::new(&postgres, EVERYTHING);
    let (mut kept, mut ended) = (gate.raw(), gate.raw());
    assert_eq!(kept.query("SELECT 1")[1], "query: row 1");
    assert_eq!(ended.query("SELECT 1")[1], "query: row 1");
    let mut revokes = std::mem::take(&mut *gate.revokes.lock().unwrap());
    revokes.remove(1).send("the grant was revoked".to_owned()).unwrap();
    let told = ended.read_raw(1);
    let backend::Message::ErrorResponse(report) = &told[0] else { panic!("no error") };
    assert!(report.ends_session());
    // Nobody can end the other any more, which ends nothing.
    drop(revokes);
    assert_eq!(kept.query("SELECT 2")[1], "query: row 2");
    wait::until("its record", || gate.recorded().contains("was revoked").then_some(()));
}
