//! What is made in the database while a session runs is known when it is first used.

use std::time::Duration;

use bytes::Bytes;
use pcigate_gateway::Limits;
use pcigate_postgres::frontend::{Message, Parse};
use pcigate_tests::{postgres::Postgres, wait};

use super::{
    decisions::{query, run},
    gate::{EVERYTHING, Gate, Setup, schema},
    raw::{self, Client},
};

/// What a statement answers by the simple and by the extended protocol: its first row.
fn rows(client: &mut Client, sql: &str) -> [String; 2] {
    let first = |told: Vec<String>| {
        let row = told.iter().find_map(|told| told.split_once("row ").map(|(_, row)| row));
        row.map_or_else(|| format!("{told:?}"), str::to_owned)
    };
    let simple = first(client.query(sql));
    let parse = Parse {
        statement: Bytes::new(),
        sql: Bytes::copy_from_slice(sql.as_bytes()),
        parameter_types: Vec::new(),
    };
    client.send(&Message::Parse(parse), "parse");
    client.send(&raw::bind("", "", &[]), "bind");
    client.send(&raw::execute("", 0), "execute");
    client.send(&Message::Sync, "sync");
    let extended = first(client.read_to_ready().iter().map(raw::short).collect());
    [simple, extended]
}

/// By both the same.
fn hidden(row: &str) -> [String; 2] {
    [row.to_owned(), row.to_owned()]
}

#[test]
fn a_view_that_somebody_makes_later_is_tagged_when_it_is_first_used() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    assert_eq!(rows(&mut client, "SELECT cvv FROM cards WHERE id = 1"), hidden("NULL"));
    postgres.sql(
        "CREATE VIEW late AS SELECT id, cvv AS code FROM cards ORDER BY id;
         CREATE VIEW later AS SELECT * FROM late; GRANT ALL ON late, later TO PUBLIC",
    );
    assert_eq!(rows(&mut client, "SELECT code, id FROM late"), hidden("NULL,1"));
    // Expressions over it need leave, which is for the table's own column only.
    assert_eq!(query(&mut client, "SELECT reverse(code) FROM late"), ["42501", "Idle"]);
    assert_eq!(run(&mut client, "", "SELECT reverse(code) FROM later", &[]), ["42501", "Idle"]);
    // Also where its rows were never described, because nothing names the table of an expression.
    for (number, sql) in
        (0..).zip(["SELECT reverse(code) FROM VIEW", "SELECT 1 FROM VIEW WHERE code = ''"])
    {
        for told in [query, |client: &mut Client, sql: &str| run(client, "", sql, &[])] {
            let name = format!("unseen_{number}_{}", gate.recorded().len());
            postgres.sql(&format!(
                "CREATE VIEW {name} AS SELECT cvv AS code FROM cards; GRANT ALL ON {name} TO PUBLIC"
            ));
            let sql = sql.replace("VIEW", &name);
            assert_eq!(told(&mut client, &sql), ["42501", "Idle"], "{sql}");
        }
    }
    // One that is prepared before it is there again, with something else in it.
    postgres.sql(
        "CREATE VIEW other AS SELECT id, holder AS code FROM cards ORDER BY id;
                  GRANT ALL ON other TO PUBLIC",
    );
    assert_eq!(rows(&mut client, "SELECT code FROM other"), hidden("Ann"));
    postgres.sql(
        "DROP VIEW other; CREATE VIEW other AS SELECT id, cvv AS code FROM cards
                  ORDER BY id; GRANT ALL ON other TO PUBLIC",
    );
    assert_eq!(rows(&mut client, "SELECT code FROM other"), hidden("NULL"));
    // A column behind the others.
    postgres.sql(
        "CREATE OR REPLACE VIEW other AS SELECT id, cvv AS code, cvv AS more FROM cards
                  ORDER BY id",
    );
    assert_eq!(rows(&mut client, "SELECT more FROM other"), hidden("NULL"));
    // The table itself, anew.
    postgres.sql(
        "CREATE TABLE copied AS SELECT * FROM cards; DROP TABLE cards CASCADE;
                  ALTER TABLE copied RENAME TO cards; GRANT ALL ON cards TO PUBLIC",
    );
    assert_eq!(rows(&mut client, "SELECT cvv, id FROM cards ORDER BY id"), hidden("NULL,1"));
}

#[test]
fn what_the_session_makes_itself_is_known_behind_it() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    let make = "CREATE VIEW own AS SELECT id, holder AS code FROM cards ORDER BY id";
    assert_eq!(query(&mut client, make), ["CREATE VIEW", "Idle"]);
    assert_eq!(rows(&mut client, "SELECT code FROM own"), hidden("Ann"));
    // The same relation and the same column, with something else in it.
    let make = "CREATE OR REPLACE VIEW own AS SELECT id, cvv AS code FROM cards ORDER BY id";
    assert_eq!(run(&mut client, "", make, &[]), ["CREATE VIEW", "Idle"]);
    assert_eq!(rows(&mut client, "SELECT code FROM own"), hidden("NULL"));
    let make = "DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW own AS SELECT id, cvv AS code, \
                cvv AS more FROM cards ORDER BY id'; END $$";
    assert_eq!(query(&mut client, make), ["DO", "Idle"]);
    // After a program nobody knows the search path.
    assert_eq!(rows(&mut client, "SELECT more FROM public.own"), hidden("NULL"));
    // In one go: the next text waits for the one before.
    let make = "BEGIN; CREATE VIEW public.both AS SELECT cvv AS code FROM public.cards; COMMIT";
    client.send(&Message::Query(make.into()), "make");
    client.send(&Message::Query("SELECT code FROM public.both".into()), "read");
    client.read_to_ready();
    assert!(client.read_to_ready().iter().any(|told| raw::short(told) == "read: row NULL"));
}

#[test]
fn tables_of_the_open_transaction_and_temporary_ones_go_on_as_before() {
    let postgres = Postgres::start("log_connections = on");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    assert_eq!(query(&mut client, "BEGIN"), ["BEGIN", "Open"]);
    query(&mut client, "CREATE TABLE fresh (id int, note text)");
    for number in 0..50 {
        let insert = format!("INSERT INTO fresh VALUES ({number}, 'n')");
        assert_eq!(query(&mut client, &insert), ["INSERT 0 1", "Open"]);
    }
    assert_eq!(rows(&mut client, "SELECT note FROM fresh"), hidden("n"));
    assert_eq!(query(&mut client, "COMMIT"), ["COMMIT", "Idle"]);
    assert_eq!(rows(&mut client, "SELECT note FROM fresh"), hidden("n"));
    query(&mut client, "CREATE TEMP TABLE brief AS SELECT 1 AS id");
    for _ in 0..20 {
        assert_eq!(rows(&mut client, "SELECT id FROM brief"), hidden("1"));
    }
    assert_eq!(query(&mut client, "SELECT 1 FROM nowhere"), ["42P01", "Idle"]);
    query(&mut client, "CREATE SEQUENCE numbers");
    assert_eq!(rows(&mut client, "SELECT last_value FROM numbers"), hidden("1"));
    // As seldom as that can be: one for each thing that was made, and for what is not there.
    let readings = postgres.log().matches("connection authorized: user=app_scram").count();
    assert!((2..=8).contains(&readings), "{readings} logins");
}

#[test]
fn many_sessions_see_what_is_new_and_agree_on_it() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut clients: Vec<_> = (0..6).map(|_| gate.raw()).collect();
    postgres.sql("CREATE VIEW late AS SELECT cvv AS code FROM cards; GRANT ALL ON late TO PUBLIC");
    for client in &mut clients {
        client.send(&Message::Query("SELECT code FROM late".into()), "read");
    }
    for client in &mut clients {
        let told = client.read_to_ready();
        assert!(told.iter().any(|told| raw::short(told) == "read: row NULL"));
    }
}

#[test]
fn what_somebody_changes_in_a_view_is_known_after_a_while() {
    let postgres = Postgres::start("log_connections = on");
    schema(&postgres);
    let limits = Limits { catalog: Duration::from_millis(1), ..Limits::default() };
    let setup = Setup { statements: EVERYTHING, limits, ..Setup::default() };
    let gate = Gate::with(&postgres, setup);
    let mut client = gate.raw();
    let make = |what: &str| {
        postgres.sql(&format!(
            "CREATE OR REPLACE VIEW same AS SELECT id, {what} AS code FROM cards ORDER BY id;
             GRANT ALL ON same TO PUBLIC"
        ));
    };
    make("holder");
    assert_eq!(rows(&mut client, "SELECT code FROM same"), hidden("Ann"));
    make("cvv");
    assert_eq!(rows(&mut client, "SELECT code FROM same"), hidden("NULL"));
    assert_eq!(query(&mut client, "SELECT reverse(code) FROM same"), ["42501", "Idle"]);
    // Nothing is read while nobody needs it.
    let logins = || postgres.log().matches("connection authorized: user=app_scram").count();
    let before = logins();
    assert_eq!(query(&mut client, "SELECT 1"), ["SELECT 1", "Idle"]);
    assert_eq!(logins(), before);
}

#[test]
fn what_one_session_has_read_holds_for_the_others() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let limits = Limits { catalog: Duration::from_secs(2), ..Limits::default() };
    let setup = Setup { statements: EVERYTHING, limits, ..Setup::default() };
    let gate = Gate::with(&postgres, setup);
    postgres.sql(
        "CREATE VIEW same AS SELECT id, holder AS code FROM cards; GRANT ALL ON same TO PUBLIC",
    );
    let mut clients: Vec<_> = (0..10).map(|_| gate.raw()).collect();
    for client in &mut clients {
        assert_eq!(client.query("SELECT code FROM same WHERE id = 1")[1], "query: row Ann");
    }
    postgres.sql("CREATE OR REPLACE VIEW same AS SELECT id, cvv AS code FROM cards");
    for client in &mut clients {
        wait::until("the new view", || {
            let told = client.query("SELECT code FROM same WHERE id = 1");
            told.contains(&"query: row NULL".to_owned()).then_some(())
        });
    }
}
