//! Refusing a message so that the session goes on as after an error of the server's own.
//!
//! The server gets, in the message's place, one that fails there. So it is the server that leaves
//! the transaction in the state of an error, undoes the rest of an implicit transaction, and skips
//! up to Sync; and the client gets the refusal in its order among the answers to what it has
//! pipelined, where the server's error stood.

use bytes::Bytes;

use super::{About, Copying, Kind, Origin, Request, RequestId, Session, SessionError};
use crate::frontend::{FunctionCall, Message, Parse};
use crate::values::{Format, Formats, Values};

/// No grammar of PostgreSQL takes it: a word that begins no statement.
const FAILS: &[u8] = b"pcigate refused this statement";
/// A statement that is never made, so that no statement of the client's is lost: Parse forgets the
/// statement without a name before it fails.
const NOWHERE: &[u8] = b"pcigate refused";

/// What to do in place of sending a refused message on.
pub struct Refusal {
    /// The request that will be answered by an error, with [`Request::refused`] set: send the
    /// refusal in its place.
    pub request: RequestId,
    /// To be sent to the server in the message's place.
    pub instead: Message,
}

impl<T: Clone> Session<T> {
    /// A message of the client is refused.
    ///
    /// # Errors
    /// It has no place here, has to wait or be dropped (see [`about`](Self::about)), decides
    /// nothing (Sync, Flush, Terminate), or too many requests are outstanding.
    pub fn refused(
        &mut self,
        message: &Message,
        origin: Origin,
        tag: T,
    ) -> Result<Refusal, SessionError> {
        match self.about_place(message)? {
            None => {}
            Some(About::Copy(request)) if self.copy == Copying::In => {
                let request = request.id;
                self.copy = Copying::InRefused;
                if let Some(front) = self.queue.front_mut() {
                    front.refused = true;
                }
                let instead = Message::CopyFail(Bytes::from_static(FAILS));
                return Ok(Refusal { request, instead });
            }
            Some(About::Wait | About::Drop) => {
                return Err(SessionError::NotToBeSent { message: message.name() });
            }
            Some(_) => return Err(SessionError::NotToBeRefused { message: message.name() }),
        }
        let (kind, name, instead) = match message {
            Message::Query(_) => {
                (Kind::Query, Bytes::new(), Message::Query(Bytes::from_static(FAILS)))
            }
            Message::FunctionCall(_) => (Kind::FunctionCall, Bytes::new(), no_function()),
            Message::Parse(parse) if parse.statement.is_empty() => {
                (Kind::Refused, Bytes::new(), no_statement(Bytes::new()))
            }
            Message::Sync => {
                return Err(SessionError::NotToBeRefused { message: message.name() });
            }
            _ => {
                let nowhere = Bytes::from_static(NOWHERE);
                (Kind::Refused, nowhere.clone(), no_statement(nowhere))
            }
        };
        let mut request: Request<T> = self.request(kind, origin, tag);
        request.refused = true;
        request.name = name;
        Ok(Refusal { request: self.push(request), instead })
    }
}

fn no_statement(statement: Bytes) -> Message {
    let sql = Bytes::from_static(FAILS);
    Message::Parse(Parse { statement, sql, parameter_types: Vec::new() })
}

/// No function has OID 0.
fn no_function() -> Message {
    Message::FunctionCall(FunctionCall {
        function: 0,
        argument_formats: Formats::default(),
        arguments: Values::default(),
        result_format: Format::Text,
    })
}
