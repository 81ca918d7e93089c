//! A small server that answers as PostgreSQL does, at its own pace, and knows for every message
//! which request it answers: the session must find the same out from the messages alone.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{columns, copy_format, error, row};
use crate::backend::{Message as Back, TransactionStatus};
use crate::frontend::{Bind, Execute, FunctionCall, Message, Parse, Target};
use crate::session::{About, Effect, Limits, Origin, RequestId, Session, SessionError};
use crate::values::{Format, Formats, Values};

/// What the statements of this server do.
const SQL: [&str; 12] = [
    "ok",
    "rows",
    "fail",
    "bad",
    "copyin",
    "copyin early",
    "copyout",
    "begin",
    "commit",
    "",
    "deallocate a",
    "declare a",
];
const NAMES: [&str; 3] = ["", "a", "b"];

#[derive(Clone, Debug)]
enum Act {
    Send(Message),
    Refuse(Message),
    /// The server looks at its next message.
    Serve,
    /// The session gets the server's next message.
    Deliver,
}

fn name() -> impl Strategy<Value = Bytes> {
    prop::sample::select(&NAMES[..]).prop_map(Bytes::from_static_str)
}

trait FromStr {
    fn from_static_str(text: &'static str) -> Bytes;
}

impl FromStr for Bytes {
    fn from_static_str(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }
}

fn sql() -> impl Strategy<Value = Bytes> {
    prop::sample::select(&SQL[..]).prop_map(Bytes::from_static_str)
}

fn message() -> impl Strategy<Value = Message> {
    let target =
        || prop_oneof![name().prop_map(Target::Statement), name().prop_map(Target::Portal)];
    let string = vec(prop::sample::select(&SQL[..]), 1..4).prop_map(|all| all.join(";"));
    let call = |function| {
        let (argument_formats, arguments) = (Formats::default(), Values::default());
        let result_format = Format::Text;
        Message::FunctionCall(FunctionCall { function, argument_formats, arguments, result_format })
    };
    let data = prop::sample::select(&["good", "bad"][..]);
    prop_oneof![
        2 => string.prop_map(|sql| Message::Query(sql.into())),
        4 => (name(), sql()).prop_map(|(statement, sql)| {
            Message::Parse(Parse { statement, sql, parameter_types: Vec::new() })
        }),
        4 => (name(), name()).prop_map(|(portal, statement)| {
            let (parameter_formats, parameters) = (Formats::default(), Values::default());
            let result_formats = Formats::default();
            Message::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats })
        }),
        2 => target().prop_map(Message::Describe),
        1 => target().prop_map(Message::Close),
        4 => (name(), 0..2).prop_map(|(portal, max_rows)| {
            Message::Execute(Execute { portal, max_rows })
        }),
        4 => Just(Message::Sync),
        1 => Just(Message::Flush),
        1 => (0..2_u32).prop_map(call),
        2 => data.prop_map(|data| Message::CopyData(Bytes::from_static(data.as_bytes()))),
        2 => Just(Message::CopyDone),
        1 => Just(Message::CopyFail(Bytes::new())),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => message().prop_map(Act::Send),
        1 => message().prop_map(Act::Refuse),
        6 => Just(Act::Serve),
        8 => Just(Act::Deliver),
    ]
}

/// A message and the request it answers, with the statement that request runs.
type Told = (Back, Option<RequestId>, Option<RequestId>);

#[derive(Clone)]
struct Portal {
    statement: RequestId,
    sql: Bytes,
}

struct Copy {
    request: RequestId,
    statement: Option<RequestId>,
    /// Statements of the string still to run; nothing for Execute.
    rest: Option<Vec<String>>,
}

#[derive(Default)]
struct Server {
    inbox: VecDeque<(Message, Option<RequestId>)>,
    outbox: VecDeque<Told>,
    statements: HashMap<Bytes, (RequestId, Bytes)>,
    portals: HashMap<Bytes, Portal>,
    skipping: bool,
    copy: Option<Copy>,
    open: bool,
    failed: bool,
}

impl Server {
    fn say(&mut self, message: Back, request: RequestId, statement: Option<RequestId>) {
        self.outbox.push_back((message, Some(request), statement));
    }

    fn fail(&mut self, request: RequestId, statement: Option<RequestId>, skip: bool) {
        self.failed = self.open;
        self.skipping = skip;
        self.say(error(), request, statement);
    }

    fn ready(&mut self, request: RequestId) {
        let status = match (self.open, self.failed) {
            (true, true) => TransactionStatus::Failed,
            (true, false) => TransactionStatus::Open,
            (false, _) => TransactionStatus::Idle,
        };
        if !self.open {
            self.portals.clear();
        }
        self.say(Back::ReadyForQuery(status), request, None);
    }

    fn serve(&mut self) {
        let Some((message, id)) = self.inbox.pop_front() else { return };
        if self.copy.is_some() {
            return self.data(&message);
        }
        if self.skipping && message != Message::Sync {
            return;
        }
        let aborted = |sql: &Bytes| self.failed && sql != "commit";
        match (message, id) {
            (Message::Query(sql), Some(id)) => {
                self.statements.remove(&b""[..]);
                self.portals.remove(&b""[..]);
                let all = String::from_utf8(sql.to_vec()).unwrap();
                self.run(id, all.split(';').map(str::to_owned).collect());
            }
            (Message::Parse(parse), Some(id)) => {
                if parse.statement.is_empty() {
                    self.statements.remove(&b""[..]);
                }
                let there = self.statements.contains_key(&parse.statement);
                let wrong = parse.sql == "bad" || parse.sql.starts_with(b"pcigate");
                if there || wrong || aborted(&parse.sql) {
                    return self.fail(id, None, true);
                }
                self.statements.insert(parse.statement, (id, parse.sql));
                self.say(Back::ParseComplete, id, Some(id));
            }
            (Message::Bind(bind), Some(id)) => {
                let found = self.statements.get(&bind.statement).cloned();
                let there = !bind.portal.is_empty() && self.portals.contains_key(&bind.portal);
                let Some((statement, sql)) = found.filter(|found| !there && !aborted(&found.1))
                else {
                    return self.fail(id, None, true);
                };
                self.portals.insert(bind.portal, Portal { statement, sql });
                self.say(Back::BindComplete, id, Some(statement));
            }
            (Message::Execute(execute), Some(id)) => {
                let found = self.portals.get(&execute.portal).cloned();
                let Some(portal) = found.filter(|portal| !aborted(&portal.sql)) else {
                    return self.fail(id, None, true);
                };
                self.execute(id, &portal, execute.max_rows > 0);
            }
            (message, Some(id)) => self.serve_other(message, id),
            (message, None) => assert!(
                matches!(message, Message::Flush | Message::CopyData(_) | Message::CopyDone)
                    || matches!(message, Message::CopyFail(_)),
                "{message:?} came without a number"
            ),
        }
    }

    fn serve_other(&mut self, message: Message, id: RequestId) {
        match message {
            Message::Describe(Target::Statement(name)) => {
                let Some((statement, sql)) = self.statements.get(&name).cloned() else {
                    return self.fail(id, None, true);
                };
                self.say(Back::ParameterDescription(vec![25]), id, Some(statement));
                self.describe(id, statement, &sql);
            }
            Message::Describe(Target::Portal(name)) => {
                let Some(portal) = self.portals.get(&name).cloned() else {
                    return self.fail(id, None, true);
                };
                self.describe(id, portal.statement, &portal.sql);
            }
            Message::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                self.say(Back::CloseComplete, id, None);
            }
            Message::FunctionCall(call) => {
                if call.function == 0 {
                    self.fail(id, None, false);
                } else {
                    self.say(Back::FunctionCallResponse(None), id, None);
                }
                self.ready(id);
            }
            Message::Sync => {
                self.skipping = false;
                self.ready(id);
            }
            message => panic!("{message:?} came with a number"),
        }
    }

    fn describe(&mut self, id: RequestId, statement: RequestId, sql: &Bytes) {
        let rows = columns(u32::try_from(statement.0).unwrap(), 2);
        let rows = if sql == "rows" { rows } else { Back::NoData };
        self.say(rows, id, Some(statement));
    }

    fn execute(&mut self, id: RequestId, portal: &Portal, limited: bool) {
        let statement = Some(portal.statement);
        let sql = std::str::from_utf8(&portal.sql).unwrap().to_owned();
        match sql.as_str() {
            "rows" => {
                self.say(row(2), id, statement);
                let end = if limited { Back::PortalSuspended } else { done() };
                self.say(end, id, statement);
            }
            "copyin" | "copyin early" => {
                self.say(Back::CopyInResponse(copy_format()), id, statement);
                if sql == "copyin" {
                    self.copy = Some(Copy { request: id, statement, rest: None });
                } else {
                    self.fail(id, statement, true);
                }
            }
            "fail" => self.fail(id, statement, true),
            "copyout" => self.copy_out(id, statement),
            other => {
                self.effect(other, id);
                let end = if other.is_empty() { Back::EmptyQueryResponse } else { done() };
                self.say(end, id, statement);
            }
        }
    }

    fn copy_out(&mut self, id: RequestId, statement: Option<RequestId>) {
        self.say(Back::CopyOutResponse(copy_format()), id, statement);
        self.say(Back::CopyData(Bytes::new()), id, statement);
        self.say(Back::CopyDone, id, statement);
        self.say(done(), id, statement);
    }

    fn effect(&mut self, sql: &str, id: RequestId) {
        match sql {
            "begin" => self.open = true,
            "commit" => (self.open, self.failed) = (false, false),
            "deallocate a" => drop(self.statements.remove(&b"a"[..])),
            "declare a" => {
                let sql = Bytes::from_static(b"ok");
                // A cursor is a portal without a statement; its number stands for both here.
                self.portals.insert("a".into(), Portal { statement: id, sql });
            }
            _ => {}
        }
    }

    /// Statements of a string, from the first one on.
    fn run(&mut self, id: RequestId, mut all: Vec<String>) {
        while !all.is_empty() {
            let sql = all.remove(0);
            if sql.starts_with("pcigate") || (self.failed && sql != "commit") {
                self.fail(id, None, false);
                break;
            }
            match sql.as_str() {
                "rows" => {
                    self.say(columns(u32::try_from(id.0).unwrap(), 2), id, None);
                    self.say(row(2), id, None);
                    self.say(done(), id, None);
                }
                "copyin" => {
                    self.say(Back::CopyInResponse(copy_format()), id, None);
                    self.copy = Some(Copy { request: id, statement: None, rest: Some(all) });
                    return;
                }
                "copyin early" => {
                    self.say(Back::CopyInResponse(copy_format()), id, None);
                    self.fail(id, None, false);
                    break;
                }
                "fail" | "bad" => {
                    self.fail(id, None, false);
                    break;
                }
                "copyout" => self.copy_out(id, None),
                other => {
                    self.effect(other, id);
                    let end = if other.is_empty() { Back::EmptyQueryResponse } else { done() };
                    self.say(end, id, None);
                }
            }
        }
        self.ready(id);
    }

    fn data(&mut self, message: &Message) {
        let Some(copy) = self.copy.take() else { return };
        let Copy { request, statement, rest } = copy;
        match message {
            Message::CopyDone => {
                self.say(done(), request, statement);
                if let Some(rest) = rest {
                    self.run(request, rest);
                }
            }
            Message::CopyData(data) if data != "bad" => {
                self.copy = Some(Copy { request, statement, rest });
            }
            Message::Sync | Message::Flush => self.copy = Some(Copy { request, statement, rest }),
            _ => {
                self.fail(request, statement, rest.is_none());
                if rest.is_some() {
                    self.ready(request);
                }
            }
        }
    }
}

fn done() -> Back {
    Back::CommandComplete(Bytes::from_static(b"OK"))
}

struct Play {
    session: Session<Bytes>,
    server: Server,
    refused: HashSet<RequestId>,
}

impl Play {
    /// Gives the session the server's next message; says whether it can go on.
    fn deliver(&mut self) -> bool {
        let Some((message, request, statement)) = self.server.outbox.pop_front() else {
            return true;
        };
        let answer = match self.session.received(&message) {
            Ok(answer) => answer,
            Err(SessionError::BehindCopyIn) => return false,
            Err(error) => panic!("{error}: {message:?} for {request:?}"),
        };
        let found = answer.request.expect("every message here answers a request");
        // A Sync that may have been dropped cannot be told from the next one.
        if !matches!(message, Back::ReadyForQuery(_)) {
            assert_eq!(Some(found.id), request, "{message:?}");
            assert_eq!(found.refused, self.refused.contains(&found.id));
        }
        let of = found.statement.as_ref().map(|of| of.id);
        let of = of.or(found.portal.as_ref().map(|portal| portal.id));
        if statement.is_some() {
            assert_eq!(of, statement, "{message:?} of {:?}", found.kind);
        }
        if let (Back::DataRow(_), Some(shape)) = (&message, answer.shape) {
            let table = statement.or(request).unwrap().0;
            assert_eq!(u64::from(shape.columns()[0].table), table);
        }
        true
    }

    /// Lets the server answer all there is.
    fn settle(&mut self) -> bool {
        while !(self.server.inbox.is_empty() && self.server.outbox.is_empty()) {
            self.server.serve();
            while !self.server.outbox.is_empty() {
                if !self.deliver() {
                    return false;
                }
            }
        }
        true
    }

    fn send(&mut self, message: &Message, refuse: bool) -> bool {
        if let Ok(About::Wait) = self.session.about(message) {
            if !self.settle() {
                return false;
            }
            if let Ok(About::Wait) = self.session.about(message) {
                // Only Sync ends it: whether the server skips up to it is not known.
                assert!(matches!(self.session.about(&Message::Sync), Ok(About::Forward)));
                return self.send(&Message::Sync, false);
            }
        }
        let sql = match message {
            Message::Query(sql) => sql.clone(),
            Message::Parse(parse) => parse.sql.clone(),
            _ => Bytes::new(),
        };
        let runs = match self.session.about(message) {
            Ok(About::Decide { portal: Some(portal), .. })
                if matches!(message, Message::Execute(_)) =>
            {
                portal.statement.as_ref().map(|statement| statement.tag.clone())
            }
            _ => matches!(message, Message::Query(_)).then(|| sql.clone()),
        };
        if matches!(self.session.about(message), Err(_) | Ok(About::Drop)) {
            return true;
        }
        if refuse {
            if let Ok(refusal) = self.session.refused(message, Origin::Client, sql) {
                self.refused.insert(refusal.request);
                // CopyFail is a part of a request that has its number already.
                let id = Some(refusal.request);
                let id = id.filter(|_| !matches!(refusal.instead, Message::CopyFail(_)));
                self.server.inbox.push_back((refusal.instead, id));
            }
            return true;
        }
        let id = self.session.sent(message, Origin::Client, sql).unwrap();
        if let (Some(id), Some(runs)) = (id, runs) {
            let runs = String::from_utf8(runs.to_vec()).unwrap();
            for (index, statement) in (0..).zip(runs.split(';')) {
                let effect = match statement {
                    "deallocate a" => Effect::Deallocate("a".into()),
                    "declare a" => Effect::Declare { name: "a".into(), hold: false },
                    _ => continue,
                };
                self.session.will(id, index, effect);
            }
        }
        self.server.inbox.push_back((message.clone(), id));
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_session_knows_what_the_server_knows(acts in vec(act(), 1..60)) {
        let mut play = Play {
            session: Session::new(Limits::default()),
            server: Server::default(),
            refused: HashSet::new(),
        };
        for act in &acts {
            let goes_on = match act {
                Act::Send(message) => play.send(message, false),
                Act::Refuse(message) => play.send(message, true),
                Act::Serve => {
                    play.server.serve();
                    true
                }
                Act::Deliver => play.deliver(),
            };
            if !goes_on {
                return Ok(());
            }
        }
        if play.settle() && play.server.copy.is_none() {
            prop_assert_eq!(play.session.outstanding().count(), 0);
        }
    }
}
