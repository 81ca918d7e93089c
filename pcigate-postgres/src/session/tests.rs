//! Scenarios by hand, as the manual tells them; a model of the server plays the rest.

mod model;

use bytes::Bytes;

use super::*;
use crate::backend::{
    Column, CopyFormat, Message as Back, Report, RowDescription, TransactionStatus as Status,
};
use crate::frontend::{Bind, Execute, FunctionCall, Parse};
use crate::values::{Format, Values};

type Tag = &'static str;

fn session() -> Session<Tag> {
    Session::new(Limits::default())
}

fn parse(statement: &'static str) -> Message {
    let (statement, sql) = (statement.into(), Bytes::from_static(b"select"));
    Message::Parse(Parse { statement, sql, parameter_types: Vec::new() })
}

fn bind(portal: &'static str, statement: &'static str, formats: &[Format]) -> Message {
    Message::Bind(Bind {
        portal: portal.into(),
        statement: statement.into(),
        parameter_formats: Formats::default(),
        parameters: Values::default(),
        result_formats: Formats::new(formats),
    })
}

fn execute(portal: &'static str) -> Message {
    Message::Execute(Execute { portal: portal.into(), max_rows: 0 })
}

fn describe_statement(name: &'static str) -> Message {
    Message::Describe(Target::Statement(name.into()))
}

fn query() -> Message {
    Message::Query(Bytes::from_static(b"select"))
}

fn row(values: usize) -> Back {
    Back::DataRow(Values::new(vec![Some(&b"x"[..]); values]).unwrap())
}

fn columns(table: u32, count: usize) -> Back {
    let column = Column {
        name: Bytes::from_static(b"c"),
        table,
        attribute: 1,
        type_oid: 25,
        type_size: -1,
        type_modifier: -1,
        format: Format::Text,
    };
    Back::RowDescription(RowDescription { columns: vec![column; count] })
}

fn complete() -> Back {
    Back::CommandComplete(Bytes::from_static(b"SELECT 1"))
}

fn error() -> Back {
    Back::ErrorResponse(Report::error("22012", "division by zero"))
}

fn copy_format() -> CopyFormat {
    CopyFormat { overall: Format::Text, columns: Formats::default() }
}

fn idle() -> Back {
    Back::ReadyForQuery(Status::Idle)
}

/// Sends all of them with their tags.
fn send(session: &mut Session<Tag>, messages: &[(Message, Tag)]) {
    for (message, tag) in messages {
        session.sent(message, Origin::Client, tag).unwrap();
    }
}

/// The tag of the request that each message answers.
fn tags(session: &mut Session<Tag>, messages: &[Back]) -> Vec<Option<Tag>> {
    let answers = messages.iter().map(|message| {
        let answer = session.received(message).unwrap();
        answer.request.map(|request| request.tag)
    });
    answers.collect()
}

fn waits(session: &Session<Tag>, message: &Message) -> bool {
    matches!(session.about(message), Ok(About::Wait))
}

fn drops(session: &Session<Tag>, message: &Message) -> bool {
    matches!(session.about(message), Ok(About::Drop))
}

#[test]
fn rows_have_the_columns_that_describe_of_the_statement_told_long_before() {
    let mut session = session();
    let prepare = [(parse("s"), "p"), (describe_statement("s"), "d"), (Message::Sync, "")];
    send(&mut session, &prepare);
    let types = Back::ParameterDescription(vec![20, 25]);
    tags(&mut session, &[Back::ParseComplete, types, columns(77, 2), idle()]);
    send(&mut session, &[(query(), "q")]);
    tags(&mut session, &[complete(), idle()]);
    for formats in [[Format::Binary, Format::Text], [Format::Text, Format::Binary]] {
        send(&mut session, &[(bind("", "s", &formats), "b"), (execute(""), "e")]);
        send(&mut session, &[(Message::Sync, "")]);
        tags(&mut session, &[Back::BindComplete]);
        let row = row(2);
        let answer = session.received(&row).unwrap();
        let shape = answer.shape.unwrap();
        assert_eq!((shape.columns()[1].table, shape.source()), (77, Source::Statement));
        assert_eq!([shape.format(0), shape.format(1)], formats.map(Some));
        let statement = answer.request.unwrap().statement.as_ref().unwrap();
        assert_eq!((statement.tag, statement.parameter_types().unwrap()[1]), ("p", 25));
        assert_eq!(tags(&mut session, &[complete(), idle()]), [Some("e"), Some("")]);
    }
    // Describe of the portal says more, and wins.
    let portal = Message::Describe(Target::Portal("".into()));
    send(&mut session, &[(bind("", "s", &[]), "b"), (portal, "d"), (execute(""), "e")]);
    tags(&mut session, &[Back::BindComplete, columns(78, 2)]);
    let row = row(2);
    let answer = session.received(&row).unwrap();
    let shape = answer.shape.unwrap();
    assert_eq!((shape.columns()[0].table, shape.source()), (78, Source::Portal));
}

#[test]
fn a_row_that_was_never_described_says_so_and_one_of_another_width_is_refused() {
    let mut session = session();
    send(&mut session, &[(parse(""), ""), (bind("", "", &[]), ""), (execute(""), "e")]);
    tags(&mut session, &[Back::ParseComplete, Back::BindComplete]);
    assert!(session.received(&row(3)).unwrap().shape.is_none());
    tags(&mut session, &[complete()]);
    send(&mut session, &[(Message::Sync, ""), (query(), "q")]);
    tags(&mut session, &[idle(), columns(1, 2)]);
    let error = session.received(&row(3)).err().unwrap();
    assert_eq!(error, SessionError::RowWidth { values: 3, columns: 2 });
}

#[test]
fn an_error_skips_to_sync_and_names_what_was_skipped() {
    let mut session = session();
    let first = [(parse("a"), "1"), (bind("", "a", &[]), "2"), (execute(""), "3")];
    send(&mut session, &first);
    send(&mut session, &[(Message::Sync, "4"), (parse("b"), "5")]);
    let error = error();
    let answer = session.received(&error).unwrap();
    assert_eq!((answer.request.unwrap().tag, answer.ends), ("1", true));
    let skipped: Vec<_> = answer.skipped.iter().map(|request| request.tag).collect();
    assert_eq!(skipped, ["2", "3"]);
    assert_eq!(tags(&mut session, &[idle(), Back::ParseComplete]), [Some("4"), Some("5")]);
    // Nothing is left of the statement that was not made.
    assert!(matches!(
        session.about(&bind("", "a", &[])),
        Ok(About::Decide { statement: None, .. })
    ));
    // Behind an error without Sync, everything else is dropped, a Query too.
    send(&mut session, &[(bind("", "gone", &[]), "6")]);
    tags(&mut session, &[error]);
    assert!(drops(&session, &query()) && drops(&session, &parse("c")));
    assert!(drops(&session, &Message::CopyDone));
    send(&mut session, &[(Message::Sync, "7")]);
    assert_eq!(tags(&mut session, &[idle()]), [Some("7")]);
}

#[test]
fn an_error_of_sync_itself_belongs_to_sync() {
    let mut session = session();
    send(&mut session, &[(parse(""), "p"), (Message::Sync, "s"), (query(), "q")]);
    let told = tags(&mut session, &[Back::ParseComplete, error(), idle(), complete(), idle()]);
    assert_eq!(told, [Some("p"), Some("s"), Some("s"), Some("q"), Some("q")]);
}

#[test]
fn statements_of_one_string_are_told_apart() {
    let mut session = session();
    send(&mut session, &[(query(), "q")]);
    let answers = [
        (columns(1, 1), 0),
        (row(1), 0),
        (complete(), 1),
        (Back::CopyOutResponse(copy_format()), 1),
        (Back::CopyData(Bytes::new()), 1),
        (Back::CopyDone, 1),
        (complete(), 2),
        (Back::EmptyQueryResponse, 3),
        (error(), 3),
        (idle(), 3),
    ];
    for (message, index) in answers {
        assert_eq!(session.received(&message).unwrap().request.unwrap().index, index);
    }
    assert_eq!(session.outstanding().count(), 0);
}

#[test]
fn data_belong_to_copy_and_a_sync_among_them_is_dropped() {
    let mut session = session();
    let begin = [(parse(""), ""), (bind("", "", &[]), ""), (execute(""), "copy")];
    send(&mut session, &begin);
    // libpq sends Sync before it knows that this is COPY; the server drops it.
    send(&mut session, &[(Message::Sync, "early")]);
    let data = Message::CopyData(Bytes::from_static(b"x"));
    assert!(waits(&session, &data));
    tags(&mut session, &[Back::ParseComplete, Back::BindComplete]);
    assert!(waits(&session, &data));
    tags(&mut session, &[Back::CopyInResponse(copy_format())]);
    assert!(matches!(session.about(&data), Ok(About::Copy(request)) if request.tag == "copy"));
    assert!(drops(&session, &Message::Sync));
    let misplaced = session.about(&query()).err().unwrap();
    let side = crate::error::Side::Frontend;
    assert_eq!(misplaced, SessionError::OutOfPlace { side, message: "Query" });
    send(&mut session, &[(data.clone(), ""), (Message::CopyDone, ""), (Message::Sync, "late")]);
    assert_eq!(tags(&mut session, &[complete(), idle()]), [Some("copy"), Some("late")]);
    assert_eq!(session.outstanding().count(), 0);
    // What is left over from a failed COPY is ignored by the server.
    assert!(drops(&session, &data));
}

#[test]
fn a_copy_that_fails_before_or_after_its_sync_is_dropped_is_followed_both_ways() {
    for sync_was_dropped in [true, false] {
        let mut session = session();
        send(&mut session, &[(parse(""), ""), (bind("", "", &[]), ""), (execute(""), "copy")]);
        send(&mut session, &[(Message::Sync, "early")]);
        let copy = Back::CopyInResponse(copy_format());
        tags(&mut session, &[Back::ParseComplete, Back::BindComplete, copy]);
        send(&mut session, &[(Message::CopyDone, "")]);
        assert!(waits(&session, &parse("")), "whether it is skipped is not known");
        tags(&mut session, &[error()]);
        assert!(waits(&session, &parse("")));
        send(&mut session, &[(Message::Sync, "late"), (query(), "q")]);
        if !sync_was_dropped {
            tags(&mut session, &[idle()]);
        }
        let told = tags(&mut session, &[idle(), complete(), idle()]);
        assert_eq!(told[1..], [Some("q"), Some("q")]);
        assert_eq!(session.outstanding().count(), 0);
    }
}

#[test]
fn requests_behind_copy_are_refused_because_nobody_can_follow_them() {
    let mut session = session();
    let begin = [(parse(""), ""), (bind("", "", &[]), ""), (execute(""), ""), (parse(""), "")];
    send(&mut session, &begin);
    tags(&mut session, &[Back::ParseComplete, Back::BindComplete]);
    let error = session.received(&Back::CopyInResponse(copy_format())).err().unwrap();
    assert_eq!(error, SessionError::BehindCopyIn);
}

#[test]
fn a_name_waits_for_the_answer_it_depends_on() {
    let mut session = session();
    send(&mut session, &[(parse("s"), "first"), (Message::Sync, "")]);
    assert!(waits(&session, &bind("", "s", &[])), "Parse may fail, and an older one stand");
    tags(&mut session, &[Back::ParseComplete, idle()]);
    let Ok(About::Decide { statement: Some(statement), .. }) = session.about(&bind("", "s", &[]))
    else {
        panic!("not known")
    };
    assert_eq!(statement.tag, "first");
    // In one batch they fail together: no reason to wait.
    send(&mut session, &[(parse(""), "second")]);
    let unnamed = bind("", "", &[]);
    let Ok(About::Decide { statement, .. }) = session.about(&unnamed) else { panic!("waits") };
    assert_eq!(statement.map(|statement| statement.tag), Some("second"));
    send(&mut session, &[(Message::Sync, "")]);
    tags(&mut session, &[Back::ParseComplete, idle()]);
    // A simple query forgets what has no name.
    send(&mut session, &[(query(), "")]);
    assert!(waits(&session, &unnamed));
    tags(&mut session, &[complete(), idle()]);
    assert!(matches!(session.about(&unnamed), Ok(About::Decide { statement: None, .. })));
}

#[test]
fn sql_that_changes_names_counts_once_it_is_done() {
    let mut session = session();
    send(&mut session, &[(parse("s"), ""), (Message::Sync, "")]);
    tags(&mut session, &[Back::ParseComplete, idle()]);
    for (effect, done, known) in [
        (Effect::Deallocate("s".into()), false, Some("")),
        (Effect::Deallocate("s".into()), true, None),
        (Effect::Prepare("s".into()), true, Some("by sql")),
        (Effect::DiscardAll, true, None),
    ] {
        let request = session.sent(&query(), Origin::Client, "by sql").unwrap().unwrap();
        session.will(request, 1, effect);
        tags(&mut session, &[complete()]);
        assert!(waits(&session, &bind("", "s", &[])));
        tags(&mut session, &[if done { complete() } else { error() }, idle()]);
        let about = session.about(&bind("", "s", &[]));
        let Ok(About::Decide { statement, .. }) = about else { panic!("waits") };
        assert_eq!(statement.map(|statement| statement.tag), known);
    }
    let request = session.sent(&query(), Origin::Client, "cursor").unwrap().unwrap();
    session.will(request, 0, Effect::Declare { name: "c".into(), hold: false });
    tags(&mut session, &[complete(), Back::ReadyForQuery(Status::Open)]);
    let Ok(About::Decide { portal, .. }) = session.about(&execute("c")) else { panic!("waits") };
    assert_eq!(portal.map(|portal| portal.tag), Some("cursor"));
    // Portals end with their transaction.
    send(&mut session, &[(query(), "commit")]);
    tags(&mut session, &[complete(), idle()]);
    assert!(matches!(session.about(&execute("c")), Ok(About::Decide { portal: None, .. })));
}

#[test]
fn a_refusal_takes_the_place_of_the_server_s_error_in_order() {
    let mut session = session();
    send(&mut session, &[(parse("a"), "a")]);
    let refusal = session.refused(&parse("b"), Origin::Client, "b").unwrap();
    assert!(matches!(&refusal.instead, Message::Parse(p) if !p.statement.is_empty()));
    send(&mut session, &[(bind("", "a", &[]), "c"), (Message::Sync, "d")]);
    tags(&mut session, &[Back::ParseComplete]);
    let failed = error();
    let answer = session.received(&failed).unwrap();
    let request = answer.request.unwrap();
    assert_eq!((request.id, request.refused, request.tag), (refusal.request, true, "b"));
    assert_eq!(answer.skipped.len(), 1);
    assert_eq!(tags(&mut session, &[idle()]), [Some("d")]);
    // The statement that was there is there still; the one without a name is gone, as it would be
    // after a Parse that failed by itself.
    let Ok(About::Decide { statement, .. }) = session.about(&bind("", "a", &[])) else { panic!() };
    assert!(statement.is_some());
    send(&mut session, &[(parse(""), "")]);
    tags(&mut session, &[Back::ParseComplete]);
    session.refused(&parse(""), Origin::Client, "").unwrap();
    tags(&mut session, &[error()]);
    send(&mut session, &[(Message::Sync, "")]);
    tags(&mut session, &[idle()]);
    let Ok(About::Decide { statement, .. }) = session.about(&bind("", "", &[])) else { panic!() };
    assert!(statement.is_none());
    // Simple protocol and function calls go on by themselves.
    let call = Message::FunctionCall(FunctionCall {
        function: 952,
        argument_formats: Formats::default(),
        arguments: Values::default(),
        result_format: Format::Text,
    });
    for message in [query(), call] {
        session.refused(&message, Origin::Client, "x").unwrap();
        assert!(session.received(&error()).unwrap().request.unwrap().refused);
        assert_eq!(tags(&mut session, &[idle()]), [Some("x")]);
    }
    let sync = session.refused(&Message::Sync, Origin::Client, "").err().unwrap();
    assert_eq!(sync, SessionError::NotToBeRefused { message: "Sync" });
}

#[test]
fn data_refused_fail_their_copy() {
    let mut session = session();
    send(&mut session, &[(query(), "copy")]);
    tags(&mut session, &[Back::CopyInResponse(copy_format())]);
    let data = Message::CopyData(Bytes::from_static(b"4111111111111111"));
    let refusal = session.refused(&data, Origin::Client, "").unwrap();
    assert!(matches!(refusal.instead, Message::CopyFail(_)));
    assert!(drops(&session, &data) && drops(&session, &Message::CopyDone));
    let failed = error();
    let request = session.received(&failed).unwrap().request.unwrap();
    assert_eq!((request.id, request.refused), (refusal.request, true));
    tags(&mut session, &[idle()]);
    assert!(drops(&session, &data), "the client has not noticed yet");
}

#[test]
fn limits_are_errors_that_name_them() {
    let limits = Limits { outstanding: 3, statements: 2, portals: 1, descriptions: 200 };
    let mut session: Session<Tag> = Session::new(limits);
    let over = |session: &Session<Tag>, message: &Message| session.about(message).err().unwrap();
    send(&mut session, &[(parse("a"), ""), (parse("b"), "")]);
    let what = "prepared statements";
    assert_eq!(over(&session, &parse("c")), SessionError::TooMany { what, limit: 2 });
    assert!(session.about(&parse("b")).is_ok(), "the server will say that it is there already");
    assert!(session.refused(&parse("c"), Origin::Client, "").is_ok());
    let what = "requests without an answer";
    assert_eq!(over(&session, &Message::Sync), SessionError::TooMany { what, limit: 3 });
    tags(&mut session, &[Back::ParseComplete, Back::ParseComplete, error()]);
    send(&mut session, &[(Message::Sync, ""), (bind("x", "a", &[]), "")]);
    let what = "portals";
    assert_eq!(over(&session, &bind("y", "a", &[])), SessionError::TooMany { what, limit: 1 });
    tags(&mut session, &[idle(), Back::BindComplete]);
    let long = Message::Close(Target::Statement(Bytes::from(vec![b'n'; 64])));
    let what = "prepared statement";
    assert_eq!(over(&session, &long), SessionError::LongName { what, length: 64 });
    send(&mut session, &[(describe_statement("a"), "")]);
    tags(&mut session, &[Back::ParameterDescription(Vec::new())]);
    let error = session.received(&columns(1, 10)).err().unwrap();
    assert!(matches!(error, SessionError::TooMany { limit: 200, .. }), "{error}");
}

#[test]
fn descriptions_are_given_back_when_nobody_can_use_them() {
    let limits = Limits { descriptions: 200, ..Limits::default() };
    let mut session: Session<Tag> = Session::new(limits);
    for _ in 0..10 {
        send(&mut session, &[(parse(""), ""), (describe_statement(""), ""), (Message::Sync, "")]);
        let types = Back::ParameterDescription(Vec::new());
        tags(&mut session, &[Back::ParseComplete, types, columns(1, 1), idle()]);
    }
}

#[test]
fn what_nobody_asked_for_answers_nothing_and_what_answers_nothing_is_refused() {
    let mut session = session();
    let notice = Back::NoticeResponse(Report::default());
    assert_eq!(tags(&mut session, &[notice, error()]), [None, None]);
    for message in [idle(), complete(), Back::ParseComplete, row(1), Back::CopyDone] {
        assert!(session.received(&message).is_err(), "{}", message.name());
    }
    send(&mut session, &[(parse(""), ""), (query(), "")]);
    for message in [idle(), complete(), Back::BindComplete, row(1), columns(1, 1)] {
        assert!(session.received(&message).is_err(), "{}", message.name());
    }
    tags(&mut session, &[Back::ParseComplete]);
    let early = session.received(&idle()).err().unwrap();
    let side = crate::error::Side::Backend;
    assert_eq!(early, SessionError::OutOfPlace { side, message: "ReadyForQuery" });
    assert!(session.received(&row(1)).is_err(), "a row without columns");
    assert!(session.about(&Message::Password(Bytes::new())).is_err());
    let fatal = Report::fatal("57P01", "terminating connection");
    tags(&mut session, &[Back::ErrorResponse(fatal)]);
    let ended = session.about(&query()).err().unwrap();
    assert_eq!(ended, SessionError::Ended { message: "Query" });
}
