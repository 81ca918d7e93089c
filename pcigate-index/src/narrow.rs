//! Rows of one kind as columns of which those without any value are left out.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array,
        new_null_array,
    },
    compute::{SortColumn, SortOptions, concat, filter, lexsort_to_indices, take},
    datatypes::{Schema, SchemaRef, UInt64Type},
    error::ArrowError,
};

use crate::schema::{C, table};

/// Rows of one kind. Every column has `rows` values or is left out, all NULL.
#[derive(Clone, Debug)]
pub struct Narrow {
    /// Number of rows.
    pub rows: usize,
    /// Smallest leaf.
    pub first_leaf: u64,
    /// Largest leaf.
    pub last_leaf: u64,
    /// Earliest time, ns since 1970.
    pub min_time: u64,
    /// Latest time, ns since 1970.
    pub max_time: u64,
    /// By place in the table.
    pub columns: Vec<Option<ArrayRef>>,
}

impl Narrow {
    /// Several one after the other; `None` when there is no row.
    pub fn concat(parts: &[&Self]) -> Result<Option<Self>, ArrowError> {
        let rows = parts.iter().map(|part| part.rows).sum();
        let Some(first) = parts.iter().find(|part| part.rows > 0) else { return Ok(None) };
        let mut whole = Self { rows, columns: Vec::new(), ..(*first).clone() };
        for part in parts.iter().filter(|part| part.rows > 0) {
            whole.first_leaf = whole.first_leaf.min(part.first_leaf);
            whole.last_leaf = whole.last_leaf.max(part.last_leaf);
            whole.min_time = whole.min_time.min(part.min_time);
            whole.max_time = whole.max_time.max(part.max_time);
        }
        for (place, field) in table().fields().iter().enumerate() {
            if !parts.iter().any(|part| part.column(place).is_some()) {
                whole.columns.push(None);
                continue;
            }
            let column = |part: &&Self| {
                let nulls = || new_null_array(field.data_type(), part.rows);
                part.column(place).cloned().unwrap_or_else(nulls)
            };
            let arrays: Vec<_> = parts.iter().map(column).collect();
            let arrays: Vec<_> = arrays.iter().map(|array| array as &dyn Array).collect();
            whole.columns.push(Some(concat(&arrays)?));
        }
        Ok(Some(whole))
    }

    /// From a batch of a file. Ranges are computed from the rows; `None` when there is none.
    pub fn from_batch(batch: &RecordBatch) -> Result<Option<Self>, ArrowError> {
        let table = table();
        let columns =
            table.fields().iter().map(|field| batch.column_by_name(field.name()).cloned());
        Self {
            rows: batch.num_rows(),
            columns: columns.collect(),
            first_leaf: 0,
            last_leaf: 0,
            min_time: 0,
            max_time: 0,
        }
        .measured()
    }

    fn column(&self, place: usize) -> Option<&ArrayRef> {
        self.columns.get(place).and_then(Option::as_ref)
    }

    /// The leaves of the rows.
    pub fn leaves(&self) -> Result<&[u64], ArrowError> {
        let leaves = self
            .column(C::Leaf as usize)
            .and_then(|leaves| leaves.as_primitive_opt::<UInt64Type>());
        leaves.map(|leaves| leaves.values().as_ref()).ok_or_else(|| wrong("leaf"))
    }

    /// The times of the rows, ns since 1970.
    pub fn times(&self) -> Result<Vec<u64>, ArrowError> {
        let times = self.column(C::Time as usize).and_then(|times| {
            times.as_primitive_opt::<datafusion::arrow::datatypes::TimestampNanosecondType>()
        });
        let times = times.ok_or_else(|| wrong("time"))?;
        let beyond = self.column(C::TimeOverflow as usize);
        let beyond = beyond.and_then(|beyond| beyond.as_primitive_opt::<UInt64Type>());
        let one = |(row, time): (usize, &i64)| match beyond.filter(|beyond| beyond.is_valid(row)) {
            Some(beyond) => beyond.value(row),
            None => u64::try_from(*time).unwrap_or(0),
        };
        Ok(times.values().iter().enumerate().map(one).collect())
    }

    /// With its ranges computed anew; `None` when there is no row.
    fn measured(mut self) -> Result<Option<Self>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let leaves = self.leaves()?;
        let (first, last) = (leaves.iter().min().copied(), leaves.iter().max().copied());
        let times = self.times()?;
        (self.first_leaf, self.last_leaf) = (first.unwrap_or(0), last.unwrap_or(0));
        self.min_time = times.iter().min().copied().unwrap_or(0);
        self.max_time = times.iter().max().copied().unwrap_or(0);
        Ok(Some(self))
    }

    /// The rows where `keep` is true; `None` when there is none.
    pub fn filtered(&self, keep: &BooleanArray) -> Result<Option<Self>, ArrowError> {
        let rows = keep.true_count();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let kept = column.as_ref().map(|column| filter(column, keep)).transpose()?;
            columns.push(kept.filter(|kept| kept.null_count() < kept.len()));
        }
        Self { rows, columns, ..self.clone() }.measured()
    }

    /// The rows before leaf `size`; `None` when there is none.
    pub fn before(&self, size: u64) -> Result<Option<Self>, ArrowError> {
        if self.last_leaf < size {
            return Ok(Some(self.clone()));
        }
        let keep: Vec<_> = self.leaves()?.iter().map(|leaf| *leaf < size).collect();
        self.filtered(&BooleanArray::from(keep))
    }

    /// The same rows by pod, namespace, node, then leaf: what compresses well and lets a question
    /// for a pod skip pages.
    pub fn sorted(&self) -> Result<Self, ArrowError> {
        let by = [C::Pod, C::Namespace, C::Node, C::Leaf];
        let options = Some(SortOptions { descending: false, nulls_first: true });
        let by = by.iter().filter_map(|column| self.column(*column as usize).cloned());
        let by: Vec<_> = by.map(|values| SortColumn { values, options }).collect();
        self.taken(&lexsort_to_indices(&by, None)?)
    }

    fn taken(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        let taken = |column: &Option<ArrayRef>| {
            column.as_ref().map(|column| take(column, rows, None)).transpose()
        };
        let columns = self.columns.iter().map(taken).collect::<Result<_, _>>()?;
        Ok(Self { columns, ..self.clone() })
    }

    /// The columns it has, as a file keeps them.
    pub fn file_batch(&self) -> Result<RecordBatch, ArrowError> {
        let table = table();
        let pairs = table.fields().iter().zip(&self.columns);
        let pairs = pairs.filter_map(|(field, column)| Some((Arc::clone(field), column.clone()?)));
        let (fields, columns): (Vec<_>, Vec<_>) = pairs.unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    /// The columns at the places `projection`, NULL where left out.
    pub fn projected(
        &self,
        schema: &SchemaRef,
        projection: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        let table = table();
        let column = |place: &usize| {
            self.column(*place).cloned().or_else(|| {
                let field = table.fields().get(*place)?;
                Some(new_null_array(field.data_type(), self.rows))
            })
        };
        let columns = projection.iter().filter_map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
    }
}

fn wrong(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the column {column} is missing or has another type"))
}
