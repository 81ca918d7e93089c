//! Dangerous statements, in every dress and by both protocols: none reaches the server. And what
//! ordinary drivers and mappers say reaches it.

use std::collections::HashSet;

use bytes::Bytes;
use pcigate_postgres::{
    backend,
    frontend::{Bind, Execute, Message, Parse},
    values::{Formats, Values},
};
use pcigate_tests::postgres::{Postgres, SCRAM};

use super::{
    gate::{Gate, Setup, text},
    raw::{Client, Told},
    texts::{CLASSES, READ_ONLY, dresses},
};

/// What the classes speak of.
fn shop(postgres: &Postgres) {
    postgres.sql(
        "CREATE TABLE cards (id int PRIMARY KEY, holder text, pan text, cvv text, expiry date);
         CREATE TABLE orders (id serial PRIMARY KEY, card_id int, amount numeric, note text);
         CREATE SCHEMA secret; CREATE TABLE secret.keys (id int, value text);
         -- Names that are not known make the gateway read the catalog anew, in time more slowly.
         CREATE TABLE keys (id int); CREATE TABLE x (id int); CREATE TABLE m (id int);
         CREATE TABLE stolen (id int);
         CREATE VIEW v_orders AS SELECT id, amount FROM orders;
         CREATE VIEW v_pan AS SELECT pan AS n FROM cards;
         CREATE VIEW v_bin AS SELECT left(pan, 6) AS b FROM cards;
         CREATE VIEW v_nested AS SELECT n AS x FROM (SELECT n FROM v_pan) s;
         CREATE VIEW v_file AS SELECT pg_read_file('/etc/passwd'::text) AS f;
         CREATE VIEW v_file2 AS SELECT f FROM v_file;
         INSERT INTO cards VALUES (1, 'Ann', '4111111111111111', '737', '2030-01-01');
         INSERT INTO orders (card_id, amount, note) VALUES (1, 5, 'tea');
         GRANT USAGE ON SCHEMA secret TO PUBLIC;
         GRANT ALL ON ALL TABLES IN SCHEMA public, secret TO PUBLIC;
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC",
    );
}

fn is_refusal(messages: &[backend::Message]) -> bool {
    let [backend::Message::ErrorResponse(report), backend::Message::ReadyForQuery(status)] =
        messages
    else {
        return false;
    };
    let said = report.fields.iter().find(|(letter, _)| *letter == b'M');
    said.is_some_and(|(_, said)| said.starts_with(b"pcigate: "))
        && report.code() == b"42501"
        && *status == backend::TransactionStatus::Idle
}

/// Whether nothing but a refusal answers.
fn is_refused(client: &mut Client, extended: bool, sql: &str) -> bool {
    let sql = Bytes::copy_from_slice(sql.as_bytes());
    if extended {
        let none = Bytes::new;
        let parse = Parse { statement: none(), sql, parameter_types: Vec::new() };
        client.send(&Message::Parse(parse), "parse");
        let bind = Bind {
            portal: none(),
            statement: none(),
            parameter_formats: Formats::default(),
            parameters: Values::default(),
            result_formats: Formats::default(),
        };
        client.send(&Message::Bind(bind), "bind");
        client.send(&Message::Execute(Execute { portal: none(), max_rows: 0 }), "execute");
        client.send(&Message::Sync, "sync");
    } else {
        client.send(&Message::Query(sql), "query");
    }
    let mut messages = Vec::new();
    loop {
        messages.push(client.read().message);
        match messages.last() {
            Some(backend::Message::ReadyForQuery(_)) => return is_refusal(&messages),
            // Else it waits for our data.
            Some(backend::Message::CopyInResponse(_)) => return false,
            _ => {}
        }
    }
}

#[test]
fn no_dangerous_statement_reaches_the_server_whatever_its_dress() {
    let postgres = Postgres::start("log_statement = 'all'\nlog_line_prefix = 'by %u: '");
    shop(&postgres);
    let before = postgres.log().len();
    let (mut tried, mut passed, mut all) = (0, Vec::new(), Vec::new());
    for class in CLASSES {
        let statements = format!(" [{}]", class.rules);
        let gate = Gate::new(&postgres, &statements);
        let mut client = gate.raw();
        for (dress, dressed) in class.texts.iter().flat_map(|text| dresses(text)) {
            for extended in [false, true] {
                tried += 1;
                if !is_refused(&mut client, extended, &dressed) {
                    passed.push(format!("{}, {dress}: {dressed}", class.name));
                    client = gate.raw();
                }
            }
            all.push(dressed);
        }
    }
    assert!(passed.is_empty(), "{} of {tried} passed: {passed:#?}", passed.len());
    let log = postgres.log();
    // `by USER: LOG:  statement: TEXT`, `… LOG:  execute <unnamed>: TEXT`, `… STATEMENT:  TEXT`.
    let own = format!("by {SCRAM}: ");
    let text = |entry: &'_ str| entry.strip_prefix("STATEMENT: ").is_some();
    let heard: HashSet<&str> = log[before..]
        .split(&own)
        .filter_map(|entry| entry.splitn(if text(entry) { 2 } else { 3 }, ": ").last())
        .map(str::trim)
        .collect();
    assert!(heard.iter().any(|text| text.contains("pg_catalog")), "the log tells nothing");
    for dressed in all {
        let line = dressed.replace('\n', "\n\t");
        assert!(!heard.contains(line.trim()), "the server was told {dressed}");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM orders; SELECT count(*) FROM cards"), "1\n1\n");
}

#[test]
fn a_dump_is_refused() {
    let postgres = Postgres::start("");
    shop(&postgres);
    let gate = Gate::new(&postgres, &format!(" [{READ_ONLY}]"));
    for options in [&["-a"][..], &["-s"], &["--inserts", "-t", "orders"]] {
        let mut dump = gate.client(&postgres, "pg_dump");
        let told = text(&dump.args(options).output().unwrap());
        assert!(told.contains("pcigate: ") && !told.contains("tea"), "{options:?}: {told}");
    }
}

/// Texts that clients were seen to send, by file.
const TRAFFIC: &[(&str, &str)] = &[
    ("psql", include_str!("../../../pcigate-sql/tests/suite/traffic/psql.sql")),
    ("pgbench", include_str!("../../../pcigate-sql/tests/suite/traffic/pgbench.sql")),
    ("Python", include_str!("../../../pcigate-sql/tests/suite/traffic/python.sql")),
    ("Django", include_str!("../../../pcigate-sql/tests/suite/traffic/django.sql")),
    ("others", include_str!("../../../pcigate-sql/tests/suite/traffic/others.sql")),
];

/// An owner of its schema.
const OWNER: &str = "
          - {id: app, action: allow, effects: [read, write, ddl], tables: [public.*, pg_temp.*], \
shapes: [noWhere]}
          - {id: schema, action: allow, effects: [ddl, session]}
          - {id: catalog, action: allow, effects: [read], tables: [pg_catalog.*, \
information_schema.*, pg_catalog.pg_foreign_server, pg_catalog.pg_user_mapping, \
pg_catalog.pg_subscription]}";

/// Runs what can be run as it is; what has parameters, or reads lines, is parsed only.
fn say(client: &mut Client, sql: &str) -> Vec<Told> {
    let whole = Bytes::copy_from_slice(sql.as_bytes());
    if sql.contains("$1") || sql.to_ascii_lowercase().starts_with("copy") {
        let parse = Parse { statement: Bytes::new(), sql: whole, parameter_types: Vec::new() };
        client.send(&Message::Parse(parse), "parse");
        client.send(&Message::Sync, "sync");
    } else {
        client.send(&Message::Query(whole), "query");
    }
    client.read_to_ready()
}

#[test]
fn what_drivers_and_mappers_say_is_not_refused() {
    for (name, file) in TRAFFIC {
        let postgres = Postgres::start("");
        shop(&postgres);
        let gate = Gate::with(&postgres, Setup { statements: OWNER, ..Setup::default() });
        let mut client = gate.raw();
        let (mut count, mut refused) = (0, Vec::new());
        let body = file.split_once('\n').map_or("", |(_, body)| body);
        for sql in body.split("\n-- next\n") {
            count += 1;
            let told = say(&mut client, sql);
            if told.iter().any(|told| matches!(told.message, backend::Message::ErrorResponse(_))) {
                // Tables that are not there, mostly; the transaction goes on without it.
                client.query("ROLLBACK");
            }
            let reports = told.iter().filter_map(|told| match &told.message {
                backend::Message::ErrorResponse(report) => Some(report),
                _ => None,
            });
            let said = reports.flat_map(|report| &report.fields);
            refused.extend(
                said.filter(|(letter, said)| *letter == b'M' && said.starts_with(b"pcigate: "))
                    .map(|(_, said)| format!("{sql}: {}", String::from_utf8_lossy(said))),
            );
        }
        assert!(refused.is_empty(), "{name}: {} of {count} refused: {refused:#?}", refused.len());
    }
}
