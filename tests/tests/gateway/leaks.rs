//! Side channels: every way by which card data could come back, and none does. The rules of these
//! tests allow everything, expressions over tagged columns included: masking alone stands between.

use bytes::{Bytes, BytesMut};
use pcigate_postgres::{
    backend,
    frontend::{Bind, Execute, FunctionCall, Message, Parse, Target},
    values::{Format, Formats, Values},
};
use pcigate_tests::postgres::Postgres;

use super::{
    gate::{EVERYTHING, Gate, PAN, schema},
    raw::{Client, Told},
};

/// What must not be in any byte that comes back, in whatever spelling.
fn forbidden() -> Vec<(&'static str, Vec<u8>)> {
    let number: i64 = PAN.parse().unwrap();
    let groups = [4111_u16, 1111, 1111, 1111].map(u16::to_be_bytes).concat();
    vec![
        ("digits", PAN.into()),
        ("an exponent", b"4.1111111".to_vec()),
        ("the first half", b"41111111".to_vec()),
        ("the second half", b"11111111".to_vec()),
        ("the other number", b"5555555555554444".to_vec()),
        ("the other number in groups", b"5555 5555".to_vec()),
        ("backwards", PAN.bytes().rev().collect()),
        ("hexadecimal digits", b"3431313131313131".to_vec()),
        ("base64", b"NDExMTExMTEx".to_vec()),
        ("an int8", number.to_be_bytes().to_vec()),
        ("a float8", 4_111_111_111_111_111_f64.to_be_bytes().to_vec()),
        ("a numeric", groups),
        ("a code", b"737".to_vec()),
    ]
}

fn leak(told: &[Told]) -> Option<&'static str> {
    let mut bytes = BytesMut::new();
    told.iter().for_each(|told| told.message.encode(&mut bytes).unwrap());
    let found = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    forbidden().into_iter().find(|(_, needle)| found(needle)).map(|(name, _)| name)
}

/// Statements, one string each. Several statements in one string go by the simple protocol only.
const CHANNELS: &[(&str, &str)] = &[
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
    ("array built", "SELECT array_agg(note), array_agg(big) FROM loose"),
    ("range", "SELECT span FROM loose"),
    ("composite", "SELECT loose FROM loose"),
    ("record", "SELECT ROW(big, num, note, arr) FROM loose"),
    ("nested", "SELECT ARRAY[ROW(big, note)] FROM loose"),
    ("hstore", "SELECT hstore('k', note), hstore(note, 'v') FROM loose"),
    ("row_to_json", "SELECT row_to_json(loose), to_jsonb(loose) FROM loose"),
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
    ("char", "SELECT note::char(40), note::name, note::varchar FROM loose"),
    ("set operation", "SELECT note FROM loose UNION ALL SELECT pan FROM cards"),
    ("subquery", "SELECT (SELECT pan FROM cards WHERE id = 1) AS a"),
    ("CTE", "WITH a AS (SELECT note AS b FROM loose) SELECT b FROM a"),
    ("RETURNING", "UPDATE cards SET holder = holder RETURNING pan, cvv"),
    ("RETURNING an expression", "UPDATE loose SET id = id RETURNING 'x' || note, big"),
    ("column name", "SELECT 1 AS \"4111111111111111\""),
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
    ("EXPLAIN", "EXPLAIN SELECT * FROM loose WHERE note = '4111111111111111'"),
    ("set_config", "SELECT set_config('application_name', substr(note, 11), false) FROM loose"),
    ("SHOW", "SET application_name = '4111111111111111'; SHOW application_name"),
    ("NOTIFY", "LISTEN ch; SELECT pg_notify('ch', note) FROM loose; SELECT 1"),
    ("COPY text", "COPY loose TO STDOUT"),
    ("COPY csv", "COPY loose (note, big, num, js) TO STDOUT (FORMAT csv, HEADER)"),
    ("COPY binary", "COPY loose (note, big, num, fl, raw, arr, jb) TO STDOUT (FORMAT binary)"),
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
        "FETCH",
        "BEGIN; DECLARE c CURSOR FOR SELECT pan, cvv, id FROM cards; FETCH 1 FROM c; \
      FETCH ALL FROM c; COMMIT",
    ),
    (
        "binary FETCH",
        "BEGIN; DECLARE c BINARY CURSOR FOR SELECT big, num FROM loose; \
      FETCH ALL FROM c; COMMIT",
    ),
    ("PREPARE", "PREPARE p AS SELECT pan, cvv FROM cards; EXECUTE p; EXECUTE p; DEALLOCATE p"),
    ("large row", "SELECT repeat('x ', 500000) || note || repeat(' y', 500000) FROM loose"),
    ("many rows", "SELECT i, note FROM loose, generate_series(1, 700) AS i"),
    ("temporary table", "CREATE TEMP TABLE t AS SELECT note FROM loose; TABLE t; DROP TABLE t"),
    (
        "other spellings",
        "SELECT '4111 1111 1111 1111', '4111-1111-1111-1111', U&'\\0034111111111111111'",
    ),
];

fn extended(client: &mut Client, sql: &str, format: Format, describe: bool) -> Vec<Told> {
    let sql = Bytes::copy_from_slice(sql.as_bytes());
    let parse = Parse { statement: Bytes::new(), sql, parameter_types: Vec::new() };
    client.send(&Message::Parse(parse), "parse");
    run(client, Bytes::new(), format, describe)
}

fn run(client: &mut Client, statement: Bytes, format: Format, describe: bool) -> Vec<Told> {
    let bind = Bind {
        portal: Bytes::new(),
        statement,
        parameter_formats: Formats::default(),
        parameters: Values::default(),
        result_formats: Formats::new(&[format]),
    };
    client.send(&Message::Bind(bind), "bind");
    if describe {
        client.send(&Message::Describe(Target::Portal(Bytes::new())), "describe");
    }
    client.send(&Message::Execute(Execute { portal: Bytes::new(), max_rows: 0 }), "execute");
    client.send(&Message::Sync, "sync");
    client.read_to_ready()
}

#[test]
fn no_side_channel_leaks_by_any_protocol_or_format() {
    let postgres = Postgres::start("");
    schema(&postgres);
    postgres.sql("CREATE EXTENSION hstore");
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    let mut leaks = Vec::new();
    let mut tried = 0;
    for (name, sql) in CHANNELS {
        let mut answers = vec![("simple", {
            client.send(&Message::Query(Bytes::copy_from_slice(sql.as_bytes())), "query");
            client.read_to_ready()
        })];
        let single = !sql.contains("; ") || sql.starts_with("DO");
        if single {
            answers.push(("text", extended(&mut client, sql, Format::Text, false)));
            answers.push(("text, described", extended(&mut client, sql, Format::Text, true)));
            answers.push(("binary", extended(&mut client, sql, Format::Binary, false)));
            answers.push(("binary, described", extended(&mut client, sql, Format::Binary, true)));
        }
        for (how, told) in answers {
            tried += 1;
            if let Some(what) = leak(&told) {
                leaks.push(format!("{name} ({how}): {what}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} of {tried} leak: {leaks:#?}", leaks.len());
}

#[test]
fn a_prepared_statement_described_once_stays_masked() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    let name = Bytes::from_static(b"once");
    let sql = Bytes::from_static(b"SELECT pan AS a, cvv AS b FROM cards ORDER BY id");
    let parse = Parse { statement: name.clone(), sql, parameter_types: Vec::new() };
    client.send(&Message::Parse(parse), "parse");
    client.send(&Message::Describe(Target::Statement(name.clone())), "describe");
    client.send(&Message::Sync, "sync");
    client.read_to_ready();
    for _ in 0..3 {
        let told = run(&mut client, name.clone(), Format::Text, false);
        assert_eq!(leak(&told), None);
        let rows: Vec<Vec<Option<Vec<u8>>>> = told
            .iter()
            .filter_map(|told| match &told.message {
                backend::Message::DataRow(values) => {
                    Some(values.iter().map(|value| value.map(<[u8]>::to_vec)).collect())
                }
                _ => None,
            })
            .collect();
        let masked = |text: &str| Some(text.as_bytes().to_vec());
        let wanted =
            [vec![masked("411111******1111"), None], vec![masked("5555 55** **** 4444"), None]];
        assert_eq!(rows, wanted);
    }
}

#[test]
fn a_function_called_without_sql_is_masked_or_refused() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    client.query(&format!("SELECT lo_from_bytea(777, 'paid with {PAN}')"));
    client.query("BEGIN");
    client.query("SELECT lo_open(777, 262144)");
    let call = |function, arguments: &[&[u8]]| {
        Message::FunctionCall(FunctionCall {
            function,
            argument_formats: Formats::new(&[Format::Binary]),
            arguments: Values::new(arguments.iter().map(|one| Some(*one))).unwrap(),
            result_format: Format::Binary,
        })
    };
    // loread(0, 100).
    client.send(&call(954, &[&0_i32.to_be_bytes(), &100_i32.to_be_bytes()]), "call");
    let told = client.read_to_ready();
    assert_eq!(leak(&told), None);
    let backend::Message::FunctionCallResponse(Some(value)) = &told[0].message else {
        panic!("{:?}", told.iter().map(|told| told.message.name()).collect::<Vec<_>>());
    };
    assert_eq!(value, "paid with 411111******1111".as_bytes());
    // pg_read_file(text), which is no function of large objects.
    client.send(&call(3826, &[b"PG_VERSION"]), "call");
    let told = client.read_to_ready();
    let backend::Message::ErrorResponse(report) = &told[0].message else { panic!("no error") };
    assert_eq!(report.code(), b"42501");
}

#[test]
fn expressions_over_tagged_columns_are_refused_unless_a_rule_names_them() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let rules = "
          - {id: read, action: allow, effects: [read, bulkRead], \
tables: [public.cards, public.shown]}";
    let gate = Gate::new(&postgres, rules);
    for sql in [
        "SELECT reverse(pan) FROM cards",
        "SELECT substr(pan, 1, 8), substr(pan, 9) FROM cards",
        "SELECT encode(pan::bytea, 'hex') FROM cards",
        "SELECT md5(cvv) FROM cards",
        "SELECT id FROM cards WHERE cvv = '737'",
        "SELECT id FROM cards ORDER BY cvv",
        "SELECT row_to_json(cards) FROM cards",
        "SELECT reverse(label) FROM shown",
        "COPY cards TO STDOUT",
        "SELECT pan FROM cards UNION SELECT 'x'",
    ] {
        let told = gate.psql(&postgres, sql);
        assert!(told.contains("pcigate: "), "{sql}: {told}");
    }
    assert_eq!(gate.psql(&postgres, "SELECT holder FROM cards WHERE id = 1"), "Ann\n");
}
