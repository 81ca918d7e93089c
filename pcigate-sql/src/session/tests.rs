//! Settings through transactions, temporary tables, what a session holds.

use super::*;
use crate::{Catalog, classify};

fn run(session: &mut Session, text: &str, success: bool) {
    for statement in classify(text, session, &Catalog::default()).unwrap() {
        session.after(&statement, success);
    }
}

fn path(session: &Session) -> String {
    session.search_path().map_or("?".to_owned(), |path| path.join(","))
}

#[test]
fn commit_of_a_failed_transaction_gives_settings_back() {
    let mut session = Session::new("u", &["public"]);
    run(&mut session, "BEGIN; SET search_path = evil, \"$user\"", true);
    assert_eq!(path(&session), "evil,u");
    run(&mut session, "SELECT 1 / 0", false);
    run(&mut session, "COMMIT", true);
    assert_eq!(path(&session), "public");
}

#[test]
fn a_transaction_that_ended_unseen_leaves_the_path_unknown() {
    let mut session = Session::new("u", &["public"]);
    run(&mut session, "BEGIN; SET search_path = evil", true);
    session.ready(b'I');
    assert_eq!(path(&session), "?");
    session.parameter_status("search_path", "\"A b\", public");
    assert_eq!(path(&session), "A b,public");
}

#[test]
fn strings_that_may_hold_escapes_are_refused_and_so_is_another_encoding() {
    let mut session = Session::new("u", &["public"]);
    run(&mut session, "SET standard_conforming_strings = off", true);
    let none = Catalog::default();
    assert_eq!(classify("SELECT 'a\\'", &session, &none), Err(Refusal::Backslash));
    run(&mut session, "RESET standard_conforming_strings", true);
    assert!(classify("SELECT 'a\\'", &session, &none).is_ok());
    session.parameter_status("client_encoding", "LATIN1");
    assert_eq!(classify("SELECT 'é'", &session, &none), Err(Refusal::Encoding));
    run(&mut session, "SET client_encoding = 'UTF-8'", true);
    assert!(classify("SELECT 'é'", &session, &none).is_ok());
}

#[test]
fn a_temporary_table_is_known_until_its_transaction_takes_it_back() {
    let mut session = Session::new("u", &["public"]);
    let schema = |session: &Session| {
        let statements = classify("SELECT * FROM cards", session, &Catalog::default()).unwrap();
        statements[0].facts.tables[0].names[0].schema.clone()
    };
    run(&mut session, "BEGIN; CREATE TEMP TABLE cards (id int)", true);
    assert_eq!(schema(&session), "pg_temp");
    run(&mut session, "ROLLBACK", true);
    assert_eq!(schema(&session), "public");
    run(&mut session, "BEGIN; CREATE TEMP TABLE cards (id int) ON COMMIT DROP; COMMIT", true);
    assert_eq!(schema(&session), "public");
    run(&mut session, "CREATE TEMP TABLE cards (id int)", true);
    assert_eq!(schema(&session), "pg_temp");
    run(&mut session, "DISCARD TEMP", true);
    assert_eq!(schema(&session), "public");
}

#[test]
fn a_session_holds_a_bounded_number_of_things() {
    let mut session = Session::new("u", &["public"]);
    for number in 0..MAX_HELD {
        session.prepare(&format!("s{number}"), "SELECT 1").unwrap();
    }
    assert!(session.prepare("more", "SELECT 1").is_err());
    let none = Catalog::default();
    let refused = classify("PREPARE more AS SELECT 1", &session, &none);
    assert!(matches!(refused, Err(Refusal::SessionFull { .. })));
    session.forget_prepared("s1");
    assert!(session.prepare("more", "SELECT 1").is_ok());
}
