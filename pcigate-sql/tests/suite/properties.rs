//! Arbitrary texts: an answer, never a panic, and nothing passes that is not described.

use pcigate_policy::document::Effect;
use pcigate_sql::{Cache, Catalog, Session, classify, normalised};
use proptest::prelude::*;

use crate::rules::catalog;

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "cards",
    "pan",
    "c",
    "c.*",
    "*",
    "(",
    ")",
    ",",
    ";",
    "'x'",
    "\"a\"",
    "U&'\\0061'",
    "E'\\n'",
    "$$x$$",
    "$1",
    "1",
    "=",
    "||",
    "::text",
    "AS",
    "WITH",
    "RECURSIVE",
    "t",
    "UNION",
    "ALL",
    "JOIN",
    "ON",
    "USING",
    "(pan)",
    "NATURAL",
    "LATERAL",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "RETURNING",
    "MERGE INTO",
    "COPY",
    "TO STDOUT",
    "PREPARE",
    "EXECUTE",
    "DECLARE",
    "CURSOR FOR",
    "FETCH",
    "EXPLAIN",
    "ANALYZE",
    "search_path",
    "BEGIN",
    "ROLLBACK",
    "CREATE",
    "TEMP",
    "TABLE",
    "VIEW",
    "DROP",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "NOT",
    "AND",
    "OR",
    "IN",
    "EXISTS",
    "ORDER BY",
    "GROUP BY",
    "LIMIT",
    "FOR UPDATE",
    "--\n",
    "/*",
    "*/",
    "row_to_json",
    "nextval",
    "set_config",
    "v_pan",
    "DO",
    "[",
    "]",
    ".",
    "OVER",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in any::<String>()) {
        let _ = classify(&text, &Session::new("u", &["public"]), &catalog());
    }

    #[test]
    fn any_words_of_sql_get_an_answer_and_what_is_described_has_an_effect(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 1..24),
    ) {
        let text = words.join(" ");
        let session = Session::new("u", &["public"]);
        let mut cache = Cache::new(1 << 16);
        for catalog in [Catalog::default(), catalog()] {
            let Ok(statements) = classify(&text, &session, &catalog) else { continue };
            let mut session = session.clone();
            for statement in &statements {
                let facts = &statement.facts;
                prop_assert!(!facts.effects.is_empty(), "{text}");
                let unknown = facts.effects.contains(&Effect::Unknown);
                prop_assert_eq!(unknown, !facts.reasons.is_empty());
                prop_assert!(facts.tables.iter().all(|used| !used.names.is_empty()));
                prop_assert!(text.get(statement.place.clone()).is_some());
                session.after(statement, true);
            }
        }
        if let Ok(cached) = cache.classify(&text, &session, &Catalog::default(), 0) {
            let again = cache.classify(&text, &session, &Catalog::default(), 0).unwrap();
            prop_assert_eq!(&cached, &again);
        }
        let _ = normalised(&text);
    }
}
