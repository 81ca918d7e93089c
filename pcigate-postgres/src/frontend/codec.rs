//! The bodies of the client's messages, field by field.

use bytes::{Bytes, BytesMut};

use super::{Bind, Execute, FunctionCall, Message, Parse, Target};
use crate::error::{Side, WireError};
use crate::reader::Reader;
use crate::values::{Format, Formats, Values};
use crate::writer::{self, Writer};

pub(super) fn decode(tag: u8, body: Bytes) -> Result<Message, WireError> {
    match tag {
        b'B' => bind(Reader::new("Bind", body)),
        b'C' => target(Reader::new("Close", body)).map(Message::Close),
        b'D' => target(Reader::new("Describe", body)).map(Message::Describe),
        b'E' => execute(Reader::new("Execute", body)),
        b'F' => function_call(Reader::new("FunctionCall", body)),
        b'H' => empty("Flush", body, Message::Flush),
        b'P' => parse(Reader::new("Parse", body)),
        b'Q' => text("Query", body).map(Message::Query),
        b'S' => empty("Sync", body, Message::Sync),
        b'X' => empty("Terminate", body, Message::Terminate),
        b'c' => empty("CopyDone", body, Message::CopyDone),
        b'd' => Ok(Message::CopyData(body)),
        b'f' => text("CopyFail", body).map(Message::CopyFail),
        b'p' => Ok(Message::Password(body)),
        tag => Err(WireError::UnknownType { side: Side::Frontend, tag }),
    }
}

fn empty(what: &'static str, body: Bytes, message: Message) -> Result<Message, WireError> {
    Reader::new(what, body).end().map(|()| message)
}

fn text(what: &'static str, body: Bytes) -> Result<Bytes, WireError> {
    let mut reader = Reader::new(what, body);
    let text = reader.text("text")?;
    reader.end().map(|()| text)
}

fn target(mut reader: Reader) -> Result<Target, WireError> {
    let kind = reader.u8("kind")?;
    let name = reader.text("name")?;
    let target = match kind {
        b'S' => Target::Statement(name),
        b'P' => Target::Portal(name),
        kind => return Err(reader.value("kind", kind)),
    };
    reader.end().map(|()| target)
}

fn execute(mut reader: Reader) -> Result<Message, WireError> {
    let execute = Execute { portal: reader.text("portal")?, max_rows: reader.i32("max_rows")? };
    reader.end().map(|()| Message::Execute(execute))
}

fn parse(mut reader: Reader) -> Result<Message, WireError> {
    let statement = reader.text("statement")?;
    let sql = reader.text("sql")?;
    let count = reader.count("parameter_types", 4)?;
    let types: Result<_, _> = (0..count).map(|_| reader.u32("parameter_types")).collect();
    let parse = Parse { statement, sql, parameter_types: types? };
    reader.end().map(|()| Message::Parse(parse))
}

fn bind(mut reader: Reader) -> Result<Message, WireError> {
    let bind = Bind {
        portal: reader.text("portal")?,
        statement: reader.text("statement")?,
        parameter_formats: Formats::read(&mut reader, "parameter_formats")?,
        parameters: Values::read(&mut reader, "parameters")?,
        result_formats: Formats::read(&mut reader, "result_formats")?,
    };
    reader.end().map(|()| Message::Bind(bind))
}

fn function_call(mut reader: Reader) -> Result<Message, WireError> {
    let function = reader.u32("function")?;
    let argument_formats = Formats::read(&mut reader, "argument_formats")?;
    let arguments = Values::read(&mut reader, "arguments")?;
    let code = reader.u16("result_format")?;
    let Some(result_format) = Format::from_code(code) else {
        return Err(reader.value("result_format", code));
    };
    reader.end()?;
    let call = FunctionCall { function, argument_formats, arguments, result_format };
    Ok(Message::FunctionCall(call))
}

pub(super) fn encode(message: &Message, out: &mut BytesMut) -> Result<(), WireError> {
    let tag = match message {
        Message::Bind(_) => b'B',
        Message::Close(_) => b'C',
        Message::CopyData(_) => b'd',
        Message::CopyDone => b'c',
        Message::CopyFail(_) => b'f',
        Message::Describe(_) => b'D',
        Message::Execute(_) => b'E',
        Message::Flush => b'H',
        Message::FunctionCall(_) => b'F',
        Message::Parse(_) => b'P',
        Message::Password(_) => b'p',
        Message::Query(_) => b'Q',
        Message::Sync => b'S',
        Message::Terminate => b'X',
    };
    writer::message(message.name(), Some(tag), out, |writer| body(message, writer))
}

fn body(message: &Message, writer: &mut Writer<'_>) -> Result<(), WireError> {
    match message {
        Message::Bind(bind) => {
            writer.text("portal", &bind.portal)?;
            writer.text("statement", &bind.statement)?;
            bind.parameter_formats.write(writer, "parameter_formats")?;
            bind.parameters.write(writer);
            bind.result_formats.write(writer, "result_formats")
        }
        Message::Close(target) | Message::Describe(target) => {
            let (kind, name) = match target {
                Target::Statement(name) => (b'S', name),
                Target::Portal(name) => (b'P', name),
            };
            writer.u8(kind);
            writer.text("name", name)
        }
        Message::CopyData(bytes) | Message::Password(bytes) => {
            writer.bytes(bytes);
            Ok(())
        }
        Message::CopyFail(text) | Message::Query(text) => writer.text("text", text),
        Message::Execute(execute) => {
            writer.text("portal", &execute.portal)?;
            writer.i32(execute.max_rows);
            Ok(())
        }
        Message::FunctionCall(call) => {
            writer.u32(call.function);
            call.argument_formats.write(writer, "argument_formats")?;
            call.arguments.write(writer);
            writer.u16(call.result_format.code());
            Ok(())
        }
        Message::Parse(parse) => {
            writer.text("statement", &parse.statement)?;
            writer.text("sql", &parse.sql)?;
            writer.count("parameter_types", parse.parameter_types.len())?;
            parse.parameter_types.iter().for_each(|oid| writer.u32(*oid));
            Ok(())
        }
        Message::CopyDone | Message::Flush | Message::Sync | Message::Terminate => Ok(()),
    }
}
