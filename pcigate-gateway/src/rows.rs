//! Rows on their way to the client: each goes on as it came, or as a whole new one.

pub(crate) mod binary;
pub(crate) mod copy;
pub(crate) mod report;
pub(crate) mod shape;
pub(crate) mod value;

use bytes::BytesMut;
use pcigate_policy::document::{ColumnClass, MaskStyle};
use pcigate_policy::mask::{Cut, Finding, Kind, Masker};
use pcigate_postgres::WireError;
use pcigate_postgres::backend::{self, encode_row};
use pcigate_postgres::session::RowShape;
use pcigate_postgres::values::{Format, Values};

use crate::known::Known;
use crate::record::MaskedCounts;
use shape::Shape;
use value::{Fate, Look};

/// Most digits that are looked at together when several columns may be parts of one number.
const TOGETHER: usize = 64;

/// How the values of one column are treated.
pub(crate) struct Column {
    shape: Shape,
    format: Format,
    tag: Option<ColumnClass>,
    /// Its name as the beginning of `name=value`, where such a name is a reason to mask.
    key: Option<Vec<u8>>,
    /// An expression that gives text: it may be made of parts of a number.
    computed: bool,
}

/// How the rows of one description are treated; nothing for rows that were never described.
pub(crate) struct Columns(Option<Vec<Column>>);

impl Columns {
    pub(crate) fn of(shape: Option<&RowShape>, known: &Known, look: Look<'_>) -> Self {
        Self(shape.map(|rows| {
            let column = |(index, column): (usize, &pcigate_postgres::backend::Column)| {
                let shape = Shape::of(column.type_oid, look.types);
                Column {
                    shape,
                    // Formats of fewer columns are refused by the server.
                    format: rows.format(index).unwrap_or(Format::Binary),
                    tag: known.tag(column.table, column.attribute),
                    key: key(&column.name, look),
                    computed: column.table == 0 && shape == Shape::Text,
                }
            };
            rows.columns().iter().enumerate().map(column).collect()
        }))
    }
}

/// Whether a column of this name holds what must go by its name alone (`cvv`, `pin`, …).
fn key(name: &[u8], look: Look<'_>) -> Option<Vec<u8>> {
    let key = [name, b"="].concat();
    let samples: [&[u8]; 4] = [b"123", b"12/29", b"4321", b"04128BC3D5E6F708"];
    let found = samples.iter().any(|sample| {
        let (_, findings) = look.masker.mask(&[&key, *sample].concat(), Cut::Whole);
        by_name(&findings, &key)
    });
    found.then_some(key)
}

/// Whether a value is found because of its name. Dates of expiry are no sensitive authentication
/// data, and many columns that are none of a card are named so.
fn by_name(findings: &[Finding], key: &[u8]) -> bool {
    findings.iter().any(|finding| finding.end > key.len() && finding.kind != Kind::Expiry)
}

/// Writes the row behind what is in `out`: `whole` if nothing is to be masked, else a new one.
pub(crate) fn forward(
    columns: &Columns,
    values: &Values,
    whole: &[u8],
    look: Look<'_>,
    counts: &mut MaskedCounts,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut fates: Vec<(usize, Fate)> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let fate = match columns.0.as_ref().map(|columns| columns.get(index)) {
            Some(Some(column)) => column.fate(value, look, counts),
            _ => look.other(value, counts),
        };
        if fate != Fate::Same {
            fates.push((index, fate));
        }
    }
    if let Some(columns) = &columns.0 {
        parts(columns, values, look, counts, &mut fates);
    }
    if fates.is_empty() {
        out.extend_from_slice(whole);
        return Ok(());
    }
    fates.sort_by_key(|(index, _)| *index);
    let mut fates = fates.iter().peekable();
    let values = values.iter().enumerate().map(|(index, value)| {
        match fates.next_if(|(of, _)| *of == index) {
            Some((_, Fate::New(new))) => Some(new.as_slice()),
            Some((_, Fate::Null)) => None,
            _ => value,
        }
    });
    encode_row(values, out)
}

impl Column {
    fn fate(&self, value: &[u8], look: Look<'_>, counts: &mut MaskedCounts) -> Fate {
        if let Some(class) = self.tag {
            return look.tagged(class, self.shape, value, counts);
        }
        if let Some(key) = &self.key {
            let fate = self.keyed(key, value, look, counts);
            if fate != Fate::Same {
                return fate;
            }
        }
        look.value(self.shape, self.format, value, counts)
    }

    /// A value that its column's name gives a meaning.
    fn keyed(&self, key: &[u8], value: &[u8], look: Look<'_>, counts: &mut MaskedCounts) -> Fate {
        let number;
        let shown = match (self.shape, self.format, value) {
            (Shape::Pass, Format::Binary, &[a, b, c, d]) => {
                number = i32::from_be_bytes([a, b, c, d]).to_string();
                number.as_bytes()
            }
            (Shape::Pass, Format::Binary, &[a, b]) => {
                number = i16::from_be_bytes([a, b]).to_string();
                number.as_bytes()
            }
            (Shape::Int8, Format::Binary, _) => {
                let bytes = value.first_chunk::<8>().copied().unwrap_or_default();
                number = i64::from_be_bytes(bytes).to_string();
                number.as_bytes()
            }
            _ => value,
        };
        let whole = [key, shown].concat();
        let (masked, findings) = look.masker.mask(&whole, Cut::Whole);
        if !by_name(&findings, key) {
            return Fate::Same;
        }
        crate::record::count(counts, &findings);
        match masked.get(key.len()..) {
            Some(masked) if self.shape == Shape::Text => Fate::New(masked.to_vec()),
            _ => Fate::Null,
        }
    }
}

/// Columns that are expressions over text may be parts of one number, or have it backwards.
fn parts(
    columns: &[Column],
    values: &Values,
    look: Look<'_>,
    counts: &mut MaskedCounts,
    fates: &mut Vec<(usize, Fate)>,
) {
    if !columns.iter().any(|column| column.computed) {
        return;
    }
    let mut run: Vec<(usize, &[u8])> = Vec::new();
    let ends = std::iter::once((columns.len(), None, None));
    let all = values.iter().zip(columns).enumerate();
    for (index, value, column) in
        all.map(|(index, (value, column))| (index, value, Some(column))).chain(ends)
    {
        let digits = value.filter(|value| {
            let short = (1..=TOGETHER).contains(&value.len());
            let plain = value.iter().all(|byte| byte.is_ascii_digit() || b" -".contains(byte));
            short && (plain || is_grouped(value))
        });
        match digits {
            Some(digits) if column.is_some_and(|column| column.computed) => {
                run.push((index, digits));
            }
            _ => {
                look_together(&run, look, counts, fates);
                run.clear();
            }
        }
    }
}

/// Whether it is a whole number with separators of thousands.
fn is_grouped(value: &[u8]) -> bool {
    let mut groups = value.split(|byte| b",.".contains(byte));
    let digits = |group: &[u8]| group.iter().all(u8::is_ascii_digit);
    let first = groups.next().is_some_and(|group| (1..=3).contains(&group.len()) && digits(group));
    first && groups.all(|group| group.len() == 3 && digits(group))
}

fn look_together(
    run: &[(usize, &[u8])],
    look: Look<'_>,
    counts: &mut MaskedCounts,
    fates: &mut Vec<(usize, Fate)>,
) {
    let mut digits: Vec<u8> = run.iter().flat_map(|(_, digits)| digits.iter().copied()).collect();
    if !(12..=TOGETHER).contains(&digits.len()) {
        return;
    }
    let finds = |digits: &[u8]| !look.masker.mask(digits, Cut::Whole).1.is_empty();
    let separated = run.iter().any(|(_, digits)| digits.iter().any(|byte| b",.".contains(byte)));
    digits.retain(u8::is_ascii_digit);
    let forwards = (run.len() > 1 || separated) && finds(&digits);
    digits.reverse();
    if forwards || finds(&digits) {
        *counts.entry(Kind::Pan).or_default() += 1;
        for (index, digits) in run {
            fates.retain(|(of, _)| of != index);
            fates.push((*index, Fate::New(vec![b'*'; digits.len()])));
        }
    }
}

/// Masks a row by content alone, its columns being of these types (OIDs of `pg_type`; one that is
/// not there is not known) and formats: what [`crate::serve`] does with a row that was described,
/// without the Target's columns. Nothing = the row stays as it is.
///
/// # Errors
/// The masked row is too large for the protocol.
pub fn mask_row(
    types: &[(u32, Format)],
    values: &Values,
    masker: &Masker,
) -> Result<Option<Values>, WireError> {
    let own = shape::Types::new();
    let look = Look { masker, mixed: masker, types: &own, style: MaskStyle::Truncate };
    let column = |&(oid, format): &(u32, Format)| {
        let shape = Shape::of(oid, &own);
        Column { shape, format, tag: None, key: None, computed: shape == Shape::Text }
    };
    let columns = Columns(Some(types.iter().map(column).collect()));
    let (mut out, mut counts) = (BytesMut::new(), MaskedCounts::new());
    forward(&columns, values, &[], look, &mut counts, &mut out)?;
    // Type, length, then the values.
    let frame =
        backend::next(&mut out, &backend::Limits { row: usize::MAX, ..Default::default() })?;
    match frame.map(|frame| backend::Message::decode(&frame)).transpose()? {
        Some(backend::Message::DataRow(values)) => Ok(Some(values)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
