//! Texts made to break a parser, each read in a process of its own on a thread of 2 MiB.

use std::process::Command;

use pcigate_sql::{Catalog, MAX_TEXT, Refusal, Session, classify, text};

const CASE: &str = "PCIGATE_SQL_CASE";

fn repeat(before: &str, one: &str, times: usize, after: &str) -> String {
    format!("{before}{}{after}", one.repeat(times))
}

/// Texts with whether they must be refused; others may be described.
fn cases() -> Vec<(&'static str, String, bool)> {
    let nested = |open: &str, close: &str, n: usize| {
        format!("SELECT {}1{}", open.repeat(n), close.repeat(n))
    };
    vec![
        ("a million open parentheses", repeat("SELECT ", "(", 1_000_000, ""), true),
        ("half a million pairs", nested("(", ")", 500_000), true),
        ("a thousand pairs", nested("(", ")", 1000), true),
        ("100k terms", repeat("SELECT 1", "+1", 100_000, ""), true),
        ("100k terms in parentheses", repeat("SELECT (1", "+1", 100_000, ")"), true),
        ("a column called and", repeat("SELECT 1", "+t.and", 100_000, ""), true),
        ("a column called and, with a comment", repeat("SELECT 1", "+t./**/or", 90_000, ""), true),
        ("concatenations", repeat("SELECT 'a'", "||'a'", 100_000, ""), true),
        ("casts", repeat("SELECT 1", "::int", 100_000, ""), true),
        ("signs", repeat("SELECT ", "- ", 100_000, "1"), true),
        ("negations", repeat("SELECT ", "NOT ", 100_000, "true"), true),
        ("arrays", nested("ARRAY[", "]", 50_000), true),
        ("cases", nested("CASE WHEN true THEN ", " END", 20_000), true),
        ("cases in sums", repeat("SELECT 1", "+CASE WHEN a THEN 1 END", 20_000, ""), true),
        ("subqueries", nested("(SELECT ", ")", 50_000), true),
        ("calls", nested("f(", ")", 50_000), true),
        ("unions", repeat("SELECT 1", " UNION SELECT 1", 50_000, ""), true),
        ("joins", repeat("SELECT 1 FROM a", " JOIN a ON b AND c", 30_000, ""), true),
        (
            "joins without conditions",
            repeat("SELECT 1 FROM a", " NATURAL JOIN a", 30_000, ""),
            true,
        ),
        ("collations", repeat("SELECT a", " COLLATE \"C\"", 50_000, ""), true),
        ("time zones", repeat("SELECT a", " AT TIME ZONE b", 40_000, ""), true),
        ("operators in words", repeat("SELECT a", " OPERATOR(+) a", 40_000, ""), true),
        ("100k statements", repeat("", "SELECT 1;", 100_000, ""), true),
        ("100k empty statements", repeat("", ";", 100_000, ""), true),
        ("names", repeat("SELECT a", ".a", 100_000, ""), false),
        ("subscripts", repeat("SELECT a", "[1]", 20_000, ""), false),
        ("types", repeat("SELECT a::int", "[]", 20_000, ""), false),
        ("one long name", repeat("SELECT ", "a", 1_000_000, ""), false),
        ("one long string", repeat("SELECT '", "a", 1_000_000, "'"), false),
        ("comments in comments", repeat("", "/*", 400_000, ""), true),
        ("comments that end", repeat("", "/***/", 190_000, "SELECT 1"), true),
        ("pluses", repeat("SELECT ", "+", 1_000_000, "1"), true),
        ("pluses apart", repeat("SELECT ", "+ ", 400_000, "1"), true),
        ("pluses and comments", repeat("SELECT 1", "+/**/", 180_000, "1"), true),
        ("many columns", repeat("SELECT a", ",a", 60_000, ""), false),
        ("many different columns", many("SELECT a", 60_000), true),
        ("many rows", repeat("INSERT INTO t VALUES (1,2)", ",(1,2)", 20_000, ""), false),
        ("many conditions", repeat("SELECT 1 FROM t WHERE a=1", " OR a=1", 20_000, ""), false),
        ("many tables", repeat("SELECT 1 FROM a", ",a", 60_000, ""), false),
        (
            "many CTEs",
            repeat("WITH a AS (SELECT 1)", ",a AS (SELECT 1)", 15_000, " SELECT 1"),
            false,
        ),
        ("too long", " ".repeat(MAX_TEXT + 1), true),
        ("all tokens", repeat("SELECT ", "a,", 400_000, "a"), true),
        ("dollars", repeat("SELECT ", "$a", 300_000, ""), false),
        ("quotes", repeat("SELECT ", "'", 300_001, ""), false),
    ]
}

/// Different names, which must not take time in the square of their number.
fn many(before: &str, names: usize) -> String {
    let names: Vec<String> = (0..names).map(|name| format!("c{name}")).collect();
    format!("{before},{} FROM t", names.join(","))
}

#[test]
fn texts_made_to_break_the_parser_end_in_an_answer_and_never_in_a_crash() {
    if let Ok(name) = std::env::var(CASE) {
        let cases = cases();
        let (_, text, _) = cases.iter().find(|(known, ..)| *known == name).unwrap();
        let answer = classify(text, &Session::new("u", &["public"]), &Catalog::default());
        let unknown = answer.as_ref().is_ok_and(|statements| {
            statements.iter().any(|statement| !statement.facts.reasons.is_empty())
        });
        println!("ANSWER refused={} peak={}", answer.is_err() || unknown, peak());
        return;
    }
    let cases = cases();
    for (name, _, must_refuse) in &cases {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let exact = "bounds::texts_made_to_break_the_parser_end_in_an_answer_and_never_in_a_crash";
        child.args(["--exact", exact, "--nocapture"]).env(CASE, name);
        let output = child.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {:?} {out}", output.status);
        let answer = out.split_once("ANSWER refused=").map(|(_, rest)| rest).unwrap();
        assert!(answer.starts_with("true") || !must_refuse, "{name}: {answer}");
        let peak = answer.split_once("peak=").and_then(|(_, rest)| rest.lines().next()).unwrap();
        println!("{name}: {}", answer.trim_end());
        // A text of 1 MiB, its tree in C and in Rust.
        assert!(peak.parse::<u64>().unwrap() < 512 << 10, "{name}: {peak} KiB");
    }
}

/// The most memory this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_no_text_is_refused_and_what_says_nothing_is_no_statement() {
    let session = Session::new("u", &["public"]);
    let none = Catalog::default();
    assert_eq!(text(b"SELECT '\xff'\0"), Err(Refusal::NotUtf8));
    assert_eq!(text(b"SELECT 1\0"), Ok("SELECT 1"));
    assert_eq!(classify("SELECT 1\0; DELETE FROM t", &session, &none), Err(Refusal::ZeroByte));
    for nothing in ["", " \n\t", "-- only", "/* /* nested */ */", ";", " ; -- x\n;"] {
        assert_eq!(classify(nothing, &session, &none), Ok(Vec::new()), "{nothing:?}");
    }
}

#[test]
fn a_thousand_statements_and_forty_levels_are_described() {
    let session = Session::new("u", &["public"]);
    let none = Catalog::default();
    assert_eq!(classify(&"SELECT 1;".repeat(999), &session, &none).unwrap().len(), 999);
    let sum = repeat("SELECT 1", " + 1", 40, "");
    assert!(classify(&sum, &session, &none).is_ok());
}
