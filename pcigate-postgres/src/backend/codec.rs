//! The bodies of the server's messages, field by field.

use bytes::{Bytes, BytesMut};

use super::{
    CopyFormat, Message, NegotiateProtocolVersion, Report, RowDescription, TransactionStatus,
    authentication,
};
use crate::error::{Side, WireError};
use crate::reader::Reader;
use crate::values::{Format, Formats, Values};
use crate::writer::{self, Writer};

/// Cancel keys of protocol 3.2 are at most this long.
const KEY_MAX: usize = 256;

pub(super) fn decode(tag: u8, body: Bytes) -> Result<Message, WireError> {
    match tag {
        b'D' => data_row(Reader::new("DataRow", body)),
        b'd' => Ok(Message::CopyData(body)),
        b'1' => empty("ParseComplete", body, Message::ParseComplete),
        b'2' => empty("BindComplete", body, Message::BindComplete),
        b'3' => empty("CloseComplete", body, Message::CloseComplete),
        b'A' => notification(Reader::new("NotificationResponse", body)),
        b'C' => command_complete(Reader::new("CommandComplete", body)),
        b'E' => Report::read(Reader::new("ErrorResponse", body)).map(Message::ErrorResponse),
        b'G' => copy(Reader::new("CopyInResponse", body)).map(Message::CopyInResponse),
        b'H' => copy(Reader::new("CopyOutResponse", body)).map(Message::CopyOutResponse),
        b'I' => empty("EmptyQueryResponse", body, Message::EmptyQueryResponse),
        b'K' => key_data(Reader::new("BackendKeyData", body)),
        b'N' => Report::read(Reader::new("NoticeResponse", body)).map(Message::NoticeResponse),
        b'R' => authentication::decode(body).map(Message::Authentication),
        b'S' => parameter_status(Reader::new("ParameterStatus", body)),
        b'T' => {
            let reader = Reader::new("RowDescription", body);
            RowDescription::read(reader).map(Message::RowDescription)
        }
        b'V' => function_result(Reader::new("FunctionCallResponse", body)),
        b'W' => copy(Reader::new("CopyBothResponse", body)).map(Message::CopyBothResponse),
        b'Z' => ready(Reader::new("ReadyForQuery", body)),
        b'c' => empty("CopyDone", body, Message::CopyDone),
        b'n' => empty("NoData", body, Message::NoData),
        b's' => empty("PortalSuspended", body, Message::PortalSuspended),
        b't' => parameter_description(Reader::new("ParameterDescription", body)),
        b'v' => negotiate(Reader::new("NegotiateProtocolVersion", body)),
        tag => Err(WireError::UnknownType { side: Side::Backend, tag }),
    }
}

fn empty(what: &'static str, body: Bytes, message: Message) -> Result<Message, WireError> {
    Reader::new(what, body).end().map(|()| message)
}

fn data_row(mut reader: Reader) -> Result<Message, WireError> {
    let values = Values::read(&mut reader, "values")?;
    reader.end().map(|()| Message::DataRow(values))
}

fn notification(mut reader: Reader) -> Result<Message, WireError> {
    let message = Message::NotificationResponse {
        process: reader.u32("process")?,
        channel: reader.text("channel")?,
        payload: reader.text("payload")?,
    };
    reader.end().map(|()| message)
}

fn command_complete(mut reader: Reader) -> Result<Message, WireError> {
    let tag = reader.text("tag")?;
    reader.end().map(|()| Message::CommandComplete(tag))
}

fn copy(mut reader: Reader) -> Result<CopyFormat, WireError> {
    let code = reader.u8("format")?;
    let Some(overall) = Format::from_code(u16::from(code)) else {
        return Err(reader.value("format", code));
    };
    let columns = Formats::read(&mut reader, "formats of the columns")?;
    reader.end().map(|()| CopyFormat { overall, columns })
}

fn key_data(mut reader: Reader) -> Result<Message, WireError> {
    let process = reader.u32("process")?;
    let key = reader.rest();
    if !(4..=KEY_MAX).contains(&key.len()) {
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        return Err(reader.value("length of the key", length));
    }
    Ok(Message::BackendKeyData { process, key })
}

fn parameter_status(mut reader: Reader) -> Result<Message, WireError> {
    let message =
        Message::ParameterStatus { name: reader.text("name")?, value: reader.text("value")? };
    reader.end().map(|()| message)
}

fn function_result(mut reader: Reader) -> Result<Message, WireError> {
    let length = reader.i32("result")?;
    let result = match usize::try_from(length) {
        Ok(length) => Some(reader.bytes("result", length)?),
        Err(_) if length == -1 => None,
        Err(_) => return Err(reader.value("result", length)),
    };
    reader.end().map(|()| Message::FunctionCallResponse(result))
}

fn ready(mut reader: Reader) -> Result<Message, WireError> {
    let status = match reader.u8("status")? {
        b'I' => TransactionStatus::Idle,
        b'T' => TransactionStatus::Open,
        b'E' => TransactionStatus::Failed,
        status => return Err(reader.value("status", status)),
    };
    reader.end().map(|()| Message::ReadyForQuery(status))
}

fn parameter_description(mut reader: Reader) -> Result<Message, WireError> {
    let count = reader.count("types", 4)?;
    let types: Result<_, _> = (0..count).map(|_| reader.u32("types")).collect();
    let types = types?;
    reader.end().map(|()| Message::ParameterDescription(types))
}

fn negotiate(mut reader: Reader) -> Result<Message, WireError> {
    let version = reader.u32("version")?;
    let count = reader.u32("options")?;
    let fits = usize::try_from(count).is_ok_and(|count| count <= reader.left().len());
    if !fits {
        return Err(reader.value("options", count));
    }
    let unknown: Result<_, _> = (0..count).map(|_| reader.text("option")).collect();
    let unknown = unknown?;
    reader.end()?;
    Ok(Message::NegotiateProtocolVersion(NegotiateProtocolVersion { version, unknown }))
}

pub(super) fn encode(message: &Message, out: &mut BytesMut) -> Result<(), WireError> {
    let tag = match message {
        Message::Authentication(_) => b'R',
        Message::BackendKeyData { .. } => b'K',
        Message::BindComplete => b'2',
        Message::CloseComplete => b'3',
        Message::CommandComplete(_) => b'C',
        Message::CopyBothResponse(_) => b'W',
        Message::CopyData(_) => b'd',
        Message::CopyDone => b'c',
        Message::CopyInResponse(_) => b'G',
        Message::CopyOutResponse(_) => b'H',
        Message::DataRow(_) => b'D',
        Message::EmptyQueryResponse => b'I',
        Message::ErrorResponse(_) => b'E',
        Message::FunctionCallResponse(_) => b'V',
        Message::NegotiateProtocolVersion(_) => b'v',
        Message::NoData => b'n',
        Message::NoticeResponse(_) => b'N',
        Message::NotificationResponse { .. } => b'A',
        Message::ParameterDescription(_) => b't',
        Message::ParameterStatus { .. } => b'S',
        Message::ParseComplete => b'1',
        Message::PortalSuspended => b's',
        Message::ReadyForQuery(_) => b'Z',
        Message::RowDescription(_) => b'T',
    };
    writer::message(message.name(), Some(tag), out, |writer| body(message, writer))
}

fn body(message: &Message, writer: &mut Writer<'_>) -> Result<(), WireError> {
    match message {
        Message::Authentication(demand) => authentication::encode(demand, writer)?,
        Message::BackendKeyData { process, key } => {
            if !(4..=KEY_MAX).contains(&key.len()) {
                let (what, size) = (message.name(), key.len());
                return Err(WireError::Unencodable { what, field: "key", size });
            }
            writer.u32(*process);
            writer.bytes(key);
        }
        Message::CommandComplete(tag) => writer.text("tag", tag)?,
        Message::CopyBothResponse(format)
        | Message::CopyInResponse(format)
        | Message::CopyOutResponse(format) => {
            // 0 or 1: the low byte is all there is.
            let [_, overall] = format.overall.code().to_be_bytes();
            writer.u8(overall);
            format.columns.write(writer, "formats of the columns")?;
        }
        Message::CopyData(data) => writer.bytes(data),
        Message::DataRow(values) => values.write(writer),
        Message::ErrorResponse(report) | Message::NoticeResponse(report) => {
            report.write(message.name(), writer)?;
        }
        Message::FunctionCallResponse(result) => writer.value(result.as_deref())?,
        Message::NegotiateProtocolVersion(NegotiateProtocolVersion { version, unknown }) => {
            writer.u32(*version);
            let size = unknown.len();
            let count = u32::try_from(size).map_err(|_| WireError::Unencodable {
                what: message.name(),
                field: "options",
                size,
            })?;
            writer.u32(count);
            unknown.iter().try_for_each(|option| writer.text("option", option))?;
        }
        Message::NotificationResponse { process, channel, payload } => {
            writer.u32(*process);
            writer.text("channel", channel)?;
            writer.text("payload", payload)?;
        }
        Message::ParameterDescription(types) => {
            writer.count("types", types.len())?;
            types.iter().for_each(|oid| writer.u32(*oid));
        }
        Message::ParameterStatus { name, value } => {
            writer.text("name", name)?;
            writer.text("value", value)?;
        }
        Message::ReadyForQuery(status) => writer.u8(status.code()),
        Message::RowDescription(description) => description.write(writer)?,
        Message::BindComplete
        | Message::CloseComplete
        | Message::CopyDone
        | Message::EmptyQueryResponse
        | Message::NoData
        | Message::ParseComplete
        | Message::PortalSuspended => {}
    }
    Ok(())
}
