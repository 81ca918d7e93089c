//! A gated database, from a command's first packet to the record of every statement.

use std::process::Command;

use pcigate_tests::{
    postgres::{DATABASE, PASSWORD, Postgres, SCRAM},
    site::{POLICY, Site, output, succeed},
};

const PAN: &str = "4111111111111111";

fn database() -> Postgres {
    let postgres = Postgres::start("");
    postgres.sql(&format!(
        "CREATE TABLE cards (id int PRIMARY KEY, pan text, cvv text);
         CREATE TABLE orders (id int PRIMARY KEY, item text);
         INSERT INTO cards VALUES (1, '{PAN}', '737');
         INSERT INTO orders VALUES (7, 'tea');
         GRANT ALL ON cards, orders TO {SCRAM};"
    ));
    postgres
}

/// A site whose only way to the database is a gate.
fn site(port: u16) -> Site {
    let mut site = Site::new();
    site.write("password", &format!("{PASSWORD}\n"));
    let rules = format!(
        "    rules:
      - id: cards-db
        action: gate
        target: cards-db
        statements:
          - {{id: read, action: allow, effects: [read], tables: [public.cards, public.orders]}}
          - {{id: change, action: allow, effects: [write], tables: [public.orders]}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: cards-db, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\", tls: {{mode: disable}}}}
  credential: {{username: {SCRAM}, passwordFile: {}}}
  mask: {{default: truncate}}
  columns:
    - {{table: public.cards, column: pan, class: pan}}
    - {{table: public.cards, column: cvv, class: sad}}
",
        site.path("password").display()
    );
    site.write("policy.yaml", &format!("{POLICY}{rules}"));
    site.start_collector();
    site
}

fn psql(site: &Site, port: u16, statements: &[&str]) -> Command {
    let place = format!("host=127.0.0.1 port={port} dbname={DATABASE} user=nobody-at-all");
    let mut command = vec!["/usr/bin/psql", "-X", "-At", "-d", &place];
    for statement in statements {
        command.extend(["-c", statement]);
    }
    site.exec(&command)
}

#[test]
fn a_command_without_a_password_reads_masked_cards_and_every_statement_is_on_record() {
    let postgres = database();
    let site = site(postgres.port());
    let statements = [
        "SELECT id, pan, cvv FROM cards",
        "DELETE FROM orders",
        "COPY cards TO STDOUT",
        "UPDATE orders SET item = 'coffee' WHERE id = 7",
        "SELECT item FROM orders",
    ];
    let run = output(&mut psql(&site, postgres.port(), &statements));
    let (answer, errors) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(answer.contains("1|411111******1111|\n"), "{answer}\n{errors}");
    assert!(answer.contains("UPDATE 1\ncoffee\n"), "{answer}\n{errors}");
    assert_eq!(errors.matches("ERROR:").count(), 2, "{errors}");
    assert!(
        errors.contains(" 3 gated, 2 refused, "),
        "the connection, and the session twice: {errors}"
    );
    assert_eq!(postgres.sql("SELECT count(*) FROM orders").trim(), "1", "nothing was deleted");

    let records = site.records(&["--kind", "statement"]);
    let said = |at: usize| {
        let record = &records[at];
        let (event, outcome) = (&record["statement"], &record["outcome"]);
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (word(&event["text"]), word(&outcome["verdict"]), word(&outcome["rule"]))
    };
    let expected = [("allow", "read"), ("deny", "default"), ("deny", "default")];
    for (at, (verdict, rule)) in expected.into_iter().enumerate() {
        let (text, decided, by) = said(at);
        assert_eq!((text.as_str(), decided.as_str(), by.as_str()), (statements[at], verdict, rule));
    }
    assert_eq!(records.len(), statements.len());
    for record in &records {
        assert_eq!(record["subject"]["workload"]["pod"], "billing-bot", "{record}");
        assert_eq!(record["process"]["executable"], "/usr/lib/postgresql/15/bin/psql", "{record}");
    }
    assert_eq!(site.records(&["--kind", "session"]).len(), 2);
    the_session_can_be_told_and_replayed(&site);
    for secret in [PAN, "737|", PASSWORD] {
        let holding = site.files_holding(secret);
        let holding: Vec<_> = holding.iter().filter(|path| !path.ends_with("password")).collect();
        assert!(holding.is_empty(), "{holding:?}");
    }
}

/// From the collector, and from the ledger's directory alone.
fn the_session_can_be_told_and_replayed(site: &Site) {
    let said = |arguments: &[&str]| {
        let mut command = site.pcigate(arguments);
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    let listed = said(&["sessions", "--output", "json", "--pod", "billing-bot"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["statements"], &listed["refused"]), (&5.into(), &2.into()), "{listed}");
    assert_eq!((&listed["state"], &listed["role"]), (&"ended".into(), &SCRAM.into()), "{listed}");
    let id = listed["session"].as_str().unwrap();
    let offline = ["--ledger", "ledger"];
    for place in [&[][..], &offline] {
        let with = |arguments: &[&str]| said(&[arguments, place].concat());
        assert!(with(&["sessions"]).contains("payments/cards-db"));
        let story = with(&["session", "show", &id[..8]]);
        assert!(story.contains("DENY by payments/billing-bot/default  DELETE"), "{story}");
        assert!(story.contains("masked 1 cvv, 1 pan") && !story.contains("!!"), "{story}");
        let replayed = with(&["session", "replay", id, "--speed", "max"]);
        assert!(replayed.contains("< 1 | 411111******1111 | NULL\n"), "{replayed}");
        assert!(replayed.contains("> DELETE FROM orders\n"), "{replayed}");
        assert!(replayed.contains("< ERROR:  pcigate: ") && !replayed.contains("!!"), "{replayed}");
        assert!(!story.contains(PAN) && !replayed.contains(PAN), "{replayed}");
    }
}

#[test]
fn without_its_gate_the_database_is_out_of_reach() {
    let postgres = database();
    let mut site = Site::new();
    site.write("policy.yaml", POLICY);
    site.start_collector();
    let run = output(&mut psql(&site, postgres.port(), &["SELECT 1"]));
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && errors.contains("Operation not permitted"), "{errors}");
    succeed(&mut site.exec(&["/usr/bin/true"]));
}
