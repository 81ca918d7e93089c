//! What a whole session may use, over all its statements.

use pcigate_postgres::{backend, frontend::FunctionCall, frontend::Message, values};
use pcigate_tests::{postgres::Postgres, wait};

use super::{
    decisions::{codes, query, run},
    gate::{EVERYTHING, Gate, Setup, schema},
    raw::Client,
};

fn gate(postgres: &Postgres, rule: &str, target: &str) -> Gate {
    let (rule, target) = (format!("        session: {rule}"), format!("  session: {target}"));
    let setup = Setup { statements: EVERYTHING, rule: &rule, target: &target, ..Setup::default() };
    Gate::with(postgres, setup)
}

/// What the client is told last, and its SQLSTATE.
fn last_words(client: &mut Client) -> (String, String) {
    let told = client.read_raw(1);
    let backend::Message::ErrorResponse(report) = &told[0] else { panic!("no error") };
    assert!(report.ends_session());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(report.code()), text(report.field(b'M').unwrap()))
}

#[test]
fn rows_count_over_all_statements_and_copies_of_a_session() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = gate(&postgres, "{maxRows: 100}", "{maxRows: 300}");
    let mut client = gate.raw();
    let read = "SELECT * FROM orders LIMIT 40";
    assert_eq!(query(&mut client, read), ["SELECT 40", "Idle"]);
    assert_eq!(run(&mut client, "", read, &[]), ["SELECT 40", "Idle"]);
    assert_eq!(query(&mut client, read), ["54000", "Idle"]);
    // It is not asked for any more: neither by Query nor by Execute, nor within what goes on.
    assert_eq!(query(&mut client, "DELETE FROM orders WHERE id = 1"), ["54000", "Idle"]);
    let delete = "DELETE FROM orders WHERE id = $1";
    assert_eq!(run(&mut client, "", delete, &["1"]), ["54000", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["54000", "Idle"]);
    assert_eq!(postgres.sql("SELECT count(*) FROM orders"), "1000\n");
    let recorded = gate.recorded();
    assert!(recorded.contains("session.maxRows of rule db"), "{recorded}");
    assert!(recorded.contains("DELETE FROM orders WHERE id = 1"), "{recorded}");
    // Another session has its own; COPY counts its lines.
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "COPY orders TO STDOUT"), ["54000", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["54000", "Idle"]);
}

#[test]
fn bytes_count_and_whoever_is_beyond_can_still_end_the_transaction() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = gate(&postgres, "{idle: 1h}", "{maxBytes: 4000}");
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "BEGIN"), ["BEGIN", "Open"]);
    let update = "UPDATE orders SET note = 'x' WHERE id = 1";
    assert_eq!(query(&mut client, update), ["UPDATE 1", "Open"]);
    let long = "SELECT repeat('x', 3000)";
    assert_eq!(query(&mut client, long), ["SELECT 1", "Open"]);
    // Whether the server was done with it before it was told to stop is open.
    assert_eq!(query(&mut client, long)[0], "54000");
    assert_eq!(query(&mut client, "SELECT 1"), ["54000", "Failed"]);
    assert_eq!(query(&mut client, "ROLLBACK"), ["ROLLBACK", "Idle"]);
    assert_eq!(postgres.sql("SELECT note FROM orders WHERE id = 1"), "order 1\n");
    // A function called by its number answers bytes too.
    postgres
        .sql("CREATE FUNCTION many(int) RETURNS text AS $$SELECT repeat('y', $1)$$ LANGUAGE sql");
    let own = postgres.sql("SELECT 'many(int)'::regprocedure::oid");
    let own: u32 = own.trim().parse().unwrap();
    let mut client = gate.raw();
    for expected in [vec!["Idle"], vec!["54000", "Idle"]] {
        let call = Message::FunctionCall(FunctionCall {
            function: own,
            argument_formats: values::Formats::default(),
            arguments: values::Values::new([Some(&b"3000"[..])]).unwrap(),
            result_format: values::Format::Text,
        });
        client.send(&call, "call");
        assert_eq!(codes(&client.read_to_ready()), expected);
    }
}

#[test]
fn statements_are_counted_whichever_way_they_come() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = gate(&postgres, "{maxStatements: 4}", "{idle: 1h}");
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 1", "Idle"]);
    assert_eq!(run(&mut client, "", "SELECT 3", &[]), ["SELECT 1", "Idle"]);
    // All or none of a text.
    assert_eq!(query(&mut client, "SELECT 4; SELECT 5"), ["54000", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 6"), ["54000", "Idle"]);
    let told = gate.psql(&postgres, "SELECT 1; SELECT 2; SELECT 3; SELECT 4; SELECT 5");
    assert!(told.contains("4 statements in all (session.maxStatements of rule db)"), "{told}");
}

#[test]
fn a_session_ends_with_its_time_and_what_runs_is_cancelled() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = gate(&postgres, "{maxDuration: 1s}", "{maxDuration: 1h}");
    let mut client = gate.raw();
    client.send(&Message::Query("SELECT pg_sleep(600)".into()), "query");
    let (code, words) = last_words(&mut client);
    assert_eq!(code, "57P01");
    assert!(words.contains("1 s (session.maxDuration of rule db)"), "{words}");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' \
                    AND state = 'active' AND pid <> pg_backend_pid()";
    wait::until("the statement's end", || (postgres.sql(sleeping) == "0\n").then_some(()));
    wait::until("its record", || {
        gate.recorded().contains("session.maxDuration of rule db").then_some(())
    });
}

#[test]
fn a_silent_session_ends_and_a_working_one_does_not() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = gate(&postgres, "{idle: 1s}", "{maxRows: 100}");
    let mut client = gate.raw();
    // Longer than it may be silent: the server works for it.
    assert_eq!(query(&mut client, "SELECT pg_sleep(1.5)"), ["SELECT 1", "Idle"]);
    assert_eq!(query(&mut client, "BEGIN"), ["BEGIN", "Open"]);
    let (code, words) = last_words(&mut client);
    assert_eq!(code, "57P05");
    assert!(words.contains("1 s (session.idle of rule db)"), "{words}");
}
