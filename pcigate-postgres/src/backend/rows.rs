//! RowDescription: the columns of the rows to come, with where each came from.

use bytes::Bytes;

use crate::error::WireError;
use crate::reader::Reader;
use crate::values::Format;
use crate::writer::Writer;

/// Fewest bytes of a column: an empty name and six numbers.
const COLUMN_MIN: usize = 19;

/// The columns of the rows to come.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct RowDescription {
    /// In the order of the values of a DataRow.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Column {
    /// Its name or alias.
    pub name: Bytes,
    /// OID of the table or view whose column it is; 0: it is an expression.
    pub table: u32,
    /// Attribute number of the column there; 0: it is an expression.
    pub attribute: i16,
    /// OID of its type.
    pub type_oid: u32,
    /// Size of the type; negative: variable.
    pub type_size: i16,
    /// The type's modifier; -1: none.
    pub type_modifier: i32,
    /// Of its values. Describe of a statement cannot know it yet and says text.
    pub format: Format,
}

impl RowDescription {
    pub(super) fn read(mut reader: Reader) -> Result<Self, WireError> {
        let count = reader.count("columns", COLUMN_MIN)?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text("name")?;
            let table = reader.u32("table")?;
            let attribute = reader.i16("attribute")?;
            let type_oid = reader.u32("type")?;
            let type_size = reader.i16("type size")?;
            let type_modifier = reader.i32("type modifier")?;
            let code = reader.u16("format")?;
            let Some(format) = Format::from_code(code) else {
                return Err(reader.value("format", code));
            };
            columns.push(Column {
                name,
                table,
                attribute,
                type_oid,
                type_size,
                type_modifier,
                format,
            });
        }
        reader.end().map(|()| Self { columns })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        writer.count("columns", self.columns.len())?;
        for column in &self.columns {
            writer.text("name", &column.name)?;
            writer.u32(column.table);
            writer.i16(column.attribute);
            writer.u32(column.type_oid);
            writer.i16(column.type_size);
            writer.i32(column.type_modifier);
            writer.u16(column.format.code());
        }
        Ok(())
    }
}
