//! What a real server answers, and whether the session knows what it answers; and the traps of the
//! server that the session is built around.

use bytes::Bytes;
use pcigate_postgres::{
    backend::Message as Back,
    frontend::{FunctionCall, Message, Target},
    session::{About, Effect, Kind, Origin, SessionError, Source},
    values::{Format, Formats, Values},
};
use pcigate_tests::postgres::Postgres;

use super::client::{Client, Told, bind, describe, describe_portal, execute, parse, short};

const SCHEMA: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders SELECT n, 'note ' || n FROM generate_series(1, 10) n;
    CREATE TABLE checked (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
    CREATE TABLE early (id int);
    CREATE TRIGGER no BEFORE INSERT ON early FOR EACH STATEMENT EXECUTE FUNCTION no();
    CREATE TABLE ruled (id int);
    CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT id, note FROM orders WHERE id < 3;
    CREATE SCHEMA other;
    CREATE TABLE other.orders (id int, note text);
    INSERT INTO other.orders VALUES (1, 'of the other');
    GRANT ALL ON ALL TABLES IN SCHEMA public, other TO PUBLIC;
    GRANT ALL ON SCHEMA other TO PUBLIC;
";

fn shop() -> Postgres {
    let postgres = Postgres::start("");
    postgres.sql(SCHEMA);
    postgres
}

fn shorts(told: &[Told]) -> Vec<String> {
    told.iter().map(short).collect()
}

fn send(client: &mut Client, messages: &[(Message, &'static str)]) {
    messages.iter().for_each(|(message, tag)| client.send(message, tag));
}

#[test]
fn every_answer_of_the_server_is_matched_with_its_request() {
    let postgres = shop();
    let mut client = Client::trusted(&postgres);
    simple(&mut client);
    extended(&mut client);
    errors(&mut client);
    copies(&mut client);
    function_call(&mut client);
    refusals(&mut client);
    assert_eq!(client.session.outstanding().count(), 0);
}

fn simple(client: &mut Client) {
    let told = client.query("SELECT 1; SELECT 2 WHERE false;; UPDATE orders SET note = note");
    let rest = ["query: SELECT 0", "query: UPDATE 10", "query: ready"];
    assert_eq!(told[told.len() - 4..][1..], rest);
    assert_eq!(client.query(""), ["query: EmptyQueryResponse", "query: ready"]);
    let told = client.query("BEGIN; SELECT 1/0; SELECT 1");
    assert_eq!(told, ["query: BEGIN", "query: error 22012", "query: ready, failed"]);
    assert_eq!(client.query("ROLLBACK").last().unwrap(), "query: ready");
    let told = client.query("LISTEN a; NOTIFY a, 'x'; SET application_name TO 'y'");
    assert!(told.contains(&"ParameterStatus".to_owned()));
    // A notification comes by itself, here before the server is ready.
    assert!(told.contains(&"NotificationResponse".to_owned()), "{told:?}");
    let told = client.query("DO $$ BEGIN RAISE NOTICE 'n'; END $$");
    assert_eq!(told[0], "NoticeResponse");
    // A rule's SELECT gives rows of its own in the answer to INSERT.
    let told = client.query("INSERT INTO ruled VALUES (1)");
    assert!(told.contains(&"query: row 1,note 1".to_owned()), "{told:?}");
    assert_eq!(told[told.len() - 2], "query: INSERT 0 1");
}

fn extended(client: &mut Client) {
    let prepared = parse("s", "SELECT id, note FROM orders WHERE id >= $1 ORDER BY id");
    send(client, &[(prepared, "parse"), (describe("s"), "describe"), (Message::Sync, "sync")]);
    let told = client.read_to_ready();
    let expected =
        ["parse: ParseComplete", "describe: ParameterDescription", "describe: RowDescription"];
    assert_eq!(shorts(&told)[..3], expected);
    client.query("SELECT 'something else'");
    // Columns told long before, rows in parts, two portals of one statement.
    client.query("BEGIN");
    let first = [(bind("p", "s", &[b"3"]), "p"), (bind("q", "s", &[b"9"]), "q")];
    send(client, &first);
    send(client, &[(execute("p", 2), "p1"), (execute("q", 0), "q1"), (execute("p", 1), "p2")]);
    send(client, &[(Message::Close(Target::Portal("p".into())), "close"), (Message::Sync, "sync")]);
    let told = client.read_to_ready();
    assert_eq!(
        shorts(&told),
        [
            "p: BindComplete",
            "q: BindComplete",
            "p1: row 3,note 3",
            "p1: row 4,note 4",
            "p1: PortalSuspended",
            "q1: row 9,note 9",
            "q1: row 10,note 10",
            "q1: SELECT 2",
            "p2: row 5,note 5",
            "p2: PortalSuspended",
            "close: CloseComplete",
            "sync: ready, open",
        ]
    );
    for row in told.iter().filter(|told| matches!(told.message, Back::DataRow(_))) {
        let shape = row.shape.as_ref().unwrap();
        assert_eq!((&*shape.columns()[1].name, shape.source()), (&b"note"[..], Source::Statement));
        assert_eq!((shape.format(1), shape.columns()[1].attribute), (Some(Format::Text), 2));
    }
    client.query("COMMIT");
    assert!(matches!(
        client.session.about(&execute("q", 0)),
        Ok(About::Decide { portal: None, .. })
    ));
    send(client, &[(Message::Close(Target::Statement("s".into())), "c"), (Message::Sync, "")]);
    client.read_to_ready();
}

fn errors(client: &mut Client) {
    // Two batches in one go: the first fails and is skipped up to its Sync.
    send(client, &[(parse("", "SELECT 1/(id-$1) FROM orders"), "p"), (bind("", "", &[b"1"]), "b")]);
    send(client, &[(execute("", 0), "e"), (parse("z", "SELECT 1"), "z"), (Message::Sync, "s")]);
    send(client, &[(parse("", "SELECT 2"), "p"), (bind("", "", &[]), "b")]);
    send(client, &[(describe_portal(""), "d"), (execute("", 0), "e2"), (Message::Sync, "s2")]);
    let told = client.read_to_ready();
    let expected = ["p: ParseComplete", "b: BindComplete", "e: error 22012", "s: ready"];
    assert_eq!(shorts(&told), expected);
    assert_eq!(told[2].skipped, ["z"]);
    let told = client.read_to_ready();
    assert_eq!(short(&told[3]), "e2: row 2");
    assert_eq!(told[3].shape.as_ref().unwrap().source(), Source::Portal);
    // Sync itself fails where it commits.
    let insert = "INSERT INTO checked VALUES (1), (1)";
    send(client, &[(parse("", insert), "p"), (bind("", "", &[]), "b"), (execute("", 0), "e")]);
    send(client, &[(Message::Sync, "sync"), (parse("", "SELECT 1"), "next"), (Message::Sync, "")]);
    let told = client.read_to_ready();
    assert_eq!(shorts(&told)[2..], ["e: INSERT 0 2", "sync: error 23505", "sync: ready"]);
    assert_eq!(shorts(&client.read_to_ready())[0], "next: ParseComplete");
    // A Query within a batch ends with ReadyForQuery of its own; the batch goes on.
    let query = || Message::Query(Bytes::from_static(b"SELECT 1"));
    send(client, &[(parse("n", "SELECT 3"), "n"), (query(), "q")]);
    client.read_to_ready();
    send(client, &[(bind("", "n", &[]), "b"), (execute("", 0), "e"), (Message::Sync, "s")]);
    assert_eq!(shorts(&client.read_to_ready())[1], "e: row 3");
}

fn copies(client: &mut Client) {
    let data = |text: &'static str| Message::CopyData(Bytes::from_static(text.as_bytes()));
    let query = |sql: &'static str| Message::Query(Bytes::from_static(sql.as_bytes()));
    let told = client.query("COPY orders TO STDOUT; SELECT 1");
    assert_eq!(told.iter().filter(|told| told.ends_with("CopyData")).count(), 10);
    client.send(&query("COPY orders FROM STDIN; SELECT 1; COPY early FROM STDIN"), "copy");
    assert!(matches!(client.session.about(&data("x")), Ok(About::Wait)));
    assert_eq!(short(&client.read()), "copy: CopyInResponse");
    assert!(client.drops(&Message::Sync));
    send(client, &[(data("11\tnew\n"), ""), (Message::CopyDone, "")]);
    let told = client.read_to_ready();
    assert_eq!((short(&told[0]), told[1].index), ("copy: COPY 1".to_owned(), 1));
    assert_eq!(shorts(&told)[4..], ["copy: CopyInResponse", "copy: error P0001", "copy: ready"]);
    // As libpq does it: Sync before it knows that this is COPY. The server drops that Sync, and we
    // must not wait for its answer.
    let begin = |client: &mut Client, sql| {
        send(client, &[(parse("", sql), "p"), (bind("", "", &[]), "b")]);
        send(client, &[(execute("", 0), "copy"), (Message::Sync, "early")]);
        let told = [client.read(), client.read(), client.read()];
        assert_eq!(short(&told[2]), "copy: CopyInResponse");
    };
    begin(client, "COPY orders FROM STDIN");
    send(client, &[(data("12\tnew\n"), ""), (Message::CopyDone, ""), (Message::Sync, "late")]);
    assert_eq!(shorts(&client.read_to_ready()), ["copy: COPY 1", "late: ready"]);
    assert_eq!(client.session.outstanding().count(), 0);
    // The same with bad data: the early Sync was dropped all the same.
    begin(client, "COPY orders FROM STDIN");
    send(client, &[(data("x\n"), ""), (Message::CopyDone, ""), (Message::Sync, "late")]);
    let told = client.read_to_ready();
    assert_eq!(short(&told[0]), "copy: error 22P02");
    assert_eq!(client.query("SELECT 1").last().unwrap(), "query: ready");
    // And with a statement that fails before it looks at data: here the early Sync counts.
    begin(client, "COPY early FROM STDIN");
    send(client, &[(Message::CopyDone, ""), (Message::Sync, "late")]);
    assert_eq!(short(&client.read_to_ready()[0]), "copy: error P0001");
    assert_eq!(short(&client.read_to_ready()[0]), "late: ready");
    assert_eq!(client.query("SELECT 1").last().unwrap(), "query: ready");
    assert_eq!(client.session.outstanding().count(), 0);
    // CopyFail of the client's own.
    client.send(&query("COPY orders FROM STDIN"), "copy");
    client.read();
    client.send(&Message::CopyFail(Bytes::from_static(b"no more")), "");
    let told = client.read_to_ready();
    assert_eq!(shorts(&told), ["copy: error 57014", "copy: ready"]);
}

fn function_call(client: &mut Client) {
    // 1598 is random(), and 21 int2(float8): no arguments, and one.
    let call = |function, arguments: &[&[u8]]| {
        Message::FunctionCall(FunctionCall {
            function,
            argument_formats: Formats::default(),
            arguments: Values::new(arguments.iter().map(|value| Some(*value))).unwrap(),
            result_format: Format::Text,
        })
    };
    client.send(&call(1598, &[]), "f");
    assert_eq!(shorts(&client.read_to_ready()), ["f: FunctionCallResponse", "f: ready"]);
    client.send(&call(1598, &[b"1"]), "f");
    let told = client.read_to_ready();
    assert!(matches!(told[0].message, Back::ErrorResponse(_)) && told.len() == 2);
    client.refuse(&call(1598, &[]), "f");
    let told = client.read_to_ready();
    assert!(told[0].refused && matches!(told[0].message, Back::ErrorResponse(_)));
}

fn refusals(client: &mut Client) {
    let query = |sql: &'static str| Message::Query(Bytes::from_static(sql.as_bytes()));
    client.refuse(&query("DELETE FROM orders"), "refused");
    let told = client.read_to_ready();
    assert!(told[0].refused);
    assert_eq!(shorts(&told), ["refused: error 42601", "refused: ready"]);
    // Within a transaction it leaves the state of an error, as the server has it.
    client.query("BEGIN");
    client.refuse(&query("DELETE FROM orders"), "refused");
    assert_eq!(short(&client.read_to_ready()[1]), "refused: ready, failed");
    assert_eq!(client.query("SELECT 1")[0], "query: error 25P02");
    client.refuse(&query("DELETE FROM orders"), "refused");
    assert!(client.read_to_ready()[0].refused);
    client.query("ROLLBACK");
    // In a batch: what came before in it is undone, what comes behind is skipped, and the client's
    // statement without a name is still there.
    send(client, &[(parse("", "SELECT 7"), "p"), (Message::Sync, "")]);
    client.read_to_ready();
    let insert = [(parse("i", "INSERT INTO orders VALUES (99)"), "i"), (bind("", "i", &[]), "b")];
    send(client, &insert);
    send(client, &[(execute("", 0), "insert")]);
    client.refuse(&bind("", "n", &[]), "refused");
    send(client, &[(execute("", 0), "skipped"), (Message::Sync, "s")]);
    let told = client.read_to_ready();
    assert_eq!(short(&told[2]), "insert: INSERT 0 1");
    assert!(told[3].refused && told[3].kind == Some(Kind::Refused));
    assert_eq!(told[3].skipped, ["skipped"]);
    send(client, &[(bind("", "", &[]), "b"), (execute("", 0), "e"), (Message::Sync, "s")]);
    assert_eq!(short(&client.read_to_ready()[1]), "e: row 7");
    assert_eq!(client.query("SELECT count(*) FROM orders WHERE id = 99")[1], "query: row 0");
    client.send(&query("COPY orders FROM STDIN"), "copy");
    client.read();
    client.refuse(&Message::CopyData(Bytes::from_static(b"13\t4111111111111111\n")), "");
    assert!(client.drops(&Message::CopyDone));
    let told = client.read_to_ready();
    assert!(told[0].refused && short(&told[1]) == "copy: ready");
}

#[test]
fn names_mean_what_the_server_takes_them_for() {
    let postgres = shop();
    let mut client = Client::trusted(&postgres);
    let client = &mut client;
    // PREPARE makes a statement that Bind can use, DEALLOCATE takes one that Parse has made.
    let query = |sql: &'static str| Message::Query(Bytes::from_static(sql.as_bytes()));
    send(client, &[(parse("made", "SELECT 1"), "made"), (Message::Sync, "")]);
    client.read_to_ready();
    let both = query("PREPARE told AS SELECT 2; DEALLOCATE made");
    let request = client.session.sent(&both, Origin::Client, "sql").unwrap().unwrap();
    client.session.will(request, 0, Effect::Prepare("told".into()));
    client.session.will(request, 1, Effect::Deallocate("made".into()));
    client.write(&both);
    assert!(matches!(client.session.about(&bind("", "told", &[])), Ok(About::Wait)));
    client.read_to_ready();
    send(client, &[(bind("", "told", &[]), "b"), (execute("", 0), "e")]);
    send(client, &[(bind("", "made", &[]), "gone"), (Message::Sync, "")]);
    let told = shorts(&client.read_to_ready());
    assert_eq!(told[1..], ["e: row 2", "e: SELECT 1", "gone: error 26000", "ready"]);
    // Names are cut after 63 bytes, so that two of 64 are one statement: the session takes neither.
    let long = |last: &str| {
        Message::Parse(pcigate_postgres::frontend::Parse {
            statement: format!("{}{last}", "n".repeat(63)).into(),
            sql: "SELECT 1".into(),
            parameter_types: Vec::new(),
        })
    };
    let refused = client.session.about(&long("a")).err().unwrap();
    assert!(matches!(refused, SessionError::LongName { length: 64, .. }));
    client.write(&long("a"));
    client.write(&long("b"));
    client.send(&Message::Sync, "");
    let raw = client.read_raw(3);
    assert!(matches!(raw[0], Back::ParseComplete));
    let Back::ErrorResponse(report) = &raw[1] else { panic!("two statements") };
    assert_eq!(report.code(), b"42P05", "the second is the first");
}

#[test]
fn the_tables_of_a_statement_described_before_may_be_others_when_it_runs() {
    let postgres = shop();
    let mut client = Client::trusted(&postgres);
    let client = &mut client;
    let of = |name: &str| -> u32 {
        postgres.sql(&format!("SELECT '{name}'::regclass::oid")).trim().parse().unwrap()
    };
    let (here, there) = (of("public.orders"), of("other.orders"));
    send(client, &[(parse("s", "SELECT note FROM orders LIMIT 1"), "p"), (describe("s"), "d")]);
    client.send(&Message::Sync, "");
    client.read_to_ready();
    client.query("SET search_path TO other");
    send(client, &[(bind("", "s", &[]), "b"), (execute("", 0), "e"), (Message::Sync, "")]);
    let told = client.read_to_ready();
    assert_eq!(short(&told[1]), "e: row of the other");
    let shape = told[1].shape.as_ref().unwrap();
    // The server does not say so: the description is of the first table, the row of the second.
    assert_eq!((shape.source(), shape.columns()[0].table), (Source::Statement, here));
    send(client, &[(bind("", "s", &[]), "b"), (describe_portal(""), "d"), (execute("", 0), "e")]);
    client.send(&Message::Sync, "");
    let told = client.read_to_ready();
    let shape = told[2].shape.as_ref().unwrap();
    assert_eq!((shape.source(), shape.columns()[0].table), (Source::Portal, there));
}

#[test]
fn a_portal_that_fetches_or_executes_may_do_so_from_another_table_than_described() {
    let postgres = shop();
    let mut client = Client::trusted(&postgres);
    let client = &mut client;
    let here: u32 = postgres.sql("SELECT 'public.orders'::regclass::oid").trim().parse().unwrap();
    // The portal holds the words, and what the name means is looked up when it runs.
    for (make, run, exchange) in [
        (
            "DECLARE c CURSOR FOR SELECT note FROM orders",
            "FETCH c",
            "CLOSE c; DECLARE c CURSOR FOR SELECT note FROM other.orders",
        ),
        (
            "PREPARE x AS SELECT note FROM orders",
            "EXECUTE x",
            "DEALLOCATE x; PREPARE x AS SELECT note FROM other.orders",
        ),
    ] {
        client.query("BEGIN");
        client.query(make);
        send(client, &[(parse("", run), ""), (bind("p", "", &[]), "")]);
        send(client, &[(describe_portal("p"), "d"), (Message::Sync, "")]);
        client.read_to_ready();
        client.query(exchange);
        send(client, &[(execute("p", 0), "e"), (Message::Sync, "")]);
        let told = client.read_to_ready();
        assert_eq!(short(&told[0]), "e: row of the other", "{run}");
        let shape = told[0].shape.as_ref().unwrap();
        assert_eq!((shape.source(), shape.columns()[0].table), (Source::Portal, here), "{run}");
        client.query("ROLLBACK");
    }
}
