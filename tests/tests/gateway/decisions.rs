//! Who may say what: refusals that leave the session alive, by every way a statement comes.

use bytes::Bytes;
use pcigate_postgres::{
    backend,
    frontend::{Bind, Execute, Message, Parse, Target},
    values::{Formats, Values},
};
use pcigate_tests::postgres::Postgres;

use super::{
    gate::{EVERYTHING, Gate, Setup, schema, text},
    raw::{Client, Told},
};

const READERS: &str = "
          - {id: read, action: allow, effects: [read], tables: [public.cards, public.orders, \
public.shown], maxRows: 500}
          - {id: no-notes, action: deny, effects: [write], tables: [public.orders]}";

pub fn codes(told: &[Told]) -> Vec<String> {
    let code = |told: &Told| match &told.message {
        backend::Message::ErrorResponse(report) => {
            Some(String::from_utf8_lossy(report.code()).into_owned())
        }
        backend::Message::ReadyForQuery(status) => Some(format!("{status:?}")),
        backend::Message::CommandComplete(tag) => Some(String::from_utf8_lossy(tag).into_owned()),
        _ => None,
    };
    told.iter().filter_map(code).collect()
}

pub fn query(client: &mut Client, sql: &str) -> Vec<String> {
    client.send(&Message::Query(Bytes::copy_from_slice(sql.as_bytes())), "query");
    codes(&client.read_to_ready())
}

#[test]
fn plain_psql_reads_with_no_credential_and_cards_come_masked() {
    let postgres = Postgres::start("");
    schema(&postgres);
    for mode in ["disable", "require", "verify-full"] {
        let setup = Setup { statements: READERS, tls: Some(mode), ..Setup::default() };
        let gate = Gate::with(&postgres, setup);
        let printed = gate.psql(&postgres, "SELECT id, pan, cvv, holder FROM cards ORDER BY id");
        assert_eq!(printed, "1|411111******1111||Ann\n2|5555 55** **** 4444||Bo\n", "{mode}");
        assert_eq!(gate.psql(&postgres, "SELECT note FROM orders WHERE id = 7"), "order 7\n");
    }
}

#[test]
fn a_refusal_names_the_rule_and_leaves_session_and_transaction_right() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, READERS);
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "DELETE FROM cards"), ["42501", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["SELECT 1", "Idle"]);
    assert_eq!(query(&mut client, "BEGIN"), ["BEGIN", "Open"]);
    assert_eq!(query(&mut client, "UPDATE orders SET note = ''"), ["42501", "Failed"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["25P02", "Failed"]);
    assert_eq!(query(&mut client, "ROLLBACK"), ["ROLLBACK", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1; TRUNCATE cards; SELECT 2"), ["42501", "Idle"]);
    assert_eq!(query(&mut client, "SELECT ((("), ["42501", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 2"), ["SELECT 1", "Idle"]);
    let told = gate.psql(&postgres, "INSERT INTO orders VALUES (-1, '')");
    assert!(told.contains("denied by rule no-notes") && told.contains("shop/db"), "{told}");
    assert_eq!(postgres.sql("SELECT count(*) FROM cards"), "2\n");
    let recorded = gate.recorded();
    assert!(recorded.contains("DELETE FROM cards") && recorded.contains("Deny"), "{recorded}");
}

pub fn run(client: &mut Client, name: &str, sql: &str, parameters: &[&str]) -> Vec<String> {
    let name = Bytes::copy_from_slice(name.as_bytes());
    let parse = Parse {
        statement: name.clone(),
        sql: Bytes::copy_from_slice(sql.as_bytes()),
        parameter_types: Vec::new(),
    };
    client.send(&Message::Parse(parse), "parse");
    bind_and_execute(client, name, parameters);
    codes(&client.read_to_ready())
}

fn bind_and_execute(client: &mut Client, statement: Bytes, parameters: &[&str]) {
    let bind = Bind {
        portal: Bytes::new(),
        statement,
        parameter_formats: Formats::default(),
        parameters: Values::new(parameters.iter().map(|one| Some(one.as_bytes()))).unwrap(),
        result_formats: Formats::default(),
    };
    client.send(&Message::Bind(bind), "bind");
    client.send(&Message::Execute(Execute { portal: Bytes::new(), max_rows: 0 }), "execute");
    client.send(&Message::Sync, "sync");
}

#[test]
fn the_extended_protocol_is_decided_like_the_simple_one() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, READERS);
    let mut client = gate.raw();
    let read = "SELECT holder FROM cards WHERE id = $1";
    assert_eq!(run(&mut client, "", read, &["1"]), ["SELECT 1", "Idle"]);
    assert_eq!(run(&mut client, "", "DELETE FROM cards WHERE id = $1", &["1"]), ["42501", "Idle"]);
    assert_eq!(run(&mut client, "kept", read, &["2"]), ["SELECT 1", "Idle"]);
    bind_and_execute(&mut client, Bytes::from_static(b"kept"), &["1"]);
    assert_eq!(codes(&client.read_to_ready()), ["SELECT 1", "Idle"]);
    client.send(&Message::Describe(Target::Statement(Bytes::from_static(b"kept"))), "describe");
    client.send(&Message::Sync, "sync");
    assert_eq!(codes(&client.read_to_ready()), ["Idle"]);
    assert_eq!(postgres.sql("SELECT count(*) FROM cards"), "2\n");
    assert_eq!(query(&mut client, "EXECUTE kept(1)"), ["SELECT 1", "Idle"]);
    assert_eq!(query(&mut client, "EXECUTE unheard(1)"), ["42501", "Idle"]);
}

#[test]
fn a_budget_ends_the_statement_and_not_the_session() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, READERS);
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "SELECT * FROM orders LIMIT 500"), ["SELECT 500", "Idle"]);
    assert_eq!(query(&mut client, "SELECT * FROM orders"), ["54000", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["SELECT 1", "Idle"]);
    let endless = "SELECT a.id FROM orders a, orders b, orders c";
    assert_eq!(query(&mut client, endless), ["54000", "Idle"]);
    assert_eq!(run(&mut client, "", "SELECT * FROM orders", &[]), ["54000", "Idle"]);
    assert_eq!(query(&mut client, "SELECT 1"), ["SELECT 1", "Idle"]);
}

#[test]
fn what_changes_the_search_path_changes_what_is_decided() {
    let postgres = Postgres::start("");
    schema(&postgres);
    postgres.sql(
        "CREATE SCHEMA other; CREATE TABLE other.cards AS SELECT * FROM public.cards; \
         GRANT USAGE ON SCHEMA other TO PUBLIC; GRANT ALL ON other.cards TO PUBLIC",
    );
    let rules = "
          - {id: read, action: allow, effects: [read, session], tables: [public.cards]}
          - {id: set, action: allow, effects: [session]}";
    let gate = Gate::new(&postgres, rules);
    let mut client = gate.raw();
    assert_eq!(run(&mut client, "kept", "SELECT holder FROM cards", &[]), ["SELECT 2", "Idle"]);
    assert_eq!(query(&mut client, "SET search_path = other"), ["SET", "Idle"]);
    assert_eq!(query(&mut client, "SELECT holder FROM cards"), ["42501", "Idle"]);
    bind_and_execute(&mut client, Bytes::from_static(b"kept"), &[]);
    assert_eq!(codes(&client.read_to_ready()), ["42501", "Idle"]);
    assert_eq!(query(&mut client, "RESET search_path"), ["RESET", "Idle"]);
    bind_and_execute(&mut client, Bytes::from_static(b"kept"), &[]);
    assert_eq!(codes(&client.read_to_ready()), ["SELECT 2", "Idle"]);
}

#[test]
fn a_client_cancels_its_own_statement_by_the_key_it_was_given() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut psql = gate.client(&postgres, "psql");
    let mut child = psql.args(["-XAtq", "-c", "SELECT pg_sleep(60)"]).spawn().unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' \
                    AND state = 'active' AND pid <> pg_backend_pid()";
    pcigate_tests::wait::until("the statement", || (postgres.sql(sleeping) == "1\n").then_some(()));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success());
    pcigate_tests::wait::until("the end", || (postgres.sql(sleeping) == "0\n").then_some(()));
}

#[test]
fn replication_a_foreign_database_and_server_settings_are_refused_in_words() {
    let postgres = Postgres::start("");
    let gate = Gate::new(&postgres, EVERYTHING);
    for (variable, value, word) in [
        ("PGDATABASE", "replication=database dbname=shop", "replication"),
        ("PGDATABASE", "postgres", "database"),
        ("PGOPTIONS", "-c search_path=evil", "search_path"),
        ("PGCLIENTENCODING", "LATIN1", "client_encoding"),
    ] {
        let mut psql = gate.client(&postgres, "psql");
        psql.env(variable, value);
        if value.contains('=') && variable == "PGDATABASE" {
            psql.args(["-d", value]);
        }
        let told = text(&psql.args(["-Xc", "SELECT 1"]).output().unwrap());
        assert!(told.contains("FATAL") && told.contains(word), "{value}: {told}");
    }
}

#[test]
fn what_a_fetch_or_execute_means_is_what_was_decided() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    for (make, run, exchange) in [
        (
            "BEGIN; DECLARE c CURSOR FOR SELECT note FROM orders",
            "FETCH c",
            "CLOSE c; DECLARE c CURSOR FOR SELECT cvv FROM cards",
        ),
        (
            "BEGIN; PREPARE x AS SELECT note FROM orders",
            "EXECUTE x",
            "DEALLOCATE x; PREPARE x AS SELECT cvv FROM cards",
        ),
    ] {
        query(&mut client, make);
        let parse = Parse {
            statement: Bytes::new(),
            sql: Bytes::copy_from_slice(run.as_bytes()),
            parameter_types: Vec::new(),
        };
        client.send(&Message::Parse(parse), "parse");
        let bind = Bind {
            portal: Bytes::from_static(b"p"),
            statement: Bytes::new(),
            parameter_formats: Formats::default(),
            parameters: Values::default(),
            result_formats: Formats::default(),
        };
        client.send(&Message::Bind(bind), "bind");
        client.send(&Message::Sync, "sync");
        client.read_to_ready();
        query(&mut client, exchange);
        let execute = Execute { portal: Bytes::from_static(b"p"), max_rows: 0 };
        client.send(&Message::Execute(execute), "execute");
        client.send(&Message::Sync, "sync");
        assert_eq!(codes(&client.read_to_ready()), ["42501", "Failed"], "{run}");
        query(&mut client, "ROLLBACK");
        query(&mut client, "DEALLOCATE ALL");
        query(&mut client, make);
        assert_eq!(self::run(&mut client, "", run, &[]).last().unwrap(), "Open", "{run}");
        query(&mut client, "ROLLBACK");
    }
}
