//! What is to become of a message of the client, before anything is done with it.

use std::sync::Arc;

use bytes::Bytes;

use super::names::{Found, NAME_MAX};
use super::{Copying, Effect, Portal, Request, RequestId, Session, SessionError, Statement};
use crate::error::Side;
use crate::frontend::{Message, Target};

/// What is to become of a message of the client.
pub enum About<'a, T> {
    /// To be decided: here is what it refers to by name, as far as that is known. A name that
    /// nobody has told us of is nothing: the server may still know it (made inside of a function).
    Decide {
        /// The statement it uses.
        statement: Option<&'a Arc<Statement<T>>>,
        /// The portal it uses.
        portal: Option<&'a Arc<Portal<T>>>,
    },
    /// It belongs to the COPY of this request.
    Copy(&'a Request<T>),
    /// It asks for nothing (Sync, Flush, Terminate): forward it.
    Forward,
    /// The server would ignore it: drop it.
    Drop,
    /// What it means depends on answers that have not come: send the server a Flush, read nothing
    /// more from the client, and ask again after each of the server's messages.
    Wait,
}

impl<T: Clone> Session<T> {
    /// What is to become of a message of the client. Changes nothing.
    ///
    /// # Errors
    /// It has no place here, its name is too long, or a limit is reached.
    pub fn about(&self, message: &Message) -> Result<About<'_, T>, SessionError> {
        match self.about_place(message)? {
            Some(about) => Ok(about),
            None => self.about_names(message),
        }
    }

    /// The same without looking at names: nothing when those decide.
    pub(super) fn about_place(
        &self,
        message: &Message,
    ) -> Result<Option<About<'_, T>>, SessionError> {
        if self.over {
            return Err(SessionError::Ended { message: message.name() });
        }
        match message {
            Message::Flush | Message::Terminate => return Ok(Some(About::Forward)),
            Message::Password(_) => return Err(out_of_place(message)),
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => {
                return self.about_copy(message).map(Some);
            }
            _ => {}
        }
        match self.copy {
            // The server ignores a Sync between data, for the convenience of libpq.
            Copying::In if *message == Message::Sync => return Ok(Some(About::Drop)),
            Copying::In | Copying::Both { client: true, .. } => return Err(out_of_place(message)),
            _ => {}
        }
        if *message != Message::Sync {
            if self.skipping {
                return Ok(Some(About::Drop));
            }
            if self.unsure_skip {
                return Ok(Some(About::Wait));
            }
        }
        if self.queue.len() >= self.limits.outstanding {
            let limit = self.limits.outstanding;
            return Err(SessionError::TooMany { what: "requests without an answer", limit });
        }
        Ok((*message == Message::Sync).then_some(About::Forward))
    }

    fn about_copy(&self, message: &Message) -> Result<About<'_, T>, SessionError> {
        match (self.copy, self.queue.front()) {
            (Copying::In, Some(request)) => Ok(About::Copy(request)),
            (Copying::Both { client: true, .. }, Some(request)) => match message {
                Message::CopyFail(_) => Err(out_of_place(message)),
                _ => Ok(About::Copy(request)),
            },
            // Left over from a COPY that failed while the data were on their way.
            (Copying::InRefused, _) => Ok(About::Drop),
            _ if self.skipping => Ok(About::Drop),
            _ if self.queue.iter().any(|request| request.kind.runs_statements()) => Ok(About::Wait),
            _ => Ok(About::Drop),
        }
    }

    fn about_names(&self, message: &Message) -> Result<About<'_, T>, SessionError> {
        let nothing = About::Decide { statement: None, portal: None };
        match message {
            Message::Parse(parse) => {
                let name = known_length("prepared statement", &parse.statement)?;
                let limit = self.limits.statements;
                if self.statements.is_full(name, limit) {
                    return Err(SessionError::TooMany { what: "prepared statements", limit });
                }
                Ok(nothing)
            }
            Message::Bind(bind) => {
                let name = known_length("portal", &bind.portal)?;
                let limit = self.limits.portals;
                if self.portals.is_full(name, limit) {
                    return Err(SessionError::TooMany { what: "portals", limit });
                }
                self.about_statement(&bind.statement)
            }
            Message::Describe(Target::Statement(name))
            | Message::Close(Target::Statement(name)) => self.about_statement(name),
            Message::Describe(Target::Portal(name)) | Message::Close(Target::Portal(name)) => {
                self.about_portal(name)
            }
            Message::Execute(execute) => self.about_portal(&execute.portal),
            _ => Ok(nothing),
        }
    }

    fn about_statement(&self, name: &Bytes) -> Result<About<'_, T>, SessionError> {
        let name = known_length("prepared statement", name)?;
        if self.sql_changes(self.statements.changed_by(name), |to| to.touches_statement(name)) {
            return Ok(About::Wait);
        }
        Ok(match self.statements.find(name, self.batch) {
            Found::Known(statement) => About::Decide { statement: Some(statement), portal: None },
            Found::Absent => About::Decide { statement: None, portal: None },
            Found::Unsettled => About::Wait,
        })
    }

    fn about_portal(&self, name: &Bytes) -> Result<About<'_, T>, SessionError> {
        let name = known_length("portal", name)?;
        if self.sql_changes(self.portals.changed_by(name), |to| to.touches_portal(name)) {
            return Ok(About::Wait);
        }
        Ok(match self.portals.find(name, self.batch) {
            Found::Known(portal) => {
                About::Decide { statement: portal.statement.as_ref(), portal: Some(portal) }
            }
            Found::Absent => About::Decide { statement: None, portal: None },
            Found::Unsettled => About::Wait,
        })
    }

    /// Whether SQL on its way, sent behind the request `after`, changes a name.
    fn sql_changes(&self, after: Option<RequestId>, touches: impl Fn(&Effect) -> bool) -> bool {
        self.with_effects > 0
            && self.queue.iter().filter(|request| Some(request.id) > after).any(|request| {
                let to_come = request.effects.iter().filter(|(index, _)| *index >= request.index);
                to_come.map(|(_, effect)| effect).any(&touches)
            })
    }
}

fn known_length<'n>(what: &'static str, name: &'n Bytes) -> Result<&'n [u8], SessionError> {
    if name.len() > NAME_MAX {
        return Err(SessionError::LongName { what, length: name.len() });
    }
    Ok(name)
}

fn out_of_place(message: &Message) -> SessionError {
    SessionError::OutOfPlace { side: Side::Frontend, message: message.name() }
}
