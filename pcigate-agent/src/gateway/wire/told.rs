//! What a session tells the recorder, as it crosses to the agent. There it is foreign: every text
//! of it is masked again before it enters a record (`session_records.rs`), and only what is said of
//! the session itself is taken; who acts and which session it is, the agent knows itself.

mod texts;

use std::time::Duration;

use pcigate_gateway::{Direction, Event, StatementEnd, StatementEvent, Step};
use pcigate_policy::{
    document::{Effect, StatementAction},
    mask::Kind,
};

use super::fields::{Fields, Malformed};
use texts::Texts;

/// Bytes of a statement or of a record of traffic: more than a record keeps of it, so that the
/// record can tell that it was cut.
const TEXT_MAX: usize = 24 << 10;
/// Bytes of all parameters of a statement, and of all names of its tables.
const TEXTS_MAX: usize = 8 << 10;
/// Bytes of every other text.
const WORD_MAX: usize = 2 << 10;
/// Parameters, tables, effects and kinds of one record.
const MANY: usize = 256;
const EFFECTS: [Effect; 8] = [
    Effect::Read,
    Effect::Write,
    Effect::Ddl,
    Effect::Dcl,
    Effect::BulkRead,
    Effect::Function,
    Effect::Session,
    Effect::Unknown,
];
const ACTIONS: [StatementAction; 3] =
    [StatementAction::Allow, StatementAction::Ask, StatementAction::Deny];
const STEPS: [Step; 4] = [Step::Query, Step::Prepare, Step::Execute, Step::FunctionCall];
const KINDS: [Kind; 7] =
    [Kind::Pan, Kind::Track1, Kind::Track2, Kind::Cvv, Kind::Expiry, Kind::PinBlock, Kind::Secret];
/// Detectors of one's own are behind the kinds there are, by number.
const OWN: u32 = 16;
const _: () = assert!(KINDS.len() <= 16);

/// What masking took out, by kind.
pub type Found = Vec<(Kind, u32)>;

/// One event of a session: [`pcigate_gateway::Event`], its texts unproven.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// See [`Event::SessionStarted`].
    Started(Box<Started>),
    /// See [`Event::Statement`].
    Statement(Box<Statement>),
    /// See [`Event::StatementEnded`].
    StatementEnd(End),
    /// See [`Event::Traffic`].
    Traffic(Traffic),
    /// See [`Event::Truncated`].
    Truncated {
        /// Bytes that were kept.
        limit: u64,
    },
    /// See [`Event::SessionEnded`].
    Ended(Box<Ended>),
}

/// A session's beginning.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields of `Event::SessionStarted`")]
pub struct Started {
    pub database: String,
    pub user: String,
    pub role: String,
    pub application: String,
    pub client: String,
    pub client_tls: bool,
    pub identity: Option<(String, String)>,
    pub masked: Found,
}

/// A statement that was decided.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields of `StatementEvent`")]
pub struct Statement {
    pub number: u64,
    pub step: Step,
    pub command: String,
    pub text: String,
    pub text_bytes: u64,
    pub parameters: Vec<Option<String>>,
    pub effects: Vec<Effect>,
    pub tables: Vec<String>,
    pub verdict: StatementAction,
    pub rule: Option<String>,
    pub reason: String,
    pub request_key: Option<[u8; 32]>,
    pub deciding: Duration,
    pub masked: Found,
}

/// A statement that is done.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields of `StatementEnd`")]
pub struct End {
    pub number: u64,
    pub rows: u64,
    pub bytes: u64,
    pub duration: Duration,
    pub sqlstate: Option<String>,
    pub masked: Found,
}

/// What passed.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields of `Event::Traffic`")]
pub struct Traffic {
    pub from_client: bool,
    pub text: String,
    pub masked: Found,
}

/// A session's end.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields of `Event::SessionEnded`")]
pub struct Ended {
    pub why: String,
    pub statements: u64,
    pub refused: u64,
    pub rows: u64,
    pub bytes: u64,
    pub duration: Duration,
    pub masked: Found,
}

/// The fields of an event.
pub(super) fn told(io: &mut Fields<'_>, told: &mut Told) -> Result<(), Malformed> {
    let mut tag = match told {
        Told::Started(_) => 0,
        Told::Statement(_) => 1,
        Told::StatementEnd(_) => 2,
        Told::Traffic(_) => 3,
        Told::Truncated { .. } => 4,
        Told::Ended(_) => 5,
    };
    io.byte(&mut tag)?;
    if io.reads() {
        *told = match tag {
            0 => Told::Started(Box::default()),
            1 => Told::Statement(Box::new(blank_statement())),
            2 => Told::StatementEnd(End::default()),
            3 => Told::Traffic(Traffic::default()),
            4 => Told::Truncated { limit: 0 },
            5 => Told::Ended(Box::default()),
            number => return Err(Malformed::Choice { number: number.into() }),
        };
    }
    match told {
        Told::Started(value) => started(io, value),
        Told::Statement(value) => statement(io, value),
        Told::StatementEnd(value) => end(io, value),
        Told::Traffic(value) => {
            io.flag(&mut value.from_client)?;
            io.text(&mut value.text, TEXT_MAX)?;
            found(io, &mut value.masked)
        }
        Told::Truncated { limit } => io.number(limit),
        Told::Ended(value) => ended(io, value),
    }
}

fn started(io: &mut Fields<'_>, value: &mut Started) -> Result<(), Malformed> {
    io.text(&mut value.database, WORD_MAX)?;
    io.text(&mut value.user, WORD_MAX)?;
    io.text(&mut value.role, WORD_MAX)?;
    io.text(&mut value.application, WORD_MAX)?;
    io.text(&mut value.client, WORD_MAX)?;
    io.flag(&mut value.client_tls)?;
    io.option(&mut value.identity, Default::default, |io, (subject, issuer)| {
        io.text(subject, WORD_MAX)?;
        io.text(issuer, WORD_MAX)
    })?;
    found(io, &mut value.masked)
}

fn statement(io: &mut Fields<'_>, value: &mut Statement) -> Result<(), Malformed> {
    io.number(&mut value.number)?;
    io.choice(&mut value.step, &STEPS)?;
    io.text(&mut value.command, WORD_MAX)?;
    io.text(&mut value.text, TEXT_MAX)?;
    io.number(&mut value.text_bytes)?;
    io.list(
        &mut value.parameters,
        MANY,
        || None,
        |io, parameter| io.option(parameter, String::new, |io, text| io.text(text, TEXTS_MAX)),
    )?;
    io.list(&mut value.effects, MANY, || Effect::Unknown, |io, one| io.choice(one, &EFFECTS))?;
    io.list(&mut value.tables, MANY, String::new, |io, one| io.text(one, WORD_MAX))?;
    io.choice(&mut value.verdict, &ACTIONS)?;
    io.option(&mut value.rule, String::new, |io, text| io.text(text, WORD_MAX))?;
    io.text(&mut value.reason, WORD_MAX)?;
    io.option(&mut value.request_key, Default::default, |io, key| io.exactly(key))?;
    io.duration(&mut value.deciding)?;
    found(io, &mut value.masked)
}

fn end(io: &mut Fields<'_>, value: &mut End) -> Result<(), Malformed> {
    io.number(&mut value.number)?;
    io.number(&mut value.rows)?;
    io.number(&mut value.bytes)?;
    io.duration(&mut value.duration)?;
    io.option(&mut value.sqlstate, String::new, |io, text| io.text(text, WORD_MAX))?;
    found(io, &mut value.masked)
}

fn ended(io: &mut Fields<'_>, value: &mut Ended) -> Result<(), Malformed> {
    io.text(&mut value.why, WORD_MAX)?;
    io.number(&mut value.statements)?;
    io.number(&mut value.refused)?;
    io.number(&mut value.rows)?;
    io.number(&mut value.bytes)?;
    io.duration(&mut value.duration)?;
    found(io, &mut value.masked)
}

fn found(io: &mut Fields<'_>, value: &mut Found) -> Result<(), Malformed> {
    io.list(
        value,
        MANY,
        || (Kind::Pan, 0),
        |io, (kind, count)| {
            let place = KINDS.iter().position(|one| one == kind);
            let place = place.and_then(|at| u32::try_from(at).ok());
            let mut number = match *kind {
                Kind::Custom(which) => OWN + u32::from(which),
                _ => place.unwrap_or(u32::MAX),
            };
            io.small(&mut number)?;
            let known = usize::try_from(number).ok().and_then(|at| KINDS.get(at)).copied();
            let custom = number.checked_sub(OWN).and_then(|which| u16::try_from(which).ok());
            let wrong = Malformed::Choice { number: number.into() };
            *kind = known.or(custom.map(Kind::Custom)).ok_or(wrong)?;
            io.small(count)
        },
    )
}

fn blank_statement() -> Statement {
    Statement {
        number: 0,
        step: Step::Query,
        command: String::new(),
        text: String::new(),
        text_bytes: 0,
        parameters: Vec::new(),
        effects: Vec::new(),
        tables: Vec::new(),
        verdict: StatementAction::Deny,
        rule: None,
        reason: String::new(),
        request_key: None,
        deciding: Duration::ZERO,
        masked: Found::new(),
    }
}

impl Told {
    /// An event of the engine, its texts cut to what crosses.
    #[must_use]
    pub fn of(event: Event) -> Self {
        let mut texts = Texts::default();
        match event {
            Event::SessionStarted {
                database,
                user,
                role,
                application,
                client,
                client_tls,
                identity,
            } => Self::Started(Box::new(Started {
                database: texts.word(database),
                user: texts.word(user),
                role: texts.word(role),
                application: texts.word(application),
                client: texts.word(client),
                client_tls,
                identity: identity.map(|of| {
                    let (subject, issuer) = *of;
                    (texts.word(subject), texts.word(issuer))
                }),
                masked: texts.found(),
            })),
            Event::Statement(event) => Self::Statement(Box::new(of_statement(*event, texts))),
            Event::StatementEnded(end) => Self::StatementEnd(of_end(end, texts)),
            Event::Traffic { direction, text } => Self::Traffic(Traffic {
                from_client: direction == Direction::FromClient,
                text: texts.take(text, TEXT_MAX),
                masked: texts.found(),
            }),
            Event::Truncated { limit } => Self::Truncated { limit },
            Event::SessionEnded { why, statements, refused, rows, bytes, masked, duration } => {
                let why = texts.word(why);
                texts.add(&masked);
                let masked = texts.found();
                let ended = Ended { why, statements, refused, rows, bytes, duration, masked };
                Self::Ended(Box::new(ended))
            }
        }
    }
}

fn of_statement(event: StatementEvent, mut texts: Texts) -> Statement {
    Statement {
        number: event.number,
        step: event.step,
        command: event.command.to_owned(),
        text: texts.take(event.text, TEXT_MAX),
        text_bytes: event.text_bytes,
        parameters: texts.parameters(event.parameters),
        effects: event.effects.into_iter().take(MANY).collect(),
        tables: texts.tables(event.tables),
        verdict: event.verdict,
        rule: event.rule.map(|rule| texts.word(rule)),
        reason: texts.word(event.reason),
        request_key: event.request_key,
        deciding: event.deciding,
        masked: texts.found(),
    }
}

fn of_end(end: StatementEnd, mut texts: Texts) -> End {
    texts.add(&end.masked);
    End {
        number: end.number,
        rows: end.rows,
        bytes: end.bytes,
        duration: end.duration,
        sqlstate: end.sqlstate.map(|state| texts.word(state)),
        masked: texts.found(),
    }
}
