//! The client's messages: each is decided and recorded before any of it goes upstream.

mod extended;
mod requests;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pcigate_policy::document::StatementAction;
use pcigate_policy::mask::Masked;
use pcigate_policy::statement::Answer;
use pcigate_postgres::denial::{Denial, OVER, REFUSED};
use pcigate_postgres::frame::Frame;
use pcigate_postgres::frontend::{self, FunctionCall, Message, Target};
use pcigate_postgres::session::{About, Effect, Origin};
use pcigate_sql::Naming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::ask::{Ask, Decision};
use super::decide::{self, Ground};
use super::{Engine, send};
use crate::error::SessionEnd;
use crate::record::{Direction, Event, StatementEvent, Step};

/// What becomes of a message.
enum Next {
    Done,
    Wait,
}

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Takes all whole messages of the client that may be taken now: they are one batch.
    pub(super) fn take_client(&mut self) -> Result<(), SessionEnd> {
        let limit = self.plan.limits.buffer;
        let mut starved = false;
        while self.batch.waiting.is_none() && self.cancelling.is_none() && !self.leaving {
            if self.pipe.server.outgoing.len() + self.batch.held.len() >= limit {
                break;
            }
            let (frame, message, again) = match self.parked.take() {
                Some((frame, message)) => (frame, message, true),
                None => {
                    let limits = &self.plan.limits.frontend;
                    let Some(frame) = frontend::next(&mut self.pipe.client.incoming, limits)?
                    else {
                        starved = true;
                        break;
                    };
                    let message = Message::decode(&frame)?;
                    self.fresh.another();
                    (frame, message, false)
                }
            };
            match self.client_message(&frame, &message)? {
                Next::Done => {}
                Next::Wait => {
                    if !again {
                        self.own(&Message::Flush)?;
                    }
                    self.parked = Some((frame, message));
                    break;
                }
            }
        }
        self.pipe.client.trim();
        // What is left is a piece of a message that nobody will end.
        if self.pipe.client.closed && starved {
            return Err(SessionEnd::Client { source: None });
        }
        self.close_batch();
        Ok(())
    }

    /// Lets the batch go, or makes it wait for its records.
    fn close_batch(&mut self) {
        for ask in std::mem::take(&mut self.batch.prepared) {
            if let (false, Some(decision)) =
                (ask.recorded.swap(true, Ordering::Relaxed), &ask.decision)
            {
                self.recorded(decision, &[], Step::Prepare);
            }
        }
        if self.batch.waiting.is_some() || self.batch.held.is_empty() {
            return;
        }
        if !self.batch.recorded {
            let held = std::mem::take(&mut self.batch.held);
            send(&mut self.pipe.server.outgoing, held);
            return;
        }
        self.batch.recorded = false;
        let (durable, waiting) = oneshot::channel();
        self.batch.waiting = Some(waiting);
        // There is one. If there were none, the dropped sender would end the session.
        if let Some(last) = self.entries.last_mut() {
            last.durable = Some(durable);
        }
    }

    fn client_message(&mut self, frame: &Frame, message: &Message) -> Result<Next, SessionEnd> {
        self.budget.is_active();
        self.taken_up = Instant::now();
        let (statement, portal) = match self.protocol.about(message)? {
            About::Wait => return Ok(Next::Wait),
            About::Drop => return Ok(Next::Done),
            About::Decide { statement, portal } => (statement.cloned(), portal.cloned()),
            About::Forward | About::Copy(_) => {
                self.leaving |= *message == Message::Terminate;
                self.pass(frame, message, Arc::clone(&self.nothing))?;
                if let Message::CopyData(data) = message {
                    // A number may go on in the next one: only how much there is.
                    let size = format!("{} bytes", data.len());
                    self.note(message.name(), [Some(size.as_bytes())]);
                }
                return Ok(Next::Done);
            }
        };
        let decides = matches!(
            message,
            Message::Query(_) | Message::Parse(_) | Message::Bind(_) | Message::FunctionCall(_)
        );
        if decides && (self.unsettled > 0 || self.fresh.is_reading()) {
            return Ok(Next::Wait);
        }
        match message {
            Message::Query(text) => self.query(frame, message, text),
            Message::Parse(parse) => self.parse(frame, message, parse),
            Message::Bind(bind) => self.bind(frame, message, bind, statement),
            Message::Execute(execute) => self.execute(frame, message, execute, portal),
            Message::FunctionCall(call) => self.function_call(frame, message, call),
            Message::Describe(Target::Portal(_)) => {
                if let Some(portal) = portal {
                    portal.tag.described.store(true, Ordering::Relaxed);
                }
                self.pass(frame, message, Arc::clone(&self.nothing))
            }
            Message::Close(Target::Statement(name)) if !name.is_empty() => {
                self.naming += 1;
                let name = Some(Bytes::copy_from_slice(name));
                self.pass(frame, message, Arc::new(Ask { name, ..Ask::nothing() }))
            }
            _ => self.pass(frame, message, Arc::clone(&self.nothing)),
        }
    }

    /// Sends it on as it is, behind what its batch waits for.
    fn pass(
        &mut self,
        frame: &Frame,
        message: &Message,
        ask: Arc<Ask>,
    ) -> Result<Next, SessionEnd> {
        self.protocol.sent(message, Origin::Client, ask)?;
        self.batch.held.extend_from_slice(frame.bytes());
        Ok(Next::Done)
    }

    /// Sends a message of our own.
    fn own(&mut self, message: &Message) -> Result<(), SessionEnd> {
        self.protocol.sent(message, Origin::Gateway, Arc::clone(&self.nothing))?;
        message.encode(&mut self.batch.held)?;
        Ok(())
    }

    /// Sends in its place what fails there; the client gets the refusal when that does.
    fn refuse(&mut self, message: &Message, ask: Ask, denial: Denial) -> Result<Next, SessionEnd> {
        self.tally.refused += 1;
        let ask = Arc::new(Ask { denial: Some(denial), changes: false, ..ask });
        let refusal = self.protocol.refused(message, Origin::Client, ask)?;
        refusal.instead.encode(&mut self.batch.held)?;
        Ok(Next::Done)
    }

    fn query(
        &mut self,
        frame: &Frame,
        message: &Message,
        text: &Bytes,
    ) -> Result<Next, SessionEnd> {
        let decision = match self.decide(text) {
            Ok(decision) => decision,
            Err(refusal) => return self.refuse_unread(message, text, Step::Query, &refusal),
        };
        if self.waits_for_names(&decision) || self.looks_up(&decision) {
            return Ok(Next::Wait);
        }
        let decision = self.within_session(decision);
        let decision = self.keyed(decision, &[]);
        self.note(message.name(), [Some(shown(&decision, text).as_ref())]);
        let number = self.recorded(&decision, &[], Step::Query);
        let denial = self.denial(&decision);
        let changes = decision.changes;
        let ask = Ask { number, changes, decision: Some(Arc::new(decision)), ..Ask::nothing() };
        if let Some(denial) = denial {
            return self.refuse(message, ask, denial);
        }
        let ask = Arc::new(ask);
        ask.decision.iter().for_each(|decision| self.fresh.sent(decision));
        self.unsettled += usize::from(ask.changes);
        let request = self.protocol.sent(message, Origin::Client, Arc::clone(&ask))?;
        if let Some(request) = request {
            for (index, statement) in (0..).zip(ask.statements()) {
                for naming in statement.naming() {
                    self.protocol.will(request, index, effect(naming));
                }
            }
        }
        self.batch.held.extend_from_slice(frame.bytes());
        Ok(Next::Done)
    }

    fn function_call(
        &mut self,
        frame: &Frame,
        message: &Message,
        call: &FunctionCall,
    ) -> Result<Next, SessionEnd> {
        let oid = call.function;
        let (facts, mut answer) = self.ground().of_function(oid);
        let mut code = REFUSED;
        if answer.action == StatementAction::Allow
            && let Err(sentence) = self.budget.run(1)
        {
            answer = Answer { action: StatementAction::Deny, sentence, ..answer };
            code = OVER;
        }
        let values = requests::parameters(&call.argument_formats, &call.arguments);
        let request = (answer.action == StatementAction::Ask)
            .then(|| self.request_key(&oid.to_be_bytes(), &[], &values))
            .flatten();
        self.tally.statements += 1;
        let name = match facts.functions.first() {
            Some(function) => format!("{}.{}", function.schema, function.name),
            None => format!("function number {oid}"),
        };
        let event = StatementEvent {
            number: self.tally.statements,
            step: Step::FunctionCall,
            command: "FUNCTION CALL",
            text: decide::masked(&name),
            text_bytes: u64::try_from(name.len()).unwrap_or(0),
            parameters: Vec::new(),
            effects: facts.effects,
            tables: Vec::new(),
            verdict: answer.action,
            rule: answer.rule.as_ref().map(|rule| decide::masked(rule)),
            reason: decide::masked(&answer.sentence),
            request_key: request,
            deciding: Duration::ZERO,
        };
        self.record_statement(event);
        self.batch.recorded = true;
        self.note(message.name(), [Some(name.as_bytes())]);
        let number = self.tally.statements;
        let ask = Ask { number, changes: true, ..Ask::nothing() };
        if answer.action != StatementAction::Allow {
            let denial =
                decide::denial(code, &answer, request.as_ref(), &self.plan.target.name.to_string());
            return self.refuse(message, ask, denial);
        }
        self.unsettled += 1;
        self.pass(frame, message, Arc::new(ask))
    }

    fn refuse_unread(
        &mut self,
        message: &Message,
        text: &[u8],
        step: Step,
        refusal: &pcigate_sql::Refusal,
    ) -> Result<Next, SessionEnd> {
        self.tally.statements += 1;
        let number = self.tally.statements;
        let event = decide::unreadable(text, number, step, refusal, &self.plan.masker.mixed);
        self.record_statement(event);
        self.batch.recorded = true;
        self.note(message.name(), [Some(text)]);
        let ask = Ask { number, ..Ask::nothing() };
        self.refuse(message, ask, decide::not_understood(refusal))
    }

    /// A text that runs what was prepared waits until it is known what is.
    fn waits_for_names(&self, decision: &Decision) -> bool {
        decision.volatile && self.naming > 0
    }

    fn decide(&mut self, sql: &Bytes) -> Result<Decision, pcigate_sql::Refusal> {
        let (plan, known) = (self.plan, &*self.known);
        let ground = Ground {
            plan,
            known,
            database: &self.wish.database,
            sql: &self.sql,
            version: self.fresh.version,
        };
        ground.of_text(sql, &mut self.cache)
    }

    fn ground(&self) -> Ground<'_> {
        let (plan, known) = (self.plan, &*self.known);
        Ground {
            plan,
            known,
            database: &self.wish.database,
            sql: &self.sql,
            version: self.fresh.version,
        }
    }

    fn denial(&self, decision: &Decision) -> Option<Denial> {
        let answer = decision.refused()?;
        let request = decision.request_key.as_ref();
        Some(decide::denial(decision.code, answer, request, &self.plan.target.name.to_string()))
    }

    /// The decision about what is about to be run, as the session's budget has it.
    fn within_session(&mut self, decision: Decision) -> Decision {
        if decision.refused().is_some() || decision.ends_transaction() {
            return decision;
        }
        match self.budget.run(decision.statements.len()) {
            Ok(()) => decision,
            Err(sentence) => decision.beyond(&sentence),
        }
    }

    /// One record for each statement; the number of the first.
    fn recorded(&mut self, decision: &Decision, parameters: &[Option<Masked>], step: Step) -> u64 {
        let first = if decision.statements.is_empty() { 0 } else { self.tally.statements + 1 };
        let masker = &self.plan.masker.mixed;
        for index in 0..decision.statements.len() {
            self.tally.statements += 1;
            let number = self.tally.statements;
            if let Some(event) = decision.record(index, number, step, parameters, masker) {
                self.record_statement(event);
                self.batch.recorded = true;
            }
        }
        first
    }

    fn record_statement(&mut self, event: StatementEvent) {
        let deciding = self.taken_up.elapsed();
        self.record(Event::Statement(Box::new(StatementEvent { deciding, ..event })));
    }

    fn note<'v>(&mut self, name: &str, parts: impl IntoIterator<Item = Option<&'v [u8]>>) {
        self.traffic.message(Direction::FromClient, name, parts);
    }
}

/// The text for replay; as in its record where it may hold what nothing marks as such.
fn shown<'t>(decision: &Decision, text: &'t [u8]) -> Cow<'t, [u8]> {
    if !decision.touches_sad {
        return Cow::Borrowed(text);
    }
    Cow::Owned(decide::without_constants(text).into_string().into_bytes())
}

fn plain(what: &str) -> Denial {
    Denial {
        code: REFUSED,
        message: format!("pcigate: {what}; bind or prepare it anew"),
        detail: None,
        hint: None,
    }
}

fn effect(naming: Naming<'_>) -> Effect {
    let name = |name: &str| Bytes::copy_from_slice(name.as_bytes());
    match naming {
        Naming::Prepare(of) => Effect::Prepare(name(of)),
        Naming::Deallocate(Some(of)) => Effect::Deallocate(name(of)),
        Naming::Deallocate(None) => Effect::DeallocateAll,
        // Held longer than the server holds it: then the server says that it is gone.
        Naming::Declare(of) => Effect::Declare { name: name(of), hold: true },
        Naming::Close(Some(of)) => Effect::ClosePortal(name(of)),
        Naming::Close(None) => Effect::ClosePortals,
        Naming::DiscardAll => Effect::DiscardAll,
    }
}
