//! Statements that a read-only rule set must stop, in every dress.

use crate::rules::site;

/// May read cards and orders and the server's catalog, and nothing else.
const READ_ONLY: &str = "{id: read, action: allow, effects: [read], \
     tables: [public.cards, public.orders, public.v_orders, public.v_pan, public.v_bin, \
              public.v_nested, public.v_file, public.v_file2], maxRows: 500}, \
     {id: catalog, action: allow, effects: [read], tables: [pg_catalog.*, information_schema.*]}";

const WRITES: &[&str] = &[
    "DELETE FROM orders WHERE id = 1",
    "delete from orders",
    "/* harmless */ DeLeTe /* x */ FROM --\n orders",
    "UPDATE orders SET note = 'x' WHERE id = 1",
    "UPDATE ONLY public.orders * SET note = 'x'",
    "INSERT INTO orders VALUES (1)",
    "INSERT INTO orders DEFAULT VALUES",
    "TRUNCATE orders",
    "TRUNCATE TABLE ONLY public.orders, cards CASCADE",
    "MERGE INTO orders o USING cards c ON o.card_id = c.id WHEN MATCHED THEN DELETE",
    "WITH a AS (SELECT 1) DELETE FROM orders",
    "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d",
    "WITH a AS (WITH b AS (UPDATE orders SET note = '' RETURNING id) SELECT * FROM b) TABLE a",
    "SELECT * FROM orders FOR UPDATE",
    "SELECT * FROM orders o FOR NO KEY UPDATE OF o",
    "SELECT * FROM (SELECT * FROM orders) s FOR SHARE",
    "EXPLAIN ANALYZE DELETE FROM orders",
    "EXPLAIN (ANALYZE, VERBOSE) UPDATE orders SET note = 'x'",
    "explain (analyze false) delete from orders",
    "PREPARE p AS DELETE FROM orders",
    "SELECT 1; DELETE FROM orders",
    "BEGIN; DELETE FROM orders; COMMIT",
    "DECLARE c CURSOR FOR WITH d AS (DELETE FROM orders RETURNING 1) SELECT * FROM d",
    "U&\"d\\0065lete\" FROM orders",
    "DELETE FROM U&\"\\006Frders\"",
    "DELETE FROM \"orders\" WHERE true",
    "COPY orders FROM STDIN",
    "COPY orders (id, note) FROM STDIN WITH (FORMAT csv)",
    "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
    "SELECT * INTO stolen FROM orders",
    "SELECT * INTO TEMP stolen FROM orders",
    "CREATE TABLE stolen AS SELECT * FROM orders",
    "CREATE TEMP TABLE stolen AS TABLE orders",
    "CREATE MATERIALIZED VIEW m AS SELECT * FROM orders",
    "SELECT nextval('orders_id_seq')",
    "SELECT setval('public.orders_id_seq', 1)",
    "SELECT pg_catalog.nextval('orders_id_seq'::regclass)",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
    "UPDATE pg_catalog.pg_class SET relname = 'x' WHERE oid = 1",
    "INSERT INTO orders SELECT 1 ON CONFLICT (id) DO UPDATE SET note = 'x'",
    "VALUES (1); TRUNCATE orders",
];

const DEFINITIONS: &[&str] = &[
    "DROP TABLE orders",
    "ALTER TABLE orders ADD COLUMN x int",
    "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
    "CREATE TABLE x (id int)",
    "CREATE TEMP TABLE cards (id int)",
    "CREATE VIEW v AS SELECT pan FROM cards",
    "CREATE INDEX ON orders (lo_import('/etc/passwd'))",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM orders; SELECT 1 $$",
    "CREATE OR REPLACE PROCEDURE f() LANGUAGE plpgsql AS 'begin delete from orders; end'",
    "CREATE TRIGGER t BEFORE UPDATE ON orders EXECUTE FUNCTION f()",
    "CREATE RULE r AS ON SELECT TO orders DO INSTEAD DELETE FROM cards",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION IF NOT EXISTS adminpack SCHEMA public",
    "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
    "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b",
    "CREATE CAST (text AS int) WITH FUNCTION f(text)",
    "CREATE OPERATOR + (FUNCTION = f, LEFTARG = int, RIGHTARG = text)",
    "CREATE AGGREGATE a (int) (SFUNC = f, STYPE = int)",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()",
    "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p",
    "CREATE PUBLICATION p FOR TABLE cards",
    "VACUUM FULL orders",
    "ANALYZE cards",
    "REINDEX DATABASE shop",
    "CLUSTER orders USING i",
    "REFRESH MATERIALIZED VIEW m",
    "COMMENT ON TABLE orders IS 'x'",
    "SECURITY LABEL ON TABLE orders IS 'x'",
    "CREATE SCHEMA s CREATE TABLE t (id int)",
    "CREATE STATISTICS s ON pan, cvv FROM cards",
    "CREATE DOMAIN d AS int CHECK (f(VALUE))",
];

const RIGHTS: &[&str] = &[
    "GRANT ALL ON cards TO PUBLIC",
    "REVOKE SELECT ON cards FROM bob",
    "GRANT admin TO billing_ro",
    "CREATE ROLE r SUPERUSER",
    "ALTER ROLE billing_ro PASSWORD 'x'",
    "DROP ROLE r",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER TABLE orders OWNER TO bob",
    "REASSIGN OWNED BY a TO b",
    "DROP OWNED BY a",
    "ALTER SYSTEM SET archive_command = 'curl evil'",
    "LOAD 'auto_explain'",
    "CHECKPOINT",
    "CREATE DATABASE d",
    "DROP DATABASE shop",
    "CREATE TABLESPACE t LOCATION '/tmp'",
    "CREATE POLICY p ON cards USING (true)",
    "ALTER DATABASE shop SET search_path = evil",
];

const SESSION: &[&str] = &[
    "SET standard_conforming_strings = off",
    "SET SESSION standard_conforming_strings TO 'off'",
    "set client_encoding to 'SJIS'",
    "SET NAMES 'GBK'",
    "SET search_path = evil, public",
    "SET LOCAL search_path TO evil",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "RESET ROLE",
    "SET row_security = off",
    "SET session_replication_role = replica",
    "SET SCHEMA 'evil'",
    "SET \"search_path\" = evil",
    "SET app.tenant = '7'",
    "SELECT set_config('search_path', 'evil', false)",
    "SELECT set_config('se' || 'arch_path', 'evil', false)",
    "SELECT pg_catalog.set_config('role', 'postgres', true)",
    "SELECT 1 FROM orders WHERE set_config('row_security', 'off', true) = 'off'",
    "LISTEN secrets",
    "NOTIFY evil, 'pan'",
    "SELECT pg_notify('evil', note) FROM orders",
    "SELECT pg_advisory_lock(1)",
    "PREPARE TRANSACTION 'x'",
    "COMMIT PREPARED 'x'",
];

const REACHING: &[&str] = &[
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT PG_CATALOG.\"pg_read_file\"('/etc/passwd')",
    "SELECT U&\"pg_read\\005Ffile\"('/etc/passwd')",
    "SELECT U&\"pg!005fread!005ffile\" UESCAPE '!' ('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT * FROM pg_ls_waldir()",
    "SELECT * FROM ROWS FROM (pg_ls_dir('/'), generate_series(1, 2)) AS x",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_cancel_backend(pid) FROM pg_locks",
    "SELECT pg_reload_conf()",
    "SELECT pg_sleep(1000)",
    "SELECT 1 WHERE pg_sleep(10) IS NULL",
    "SELECT 1 ORDER BY pg_sleep(10)::text",
    "SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(10))",
    "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM orders",
    "SELECT sum(1) OVER (ORDER BY pg_sleep(1)::text) FROM orders",
    "SELECT CASE WHEN true THEN pg_sleep(1) END",
    "SELECT COALESCE(NULL, pg_sleep(1)::text)",
    "SELECT ARRAY[pg_sleep(1)::text]",
    "SELECT (ROW(pg_sleep(1))).f1",
    "SELECT a[pg_backend_pid() + lo_creat(1)] FROM (SELECT ARRAY[1] a) s",
    "SELECT * FROM orders TABLESAMPLE bernoulli(lo_creat(1))",
    "SELECT * FROM orders TABLESAMPLE evil_sampler(1)",
    "SELECT * FROM orders JOIN cards ON lo_unlink(1) = 1",
    "SELECT * FROM XMLTABLE('/a' PASSING query_to_xml('select 1', true, true, '') COLUMNS a int)",
    "SELECT JSON_VALUE(lo_get(1)::text, '$')",
    "SELECT xmlelement(name a, lo_get(1))",
    "VALUES (lo_unlink(1))",
    "SELECT dblink('host=evil', 'select 1')",
    "SELECT * FROM dblink('host=evil', 'select 1') AS t (a int)",
    "SELECT public.dblink_exec('x', 'drop table t')",
    "SELECT query_to_xml('delete from orders', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT table_to_xml('cards', true, true, '')",
    "SELECT cursor_to_xml('c', 1, true, true, '')",
    "SELECT ts_stat('select 1')",
    "SELECT pg_logical_emit_message(true, 'a', 'b')",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "SELECT pg_switch_wal()",
    "SELECT pg_stat_reset()",
    "SELECT pg_file_write('/tmp/x', 'y', false)",
    "SELECT my_own_function()",
    "SELECT evil.lower('X')",
    "CALL do_it()",
    "SELECT 1 OPERATOR(evil.+) 1",
    "SELECT 1 <<<>>> 1",
    "SELECT 1 = ANY (SELECT lo_creat(1))",
    "SELECT * FROM v_file",
    "SELECT * FROM v_file2",
    "SELECT 1 FROM orders WHERE EXISTS (SELECT 1 FROM v_file2)",
    "EXPLAIN SELECT pg_read_file('/etc/passwd')",
    "PREPARE p AS SELECT pg_read_file($1)",
    "DECLARE c CURSOR FOR SELECT pg_ls_dir('/')",
    "SELECT pg_stat_get_activity(NULL)",
];

const BULK: &[&str] = &[
    "COPY orders TO STDOUT",
    "copy public . orders to stdout",
    "COPY (SELECT * FROM orders) TO STDOUT",
    "COPY (VALUES (1)) TO STDOUT",
    "COPY orders TO '/tmp/x'",
    "COPY orders TO PROGRAM 'curl evil'",
    "COPY orders FROM PROGRAM 'id'",
    "COPY (DELETE FROM orders RETURNING *) TO STDOUT",
    "COPY (SELECT pan FROM cards) TO STDOUT",
];

const OPAQUE: &[&str] = &[
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "DO LANGUAGE plpgsql 'begin execute ''drop table orders''; end'",
    "do $a$ begin perform 1; end $a$",
    "EXECUTE nobody_prepared_it",
    "FETCH ALL FROM nobody_declared_it",
    "MOVE 1 IN nobody_declared_it",
    "CREATE TABLE x AS EXECUTE nobody",
    "SELECT * FROM secret.keys",
    "SELECT * FROM keys",
    "SELECT (SELECT value FROM secret.keys LIMIT 1)",
    "SELECT 1 FROM orders WHERE id IN (SELECT id FROM secret.keys)",
    "WITH cards AS (SELECT * FROM secret.keys) SELECT * FROM cards",
    "TABLE secret.keys",
    "SELECT * FROM ONLY secret.keys",
    "SELECT * FROM orders, LATERAL (SELECT * FROM secret.keys k WHERE k.id = orders.id) s",
    "SELECT * FROM orders UNION ALL SELECT 1, 1, 1, value FROM secret.keys",
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_catalog.pg_authid",
    "SELECT query FROM pg_stat_activity",
    "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM secret.keys) SELECT * FROM a",
    "DELETE FORM orders",
    "SELECT 'unterminated",
    "\\d",
];

/// Values of tagged columns by other ways than the column itself.
const TAGGED: &[&str] = &[
    "SELECT substr(pan, 1, 8) FROM cards",
    "SELECT reverse(pan) FROM cards",
    "SELECT pan || '' FROM cards",
    "SELECT pan::text FROM cards",
    "SELECT CAST(pan AS numeric) FROM cards",
    "SELECT (pan) COLLATE \"C\" FROM cards",
    "SELECT encode(pan::bytea, 'hex') FROM cards",
    "SELECT max(pan) FROM cards",
    "SELECT string_agg(pan, ',') FROM cards",
    "SELECT count(*) FROM cards WHERE pan LIKE '4111%'",
    "SELECT id FROM cards WHERE cards.pan > '5'",
    "SELECT id FROM cards ORDER BY pan",
    "SELECT pan FROM cards ORDER BY 1",
    "SELECT pan AS x FROM cards ORDER BY x",
    "SELECT 1 FROM cards GROUP BY pan",
    "SELECT DISTINCT ON (pan) id FROM cards",
    "SELECT id FROM cards c WHERE 1 / (c.cvv::int - 123) > 0",
    "SELECT row_to_json(c) FROM cards c",
    "SELECT c.row_to_json FROM cards c",
    "SELECT to_jsonb(cards.*) FROM cards",
    "SELECT c FROM cards c",
    "SELECT cards FROM cards",
    "SELECT (c).pan || '' FROM cards c",
    "SELECT ROW(c.*) FROM cards c",
    "SELECT c::text FROM cards c",
    "SELECT json_agg(c) FROM cards c",
    "SELECT array_agg(c.pan) FROM cards c",
    "SELECT substr(x, 1, 8) FROM (SELECT pan AS x FROM cards) s",
    "SELECT substr(s.x, 1, 8) FROM (SELECT * FROM (SELECT pan AS x FROM cards) a) s",
    "WITH w AS (SELECT pan AS x FROM cards) SELECT left(x, 8) FROM w",
    "WITH w(x) AS (SELECT pan FROM cards) SELECT left(x, 8) FROM w",
    "WITH w(a, b, c) AS (SELECT * FROM cards) SELECT left(c, 8) FROM w",
    "SELECT left(c, 8) FROM cards AS t (a, b, c)",
    "SELECT left(b, 8) FROM (cards JOIN orders ON true) AS j (i, h, b)",
    "SELECT pan FROM cards UNION SELECT 'x'",
    "SELECT 'x' UNION ALL SELECT pan FROM cards",
    "SELECT (SELECT pan FROM cards LIMIT 1)",
    "SELECT ARRAY(SELECT pan FROM cards)",
    "SELECT id FROM orders WHERE note IN (SELECT pan FROM cards)",
    "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM cards c WHERE c.pan = o.note)",
    "SELECT 1 FROM cards JOIN orders ON note = pan",
    "SELECT 1 FROM cards a JOIN cards b USING (pan)",
    "SELECT 1 FROM cards NATURAL JOIN (SELECT '4111111111111111' AS pan) p",
    "SELECT left(n, 8) FROM v_pan",
    "SELECT left(x, 8) FROM v_nested",
    "SELECT * FROM v_bin",
    "SELECT row_to_json(v) FROM v_nested v",
    "SELECT s.x FROM cards, LATERAL (SELECT left(pan, 6) AS x) s",
    "SELECT (SELECT left(pan, 6)) FROM cards",
    "SELECT x FROM cards, unnest(ARRAY[pan]) AS x",
    "SELECT format('%s', pan) FROM cards",
    "SELECT CASE WHEN pan = '4111111111111111' THEN 1 END FROM cards",
    "SELECT pan IS NULL FROM cards",
    "SELECT row_number() OVER (PARTITION BY pan) FROM cards",
    "SELECT (SELECT s.x FROM (SELECT 1 AS pan) d, (SELECT left(pan, 3) AS x) s) FROM cards",
    "SELECT xmlforest(pan) FROM cards",
    "SELECT JSON_OBJECT('a' VALUE pan) FROM cards",
    "WITH RECURSIVE r AS (SELECT pan FROM cards UNION SELECT pan || 'x' FROM r) SELECT * FROM r",
    "SELECT width_bucket(cvv::int, 0, 999, 10) FROM cards",
    "EXPLAIN SELECT * FROM cards WHERE pan = '4111111111111111'",
    "PREPARE p AS SELECT left(pan, 6) FROM cards",
    "SELECT U&\"p\\0061n\" || '' FROM cards",
    "SELECT \"pan\" || '' FROM \"public\".\"cards\"",
];

#[test]
fn no_dangerous_statement_passes_a_read_only_rule_set_whatever_its_dress() {
    let classes = [WRITES, DEFINITIONS, RIGHTS, SESSION, REACHING, BULK, OPAQUE, TAGGED];
    let mut passed = Vec::new();
    let mut tried = 0;
    for text in classes.into_iter().flatten() {
        for dressed in dresses(text) {
            for site in [site(READ_ONLY), site(READ_ONLY).with_catalog()] {
                let mut site = site;
                tried += 1;
                let through_view = text.contains("v_") && site.catalog == Default::default();
                if site.passes(&dressed) && !through_view {
                    passed.push(dressed.clone());
                }
            }
        }
    }
    println!("{tried} texts tried");
    assert!(passed.is_empty(), "{} passed: {passed:#?}", passed.len());
}

/// The same statement with comments, in other cases of letters, behind others, explained, prepared.
fn dresses(text: &str) -> Vec<String> {
    let mut dresses = vec![
        text.to_owned(),
        format!("/* a /* b */ c */ {text} -- end"),
        format!("SELECT 1;\n{text};"),
        format!("BEGIN; {text}; COMMIT"),
        format!("\t{}\n;", text.replace(' ', "\n ")),
    ];
    let quoted = text.contains('"') || text.contains('\'') || text.contains('$');
    if !quoted {
        dresses.extend([text.to_uppercase(), text.to_lowercase()]);
        dresses.push(text.replace(' ', "/**/ "));
    }
    let query = ["SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE"];
    if query.iter().any(|word| text.starts_with(word)) && !text.contains(';') {
        dresses.push(format!("EXPLAIN ANALYZE {text}"));
        dresses.push(format!("PREPARE q AS {text}"));
        dresses.push(format!("CREATE TABLE x AS {text}"));
    }
    dresses
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
    let rules = "{id: w, action: allow, effects: [read, write]}";
    for none in [
        "DELETE FROM orders",
        "DELETE FROM orders WHERE true",
        "DELETE FROM orders WHERE 1 = 1",
        "DELETE FROM orders WHERE 'a' = 'a'",
        "DELETE FROM orders WHERE id = id",
        "DELETE FROM orders o WHERE o.id = id",
        "DELETE FROM orders WHERE NOT false",
        "DELETE FROM orders WHERE id = 5 OR true",
        "DELETE FROM orders WHERE id = 5 OR 1 = 1",
        "DELETE FROM orders WHERE id IS NULL OR id IS NOT NULL",
        "DELETE FROM orders WHERE id = 1 OR id <> 1",
        "DELETE FROM orders WHERE id < 5 OR id >= 5",
        "DELETE FROM orders WHERE note LIKE '%'",
        "DELETE FROM orders WHERE EXISTS (SELECT 1)",
        "DELETE FROM orders WHERE $1",
        "DELETE FROM orders WHERE now() > '2000-01-01'",
        "DELETE FROM orders WHERE (SELECT true)",
        "DELETE FROM orders WHERE id IN (id)",
        "UPDATE orders SET note = ''",
        "UPDATE orders SET note = '' WHERE coalesce(true, false)",
        "TRUNCATE orders",
        "MERGE INTO orders o USING cards c ON true WHEN MATCHED THEN UPDATE SET note = ''",
        "WITH d AS (DELETE FROM orders RETURNING id) SELECT 1 FROM orders WHERE id = 1",
        "EXPLAIN DELETE FROM orders",
    ] {
        for site in [site(rules), site(rules).with_catalog()] {
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
        assert_eq!(site(rules).answer(some).sentence, "", "{some}");
    }
}
