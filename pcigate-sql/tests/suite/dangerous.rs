//! Statements that a read-only rule set must stop, in every dress.

use crate::dangers::{CLASSES, NO_WHERE, READ_ONLY, WRITERS, dresses};
use crate::rules::site;

#[test]
fn no_dangerous_statement_passes_the_rules_that_must_stop_it_whatever_its_dress() {
    let mut passed = Vec::new();
    let mut tried = 0;
    for class in CLASSES {
        for text in class.texts {
            for (dress, dressed) in dresses(text) {
                for site in [site(class.rules), site(class.rules).with_catalog()] {
                    let mut site = site;
                    tried += 1;
                    let through_view = text.contains("v_") && site.catalog == Default::default();
                    if site.passes(&dressed) && !through_view {
                        passed.push(format!("{}, {dress}: {dressed}", class.name));
                    }
                }
            }
        }
    }
    println!("{tried} texts tried");
    assert!(passed.is_empty(), "{} passed: {passed:#?}", passed.len());
}

#[test]
fn plain_reading_passes_the_same_rule_set() {
    let mut site = site(READ_ONLY).with_catalog();
    for text in [
        "SELECT * FROM cards",
        "SELECT id, pan, holder FROM public.cards WHERE id = 1 ORDER BY id LIMIT 10",
        "SELECT c.pan FROM cards c JOIN orders o ON o.card_id = c.id WHERE o.amount > 5",
        "SELECT x FROM (SELECT pan AS x, id FROM cards) s WHERE id = 2",
        "SELECT count(*), sum(amount) FROM orders GROUP BY card_id",
        "WITH w AS (SELECT * FROM cards) SELECT pan FROM w",
        "SELECT n FROM v_pan",
        "SELECT x FROM v_nested",
        "SELECT * FROM v_orders WHERE amount > 3",
        "SELECT relname FROM pg_class",
        "SELECT 1",
        "SHOW search_path",
        "BEGIN; SELECT now(); ROLLBACK",
        "EXPLAIN SELECT id FROM orders WHERE id = 1",
        "SELECT EXISTS (SELECT * FROM cards WHERE id = 1)",
    ] {
        let answer = site.answer(text);
        assert_eq!(answer.sentence, "", "{text}");
    }
    assert_eq!(site.answer("SELECT * FROM cards").max_rows, Some(500));
}

#[test]
fn what_was_prepared_or_declared_is_decided_when_it_runs() {
    let mut site = site(READ_ONLY).with_catalog();
    site.session.prepare("wire", "DELETE FROM orders").unwrap();
    assert!(!site.passes("EXECUTE wire"));
    assert!(!site.passes("EXPLAIN ANALYZE EXECUTE wire"));
    assert!(!site.passes("CREATE TABLE x AS EXECUTE wire"));
    assert!(site.passes("PREPARE q (int) AS SELECT pan FROM cards WHERE id = $1"));
    assert!(site.passes("EXECUTE q (1)"));
    assert!(!site.passes("EXECUTE q (pg_sleep(9)::text::int)"));
    assert!(site.passes("DEALLOCATE q"));
    assert!(!site.passes("EXECUTE q (1)"));
    assert!(site.passes("BEGIN; DECLARE c CURSOR FOR SELECT id FROM orders"));
    assert!(site.passes("FETCH 10 FROM c"));
    assert!(site.passes("CLOSE c"));
    assert!(!site.passes("FETCH 10 FROM c"));
}

#[test]
fn a_prepared_statement_means_what_its_names_mean_when_it_runs() {
    let rules = format!("{READ_ONLY}, {{id: s, action: allow, effects: [session]}}");
    let mut site = site(&rules).with_catalog();
    assert!(site.passes("PREPARE q AS SELECT * FROM orders"));
    assert!(site.passes("SET search_path = secret"));
    assert!(!site.passes("EXECUTE q"));
    assert!(!site.passes("SELECT * FROM keys"));
    assert!(site.passes("RESET search_path; EXECUTE q"));
}

#[test]
fn a_search_path_is_followed_through_transactions() {
    let rules = format!("{READ_ONLY}, {{id: s, action: allow, effects: [session]}}");
    let mut site = site(&rules);
    assert!(!site.passes("SET search_path = evil; SELECT * FROM cards"));
    site.session = pcigate_sql::Session::new("billing_ro", &["public"]);
    assert!(!site.passes("SET LOCAL search_path = evil; SELECT * FROM cards"));
    site.session.ready(b'I');
    assert!(site.passes("SELECT * FROM cards"));
    assert!(site.passes("BEGIN; SET search_path = evil"));
    assert!(!site.passes("SELECT * FROM cards"));
    assert!(site.passes("ROLLBACK; SELECT * FROM cards"));
    assert!(site.passes("BEGIN; SAVEPOINT a; SET search_path = evil; ROLLBACK TO a"));
    assert!(site.passes("SELECT * FROM cards; COMMIT"));
    assert!(site.passes("SELECT set_config('search_path', 'public, evil', false)"));
    assert!(!site.passes("SELECT * FROM cards"), "it may be in either");
    assert!(site.passes("SELECT * FROM public.cards"));
    assert!(site.passes("SELECT set_config('search_path', 'public', false)"));
    assert!(site.passes("SELECT * FROM cards"));
}

#[test]
fn writes_without_a_condition_need_their_shape_named() {
    for none in NO_WHERE {
        for site in [site(WRITERS), site(WRITERS).with_catalog()] {
            let mut site = site;
            let answer = site.answer(none);
            assert!(answer.sentence.contains("changing every row"), "{none}: {answer:?}");
        }
    }
    for some in [
        "DELETE FROM orders WHERE id = 1",
        "DELETE FROM orders WHERE id = $1 AND true",
        "DELETE FROM orders WHERE id = 1 OR id = 2",
        "UPDATE orders SET note = 'x' WHERE id IN (SELECT id FROM orders LIMIT 5)",
        "DELETE FROM orders o USING cards c WHERE o.card_id = c.id",
        "DELETE FROM orders WHERE CURRENT OF c",
        "MERGE INTO orders o USING cards c ON o.card_id = c.id WHEN MATCHED THEN DELETE",
        "DELETE FROM orders WHERE note LIKE '%x%'",
        "DELETE FROM orders WHERE NOT done",
    ] {
        assert_eq!(site(WRITERS).answer(some).sentence, "", "{some}");
    }
}
