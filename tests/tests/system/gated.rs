//! A gated database, from a command's first packet to the record of every statement.

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

use pcigate_tests::{
    issuer::Issuer,
    postgres::{DATABASE, PASSWORD, Postgres, SCRAM},
    site::{POLICY, Site, output, succeed},
    wait,
};

const PAN: &str = "4111111111111111";

/// Beside a command that shares the machine's network there is one gateway.
static ONE: Mutex<()> = Mutex::new(());

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
    site_with(port, "", |_| String::new())
}

/// The same with more of the gate rule, and of the Target as its files make it.
fn site_with(port: u16, rule: &str, target: impl Fn(&Site) -> String) -> Site {
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
{rule}
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
{more}
",
        site.path("password").display(),
        more = target(&site),
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
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
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
    for secret in [PAN, "737|", PASSWORD] {
        let holding = site.files_holding(secret);
        let holding: Vec<_> = holding.iter().filter(|path| !path.ends_with("password")).collect();
        assert!(holding.is_empty(), "{holding:?}");
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

#[test]
fn a_client_proves_itself_by_a_token_and_has_a_role_and_a_budget_of_its_own() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    postgres.sql(&format!(
        "ALTER ROLE {SCRAM} CREATEROLE; CREATE ROLE reader; GRANT SELECT ON cards, orders TO reader"
    ));
    let issuer = Issuer::new();
    let rule = "          - {id: big, action: ask, effects: [ddl]}\n        session: {maxRows: 2}";
    let site = site_with(postgres.port(), rule, |site| {
        let file = |name: &str, text: &str| {
            site.write(name, text);
            site.path(name).display().to_string()
        };
        let (certificate, key) = (&postgres.keys.server, &postgres.keys.server_key);
        let (certificate, key) = (file("server.pem", certificate), file("server.key", key));
        let keys = file("jwks.json", &issuer.set());
        format!(
            "  clientTls: {{certFile: {certificate}, keyFile: {key}, required: true}}
  token:
    required: true
    audience: cards-db
    issuer: \"https://issuer.example\"
    jwksFile: {keys}
  sessionRole: {{grants: [reader]}}"
        )
    });
    site.write("authority.pem", &postgres.keys.authority);
    let run = |token: &str, statements: &[&str]| {
        let mut psql = psql(&site, postgres.port(), statements);
        psql.env("PGSSLMODE", "verify-full").env("PGPASSWORD", token);
        let run = output(psql.env("PGSSLROOTCERT", site.path("authority.pem")));
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
    };
    let own = issuer.token("system:serviceaccount:payments:billing-bot", "cards-db", 300);
    let statements = [
        "SELECT session_user LIKE 'pcigate_%', pan, cvv FROM cards",
        "DROP TABLE orders",
        "SELECT item FROM orders",
        "SELECT item FROM orders",
        "SELECT 1",
    ];
    let told = run(&own, &statements);
    assert!(told.contains("t|411111******1111|\ntea\n"), "{told}");
    assert!(told.contains("needs approval") && told.contains("request: "), "{told}");
    assert_eq!(
        told.matches("2 rows in all (session.maxRows of rule cards-db)").count(),
        2,
        "{told}"
    );
    let other = issuer.token("system:serviceaccount:payments:other", "cards-db", 300);
    let told = run(&other, &["SELECT 1"]);
    assert!(told.contains("another ServiceAccount"), "{told}");
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pcigate%'";
    wait::until("the roles' end", || (postgres.sql(left).trim() == "0").then_some(()));
    let sessions = site.records(&["--kind", "session"]);
    let began = sessions.iter().find(|one| one["session"]["phase"] == "started").unwrap();
    let session = &began["session"];
    assert_eq!(session["token_subject"], "system:serviceaccount:payments:billing-bot");
    assert_eq!(session["token_issuer"], "https://issuer.example");
    assert!(session["role"].as_str().unwrap().starts_with("pcigate_"), "{session}");
    let question = "SELECT count(*) AS n FROM records WHERE length(request_key) = 64";
    let answer = output(&mut site.pcigate(&["sql", question, "--output", "json"]));
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.contains("\"n\":1"), "{answer}");
    for secret in [own.rsplit('.').next().unwrap(), "SCRAM-SHA-256$"] {
        assert!(site.files_holding(secret).is_empty(), "{:?}", site.files_holding(secret));
    }
}
