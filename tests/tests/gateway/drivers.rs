//! Programs as they are, by the drivers they use: psycopg, lib/pq for Go, tokio-postgres. Each does
//! the same and must be told the same.

use std::{path::Path, process::Command, time::Duration};

use pcigate_tests::postgres::Postgres;
use tokio_postgres::{
    Config, NoTls, Row,
    binary_copy::BinaryCopyInWriter,
    types::{FromSql, Type},
};

use super::gate::{Gate, schema, text};

const RULES: &str = "
          - {id: read, action: allow, effects: [read], tables: [public.*]}
          - {id: change, action: allow, effects: [write], tables: [public.orders]}
          - {id: wait, action: allow, effects: [function], functions: [pg_catalog.pg_sleep]}";

/// Simple and prepared statements, parameters, values that cannot hold a mask, COPY, a refusal
/// within a transaction, answers in parts, a cancelled statement, and life behind it.
const TOLD: &str = "card 1 411111******1111 NULL
card 2 5555 55** **** 4444 NULL
order 1
order 2
big NULL
copied 3
refused 42501
read 1003 in parts
cancelled 57014
alive 1
";

fn gate() -> (Postgres, Gate) {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, RULES);
    (postgres, gate)
}

fn told(gate: &Gate, mut program: Command) -> String {
    let program = gate.reach(&mut program).env("PGSSLMODE", "disable");
    text(&program.output().unwrap())
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn psycopg_is_served_as_by_the_server() {
    let (_postgres, gate) = gate();
    let mut python = Command::new("python3");
    python.arg(in_repository("tests/drivers/driver.py"));
    python.env("PYTHONPATH", in_repository("target/psycopg"));
    assert_eq!(told(&gate, python), TOLD);
}

#[test]
fn lib_pq_is_served_as_by_the_server() {
    let (_postgres, gate) = gate();
    let mut go = Command::new("go");
    go.arg("run").arg(in_repository("tests/drivers/driver.go"));
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOFLAGS", "");
    go.env("GOCACHE", in_repository("target/verifier/cache"));
    assert_eq!(told(&gate, go), TOLD);
}

#[test]
fn tokio_postgres_is_served_as_by_the_server() {
    let (_postgres, gate) = gate();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let told = runtime.block_on(async {
        let within = tokio::time::timeout(Duration::from_secs(60), story(&gate));
        within.await.expect("it does not wait for ever")
    });
    assert_eq!(told.unwrap(), TOLD);
}

async fn story(gate: &Gate) -> Result<String, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(gate.address.port()).user("bot");
    config.dbname(pcigate_tests::postgres::DATABASE);
    let (mut client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let mut told = String::new();
    let mut say = |words: &[&str]| {
        told.push_str(&words.join(" "));
        told.push('\n');
    };
    for row in client.query("SELECT id, pan, cvv FROM cards ORDER BY id", &[]).await? {
        let id = row.get::<_, i32>(0).to_string();
        say(&["card", &id, &shown::<String>(&row, 1), &shown::<String>(&row, 2)]);
    }
    let prepared = client.prepare("SELECT note FROM orders WHERE id = $1").await?;
    for number in [1, 2] {
        let row = client.query_one(&prepared, &[&number]).await?;
        say(&[row.get(0)]);
    }
    let row = client.query_one("SELECT big FROM loose", &[]).await?;
    say(&["big", &shown::<i64>(&row, 0)]);
    let copying = client.copy_in("COPY orders FROM STDIN (FORMAT binary)").await?;
    let copying = BinaryCopyInWriter::new(copying, &[Type::INT4, Type::TEXT]);
    let mut copying = std::pin::pin!(copying);
    for number in 1001..1004 {
        copying.as_mut().write(&[&number, &"copied"]).await?;
    }
    say(&["copied", &copying.finish().await?.to_string()]);
    let refused = client.transaction().await?;
    refused.execute("INSERT INTO orders VALUES (2000, 'not kept')", &[]).await?;
    let error = refused.execute("DELETE FROM orders", &[]).await.unwrap_err();
    say(&["refused", state(&error)]);
    refused.rollback().await?;
    let reading = client.transaction().await?;
    let portal = reading.bind("SELECT id FROM orders", &[]).await?;
    let (mut read, mut parts) = (0, 0);
    loop {
        let part = reading.query_portal(&portal, 100).await?.len();
        if part == 0 {
            break;
        }
        (read, parts) = (read + part, parts + 1);
    }
    say(&["read", &read.to_string(), if parts > 1 { "in parts" } else { "" }]);
    reading.commit().await?;
    let cancel = client.cancel_token();
    let waiting = client.execute("SELECT pg_sleep(60)", &[]);
    let cancelling = async {
        // Again and again: the first may come before the statement runs.
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            let _ = cancel.cancel_query(NoTls).await;
        }
    };
    let error = tokio::select! {
        ended = waiting => ended.unwrap_err(),
        () = cancelling => unreachable!("it goes on until the statement has ended"),
    };
    say(&["cancelled", state(&error)]);
    let row = client.query_one("SELECT 1", &[]).await?;
    say(&["alive", &row.get::<_, i32>(0).to_string()]);
    Ok(told)
}

fn shown<T: for<'a> FromSql<'a> + ToString>(row: &Row, at: usize) -> String {
    row.get::<_, Option<T>>(at).map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn state(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("no SQLSTATE", |code| code.code())
}
