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
    channels::{CHANNELS, TYPED},
    gate::{EVERYTHING, Gate, PAN, schema},
    raw::{Client, Told},
    texts::{CLASSES, dresses},
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
        ("groups", b"4111-1111-1111-1111".to_vec()),
        ("four columns", b"4111\0\0\0\x041111\0\0\0\x041111".to_vec()),
        ("with commas", b"4,111,111,111,111,111".to_vec()),
        ("a code", b"737".to_vec()),
    ]
}

fn leak(told: &[Told]) -> Option<&'static str> {
    let mut bytes = BytesMut::new();
    told.iter().for_each(|told| told.message.encode(&mut bytes).unwrap());
    let found = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    forbidden().into_iter().find(|(_, needle)| found(needle)).map(|(name, _)| name)
}

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

/// What is answered to a text, by every way of asking.
fn ways(client: &mut Client, sql: &str) -> Vec<(&'static str, Vec<Told>)> {
    client.send(&Message::Query(Bytes::copy_from_slice(sql.as_bytes())), "query");
    let mut answers = vec![("simple", client.read_to_ready())];
    if !sql.contains("; ") || sql.starts_with("DO") {
        answers.push(("text", extended(client, sql, Format::Text, false)));
        answers.push(("text, described", extended(client, sql, Format::Text, true)));
        answers.push(("binary", extended(client, sql, Format::Binary, false)));
        answers.push(("binary, described", extended(client, sql, Format::Binary, true)));
        for format in [Format::Text, Format::Binary] {
            answers.push(("described once", described_once(client, sql, format)));
        }
    }
    answers
}

/// By a name, described before it runs.
fn described_once(client: &mut Client, sql: &str, format: Format) -> Vec<Told> {
    let (name, sql) = (Bytes::from_static(b"once"), Bytes::copy_from_slice(sql.as_bytes()));
    let parse = Parse { statement: name.clone(), sql, parameter_types: Vec::new() };
    client.send(&Message::Parse(parse), "parse");
    client.send(&Message::Describe(Target::Statement(name.clone())), "describe");
    client.send(&Message::Sync, "sync");
    let mut told = client.read_to_ready();
    told.extend(run(client, name.clone(), format, false));
    client.send(&Message::Close(Target::Statement(name)), "close");
    client.send(&Message::Sync, "sync");
    told.extend(client.read_to_ready());
    told
}

#[test]
fn no_side_channel_leaks_by_any_protocol_or_format() {
    let postgres = Postgres::start("");
    schema(&postgres);
    postgres.sql("CREATE EXTENSION hstore");
    postgres.sql(TYPED);
    let gate = Gate::new(&postgres, EVERYTHING);
    let (mut direct, mut client) = (Client::trusted(&postgres), gate.raw());
    let (mut leaks, mut idle, mut tried) = (Vec::new(), Vec::new(), 0);
    for (name, sql) in CHANNELS.iter().flat_map(|(_, channels)| *channels) {
        // One that gives nothing away without the gateway proves nothing about the gateway.
        if !ways(&mut direct, sql).iter().any(|(_, told)| leak(told).is_some()) {
            idle.push(name);
        }
        for (how, told) in ways(&mut client, sql) {
            tried += 1;
            if let Some(what) = leak(&told) {
                leaks.push(format!("{name} ({how}): {what}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} of {tried} leak: {leaks:#?}", leaks.len());
    assert!(idle.is_empty(), "not even the server itself gives away: {idle:?}");
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

#[test]
fn the_manual_names_every_channel_and_class_that_is_tried() {
    let mut table = String::from("| what is tried | by name |\n| --- | --- |\n");
    let mut channels = 0;
    for (kind, these) in CHANNELS {
        channels += these.len();
        let names: Vec<&str> = these.iter().map(|(name, _)| *name).collect();
        table += &format!("| channels: {kind} | {} |\n", names.join("; "));
    }
    for class in CLASSES {
        let count = class.texts.len();
        table += &format!("| statements: {} | {count} |\n", class.name);
    }
    let names: Vec<&str> =
        dresses("SELECT note FROM orders").iter().map(|(name, _)| *name).collect();
    table += &format!("| dresses of each | {} |\n", names.join("; "));
    assert!(channels >= 26, "{channels}");
    let manual = include_str!("../../../docs/gateway.md");
    assert!(manual.contains(&table), "docs/gateway.md should say:\n{table}");
}
