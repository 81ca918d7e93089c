//! A role of the session's own: made before it, its rights and no others, dropped behind it.

use std::process::Stdio;

use pcigate_gateway::Event;
use pcigate_postgres::frontend::Message;
use pcigate_tests::{
    postgres::{Postgres, SCRAM},
    wait,
};

use super::{
    decisions::query,
    gate::{EVERYTHING, Gate, Setup, schema},
};

const OWN: &str = "  sessionRole: {grants: [reader, \"Odd \\\"Name\\\"\"]}";

/// With tables that only `reader` and only the credential may read.
fn shop(settings: &str) -> Postgres {
    let postgres = Postgres::start(settings);
    schema(&postgres);
    postgres.sql(&format!(
        "ALTER ROLE {SCRAM} CREATEROLE; CREATE ROLE reader; CREATE ROLE \"Odd \"\"Name\"\"\";
         CREATE TABLE ledger AS SELECT 7 AS id; GRANT SELECT ON ledger TO reader;
         CREATE TABLE vault AS SELECT 8 AS id; GRANT SELECT ON vault TO {SCRAM}"
    ));
    postgres
}

fn gate(postgres: &Postgres) -> Gate {
    Gate::with(postgres, Setup { statements: EVERYTHING, target: OWN, ..Setup::default() })
}

fn own_roles(postgres: &Postgres) -> String {
    postgres.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'pcigate%' ORDER BY 1")
}

fn until_gone(postgres: &Postgres) {
    wait::until("the role's end", || own_roles(postgres).is_empty().then_some(()));
}

#[test]
fn a_session_has_the_rights_of_its_own_role_and_cannot_get_others() {
    let postgres = shop("log_statement = all");
    let gate = gate(&postgres);
    let mut client = gate.raw();
    let told = client.query("SELECT current_user || ' ' || session_user");
    let own = own_roles(&postgres).trim().to_owned();
    assert_eq!(told[1], format!("query: row {own} {own}"));
    assert_eq!(own.len(), "pcigate_".len() + 16);
    assert_eq!(client.query("SELECT id FROM ledger")[1], "query: row 7");
    assert_eq!(query(&mut client, "SELECT id FROM vault"), ["42501", "Idle"]);
    for sql in ["RESET SESSION AUTHORIZATION", "RESET ROLE"] {
        query(&mut client, sql);
        assert_eq!(client.query("SELECT session_user")[1], format!("query: row {own}"), "{sql}");
    }
    for sql in [
        format!("SET ROLE {SCRAM}"),
        format!("SET SESSION AUTHORIZATION {SCRAM}"),
        "CREATE ROLE more".to_owned(),
    ] {
        assert_eq!(query(&mut client, &sql), ["42501", "Idle"], "{sql}");
    }
    // What it makes stays, and is the credential's.
    assert_eq!(query(&mut client, "CREATE TABLE made (id int)"), ["CREATE TABLE", "Idle"]);
    assert_eq!(query(&mut client, "GRANT SELECT ON made TO reader"), ["GRANT", "Idle"]);
    drop(client);
    until_gone(&postgres);
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'made'";
    assert_eq!(postgres.sql(owner), format!("{SCRAM}\n"));
    let events = gate.events.lock().unwrap();
    let role = events.iter().find_map(|event| match event {
        Event::SessionStarted { role, .. } => Some(role.as_str().to_owned()),
        _ => None,
    });
    assert_eq!(role, Some(own));
    // Its password went as what the server keeps of it.
    let log = postgres.log();
    let mut made = log.lines().filter(|line| line.contains("CREATE ROLE \"pcigate_"));
    assert!(made.next().unwrap().contains("PASSWORD 'SCRAM-SHA-256$4096:"), "{log}");
}

#[test]
fn a_session_that_is_ended_or_refused_leaves_no_role() {
    let postgres = shop("");
    let gate = gate(&postgres);
    let mut client = gate.raw();
    client.send(&Message::Query("SELECT pg_sleep(600)".into()), "query");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'pcigate%' \
                AND state = 'active'";
    wait::until("the statement", || (postgres.sql(busy) == "1\n").then_some(()));
    let revoke = gate.revokes.lock().unwrap().remove(0);
    revoke.send("the grant was revoked".to_owned()).unwrap();
    until_gone(&postgres);
    // A client that vanishes while its statement runs.
    let mut client = gate.raw();
    client.send(&Message::Query("SELECT pg_sleep(600)".into()), "query");
    wait::until("the statement", || (postgres.sql(busy) == "1\n").then_some(()));
    drop(client);
    until_gone(&postgres);
    wait::until("its end", || (postgres.sql(busy) == "0\n").then_some(()));
    // One whose server does not let the role in.
    postgres.sql("ALTER ROLE reader SUPERUSER");
    let told = gate.psql(&postgres, "SELECT 1");
    assert!(told.contains("no role could be made for the session (42501)"), "{told}");
    assert!(told.contains("needs CREATEROLE"), "{told}");
    assert_eq!(own_roles(&postgres), "");
    wait::until("its record", || gate.recorded().contains("no role could be made").then_some(()));
}

#[test]
fn what_a_crash_has_left_is_dropped_by_a_later_session_and_nothing_else() {
    let postgres = shop("");
    let role = |name: &str, until: &str| {
        postgres.sql(&format!("CREATE ROLE {name} LOGIN VALID UNTIL '{until}'"));
    };
    role("pcigate_000000000000dead", "2001-01-01");
    postgres.sql("SET ROLE pcigate_000000000000dead; CREATE TABLE left_over (id int)");
    role("pcigate_00000000000000ff", "2001-01-01");
    role("pcigate_0000000000000new", "2001-01-01");
    role("pcigate_00000000000000aa", "2999-01-01");
    role("pcigate_operator", "2001-01-01");
    let mut psql = postgres.client("psql");
    psql.env("PGUSER", "pcigate_00000000000000ff").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut alive = psql.spawn().unwrap();
    let connected = "SELECT count(*) FROM pg_stat_activity \
                     WHERE usename = 'pcigate_00000000000000ff'";
    wait::until("its session", || (postgres.sql(connected) == "1\n").then_some(()));
    let gate = gate(&postgres);
    assert_eq!(gate.psql(&postgres, "SELECT 1"), "1\n");
    let kept = "pcigate_00000000000000aa\npcigate_00000000000000ff\npcigate_0000000000000new\n\
                pcigate_operator\n";
    wait::until("the role's end", || (own_roles(&postgres) == kept).then_some(()));
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'left_over'";
    assert_eq!(postgres.sql(owner), format!("{SCRAM}\n"));
    drop(alive.stdin.take());
    alive.wait().unwrap();
}

#[test]
fn many_sessions_at_a_time_have_a_role_each() {
    let postgres = shop("");
    let gate = gate(&postgres);
    let mut clients: Vec<_> = (0..8).map(|_| gate.raw()).collect();
    assert_eq!(own_roles(&postgres).lines().count(), 8);
    for client in &mut clients {
        assert_eq!(client.query("SELECT id FROM ledger")[1], "query: row 7");
    }
    drop(clients);
    until_gone(&postgres);
    assert!(!gate.recorded().contains("is left for a later"), "{}", gate.recorded());
}
