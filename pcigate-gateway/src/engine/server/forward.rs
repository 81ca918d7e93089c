//! What goes on to the client: masked, counted and noted for replay.

use std::sync::Arc;

use bytes::BytesMut;
use pcigate_postgres::backend::Message;
use pcigate_postgres::frame::Frame;
use pcigate_postgres::session::Origin;
use tokio::io::{AsyncRead, AsyncWrite};

use super::About;
use crate::engine::{Engine, look};
use crate::error::SessionEnd;
use crate::record::Direction;
use crate::rows::binary::take_value;
use crate::rows::report;

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Data of COPY, or its end.
    pub(super) fn copy(&mut self, data: Option<&[u8]>, about: &About) -> Result<(), SessionEnd> {
        let size = data.map_or(0, <[u8]>::len);
        let rows = u64::from(data.is_some());
        if self.muted || !self.within(about, size, rows) {
            return Ok(());
        }
        let known = Arc::clone(&self.known);
        let look = look(self.plan, &known);
        let Some(copy) = &mut self.answering.copy else { return Ok(()) };
        let mut out = Vec::with_capacity(size);
        let masked = &mut self.answering.masked;
        let done = match data {
            Some(data) => copy.push(data, look, masked, &mut out),
            None => copy.finish(masked, &mut out),
        };
        if done.is_err() {
            let why = "the data of COPY cannot be read, so they cannot be masked".to_owned();
            return Err(SessionEnd::Ended { why });
        }
        if !out.is_empty() {
            let out = Message::CopyData(out.into());
            if let Message::CopyData(data) = &out {
                self.traffic.message(Direction::ToClient, "CopyData", [Some(data.as_ref())]);
            }
            self.tell(&out)?;
        }
        self.answering.rows += rows;
        Ok(())
    }

    /// What the server says without being asked.
    pub(super) fn unasked(&mut self, frame: &Frame, message: &Message) -> Result<(), SessionEnd> {
        if let Message::ParameterStatus { name, value } = message {
            let name = String::from_utf8_lossy(name);
            self.sql.parameter_status(&name, &String::from_utf8_lossy(value));
        }
        self.pass_on(frame, message)
    }

    pub(super) fn forward(
        &mut self,
        frame: &Frame,
        message: &Message,
        about: &About,
    ) -> Result<(), SessionEnd> {
        let ready = matches!(message, Message::ReadyForQuery(_));
        if about.origin == Origin::Gateway || self.muted && !ready {
            return Ok(());
        }
        self.pass_on(frame, message)
    }

    /// Sends it to the client, masked.
    pub(super) fn pass_on(&mut self, frame: &Frame, message: &Message) -> Result<(), SessionEnd> {
        let known = Arc::clone(&self.known);
        let masked = &mut self.answering.masked;
        let new = report::masked(message, &self.plan.masker.mixed, &known, masked);
        self.note_text(new.as_ref().unwrap_or(message));
        match new {
            Some(new) => self.tell(&new),
            None => {
                self.pipe.client.outgoing.extend_from_slice(frame.bytes());
                self.sent(frame.bytes().len(), 0);
                Ok(())
            }
        }
    }

    pub(super) fn tell(&mut self, message: &Message) -> Result<(), SessionEnd> {
        let out: &mut BytesMut = &mut self.pipe.client.outgoing;
        let before = out.len();
        message.encode(out)?;
        let sent = out.len() - before;
        self.sent(sent, 0);
        Ok(())
    }

    pub(super) fn sent(&mut self, bytes: usize, rows: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.answering.bytes += bytes;
        self.answering.rows += rows;
        self.tally.bytes += bytes;
        self.tally.rows += rows;
    }

    /// What is worth replaying of a message that is no row.
    pub(super) fn note_text(&mut self, message: &Message) {
        let name = message.name();
        match message {
            Message::ErrorResponse(report) | Message::NoticeResponse(report) => {
                let texts = report.fields.iter().filter(|(letter, _)| b"SCMDH".contains(letter));
                let texts = texts.map(|(_, text)| Some(text.as_ref()));
                self.traffic.message(Direction::ToClient, name, texts);
            }
            Message::RowDescription(description) => {
                let names = description.columns.iter().map(|column| Some(column.name.as_ref()));
                self.traffic.message(Direction::ToClient, name, names);
            }
            Message::CommandComplete(tag) => {
                self.traffic.message(Direction::ToClient, name, [Some(tag.as_ref())]);
            }
            Message::NotificationResponse { channel, payload, .. } => {
                let texts = [Some(channel.as_ref()), Some(payload.as_ref())];
                self.traffic.message(Direction::ToClient, name, texts);
            }
            _ => {}
        }
    }
}

/// The values of a row as it went out.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of a whole message: type, length, count, then the values.
    pub(super) fn of(row: &'a [u8]) -> Self {
        Self(row.get(7..).unwrap_or_default())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (value, rest) = take_value(self.0)?;
        self.0 = rest;
        Some(value)
    }
}
