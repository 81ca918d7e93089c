//! What people ask of the index: statements whose rows can be proved, the same answers from
//! another engine over the same files, an index built anew, and bad input.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use pcigate_tests::site::{Site, fail, succeed};
use serde_json::Value;

use crate::evidence::site_with_evidence;

/// The rows of a statement.
fn sql(site: &Site, statement: &str) -> Vec<Value> {
    let output = succeed(&mut site.pcigate(&["sql", statement, "--output", "json"]));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Leaves in the ledger.
fn size(site: &Site) -> u64 {
    let newest = sql(site, "SELECT max(leaf) AS newest FROM records");
    newest[0]["newest"].as_u64().unwrap() + 1
}

/// Everything there is to tell about the first `size` leaves.
fn all_of(site: &Site, size: u64) -> Vec<Value> {
    sql(site, &format!("SELECT * FROM records WHERE leaf < {size} ORDER BY leaf"))
}

fn reindex(site: &Site) -> Command {
    let mut command = site.command("pcigate-collector");
    command.args(["reindex", "--config", "collector.yaml"]);
    command
}

fn parquet_files(site: &Site) -> Vec<PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![site.path("index/events")]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { left.push(path) } else { files.push(path) }
        }
    }
    assert!(!files.is_empty(), "the index has files");
    files
}

#[test]
fn any_row_of_a_statement_can_be_proved() {
    let site = site_with_evidence();
    let refused = "SELECT leaf, kind, rule, executable FROM records \
                   WHERE result = 'refused' ORDER BY leaf";
    let rows = sql(&site, refused);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    for row in rows {
        let leaf = row["leaf"].to_string();
        let shown = ["record", &leaf, "--proof", "--key", "ledger.vkey", "--output", "json"];
        let proof = succeed(&mut site.pcigate(&shown));
        let proof: Value = serde_json::from_slice(&proof.stdout).unwrap();
        assert_eq!(proof["proof"]["verified"], true, "{proof:#}");
        assert_eq!(proof["kind"], row["kind"]);
        assert_eq!(proof["outcome"]["rule"], row["rule"]);
        assert_eq!(proof["process"]["executable"], row["executable"]);
    }
    let queries = site.records(&["--kind", "query"]);
    assert_eq!(queries[0]["query"]["operation"], "sql");
    assert_eq!(queries[0]["query"]["filter"], refused);
}

/// Statements both engines understand, with `records` for the rows.
const QUESTIONS: [&str; 10] = [
    "SELECT kind AS kind, verdict AS verdict, count(*) AS n FROM records GROUP BY kind, verdict \
     ORDER BY kind, verdict NULLS FIRST",
    "SELECT namespace AS namespace, pod AS pod, rule AS rule, result AS result, count(*) AS n \
     FROM records GROUP BY namespace, pod, rule, result \
     ORDER BY namespace NULLS FIRST, pod NULLS FIRST, rule NULLS FIRST, result NULLS FIRST",
    "SELECT extract(day FROM time) AS day, extract(hour FROM time) AS hour, kind AS kind, \
     count(*) AS n FROM records GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    "SELECT leaf AS leaf, path AS path, command AS command FROM records \
     WHERE command LIKE '%card=%' OR path LIKE '/usr/bin/bas_64' ORDER BY leaf",
    "SELECT leaf AS leaf FROM records WHERE executable NOT LIKE '/usr/%' ORDER BY leaf",
    "SELECT count(*) AS n, min(leaf) AS first, max(leaf) AS last FROM records \
     WHERE time > (SELECT min(time) FROM records) AND time < (SELECT max(time) FROM records)",
    "SELECT uid AS uid, count(DISTINCT pid) AS pids, min(pid) AS least, max(pid) AS most \
     FROM records GROUP BY uid ORDER BY uid NULLS FIRST",
    "SELECT e.leaf AS exec, x.leaf AS exit, x.exit_code AS code FROM records AS e \
     JOIN records AS x ON e.pid = x.pid AND e.start_boottime_ns = x.start_boottime_ns \
     WHERE e.kind = 'exec' AND x.kind = 'exit' ORDER BY 1, 2",
    "SELECT address AS address, port AS port, protocol AS protocol, count(*) AS n FROM records \
     WHERE kind = 'egress' AND verdict = 'deny' GROUP BY address, port, protocol ORDER BY 1, 2, 3",
    "SELECT leaf AS leaf, kind AS kind, node AS node, epoch AS epoch, seq AS seq, cpu AS cpu, \
     namespace AS namespace, pod AS pod, service_account AS service_account, \
     cgroup_id AS cgroup_id, pid AS pid, tid AS tid, uid AS uid, \
     start_boottime_ns AS start_boottime_ns, executable AS executable, \
     parent_pid AS parent_pid, result AS result, verdict AS verdict, policy AS policy, \
     rule AS rule, enforcement AS enforcement, policy_hash AS policy_hash, \
     masked_count AS masked_count, command AS command, child_pid AS child_pid, \
     exit_code AS exit_code, message AS message FROM records ORDER BY leaf",
];

/// Answers each of its arguments, a JSON array of objects a line.
const DUCKDB: &str = "
import json, sys, duckdb
connection = duckdb.connect()
connection.execute(\"SET TimeZone = 'UTC'\")
for statement in sys.argv[1:]:
    cursor = connection.execute(statement)
    names = [column[0] for column in cursor.description]
    print(json.dumps([dict(zip(names, row)) for row in cursor.fetchall()]))
";

fn duckdb(statements: &[String]) -> Vec<Value> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/duckdb");
    assert!(
        package.join("duckdb").is_dir(),
        "DuckDB is missing: `cargo xtask setup` brings it to {}",
        package.display()
    );
    let mut python = Command::new("python3");
    python.args(["-c", DUCKDB]).args(statements).env("PYTHONPATH", package);
    let output = succeed(&mut python);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn another_engine_over_the_same_files_gives_the_same_rows() {
    let mut site = site_with_evidence();
    // A graceful stop writes all rows out.
    site.stop_collector(Signal::SIGTERM);
    site.start_collector();
    let files = format!(
        "(SELECT * REPLACE (make_timestamp_ns(epoch_ns(time)) AS time) \
         FROM read_parquet('{}/**/*.parquet', union_by_name = true, hive_partitioning = false)",
        site.path("index/events").display()
    );
    let counted = duckdb(&[format!("SELECT max(leaf) + 1 AS size, count(*) AS n FROM {files})")]);
    let size = counted[0][0]["size"].as_u64().unwrap();
    assert_eq!(counted[0][0]["n"], size, "every leaf is in the files once");
    assert!(size > 20, "{size}");
    let over = |rows: &str| {
        let rows = format!("{rows} WHERE leaf < {size})");
        QUESTIONS
            .map(|question| question.replace("FROM records", &format!("FROM {rows}")))
            .map(|question| question.replace("JOIN records", &format!("JOIN {rows}")))
    };
    let theirs = duckdb(&over(&files));
    for (question, theirs) in over("(SELECT * FROM records").iter().zip(theirs) {
        let ours = sql(&site, question);
        assert!(!ours.is_empty(), "{question}");
        assert_eq!(Value::Array(ours), theirs, "{question}");
    }
    // The same instant to the nanosecond, which each engine spells in its own way.
    let ours = format!("SELECT leaf, CAST(time AS BIGINT) AS t FROM records WHERE leaf < {size}");
    let ours = sql(&site, &format!("{ours} ORDER BY leaf"));
    let theirs = duckdb(&[format!("SELECT leaf, epoch_ns(time) AS t FROM {files}) ORDER BY leaf")]);
    assert_eq!(Value::Array(ours), theirs[0]);
}

#[test]
fn an_index_built_anew_gives_the_same_answers() {
    let mut site = site_with_evidence();
    let size = size(&site);
    let before = all_of(&site, size);
    let said = fail(&mut reindex(&site), 1);
    assert!(said.contains("another collector uses the state directory"), "{said}");
    site.stop_collector(Signal::SIGTERM);
    let done = succeed(&mut reindex(&site));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.starts_with("reindexed ") && said.ends_with(" leaves\n"), "{said}");
    site.start_collector();
    assert_eq!(all_of(&site, size), before);
    // Killed: what was only in memory comes from the ledger again.
    site.stop_collector(Signal::SIGKILL);
    site.start_collector();
    assert_eq!(all_of(&site, size), before);
    // No index at all.
    site.stop_collector(Signal::SIGKILL);
    fs::remove_dir_all(site.path("index")).unwrap();
    site.start_collector();
    assert_eq!(all_of(&site, size), before);
}

#[test]
fn a_damaged_index_file_is_named_in_a_sentence_and_the_ledger_heals_it() {
    let mut site = site_with_evidence();
    let size = size(&site);
    let before = all_of(&site, size);
    site.stop_collector(Signal::SIGTERM);
    for file in parquet_files(&site) {
        let mut content = fs::read(&file).unwrap();
        let middle = content.len() / 3;
        content[middle] ^= 1;
        fs::write(&file, content).unwrap();
    }
    site.start_collector();
    let all = "SELECT * FROM records";
    let output = pcigate_tests::site::output(&mut site.pcigate(&["sql", all, "--output", "json"]));
    if !output.status.success() {
        // It was not noticed at the start, so the reading notices it.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("pcigate-collector reindex"), "{said}");
        assert_eq!(output.status.code(), Some(3), "{said}");
        succeed(&mut site.exec(&["/usr/bin/true"]));
        site.stop_collector(Signal::SIGTERM);
        succeed(&mut reindex(&site));
        site.start_collector();
    }
    assert_eq!(all_of(&site, size), before);
}

#[test]
fn an_index_ahead_of_a_restored_ledger_answers_from_that_ledger() {
    let mut site = site_with_evidence();
    site.stop_collector(Signal::SIGTERM);
    let (ledger, copy) = (site.path("ledger"), site.path("copy"));
    succeed(Command::new("cp").arg("-a").args([&ledger, &copy]));
    site.start_collector();
    let size = size(&site);
    let before = all_of(&site, size - 2);
    succeed(&mut site.exec(&["/usr/bin/id"]));
    assert_eq!(site.records(&["--executable", "/usr/bin/id", "--kind", "exec"]).len(), 1);
    site.stop_collector(Signal::SIGTERM);
    fs::remove_dir_all(&ledger).unwrap();
    fs::rename(&copy, &ledger).unwrap();
    site.start_collector();
    assert_eq!(all_of(&site, size - 2), before, "the two leaves after it came with the restart");
    assert_eq!(site.records(&["--executable", "/usr/bin/id", "--kind", "exec"]).len(), 0);
}

#[test]
fn a_statement_that_would_take_all_memory_or_change_something_is_refused_with_a_sentence() {
    let site = site_with_evidence();
    for greedy in [
        "SELECT repeat('x', 2000000000)",
        "SELECT sum(length(repeat(kind, 200000000))) FROM records",
        "SELECT count(*) FROM (SELECT DISTINCT a.leaf AS i, b.leaf AS j, c.leaf AS k, d.leaf AS l, \
         e.leaf AS m, a.epoch || b.epoch || c.epoch AS x FROM records a, records b, records c, \
         records d, records e)",
    ] {
        let said = fail(&mut site.pcigate(&["sql", greedy]), 2);
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    for changing in ["DELETE FROM records", "CREATE TABLE t AS SELECT 1", "SET x = 1"] {
        let said = fail(&mut site.pcigate(&["sql", changing]), 2);
        assert!(said.contains("SELECT"), "{said}");
    }
    assert!(!site.records(&["--kind", "exec"]).is_empty(), "the collector goes on");
}
