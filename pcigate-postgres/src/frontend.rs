//! What a client sends once the session is open (manual, "Message Formats", the ones marked F).

mod codec;
mod password;

use bytes::{Bytes, BytesMut};

pub use password::{SaslInitialResponse, password};

use crate::error::{Side, WireError};
use crate::frame::{self, Frame};
use crate::values::{Formats, Values};

/// The largest body in bytes for each kind of message. A message is held whole, so these bound the
/// memory of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Query and Parse: texts of statements.
    pub statement: usize,
    /// Bind and FunctionCall: parameters.
    pub parameters: usize,
    /// CopyData.
    pub copy: usize,
    /// Passwords and tokens.
    pub password: usize,
    /// Everything else: names and numbers.
    pub other: usize,
}

impl Default for Limits {
    /// Statements 1 MiB, parameters 16 MiB, one CopyData 16 MiB, passwords 64 KiB, others 10,000
    /// bytes as PostgreSQL itself has it (`PQ_SMALL_MESSAGE_LIMIT`).
    fn default() -> Self {
        Self {
            statement: 1 << 20,
            parameters: 16 << 20,
            copy: 16 << 20,
            password: 64 << 10,
            other: 10_000,
        }
    }
}

impl Limits {
    fn of(&self, tag: u8) -> Option<usize> {
        match tag {
            b'Q' | b'P' => Some(self.statement),
            b'B' | b'F' => Some(self.parameters),
            b'd' => Some(self.copy),
            b'p' => Some(self.password),
            b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(self.other),
            _ => None,
        }
    }
}

/// Takes the first message off the buffer, if it is whole.
///
/// # Errors
/// A type clients do not send, a length that cannot be or is over its limit.
pub fn next(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame>, WireError> {
    frame::take(buffer, Side::Frontend, |tag| limits.of(tag))
}

/// A message of a client. Texts are bytes in the client's encoding, without their zero byte. There
/// is no `Debug`: statements and parameters hold card data.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Message {
    /// Give parameters to a statement: makes a portal.
    Bind(Bind),
    /// Forget a statement or a portal.
    Close(Target),
    /// Data for COPY.
    CopyData(Bytes),
    /// The end of the data.
    CopyDone,
    /// The data cannot be completed: the statement is to fail with this text.
    CopyFail(Bytes),
    /// Tell the types of a statement's parameters and rows, or a portal's rows.
    Describe(Target),
    /// Run a portal.
    Execute(Execute),
    /// Send what has been answered so far.
    Flush,
    /// Call a function by its OID, without SQL.
    FunctionCall(FunctionCall),
    /// Prepare a statement.
    Parse(Parse),
    /// An answer to a demand for authentication: password, token, SASL, GSSAPI. Which of them only
    /// the demand tells; see [`SaslInitialResponse`].
    Password(Bytes),
    /// Run a string of statements.
    Query(Bytes),
    /// The end of a batch of the extended protocol.
    Sync,
    /// The end of the session.
    Terminate,
}

/// Parse.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Parse {
    /// Empty: the unnamed statement.
    pub statement: Bytes,
    /// One statement of SQL.
    pub sql: Bytes,
    /// OIDs of the types of the first parameters; 0 leaves it to the server.
    pub parameter_types: Vec<u32>,
}

/// Bind.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Bind {
    /// Empty: the unnamed portal.
    pub portal: Bytes,
    /// Empty: the unnamed statement.
    pub statement: Bytes,
    /// Of the parameters.
    pub parameter_formats: Formats,
    /// The parameters.
    pub parameters: Values,
    /// Wanted for the rows.
    pub result_formats: Formats,
}

/// Execute.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Execute {
    /// Empty: the unnamed portal.
    pub portal: Bytes,
    /// Rows after which the portal is suspended; 0 or less: none.
    pub max_rows: i32,
}

/// FunctionCall.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct FunctionCall {
    /// OID of the function.
    pub function: u32,
    /// Of the arguments.
    pub argument_formats: Formats,
    /// The arguments.
    pub arguments: Values,
    /// Wanted for the result.
    pub result_format: crate::values::Format,
}

/// What Describe and Close speak of.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Target {
    /// A prepared statement by name; empty: the unnamed one.
    Statement(Bytes),
    /// A portal by name; empty: the unnamed one.
    Portal(Bytes),
}

impl Message {
    /// Reads the body of a whole message.
    ///
    /// # Errors
    /// Fields cut off or left over, texts without end, codes without meaning.
    pub fn decode(frame: &Frame) -> Result<Self, WireError> {
        codec::decode(frame.tag(), frame.body())
    }

    /// Writes it behind what is in `out`; leaves `out` as it was on an error.
    ///
    /// # Errors
    /// A text with a zero byte, more elements or bytes than the protocol can count.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        codec::encode(self, out)
    }

    /// The manual's name of this message.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bind(_) => "Bind",
            Self::Close(_) => "Close",
            Self::CopyData(_) => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyFail(_) => "CopyFail",
            Self::Describe(_) => "Describe",
            Self::Execute(_) => "Execute",
            Self::Flush => "Flush",
            Self::FunctionCall(_) => "FunctionCall",
            Self::Parse(_) => "Parse",
            Self::Password(_) => "PasswordMessage",
            Self::Query(_) => "Query",
            Self::Sync => "Sync",
            Self::Terminate => "Terminate",
        }
    }
}
