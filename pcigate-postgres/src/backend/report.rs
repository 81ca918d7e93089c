//! ErrorResponse and NoticeResponse: fields by letters ("Error and Notice Message Fields").

use bytes::Bytes;

use crate::error::WireError;
use crate::reader::Reader;
use crate::writer::Writer;

/// The fields in the order in which they were sent.
#[derive(Clone, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Report {
    /// Letter and text. Unknown letters are to be ignored by who reads them, and are kept.
    pub fields: Vec<(u8, Bytes)>,
}

/// Severity in the language of the messages.
const SEVERITY_SHOWN: u8 = b'S';
/// Severity, never translated.
const SEVERITY: u8 = b'V';
/// SQLSTATE.
const CODE: u8 = b'C';
/// The message.
const MESSAGE: u8 = b'M';
/// Fields of one report. The manual has 18 letters; more would cost more memory than bytes.
const FIELDS_MAX: u8 = 64;

impl Report {
    /// An error that ends a statement, not the session.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<Bytes>) -> Self {
        Self::new("ERROR", code, message.into())
    }

    /// An error that ends the session: the connection is to be closed behind it.
    #[must_use]
    pub fn fatal(code: &'static str, message: impl Into<Bytes>) -> Self {
        Self::new("FATAL", code, message.into())
    }

    fn new(severity: &'static str, code: &'static str, message: Bytes) -> Self {
        let severity = Bytes::from_static(severity.as_bytes());
        let code = Bytes::from_static(code.as_bytes());
        let fields = vec![
            (SEVERITY_SHOWN, severity.clone()),
            (SEVERITY, severity),
            (CODE, code),
            (MESSAGE, message),
        ];
        Self { fields }
    }

    /// The same with a further field: `D` detail, `H` hint, and the manual's others.
    #[must_use]
    pub fn with(mut self, letter: u8, text: impl Into<Bytes>) -> Self {
        self.fields.push((letter, text.into()));
        self
    }

    /// The field of a letter.
    #[must_use]
    pub fn field(&self, letter: u8) -> Option<&Bytes> {
        self.fields.iter().find(|(known, _)| *known == letter).map(|(_, text)| text)
    }

    /// SQLSTATE; empty when there is none.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        self.field(CODE).map_or(&[], |code| code)
    }

    /// Whether the session ends with it: severity FATAL or PANIC.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        let severity = self.field(SEVERITY).or_else(|| self.field(SEVERITY_SHOWN));
        severity.is_some_and(|severity| severity == "FATAL" || severity == "PANIC")
    }

    pub(super) fn read(mut reader: Reader) -> Result<Self, WireError> {
        // Nearly all reports have fewer.
        let mut fields = Vec::with_capacity(9);
        loop {
            match reader.u8("letter")? {
                0 => break,
                _ if fields.len() == usize::from(FIELDS_MAX) => {
                    return Err(reader.value("number of fields", FIELDS_MAX + 1));
                }
                letter => fields.push((letter, reader.text("text")?)),
            }
        }
        reader.end().map(|()| Self { fields })
    }

    pub(super) fn write(
        &self,
        what: &'static str,
        writer: &mut Writer<'_>,
    ) -> Result<(), WireError> {
        for (letter, text) in &self.fields {
            if *letter == 0 {
                return Err(WireError::Nul { what, field: "letter" });
            }
            writer.u8(*letter);
            writer.text("text", text)?;
        }
        writer.u8(0);
        Ok(())
    }
}
