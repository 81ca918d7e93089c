//! Parse, Bind and Execute: decided when they are parsed, again where the session has changed
//! since, and recorded when they are run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use pcigate_postgres::frame::Frame;
use pcigate_postgres::frontend::{self, Execute, Message, Target};
use pcigate_postgres::session::{Origin, Portal, Statement};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Next, effect, plain, requests, shown};
use crate::engine::Engine;
use crate::engine::ask::{Ask, Decision};
use crate::engine::decide;
use crate::error::SessionEnd;
use crate::record::{Direction, Step};

type Known<T> = Option<Arc<T>>;

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn parse(
        &mut self,
        frame: &Frame,
        message: &Message,
        parse: &frontend::Parse,
    ) -> Result<Next, SessionEnd> {
        let decision = match self.decide(&parse.sql) {
            Ok(decision) => decision,
            Err(refusal) => {
                return self.refuse_unread(message, &parse.sql, Step::Prepare, &refusal);
            }
        };
        if self.waits_for_names(&decision) || self.looks_up(&decision) {
            return Ok(Next::Wait);
        }
        self.note(
            message.name(),
            [Some(parse.statement.as_ref()), Some(shown(&decision, &parse.sql).as_ref())],
        );
        // The text is kept as long as the statement: in memory of its own.
        let text = Bytes::copy_from_slice(&parse.sql);
        let types = parse.parameter_types.clone();
        let decision = Decision { text, parameter_types: types, ..decision };
        // What needs approval is refused when its parameters are known.
        let denial = self.denial(&decision).filter(|_| !decision.asks());
        let name = (!parse.statement.is_empty()).then(|| Bytes::copy_from_slice(&parse.statement));
        let ask = Ask { decision: Some(Arc::new(decision)), name, ..Ask::nothing() };
        if let (Some(denial), Some(decision)) = (denial, &ask.decision) {
            let number = self.recorded(decision, &[], Step::Prepare);
            return self.refuse(message, Ask { number, ..ask }, denial);
        }
        let ask = Arc::new(ask);
        self.naming += usize::from(!parse.statement.is_empty());
        self.batch.prepared.push(Arc::clone(&ask));
        self.pass(frame, message, ask)
    }

    pub(super) fn bind(
        &mut self,
        frame: &Frame,
        message: &Message,
        bind: &frontend::Bind,
        statement: Known<Statement<Arc<Ask>>>,
    ) -> Result<Next, SessionEnd> {
        let decided = statement.as_ref().and_then(|known| known.tag.decision.clone());
        let (Some(statement), Some(decided)) = (statement, decided) else {
            let what = "this prepared statement was made where the gateway could not see it";
            return self.refuse(message, Ask::nothing(), plain(what));
        };
        let stale = decided.volatile
            || decided.settings != self.sql.settings()
            || decided.version != self.fresh.version;
        let decided = match stale {
            false => decided,
            true => match self.decide(&decided.text) {
                Ok(again) => {
                    let types = decided.parameter_types.clone();
                    Arc::new(Decision { parameter_types: types, ..again })
                }
                Err(refusal) => {
                    let text = decided.text.clone();
                    return self.refuse_unread(message, &text, Step::Execute, &refusal);
                }
            },
        };
        if self.waits_for_names(&decided) || self.looks_up(&decided) {
            return Ok(Next::Wait);
        }
        let described = statement.parameter_types();
        let types = &decided.parameter_types;
        let parameters = decide::parameters(
            bind,
            types,
            described.as_ref(),
            (!decided.touches_sad).then_some(&self.plan.masker.mixed),
        );
        if self.traffic.is_on() {
            let words =
                parameters.iter().map(|one| one.as_ref().map(|one| one.as_str().as_bytes()));
            self.traffic.message(Direction::FromClient, message.name(), words);
        }
        let decided = match decided.asks() {
            true => {
                let values = requests::parameters(&bind.parameter_formats, &bind.parameters);
                Arc::new(self.keyed((*decided).clone(), &values))
            }
            false => decided,
        };
        if let Some(denial) = self.denial(&decided) {
            // The record of the refusal covers the text it was prepared from.
            statement.tag.recorded.store(true, Ordering::Relaxed);
            let number = self.recorded(&decided, &parameters, Step::Execute);
            return self.refuse(message, Ask { number, ..Ask::nothing() }, denial);
        }
        let ask = Ask { decision: Some(decided), parameters, epoch: self.epoch, ..Ask::nothing() };
        self.pass(frame, message, Arc::new(ask))
    }

    pub(super) fn execute(
        &mut self,
        frame: &Frame,
        message: &Message,
        execute: &Execute,
        portal: Known<Portal<Arc<Ask>>>,
    ) -> Result<Next, SessionEnd> {
        let decided = portal.as_ref().and_then(|known| known.tag.decision.clone());
        let (Some(portal), Some(decided)) = (portal, decided) else {
            let what = "this portal was made where the gateway could not see it";
            return self.refuse(message, Ask::nothing(), plain(what));
        };
        // FETCH and EXECUTE look their names up only when they run.
        if decided.volatile {
            if self.unsettled + self.naming > 0 {
                return Ok(Next::Wait);
            }
            if portal.tag.epoch != self.epoch {
                let what = "what the statement's name means has changed since Bind";
                return self.refuse(message, Ask::nothing(), plain(what));
            }
        }
        // What Describe told of the statement may be of other tables by now.
        let wants = !self.plan.target.columns.is_empty() || portal.shape().is_none();
        if wants && !portal.tag.described.swap(true, Ordering::Relaxed) {
            self.own(&Message::Describe(Target::Portal(execute.portal.clone())))?;
        }
        self.note(message.name(), [Some(execute.portal.as_ref())]);
        if !decided.ends_transaction()
            && let Err(sentence) = self.budget.run(1)
        {
            let decided = decided.beyond(&sentence);
            let denial = self.denial(&decided).unwrap_or_else(|| plain("the session's budget"));
            let number = self.recorded(&decided, &portal.tag.parameters, Step::Execute);
            return self.refuse(message, Ask { number, ..Ask::nothing() }, denial);
        }
        let number = self.recorded(&decided, &portal.tag.parameters, Step::Execute);
        if let Some(statement) = &portal.statement {
            // The record of the run covers the text it was prepared from.
            statement.tag.recorded.store(true, Ordering::Relaxed);
        }
        let ask = Ask {
            number,
            changes: decided.changes,
            decision: Some(decided),
            spent: Arc::clone(&portal.tag.spent),
            began: Instant::now(),
            ..Ask::nothing()
        };
        let ask = Arc::new(ask);
        ask.decision.iter().for_each(|decision| self.fresh.sent(decision));
        self.unsettled += usize::from(ask.changes);
        let request = self.protocol.sent(message, Origin::Client, Arc::clone(&ask))?;
        // A cursor's portal has the text that declared it, and does that no second time.
        if let (Some(request), Some(_)) = (request, &portal.statement) {
            for naming in ask.statements().iter().flat_map(|statement| statement.naming()) {
                self.protocol.will(request, 0, effect(naming));
            }
        }
        self.batch.held.extend_from_slice(frame.bytes());
        Ok(Next::Done)
    }
}
