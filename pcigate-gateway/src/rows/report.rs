//! Everything textual that is no row: errors, notices, notifications, settings, names of columns.

use bytes::Bytes;
use pcigate_policy::mask::{Cut, Masker};
use pcigate_postgres::backend::{Message, Report, RowDescription};

use crate::known::Known;
use crate::record::{self, MaskedCounts};

/// In place of a field that may quote a row of a table with tagged columns.
const WITHHELD: &str = "[withheld by pcigate: the table has tagged columns]";
/// Fields that may quote a row: message, detail, hint, context.
const QUOTING: &[u8] = b"DW";

/// A message with its texts masked; nothing where it stays as it is.
pub(crate) fn masked(
    message: &Message,
    masker: &Masker,
    known: &Known,
    counts: &mut MaskedCounts,
) -> Option<Message> {
    let mut mask = |text: &Bytes| masked_text(text, masker, counts);
    match message {
        Message::ErrorResponse(report) => {
            masked_report(report, known, mask).map(Message::ErrorResponse)
        }
        Message::NoticeResponse(report) => {
            masked_report(report, known, mask).map(Message::NoticeResponse)
        }
        Message::NotificationResponse { process, channel, payload } => {
            let (process, new) = (*process, (mask(channel), mask(payload)));
            let (channel, payload) = either(channel, payload, new)?;
            Some(Message::NotificationResponse { process, channel, payload })
        }
        Message::ParameterStatus { name, value } => {
            let new = (mask(name), mask(value));
            let (name, value) = either(name, value, new)?;
            Some(Message::ParameterStatus { name, value })
        }
        Message::CommandComplete(tag) => mask(tag).map(Message::CommandComplete),
        Message::RowDescription(description) => {
            let names: Vec<_> =
                description.columns.iter().map(|column| mask(&column.name)).collect();
            if names.iter().all(Option::is_none) {
                return None;
            }
            let mut columns = description.columns.clone();
            for (column, name) in columns.iter_mut().zip(names) {
                column.name = name.unwrap_or_else(|| column.name.clone());
            }
            Some(Message::RowDescription(RowDescription { columns }))
        }
        _ => None,
    }
}

fn masked_text(text: &Bytes, masker: &Masker, counts: &mut MaskedCounts) -> Option<Bytes> {
    let (masked, findings) = masker.mask(text, Cut::Whole);
    record::count(counts, &findings);
    (!findings.is_empty()).then(|| masked.into_owned().into())
}

fn either(
    a: &Bytes,
    b: &Bytes,
    (new_a, new_b): (Option<Bytes>, Option<Bytes>),
) -> Option<(Bytes, Bytes)> {
    if new_a.is_none() && new_b.is_none() {
        return None;
    }
    Some((new_a.unwrap_or_else(|| a.clone()), new_b.unwrap_or_else(|| b.clone())))
}

fn masked_report(
    report: &Report,
    known: &Known,
    mut mask: impl FnMut(&Bytes) -> Option<Bytes>,
) -> Option<Report> {
    let field = |letter| report.field(letter).and_then(|text| std::str::from_utf8(text).ok());
    let tagged = field(b't')
        .is_some_and(|table| known.has_tagged_columns(field(b's').unwrap_or_default(), table));
    let mut changed = false;
    let fields = report.fields.iter().map(|(letter, text)| {
        let new = match letter {
            letter if tagged && QUOTING.contains(letter) => {
                Some(Bytes::from_static(WITHHELD.as_bytes()))
            }
            _ => mask(text),
        };
        changed |= new.is_some();
        (*letter, new.unwrap_or_else(|| text.clone()))
    });
    let fields = fields.collect();
    changed.then_some(Report { fields })
}
