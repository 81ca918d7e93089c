//! What a server sends (manual, "Message Formats", the ones marked B).

mod authentication;
mod codec;
mod report;
mod rows;

use bytes::{Bytes, BytesMut};

pub use authentication::Authentication;
pub use report::Report;
pub use rows::{Column, RowDescription};

use crate::error::{Side, WireError};
use crate::frame::{self, Frame};
use crate::values::{Format, Formats, Values};
use crate::writer;

/// The largest body in bytes for each kind of message. A message is held whole, so these bound the
/// memory of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// DataRow and FunctionCallResponse: values.
    pub row: usize,
    /// CopyData.
    pub copy: usize,
    /// RowDescription, ErrorResponse, NoticeResponse, NotificationResponse, ParameterDescription:
    /// what the manual calls long messages.
    pub long: usize,
    /// Everything else.
    pub other: usize,
}

impl Default for Limits {
    /// Rows and CopyData 64 MiB, long messages 1 MiB, others 30,000 bytes as libpq has it.
    fn default() -> Self {
        Self { row: 64 << 20, copy: 64 << 20, long: 1 << 20, other: 30_000 }
    }
}

impl Limits {
    fn of(&self, tag: u8) -> Option<usize> {
        match tag {
            b'D' | b'V' => Some(self.row),
            b'd' => Some(self.copy),
            b'T' | b'E' | b'N' | b'A' | b't' => Some(self.long),
            b'1' | b'2' | b'3' | b'C' | b'G' | b'H' | b'I' | b'K' | b'R' | b'S' | b'W' | b'Z'
            | b'c' | b'n' | b's' | b'v' => Some(self.other),
            _ => None,
        }
    }
}

/// Takes the first message off the buffer, if it is whole.
///
/// # Errors
/// A type servers do not send, a length that cannot be or is over its limit.
pub fn next(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame>, WireError> {
    frame::take(buffer, Side::Backend, |tag| limits.of(tag))
}

/// A message of a server. Texts are bytes in the client's encoding, without their zero byte. There
/// is no `Debug`: rows and errors hold card data.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Message {
    /// A demand for proof, or that there has been enough of it.
    Authentication(Authentication),
    /// What a CancelRequest must show.
    BackendKeyData {
        /// The backend.
        process: u32,
        /// 4 bytes, up to 256 from protocol 3.2 on.
        key: Bytes,
    },
    /// Answers Bind.
    BindComplete,
    /// Answers Close.
    CloseComplete,
    /// A statement is done; its tag, such as `SELECT 3`.
    CommandComplete(Bytes),
    /// COPY … TO STDOUT in both directions: replication.
    CopyBothResponse(CopyFormat),
    /// Data of COPY.
    CopyData(Bytes),
    /// The end of the data.
    CopyDone,
    /// COPY … FROM STDIN: send the data.
    CopyInResponse(CopyFormat),
    /// COPY … TO STDOUT: the data follow.
    CopyOutResponse(CopyFormat),
    /// A row.
    DataRow(Values),
    /// There was no statement in the string.
    EmptyQueryResponse,
    /// What went wrong.
    ErrorResponse(Report),
    /// The result of a FunctionCall; NULL is `None`.
    FunctionCallResponse(Option<Bytes>),
    /// The server speaks less than the client asked for.
    NegotiateProtocolVersion(NegotiateProtocolVersion),
    /// The statement or portal described gives no rows.
    NoData,
    /// A warning, or information.
    NoticeResponse(Report),
    /// What another session has told with NOTIFY.
    NotificationResponse {
        /// The backend that told it.
        process: u32,
        /// The channel.
        channel: Bytes,
        /// The text.
        payload: Bytes,
    },
    /// OIDs of the types of a statement's parameters.
    ParameterDescription(Vec<u32>),
    /// A setting the client should know of.
    ParameterStatus {
        /// Its name.
        name: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Answers Parse.
    ParseComplete,
    /// Execute has reached its number of rows.
    PortalSuspended,
    /// The end of an answer: the server waits.
    ReadyForQuery(TransactionStatus),
    /// The columns of the rows to come.
    RowDescription(RowDescription),
}

/// Formats of a COPY.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct CopyFormat {
    /// Of the whole.
    pub overall: Format,
    /// Of the columns.
    pub columns: Formats,
}

/// NegotiateProtocolVersion.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct NegotiateProtocolVersion {
    /// The newest the server speaks, as in a startup message. (The manual of 15 calls it a minor
    /// version; servers send both halves.)
    pub version: u32,
    /// Names of options beginning with `_pq_.` that the server does not know.
    pub unknown: Vec<Bytes>,
}

/// Where the session stands, said by ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// In no transaction block.
    Idle,
    /// In one.
    Open,
    /// In one that has failed: statements are refused until it ends.
    Failed,
}

impl TransactionStatus {
    fn code(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
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
            Self::Authentication(_) => "Authentication",
            Self::BackendKeyData { .. } => "BackendKeyData",
            Self::BindComplete => "BindComplete",
            Self::CloseComplete => "CloseComplete",
            Self::CommandComplete(_) => "CommandComplete",
            Self::CopyBothResponse(_) => "CopyBothResponse",
            Self::CopyData(_) => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyInResponse(_) => "CopyInResponse",
            Self::CopyOutResponse(_) => "CopyOutResponse",
            Self::DataRow(_) => "DataRow",
            Self::EmptyQueryResponse => "EmptyQueryResponse",
            Self::ErrorResponse(_) => "ErrorResponse",
            Self::FunctionCallResponse(_) => "FunctionCallResponse",
            Self::NegotiateProtocolVersion(_) => "NegotiateProtocolVersion",
            Self::NoData => "NoData",
            Self::NoticeResponse(_) => "NoticeResponse",
            Self::NotificationResponse { .. } => "NotificationResponse",
            Self::ParameterDescription(_) => "ParameterDescription",
            Self::ParameterStatus { .. } => "ParameterStatus",
            Self::ParseComplete => "ParseComplete",
            Self::PortalSuspended => "PortalSuspended",
            Self::ReadyForQuery(_) => "ReadyForQuery",
            Self::RowDescription(_) => "RowDescription",
        }
    }
}

/// Writes a DataRow of values straight behind what is in `out`: for a row that was changed.
///
/// # Errors
/// More than 65,535 values, or 2 GiB; `out` is then as it was.
pub fn encode_row<'v>(
    values: impl IntoIterator<Item = Option<&'v [u8]>>,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    writer::message("DataRow", Some(b'D'), out, |writer| writer.values(values))
}
