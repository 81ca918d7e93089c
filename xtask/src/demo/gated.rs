//! The act with the database: a workload without a password, and its session replayed.

use anyhow::{Context, Result, ensure};

use super::database::{self, Database};
use super::stage::Stage;
use super::{CARD, TRUNCATED, indented};
use crate::setup::{self, postgres};

/// What the workload asks, and a piece of what it is told.
const STATEMENTS: [(&str, &str); 5] = [
    ("SELECT id, item FROM orders", "7|tea"),
    ("SELECT holder, pan, cvv FROM cards", "Ada|411111******1111|"),
    ("DELETE FROM orders", "changing every row of public.orders (no condition) is refused"),
    ("COPY cards TO STDOUT", "bulk reading of table public.cards is refused"),
    ("UPDATE orders SET item = 'coffee' WHERE id = 7", "UPDATE 1"),
];

/// Shows it; why not, where PostgreSQL cannot be had.
pub fn show(stage: &mut Stage, url: &str, people: &[&str]) -> Result<Option<String>> {
    if let Err(error) = setup::ensure_postgres() {
        println!("   left out: PostgreSQL 15 is missing\n");
        return Ok(Some(format!(
            "{error:#}; run `apt-get update && apt-get install -y --no-install-recommends {}`, \
             then the demo once more",
            postgres::PACKAGE
        )));
    }
    let database = Database::start(CARD)?;
    println!("   PostgreSQL 15 in {}, gone afterwards", database.shown());
    let policy = policy(database.port, &stage.place.shown("password"));
    stage.place.write("gate.yaml", &policy)?;
    stage.place.write("password", &format!("{}\n", database::PASSWORD))?;
    println!("{}", indented(&policy));
    let told = ask(stage, url, &database)?;
    let orders = database.sql(database::NAME, "SELECT count(*) FROM orders")?;
    ensure!(orders.trim() == "2", "orders were deleted: {orders} are left of 2");
    drop(database);
    for (statement, answer) in STATEMENTS {
        ensure!(told.contains(answer), "{statement} was not answered with {answer}:\n{told}");
    }
    replay(stage, people)?;
    Ok(None)
}

/// Runs psql as the workload; what it printed, errors included.
fn ask(stage: &Stage, url: &str, database: &Database) -> Result<String> {
    let place =
        format!("host=127.0.0.1 port={} dbname={} user=nobody", database.port, database::NAME);
    let mut agent = stage.program("pcigate-agent");
    agent
        .args(["exec", "--policy", "gate.yaml", "--name", "payments/billing-bot"])
        .args(["--service-account", "billing-bot", "--label", "app=billing-bot"])
        .args(["--collector", url, "--tls-dir", "tls/node", "--state-dir", "agent", "--"])
        .args(["/bin/sh", "-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(format!("{}/psql", postgres::PROGRAMS))
        .args(["-XAtw", "-d", &place]);
    for (statement, _) in STATEMENTS {
        agent.args(["-c", statement]);
    }
    println!("   $ pcigate-agent exec --policy gate.yaml … -- psql -w -d \"{place}\" -c …");
    let told = stage.output(&mut agent)?;
    ensure!(!told.contains(CARD), "the card number reached the workload");
    println!("{}", indented(&told));
    Ok(told)
}

/// The analyst's part.
fn replay(stage: &Stage, people: &[&str]) -> Result<()> {
    let sessions = stage.ask(&["sessions", "--output", "json"], people)?;
    let session: serde_json::Value =
        serde_json::from_str(sessions.trim()).context("there is one session on record")?;
    let id = session.get("session").and_then(|id| id.as_str()).context("it has an id")?;
    println!("   $ pcigate sessions");
    println!("{}", indented(&stage.ask(&["sessions"], people)?));
    println!("   $ pcigate session replay {id} --speed max");
    let replayed = stage.ask(&["session", "replay", id, "--speed", "max"], people)?;
    println!("{}", indented(&replayed));
    for needed in [TRUNCATED, "> DELETE FROM orders", "> COPY cards TO STDOUT", "[42501]"] {
        ensure!(replayed.contains(needed), "the replay does not show {needed}");
    }
    ensure!(!replayed.contains("!!"), "something is missing in the replay");
    ensure!(!replayed.contains(CARD), "the card number is in the replay");
    Ok(())
}

/// Reading both tables and changing orders; everything else is refused.
fn policy(port: u16, password: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}}}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
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
  credential: {{username: {}, passwordFile: {password}}}
  mask: {{default: truncate}}
  columns: [{{table: public.cards, column: pan, class: pan}}, \
         {{table: public.cards, column: cvv, class: sad}}]
",
        database::ROLE
    )
}
