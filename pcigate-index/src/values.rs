//! Rows of the engine as plain values.

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        compute::cast,
        datatypes::{
            DataType, Float64Type, Int64Type, Schema, TimeUnit, TimestampNanosecondType, UInt64Type,
        },
        util::display::{ArrayFormatter, FormatOptions},
    },
    error::DataFusionError,
};

use crate::question::{Column, Value};

/// The columns of an answer.
pub fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &std::sync::Arc<datafusion::arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        type_name: field.data_type().to_string(),
    };
    schema.fields().iter().map(column).collect()
}

/// The rows of a batch, one value per column.
pub fn rows(batch: &RecordBatch) -> Result<Vec<Vec<Value>>, DataFusionError> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        for (row, value) in rows.iter_mut().zip(column_values(column)?) {
            row.push(value);
        }
    }
    Ok(rows)
}

fn column_values(array: &ArrayRef) -> Result<Vec<Value>, DataFusionError> {
    let values = match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => each(array.as_boolean().iter(), Value::Bool),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let array = cast(array, &DataType::Int64)?;
            each(array.as_primitive::<Int64Type>().iter(), Value::I64)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let array = cast(array, &DataType::UInt64)?;
            each(array.as_primitive::<UInt64Type>().iter(), Value::U64)
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let array = cast(array, &DataType::Float64)?;
            each(array.as_primitive::<Float64Type>().iter(), Value::F64)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let array = cast(array, &DataType::Utf8View)?;
            each(array.as_string_view().iter(), |text| Value::Text(text.to_owned()))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let array = cast(array, &DataType::BinaryView)?;
            each(array.as_binary_view().iter(), |bytes| Value::Bytes(bytes.to_vec()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            each(array.as_primitive::<TimestampNanosecondType>().iter(), Value::TimeUnixNano)
        }
        _ => printed(array)?,
    };
    Ok(values)
}

fn each<T>(values: impl Iterator<Item = Option<T>>, to: impl Fn(T) -> Value) -> Vec<Value> {
    values.map(|value| value.map_or(Value::Null, &to)).collect()
}

fn printed(array: &ArrayRef) -> Result<Vec<Value>, DataFusionError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let one = |row| match array.is_null(row) {
        true => Value::Null,
        false => Value::Text(formatter.value(row).to_string()),
    };
    Ok((0..array.len()).map(one).collect())
}
