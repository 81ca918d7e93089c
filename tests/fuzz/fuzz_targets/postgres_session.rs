//! A session between any client and any server: requests are answered in order, limits hold, what
//! may be sent can be sent, and nothing else can.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_postgres::backend::{
    self, Column, CopyFormat, Report, RowDescription, TransactionStatus,
};
use pcigate_postgres::frontend::{self, Bind, Execute, FunctionCall, Parse, Target};
use pcigate_postgres::session::{
    About, Effect, Kind, Limits, Origin, RequestId, Session, SessionError,
};
use pcigate_postgres::values::{Format, Formats, Values};

const LIMITS: Limits = Limits { outstanding: 40, statements: 5, portals: 5, descriptions: 2_000 };

#[derive(Arbitrary, Debug)]
enum Act {
    Client {
        message: Front,
        refuse: bool,
        effect: Option<Change>,
    },
    Server(Back),
    /// What a good server might say next, as the oldest request has it.
    Fitting(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Front {
    Bind(u8, u8, bool),
    CloseStatement(u8),
    ClosePortal(u8),
    CopyData,
    CopyDone,
    CopyFail,
    DescribeStatement(u8),
    DescribePortal(u8),
    Execute(u8, i8),
    Flush,
    FunctionCall,
    Parse(u8),
    Password,
    Query,
    Sync,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Back {
    BindComplete,
    CloseComplete,
    CommandComplete,
    CopyBoth,
    CopyData,
    CopyDone,
    CopyIn,
    CopyOut,
    DataRow(u8),
    Empty,
    Error,
    FunctionCall,
    NoData,
    Notice,
    Parameters,
    ParseComplete,
    Ready(u8),
    Suspended,
    Rows(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    Prepare(u8),
    Deallocate(u8),
    DeallocateAll,
    Declare(u8, bool),
    ClosePortals,
    DiscardAll,
}

/// Few names, so that they meet; the last is too long.
fn name(number: u8) -> Bytes {
    match number % 8 {
        0 => Bytes::new(),
        7 => Bytes::from_static(&[b'n'; 64]),
        number => Bytes::copy_from_slice(&[b'a' + number]),
    }
}

fn front(message: Front) -> frontend::Message {
    use frontend::Message as M;
    match message {
        Front::Bind(portal, statement, binary) => M::Bind(Bind {
            portal: name(portal),
            statement: name(statement),
            parameter_formats: Formats::default(),
            parameters: Values::default(),
            result_formats: Formats::new(if binary { &[Format::Binary] } else { &[] }),
        }),
        Front::CloseStatement(of) => M::Close(Target::Statement(name(of))),
        Front::ClosePortal(of) => M::Close(Target::Portal(name(of))),
        Front::CopyData => M::CopyData(Bytes::new()),
        Front::CopyDone => M::CopyDone,
        Front::CopyFail => M::CopyFail(Bytes::new()),
        Front::DescribeStatement(of) => M::Describe(Target::Statement(name(of))),
        Front::DescribePortal(of) => M::Describe(Target::Portal(name(of))),
        Front::Execute(portal, rows) => {
            M::Execute(Execute { portal: name(portal), max_rows: rows.into() })
        }
        Front::Flush => M::Flush,
        Front::FunctionCall => M::FunctionCall(FunctionCall {
            function: 1,
            argument_formats: Formats::default(),
            arguments: Values::default(),
            result_format: Format::Text,
        }),
        Front::Parse(of) => {
            let (sql, parameter_types) = (Bytes::new(), Vec::new());
            M::Parse(Parse { statement: name(of), sql, parameter_types })
        }
        Front::Password => M::Password(Bytes::new()),
        Front::Query => M::Query(Bytes::new()),
        Front::Sync => M::Sync,
    }
}

fn back(message: Back) -> backend::Message {
    use backend::Message as M;
    let copy = || CopyFormat { overall: Format::Text, columns: Formats::default() };
    match message {
        Back::BindComplete => M::BindComplete,
        Back::CloseComplete => M::CloseComplete,
        Back::CommandComplete => M::CommandComplete(Bytes::new()),
        Back::CopyBoth => M::CopyBothResponse(copy()),
        Back::CopyData => M::CopyData(Bytes::new()),
        Back::CopyDone => M::CopyDone,
        Back::CopyIn => M::CopyInResponse(copy()),
        Back::CopyOut => M::CopyOutResponse(copy()),
        Back::DataRow(width) => {
            M::DataRow(Values::new(vec![None; usize::from(width % 4)]).expect("a short row"))
        }
        Back::Empty => M::EmptyQueryResponse,
        Back::Error => M::ErrorResponse(Report::error("22012", "no")),
        Back::FunctionCall => M::FunctionCallResponse(None),
        Back::NoData => M::NoData,
        Back::Notice => M::NoticeResponse(Report::default()),
        Back::Parameters => M::ParameterDescription(vec![25]),
        Back::ParseComplete => M::ParseComplete,
        Back::Ready(status) => M::ReadyForQuery(match status % 3 {
            0 => TransactionStatus::Idle,
            1 => TransactionStatus::Open,
            _ => TransactionStatus::Failed,
        }),
        Back::Suspended => M::PortalSuspended,
        Back::Rows(width) => {
            let column = Column {
                name: Bytes::from_static(b"column"),
                table: 1,
                attribute: 1,
                type_oid: 25,
                type_size: -1,
                type_modifier: -1,
                format: Format::Text,
            };
            M::RowDescription(RowDescription { columns: vec![column; usize::from(width % 4)] })
        }
    }
}

fn effect(change: Change) -> Effect {
    match change {
        Change::Prepare(of) => Effect::Prepare(name(of)),
        Change::Deallocate(of) => Effect::Deallocate(name(of)),
        Change::DeallocateAll => Effect::DeallocateAll,
        Change::Declare(of, hold) => Effect::Declare { name: name(of), hold },
        Change::ClosePortals => Effect::ClosePortals,
        Change::DiscardAll => Effect::DiscardAll,
    }
}

/// One of the messages that may answer a request.
fn fitting(kind: Kind, choice: u8) -> Back {
    let of: &[Back] = match kind {
        Kind::Query => &[
            Back::Rows(2),
            Back::DataRow(2),
            Back::CommandComplete,
            Back::Ready(choice),
            Back::CopyIn,
            Back::CopyOut,
            Back::CopyData,
            Back::CopyDone,
        ],
        Kind::Parse => &[Back::ParseComplete],
        Kind::Bind => &[Back::BindComplete],
        Kind::DescribeStatement => &[Back::Parameters, Back::Rows(2), Back::NoData],
        Kind::DescribePortal => &[Back::Rows(2), Back::NoData],
        Kind::Execute => &[
            Back::DataRow(2),
            Back::CommandComplete,
            Back::Suspended,
            Back::CopyIn,
            Back::CopyOut,
            Back::CopyData,
            Back::CopyDone,
        ],
        Kind::CloseStatement | Kind::ClosePortal => &[Back::CloseComplete],
        Kind::FunctionCall => &[Back::FunctionCall, Back::Ready(choice)],
        Kind::Sync => &[Back::Ready(choice)],
        Kind::Refused => &[Back::Error],
    };
    if choice >= 240 { Back::Error } else { of[usize::from(choice) % of.len()] }
}

struct Play {
    session: Session<u64>,
    sent: u64,
    last_ended: Option<RequestId>,
}

impl Play {
    fn client(&mut self, message: Front, refuse: bool, change: Option<Change>) {
        let message = front(message);
        if refuse {
            if let Ok(refusal) = self.session.refused(&message, Origin::Client, self.sent) {
                assert!(self.session.outstanding().any(|one| one.id == refusal.request));
            }
            return;
        }
        let expected = match self.session.about(&message) {
            Ok(About::Wait | About::Drop) => {
                let message = message.name();
                Some(SessionError::NotToBeSent { message })
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let sent = self.session.sent(&message, Origin::Client, self.sent);
        assert_eq!(sent.as_ref().err(), expected.as_ref());
        self.sent += 1;
        if let (Ok(Some(id)), Some(change)) = (sent, change) {
            self.session.will(id, 0, effect(change));
        }
    }

    /// Whether the session can go on.
    fn server(&mut self, message: Back) -> bool {
        let Ok(answer) = self.session.received(&back(message)) else { return false };
        if let (Some(shape), Back::DataRow(width)) = (answer.shape, message) {
            assert_eq!(shape.columns().len(), usize::from(width % 4));
        }
        if let Some(request) = answer.request {
            assert!(self.last_ended.is_none_or(|last| last < request.id), "out of order");
            if answer.ends {
                self.last_ended = Some(request.id);
            }
        }
        for skipped in answer.skipped {
            assert!(self.last_ended < Some(skipped.id) && skipped.kind != Kind::Sync);
            self.last_ended = Some(skipped.id);
        }
        true
    }
}

fuzz_target!(|acts: Vec<Act>| {
    let mut play = Play { session: Session::new(LIMITS), sent: 0, last_ended: None };
    for act in acts {
        let goes_on = match act {
            Act::Client { message, refuse, effect } => {
                play.client(message, refuse, effect);
                true
            }
            Act::Server(message) => play.server(message),
            Act::Fitting(choice) => {
                let oldest = play.session.outstanding().next().map(|request| request.kind);
                // A server that says something that does not fit ends nothing here.
                oldest.is_none_or(|kind| {
                    play.server(fitting(kind, choice));
                    true
                })
            }
        };
        assert!(play.session.outstanding().count() <= LIMITS.outstanding);
        if !goes_on {
            return;
        }
    }
});
