//! What statements answer, what is refused, and where they end.

use std::time::Duration;

use crate::{
    Answer, Index, QueryError, SqlLimits, Value,
    testing::{HOUR, Log, egress, exec, record, small, wait},
};

fn limits() -> SqlLimits {
    SqlLimits { rows: 1_000, time: Duration::from_secs(60), memory: 64 << 20 }
}

async fn all(answer: &mut Answer) -> Result<Vec<Vec<Value>>, QueryError> {
    let mut rows = Vec::new();
    while let Some(row) = answer.next().await? {
        rows.push(row);
    }
    Ok(rows)
}

fn ask(index: &Index, statement: &str, limits: SqlLimits) -> Result<Vec<Vec<Value>>, QueryError> {
    wait(async {
        let size = index.indexed();
        let mut answer = index.sql(statement, limits, size).await?;
        all(&mut answer).await
    })
}

fn some_log() -> Log {
    let mut all = Vec::new();
    for n in 0..200_u32 {
        let event = match n % 2 {
            0 => exec("/bin/sh"),
            _ => egress(if n % 4 == 1 { "10.0.0.1" } else { "2001:db8::1" }, 443),
        };
        all.push(record(
            HOUR + u64::from(n) * 60_000_000_000,
            ["a", "bö"][usize::from(n / 2 % 2 == 1)],
            event,
        ));
    }
    all[0].time_unix_nano = u64::MAX;
    all[1].origin.as_mut().unwrap().seq = u64::MAX;
    Log::of(&all)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn statements_count_group_and_filter_over_files_and_memory_alike() {
    let log = some_log();
    let index = log.caught_up(small());
    assert!(index.status().tail_rows > 0 && index.status().files > 0);
    let rows = ask(&index, "SELECT count(*) FROM records", limits()).unwrap();
    assert_eq!(rows, [[Value::I64(200)]]);
    let statement = "SELECT pod, kind, count(*) AS n FROM records WHERE leaf >= 100 \
                     GROUP BY pod, kind ORDER BY pod, kind";
    let rows = ask(&index, statement, limits()).unwrap();
    let expected = [("a", "egress"), ("a", "exec"), ("bö", "egress"), ("bö", "exec")];
    let expected = expected.map(|(pod, kind)| vec![text(pod), text(kind), Value::I64(25)]);
    assert_eq!(rows, expected);
    let statement = "SELECT leaf, time, time_overflow, seq, path, address, namespace, container, \
                     address_bytes FROM records WHERE leaf < 2 ORDER BY leaf";
    let rows = ask(&index, statement, limits()).unwrap();
    let mapped = "::ffff:10.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let last = Value::TimeUnixNano(i64::MAX);
    let first = [
        Value::U64(0),
        last,
        Value::U64(u64::MAX),
        Value::U64(1),
        text("/bin/sh"),
        Value::Null,
        text("payments"),
        text(""),
        Value::Null,
    ];
    let second = [
        Value::U64(1),
        Value::TimeUnixNano(i64::try_from(HOUR).unwrap() + 60_000_000_000),
        Value::Null,
        Value::U64(u64::MAX),
        Value::Null,
        text("10.0.0.1"),
        text("payments"),
        text(""),
        Value::Bytes(mapped.to_vec()),
    ];
    assert_eq!(rows, [first.to_vec(), second.to_vec()]);
}

#[test]
fn times_texts_patterns_and_joins_work_as_the_manual_says() {
    let log = some_log();
    let index = log.caught_up(small());
    let one = |statement: &str| ask(&index, statement, limits()).unwrap().remove(0).remove(0);
    let count = |condition: &str| one(&format!("SELECT count(*) FROM records WHERE {condition}"));
    assert_eq!(
        count("time >= '2026-11-22T18:00:00Z' AND time < '2026-11-22T19:00:00'"),
        Value::I64(59)
    );
    assert_eq!(count("path LIKE '/bin/%' AND lower(pod) = 'bö'"), Value::I64(50));
    assert_eq!(count("regexp_like(path, '^/b.n/sh$') AND pod ~ 'b'"), Value::I64(50));
    let low = "x'00000000000000000000ffff0a000000'";
    let high = "x'00000000000000000000ffff0affffff'";
    assert_eq!(count(&format!("address_bytes BETWEEN {low} AND {high}")), Value::I64(50));
    assert_eq!(
        one("SELECT length(substr(pod, 2)) FROM records WHERE pod = 'bö' LIMIT 1"),
        Value::I64(1)
    );
    assert_eq!(
        one("SELECT count(*) FROM (SELECT date_bin(INTERVAL '1 hour', time) AS h FROM records \
             GROUP BY h)"),
        Value::I64(5)
    );
    let joined = "WITH e AS (SELECT leaf FROM records WHERE kind = 'exec') \
                  SELECT count(*) FROM e JOIN records r ON e.leaf + 1 = r.leaf";
    assert_eq!(one(joined), Value::I64(100));
    assert_eq!(one("SELECT extract(hour FROM time) FROM records WHERE leaf = 1"), Value::I64(18));
    assert_eq!(one("SELECT 1"), Value::I64(1));
}

#[test]
fn an_answer_is_cut_at_the_limit_of_rows_and_says_so() {
    let log = some_log();
    let index = log.caught_up(small());
    let asked = |rows, statement: &'static str| {
        let index = index.clone();
        wait(async move {
            let limits = SqlLimits { rows, ..limits() };
            let mut answer = index.sql(statement, limits, 200).await.unwrap();
            let count = all(&mut answer).await.unwrap().len();
            let columns: Vec<_> = answer.columns().iter().map(|c| c.name.clone()).collect();
            (count, answer.was_cut(), columns)
        })
    };
    let columns = vec!["leaf".to_owned(), "pod".to_owned()];
    assert_eq!(asked(10, "SELECT leaf, pod FROM records"), (10, true, columns.clone()));
    assert_eq!(asked(200, "SELECT leaf, pod FROM records"), (200, false, columns));
    assert_eq!(asked(0, "SELECT leaf FROM records"), (0, true, vec!["leaf".to_owned()]));
}

#[test]
fn everything_but_one_select_over_records_is_refused_with_a_sentence() {
    let log = some_log();
    let index = log.caught_up(small());
    let deep = format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200));
    let long = format!("SELECT '{}'", "x".repeat(20_000));
    let wordy = format!("SELECT 1{}", "+1".repeat(1_000));
    let cases = [
        ("", "is empty"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1", "Expected"),
        ("DROP TABLE records", "DROP is not accepted"),
        ("CREATE TABLE x AS SELECT 1", "CREATE is not accepted"),
        ("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'", "CREATE is not accepted"),
        ("INSERT INTO records VALUES (1)", "INSERT is not accepted"),
        ("DELETE FROM records", "DELETE is not accepted"),
        ("UPDATE records SET pod = ''", "UPDATE is not accepted"),
        ("COPY records TO '/tmp/x'", "COPY is not accepted"),
        ("SET datafusion.execution.batch_size = 1", "SET is not accepted"),
        ("SHOW TABLES", "SHOW is not accepted"),
        ("EXPLAIN SELECT 1", "--explain"),
        ("EXPLAIN ANALYZE SELECT 1", "--explain"),
        ("SELECT * FROM '/etc/passwd'", "only table is records"),
        ("SELECT * FROM \"/tmp/x.parquet\"", "only table is records"),
        ("SELECT * FROM information_schema.tables", "only table is records"),
        ("SELECT * FROM generate_series(1, 1000000000)", "is no table"),
        ("SELECT * FROM read_parquet('/tmp/x')", "is no table"),
        ("SELECT * FROM UNNEST([1])", "is no table"),
        ("SELECT leaf INTO x FROM records", "INTO"),
        ("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT * FROM r", "RECURSIVE"),
        ("SELECT repeat('x', 1000000000)", "repeat"),
        ("SELECT lpad('x', 1000000000)", "lpad"),
        ("SELECT concat(pod, pod) FROM records", "concat"),
        ("SELECT pod || pod FROM records", "||"),
        ("SELECT array_agg(pod) FROM records", "array_agg"),
        ("SELECT string_agg(pod, ',') FROM records", "string_agg"),
        ("SELECT row_number() OVER () FROM records", "row_number"),
        ("SELECT sum(leaf) OVER () FROM records", "OVER"),
        ("SELECT pod, kind, count(*) FROM records GROUP BY CUBE (pod, kind)", "CUBE"),
        ("SELECT nonsense FROM records", "nonsense"),
        (
            "SELECT 1 FROM records a, records b, records c, records d, records e, records f, \
          records g, records h, records i",
            "8 tables",
        ),
        (&deep, "deeper than 50 levels"),
        (&long, "20009 bytes"),
        (&wordy, "words"),
    ];
    for (statement, part) in cases {
        let error = ask(&index, statement, limits()).unwrap_err();
        let shown: String = statement.chars().take(60).collect();
        assert!(matches!(error, QueryError::Statement { .. }), "{shown}: {error:?}");
        let said = error.to_string();
        assert!(said.starts_with("statement: "), "{shown}: {said}");
        assert!(said.contains(part), "{shown}: {said}");
        assert!(!said.contains('\n') && said.len() < 500, "{shown}: {said}");
    }
}

#[test]
fn the_deepest_statement_that_is_read_does_not_break_the_planner() {
    let log = some_log();
    let index = log.caught_up(small());
    let sum = format!("SELECT leaf{} FROM records LIMIT 1", "+1".repeat(990));
    assert_eq!(ask(&index, &sum, limits()).unwrap().len(), 1);
    let any = format!("SELECT count(*) FROM records WHERE leaf = 1{}", " OR pid=2".repeat(490));
    assert_eq!(ask(&index, &any, limits()).unwrap().len(), 1);
}

#[test]
fn what_would_take_all_memory_or_time_ends_with_a_sentence_and_the_index_goes_on() {
    let log = some_log();
    let index = log.caught_up(small());
    let tight = SqlLimits { memory: 1 << 20, ..limits() };
    let sort = "SELECT a.leaf, a.command, b.executable, b.pod, c.path FROM records a, records b, \
                records c ORDER BY a.command, b.leaf, c.leaf";
    let group = "SELECT a.leaf, b.leaf, c.leaf, count(*) FROM records a, records b, records c \
                 GROUP BY a.leaf, b.leaf, c.leaf";
    for statement in [sort, group] {
        let error = ask(&index, statement, tight).unwrap_err();
        let QueryError::Limit { text } = &error else { panic!("{error:?}") };
        assert!(text.contains("1 MiB of memory"), "{text}");
    }
    let hasty = SqlLimits { time: Duration::from_millis(300), ..limits() };
    let endless = "SELECT count(*) FROM records a, records b, records c, records d \
                   WHERE a.leaf + b.leaf + c.leaf + d.leaf < 0";
    let error = ask(&index, endless, hasty).unwrap_err();
    let QueryError::Limit { text } = &error else { panic!("{error:?}") };
    assert!(text.contains("longer than 300ms"), "{text}");
    assert_eq!(ask(&index, "SELECT count(*) FROM records", limits()).unwrap().len(), 1);
    index.flush().unwrap();
}

#[test]
fn a_plan_shows_what_the_manifest_and_the_statistics_left_out() {
    let log = some_log();
    let index = log.caught_up(small());
    index.flush().unwrap();
    let statement = "SELECT leaf FROM records WHERE kind = 'exec' AND time < '2026-11-22T19:00:00'";
    let plan = wait(index.explain_sql(statement, limits(), 200)).unwrap();
    let first = plan.lines().next().unwrap();
    let all = index.status().files;
    let opened: u64 = first.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(opened > 0 && opened * 2 < all, "{plan}");
    assert!(plan.contains("row_groups_pruned_statistics"), "{plan}");
    assert!(plan.contains("row_groups_pruned_bloom_filter"), "{plan}");
    let question = crate::Question { pod: "none".into(), ..crate::Question::default() };
    let plan = wait(index.explain(&question, 200)).unwrap();
    assert!(plan.contains(&format!("of {all} by kind, time and leaf")), "{plan}");
}
