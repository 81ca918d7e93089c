//! SQL: an answer for any text and any session; what is described has effects, and the cache says
//! the same.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::damage::{Patch, damaged};
use pcigate_policy::document::Effect;
use pcigate_sql::{Cache, Catalog, Relation, Session, classify, normalised, text};

const VALID: &[&str] = &[
    "WITH w(a) AS (SELECT pan FROM cards c), d AS (DELETE FROM orders o USING w WHERE o.x = w.a \
     RETURNING *) SELECT d.*, left(a, 6) FROM w, LATERAL (SELECT c.row_to_json FROM cards c) s, d \
     WHERE EXISTS (SELECT 1 FROM v) OR id = ANY(ARRAY[1]) ORDER BY 1 LIMIT 5 FOR UPDATE;",
    "PREPARE p AS UPDATE ONLY t SET a = $1, (b, c) = (SELECT 1, 2) WHERE a = a OR b IS NULL; \
     EXECUTE p (1); DECLARE c CURSOR FOR TABLE v; FETCH ALL FROM c; BEGIN; SET LOCAL search_path \
     = a, \"B\"; ROLLBACK TO s; SELECT set_config('search_path', U&'\\0061', false); COMMIT",
    "MERGE INTO t USING v ON true WHEN NOT MATCHED BY SOURCE THEN DELETE; COPY (SELECT 1) TO \
     PROGRAM 'x'; DO $a$ x $a$; CREATE TEMP TABLE q ON COMMIT DROP AS EXECUTE p; GRANT ALL ON t \
     TO x; EXPLAIN ANALYZE INSERT INTO t SELECT * FROM v ON CONFLICT DO NOTHING; CALL f(E'\\'')",
];

const WORDS: &[&str] = &[
    "SELECT ", "FROM ", "WHERE ", "(", ")", "[", "]", ", ", ";", "'", "\"", "$$", "--", "/*", "*/",
    "U&\"", "E'", "\\", "CASE ", "END ", "AND ", ".and ", "UNION ", "JOIN ", "NATURAL ", "+", "::",
    "COLLATE ", "AS ", "x.*", "OPERATOR(", "JSON_TABLE(", "XMLTABLE(", "OVER (", "RECURSIVE ",
];

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    Damaged(u8, Vec<Patch<'a>>),
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let columns = vec!["id".to_owned(), "pan".to_owned()];
    let view = Relation { columns: columns.clone(), definition: Some("TABLE public.v".into()) };
    catalog.add("public", "v", view);
    catalog.add("public", "cards", Relation { columns, definition: None });
    catalog
}

fn check(bytes: &[u8]) {
    let Ok(text) = text(bytes) else { return };
    let _ = normalised(text);
    for catalog in [Catalog::default(), catalog()] {
        let mut session = Session::new("u", &["public", "more"]);
        let Ok(statements) = classify(text, &session, &catalog) else { continue };
        let mut cache = Cache::new(1 << 16);
        for _ in 0..2 {
            let cached = cache.classify(text, &session, &catalog, 0);
            assert_eq!(*cached.expect("it was described"), *statements);
        }
        for (at, statement) in statements.iter().enumerate() {
            let facts = &statement.facts;
            assert!(!facts.effects.is_empty());
            assert_eq!(facts.effects.contains(&Effect::Unknown), !facts.reasons.is_empty());
            assert!(text.get(statement.place.clone()).is_some());
            session.after(statement, at % 3 != 2);
        }
        session.ready(bytes.first().copied().unwrap_or_default());
        let _ = classify(text, &session, &catalog);
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Bytes(bytes) => check(bytes),
        Input::Damaged(which, patches) => {
            let valid = VALID[usize::from(which) % VALID.len()];
            check(&damaged(valid.as_bytes(), WORDS, &patches));
        }
    }
});
