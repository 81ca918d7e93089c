//! The side channels that are tried: statements by which card data could come back.

/// What they ask beside the tables of all tests.
pub const TYPED: &str = "
    CREATE TYPE kind AS ENUM ('other', '4111111111111111');
    CREATE DOMAIN dom AS text CHECK (VALUE <> '');
    CREATE DOMAIN bigdom AS int8;
    CREATE TYPE comp AS (a text, b int8, c numeric);
    CREATE TABLE typed (kind kind, dom dom, bigdom bigdom, pt point, bx box, ci circle,
        bits bit(64), tv tsvector, tq tsquery, jp jsonpath, mr int8multirange, comp comp);
    INSERT INTO typed SELECT '4111111111111111', note, big, point(fl, 1), box(point(fl, fl), \
        point(0, 0)), circle(point(0, 0), fl), big::bit(64), to_tsvector(note), \
        to_tsquery(substr(note, 11)), ('$.\"' || substr(note, 11) || '\"')::jsonpath, \
        int8multirange(span), ROW(note, big, num)::comp FROM loose;
    CREATE VIEW constant AS SELECT '4111111111111111'::text AS n;
    COMMENT ON TABLE loose IS 'as 4111111111111111';
    COMMENT ON COLUMN loose.id IS 'as 4111111111111111';
    CREATE FUNCTION echo(n text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RETURN n::int; END $$;
    SELECT lo_from_bytea(777, 'paid with 4111111111111111');
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
    GRANT ALL ON LARGE OBJECT 777 TO PUBLIC;
    ANALYZE loose; ANALYZE cards";

/// By kind: a name and a text. Several statements in one text go by the simple protocol only.
pub const CHANNELS: &[(&str, &[(&str, &str)])] = &[
    (
        "rows and types",
        &[
            ("text column", "SELECT note FROM loose"),
            ("tagged columns", "SELECT pan, cvv FROM cards"),
            ("alias", "SELECT pan AS order_number, cvv AS remark FROM cards"),
            ("view", "SELECT code, label FROM shown"),
            ("star", "SELECT * FROM cards"),
            ("join", "SELECT c.*, l.* FROM cards c JOIN loose l USING (id)"),
            ("int8", "SELECT big FROM loose"),
            ("numeric", "SELECT num, num * 1.0, num / 10 * 10 FROM loose"),
            ("float8", "SELECT fl FROM loose"),
            ("bytea", "SELECT raw FROM loose"),
            ("json", "SELECT js, js ->> 'pan' FROM loose"),
            ("jsonb", "SELECT jb, jb -> 'pan' FROM loose"),
            ("xml", "SELECT doc FROM loose"),
            ("array", "SELECT arr, bigs FROM loose"),
            ("range", "SELECT span FROM loose"),
            ("composite", "SELECT loose FROM loose"),
            ("record", "SELECT ROW(big, num, note, arr) FROM loose"),
            ("nested", "SELECT ARRAY[ROW(big, note)] FROM loose"),
            ("hstore", "SELECT hstore('k', note), hstore(note, 'v') FROM loose"),
            ("row_to_json", "SELECT row_to_json(loose), to_jsonb(loose) FROM loose"),
            ("char", "SELECT note::char(40), note::name, note::varchar FROM loose"),
            ("large row", "SELECT repeat('x ', 500000) || note || repeat(' y', 500000) FROM loose"),
            ("many rows", "SELECT i, note FROM loose, generate_series(1, 700) AS i"),
            (
                "other spellings",
                "SELECT '4111 1111 1111 1111', '4111-1111-1111-1111', U&'\\0034111111111111111'",
            ),
            ("money", "SELECT big::money, (num / 100)::money FROM loose"),
            ("enumeration", "SELECT kind FROM typed"),
            ("domain", "SELECT dom, bigdom FROM typed"),
            ("point, box and circle", "SELECT pt, bx, ci FROM typed"),
            ("polygon and path", "SELECT polygon(bx), path(polygon(bx)) FROM typed"),
            ("bit string", "SELECT bits FROM typed"),
            ("tsvector and tsquery", "SELECT tv, tq FROM typed"),
            ("jsonpath", "SELECT jp FROM typed"),
            ("multirange", "SELECT mr, numrange(num, num + 1) FROM typed, loose"),
            ("composite type", "SELECT comp, ARRAY[comp] FROM typed"),
            ("array of arrays", "SELECT ARRAY[bigs, bigs], ARRAY[raw, raw] FROM loose"),
            ("xid8", "SELECT note::text, substr(note, 11)::xid8 FROM loose"),
            ("large object", "SELECT lo_get(777)"),
            ("json_each and json_populate", "SELECT e.* FROM loose, json_each_text(js) AS e"),
            ("unnest", "SELECT unnest(arr), unnest(bigs) FROM loose"),
            ("xpath", "SELECT xpath('//a/text()', doc) FROM loose"),
            ("regular expression", "SELECT regexp_matches(note, '[0-9]+') FROM loose"),
        ],
    ),
    (
        "parts and encodings",
        &[
            ("array built", "SELECT array_agg(note), array_agg(big) FROM loose"),
            ("aggregate", "SELECT string_agg(note, ','), max(big), min(num) FROM loose"),
            ("split columns", "SELECT substr(note, 11, 8), substr(note, 19) FROM loose"),
            (
                "split in four",
                "SELECT substr(note,11,4), substr(note,15,4), substr(note,19,4), \
      substr(note,23) FROM loose",
            ),
            ("backwards", "SELECT reverse(substr(note, 11)) FROM loose"),
            ("hex", "SELECT encode(convert_to(note, 'UTF8'), 'hex') FROM loose"),
            ("base64", "SELECT encode(convert_to(substr(note, 11), 'UTF8'), 'base64') FROM loose"),
            ("concatenated", "SELECT 'n' || big, concat(num, '') FROM loose"),
            ("formatted", "SELECT to_char(big, 'FM9999-9999-9999-9999') FROM loose"),
            ("set operation", "SELECT note FROM loose UNION ALL SELECT pan FROM cards"),
            ("subquery", "SELECT (SELECT pan FROM cards WHERE id = 1) AS a"),
            ("CTE", "WITH a AS (SELECT note AS b FROM loose) SELECT b FROM a"),
            ("with commas", "SELECT to_char(big, 'FM9,999,999,999,999,999') FROM loose"),
            ("with zeros in front", "SELECT lpad(substr(note, 11), 19, '0') FROM loose"),
            (
                "quoted",
                "SELECT quote_literal(note), quote_ident(note), format('%L', note) FROM loose",
            ),
            (
                "XML elements",
                "SELECT xmlelement(name a, substr(note, 11)), xmlforest(big AS b) FROM loose",
            ),
            ("JSON built", "SELECT json_build_object('a', num), to_jsonb(bigs) FROM loose"),
            ("window", "SELECT first_value(note) OVER (), lag(big, 0) OVER () FROM loose"),
            ("CASE", "SELECT CASE WHEN id > 0 THEN note END, coalesce(note, '') FROM loose"),
            (
                "recursion",
                "WITH RECURSIVE r(n, t) AS (SELECT 1, note FROM loose UNION ALL SELECT n + 1, t \
                 FROM r WHERE n < 3) SELECT t FROM r",
            ),
            ("LATERAL", "SELECT l.x FROM loose, LATERAL (SELECT note || '!' AS x) AS l"),
        ],
    ),
    (
        "writes, cursors and names",
        &[
            ("RETURNING", "UPDATE cards SET holder = holder RETURNING pan, cvv"),
            ("RETURNING an expression", "UPDATE loose SET id = id RETURNING 'x' || note, big"),
            ("column name", "SELECT 1 AS \"4111111111111111\""),
            (
                "FETCH",
                "BEGIN; DECLARE c CURSOR FOR SELECT pan, cvv, id FROM cards; FETCH 1 FROM c; \
      FETCH ALL FROM c; COMMIT",
            ),
            (
                "binary FETCH",
                "BEGIN; DECLARE c BINARY CURSOR FOR SELECT big, num FROM loose; \
      FETCH ALL FROM c; COMMIT",
            ),
            (
                "PREPARE",
                "PREPARE p AS SELECT pan, cvv FROM cards; EXECUTE p; EXECUTE p; DEALLOCATE p",
            ),
            (
                "temporary table",
                "CREATE TEMP TABLE t AS SELECT note FROM loose; TABLE t; DROP TABLE t",
            ),
            ("EXPLAIN", "EXPLAIN SELECT * FROM loose WHERE note = '4111111111111111'"),
            (
                "cursor WITH HOLD",
                "DECLARE h CURSOR WITH HOLD FOR SELECT note, big FROM loose; FETCH ALL FROM h; \
                 CLOSE h",
            ),
            (
                "field names",
                "SELECT json_build_object(note, 1), row_to_json(x) FROM (SELECT 1 AS \
                 \"4111111111111111\") AS x, loose",
            ),
            (
                "EXPLAIN in JSON",
                "EXPLAIN (FORMAT json, VERBOSE) SELECT * FROM loose WHERE note = \
                 '4111111111111111'",
            ),
            (
                "statistics",
                "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename IN \
                 ('cards', 'loose')",
            ),
            ("view definition", "SELECT pg_get_viewdef('constant'::regclass)"),
            (
                "comment",
                "SELECT obj_description('loose'::regclass), col_description('loose'::regclass, 1)",
            ),
        ],
    ),
    (
        "errors, notices and settings",
        &[
            ("error text", "SELECT note::int FROM loose"),
            ("error of a cast", "SELECT substr(note, 11)::date FROM loose"),
            ("error and notice of a function", "SELECT leaky()"),
            (
                "DO",
                "DO $$ DECLARE n text; BEGIN SELECT note INTO n FROM loose; RAISE NOTICE '%', n; \
      RAISE EXCEPTION USING MESSAGE = n, DETAIL = n, HINT = n; END $$",
            ),
            ("unique constraint", "INSERT INTO cards VALUES (9, '4111111111111111', '1', '')"),
            ("check constraint", "INSERT INTO cards VALUES (9, 'x', '73737', '')"),
            ("not null of a tagged table", "INSERT INTO cards VALUES (NULL, 'x', '737', '')"),
            (
                "set_config",
                "SELECT set_config('application_name', substr(note, 11), false) FROM loose",
            ),
            ("SHOW", "SET application_name = '4111111111111111'; SHOW application_name"),
            ("NOTIFY", "LISTEN ch; SELECT pg_notify('ch', note) FROM loose; SELECT 1"),
            (
                "names in an error",
                "DO $$ DECLARE n text; BEGIN SELECT note INTO n FROM loose; RAISE EXCEPTION \
                 USING COLUMN = n, CONSTRAINT = n, DATATYPE = n, TABLE = n, SCHEMA = n; END $$",
            ),
            (
                "query in an error",
                "DO $$ DECLARE n text; BEGIN SELECT note INTO n FROM loose; EXECUTE 'SELECT 1 \
                 FROM nowhere /* ' || n || ' */'; END $$",
            ),
            ("context of an error", "SELECT echo(note) FROM loose"),
            ("error of an enumeration", "SELECT substr(note, 11)::kind FROM loose"),
            ("error of JSON", "SELECT ('{\"a\": ' || substr(note, 11) || 'x}')::json FROM loose"),
            ("error of a point", "SELECT note::point FROM loose"),
            (
                "channel of NOTIFY",
                "LISTEN \"4111111111111111\"; NOTIFY \"4111111111111111\", 'x'; SELECT 1",
            ),
        ],
    ),
    (
        "COPY",
        &[
            ("COPY text", "COPY loose TO STDOUT"),
            ("COPY csv", "COPY loose (note, big, num, js) TO STDOUT (FORMAT csv, HEADER)"),
            (
                "COPY binary",
                "COPY loose (note, big, num, fl, raw, arr, jb) TO STDOUT (FORMAT binary)",
            ),
            (
                "COPY of a query",
                "COPY (SELECT repeat('y', 8000) || note FROM loose, \
      generate_series(1, 40)) TO STDOUT",
            ),
            (
                "COPY with a delimiter",
                "COPY (SELECT substr(note, 11, 8), substr(note, 19) FROM loose) \
      TO STDOUT (DELIMITER '-')",
            ),
            ("COPY of a tagged table", "COPY cards TO STDOUT"),
            (
                "COPY quoted",
                "COPY loose (note, arr, bigs) TO STDOUT (FORMAT csv, FORCE_QUOTE *, QUOTE '~')",
            ),
            (
                "COPY binary of arrays and ranges",
                "COPY loose (bigs, span) TO STDOUT (FORMAT binary)",
            ),
            ("COPY binary of types", "COPY typed TO STDOUT (FORMAT binary)"),
            (
                "COPY with NULL as a number",
                "COPY (SELECT NULL) TO STDOUT (NULL '4111111111111111')",
            ),
            (
                "COPY of tagged columns by a query",
                "COPY (SELECT pan AS a, cvv AS b FROM cards) TO STDOUT (FORMAT csv, HEADER)",
            ),
        ],
    ),
];
