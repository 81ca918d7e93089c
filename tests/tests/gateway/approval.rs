//! Statements that need approval: refused, and named so that an approval can be for them alone.

use bytes::Bytes;
use pcigate_gateway::{Event, Step};
use pcigate_policy::document::StatementAction;
use pcigate_postgres::{backend, frontend::Message};
use pcigate_tests::postgres::Postgres;

use super::{
    decisions::{query, run},
    gate::{Gate, schema},
    raw::Client,
};

const RULES: &str = "
          - {id: read, action: allow, effects: [read, session], tables: [public.orders]}
          - {id: set, action: allow, effects: [session]}
          - {id: change, action: ask, effects: [write]}
          - {id: never, action: deny, effects: [ddl]}";

/// Key, step and parameters of every statement that was to be asked for.
fn asked(gate: &Gate) -> Vec<(Option<[u8; 32]>, Step, usize)> {
    let events = gate.events.lock().unwrap();
    let statements = events.iter().filter_map(|event| match event {
        Event::Statement(one) if one.verdict == StatementAction::Ask => Some(one),
        _ => None,
    });
    statements.map(|one| (one.request_key, one.step, one.parameters.len())).collect()
}

fn refusal(client: &mut Client, sql: &str) -> (String, String) {
    client.send(&Message::Query(Bytes::copy_from_slice(sql.as_bytes())), "query");
    let told = client.read_to_ready();
    let backend::Message::ErrorResponse(report) = &told[0].message else { panic!("no error") };
    let text = |letter| {
        let field = report.field(letter).map(|text| String::from_utf8_lossy(text).into_owned());
        field.unwrap_or_default()
    };
    (text(b'D'), text(b'M') + &text(b'H'))
}

#[test]
fn a_request_is_refused_with_the_key_that_its_record_has() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, RULES);
    let mut client = gate.raw();
    let (detail, told) = refusal(&mut client, "UPDATE orders SET note = 'x' WHERE id = 1");
    assert!(told.contains("needs approval") && told.contains("name the request"), "{told}");
    let [(Some(key), Step::Query, 0)] = asked(&gate)[..] else { panic!("{:?}", asked(&gate)) };
    let shown: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(detail, format!("rule: change; request: {shown}"));
    // Allowed and denied ones have none.
    assert_eq!(query(&mut client, "SELECT 1"), ["SELECT 1", "Idle"]);
    let (detail, told) = refusal(&mut client, "DROP TABLE orders");
    assert!(detail == "rule: never" && !told.contains("request"), "{detail} {told}");
    assert_eq!(asked(&gate).len(), 1);
    assert_eq!(postgres.sql("SELECT note FROM orders WHERE id = 1"), "order 1\n");
}

#[test]
fn the_same_request_has_the_same_key_and_another_has_another() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, RULES);
    let mut client = gate.raw();
    let same = "UPDATE orders SET note = 'x' WHERE id = 1";
    for sql in [same, same, "UPDATE orders SET note = 'x' WHERE id = 2", "SET search_path TO x"] {
        query(&mut client, sql);
    }
    query(&mut client, "UPDATE public.orders SET note = 'x' WHERE id = 1");
    query(&mut client, same);
    let keys: Vec<_> = asked(&gate).iter().map(|(key, ..)| key.unwrap()).collect();
    assert_eq!(keys.len(), 5);
    assert_eq!(keys[0], keys[1]);
    let mut others = vec![keys[0], keys[2], keys[3], keys[4]];
    others.sort_unstable();
    others.dedup();
    assert_eq!(others.len(), 4, "another text, or the same with another search path");
    // In another session it is the same request.
    query(&mut gate.raw(), same);
    assert_eq!(asked(&gate)[5].0.unwrap(), keys[0]);
}

#[test]
fn parameters_are_part_of_the_request() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, RULES);
    let mut client = gate.raw();
    let sql = "UPDATE orders SET note = $1 WHERE id = 1";
    for value in ["a", "b", "a"] {
        assert_eq!(run(&mut client, "", sql, &[value]), ["42501", "Idle"]);
    }
    // Whether Parse comes by itself, which is recorded too, is chance.
    let mut told = asked(&gate);
    told.retain(|(_, step, _)| *step != Step::Prepare);
    assert!(told.iter().all(|(_, step, count)| (*step, *count) == (Step::Execute, 1)), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].0.is_some() && told[0].0 == told[2].0 && told[0].0 != told[1].0);
    assert_eq!(postgres.sql("SELECT note FROM orders WHERE id = 1"), "order 1\n");
    // What runs by a name says nothing of what it does.
    assert_eq!(run(&mut client, "kept", sql, &["c"]), ["42501", "Idle"]);
    let (_, told) = refusal(&mut client, "EXECUTE kept('d')");
    assert!(told.contains("by a name"), "{told}");
    assert_eq!(asked(&gate).last().unwrap().0, None);
}
