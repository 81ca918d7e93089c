//! The answer to a statement. The index holds it to one SELECT and to its limits.

use pcigate_index::{SqlLimits, Value};
use pcigate_proto::{
    Message, SqlColumn, SqlColumns, SqlReply, SqlRequest, SqlRow, SqlSummary, SqlValue,
    sql_reply::Message as Reply, sql_value::Value as Case,
};
use tonic::Status;

use super::{Evidence, no_answer, outlet::Outlet};
use crate::records;

/// Rows sent when a request sets no limit.
pub const ROWS_DEFAULT: usize = 10_000;
/// Most rows a request may ask for.
pub const ROWS_MAX: usize = 1_000_000;
/// Largest row sent, bytes.
const ROW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The limits of a statement: its rows as asked for, time and memory as they are for all.
///
/// # Errors
/// A sentence for the person.
pub fn limits(request: &SqlRequest) -> Result<SqlLimits, String> {
    let length = request.statement.len();
    if length > records::STATEMENT_BYTES_MAX {
        return Err(format!(
            "statement: {length} bytes are too many; the record of the question holds all of it, \
             at most {} bytes",
            records::STATEMENT_BYTES_MAX
        ));
    }
    let rows = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
        0 => ROWS_DEFAULT,
        rows if rows > ROWS_MAX => {
            return Err(format!(
                "limit: {rows} rows are too many; at most {ROWS_MAX}, or count with the statement"
            ));
        }
        rows => rows,
    };
    Ok(SqlLimits { rows, ..SqlLimits::default() })
}

/// Answers from the first `size` leaves, until done, the client has gone, or the collector stops.
pub async fn answer(
    service: Evidence,
    outlet: Outlet<SqlReply>,
    request: SqlRequest,
    limits: SqlLimits,
    size: u64,
) {
    let answer = async move |service: &Evidence, outlet: &Outlet<SqlReply>| {
        if request.explain {
            explain(service, outlet, &request.statement, limits, size).await
        } else {
            rows(service, outlet, &request.statement, limits, size).await
        }
    };
    service.answering(outlet, answer).await;
}

async fn explain(
    service: &Evidence,
    outlet: &Outlet<SqlReply>,
    statement: &str,
    limits: SqlLimits,
    size: u64,
) -> Result<(), Status> {
    let index = service.indexer.index().await.map_err(|error| no_answer(&error))?;
    let plan = index.explain_sql(statement, limits, size).await;
    let plan = plan.map_err(|error| no_answer(&error.into()))?;
    outlet.send(reply(Reply::Plan(records::masked_whole(&plan)))).await
}

async fn rows(
    service: &Evidence,
    outlet: &Outlet<SqlReply>,
    statement: &str,
    limits: SqlLimits,
    size: u64,
) -> Result<(), Status> {
    let index = service.indexer.index().await.map_err(|error| no_answer(&error))?;
    let answer = index.sql(statement, limits, size).await;
    let mut answer = answer.map_err(|error| no_answer(&error.into()))?;
    let columns = answer.columns().iter();
    let columns =
        columns.map(|one| SqlColumn { name: one.name.clone(), r#type: one.type_name.clone() });
    outlet.send(reply(Reply::Columns(SqlColumns { columns: columns.collect() }))).await?;
    let mut rows = 0;
    while let Some(values) = answer.next().await.map_err(|error| no_answer(&error.into()))? {
        let row = SqlRow { values: values.into_iter().map(value).collect() };
        if row.encoded_len() > ROW_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "statement: a row of the answer is larger than {ROW_BYTES_MAX} bytes; collect \
                 less into one value"
            )));
        }
        outlet.send(reply(Reply::Row(row))).await?;
        rows += 1;
    }
    let summary = SqlSummary { rows, cut: answer.was_cut(), tree_size: size };
    outlet.send(reply(Reply::Summary(summary))).await
}

fn value(value: Value) -> SqlValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Case::Boolean(value)),
        Value::I64(value) => Some(Case::Integer(value)),
        Value::U64(value) => Some(Case::Unsigned(value)),
        Value::F64(value) => Some(Case::Real(value)),
        Value::Text(value) => Some(Case::Text(value)),
        Value::Bytes(value) => Some(Case::Binary(value)),
        Value::TimeUnixNano(value) => Some(Case::TimeUnixNano(value)),
    };
    SqlValue { value }
}

fn reply(message: Reply) -> SqlReply {
    SqlReply { message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(statement: &str, limit: u32) -> SqlRequest {
        SqlRequest { statement: statement.to_owned(), limit, explain: false }
    }

    #[test]
    fn a_statement_has_the_default_limit_or_its_own_up_to_the_largest() {
        for (asked, rows) in [(0, ROWS_DEFAULT), (1, 1), (1_000_000, ROWS_MAX)] {
            assert_eq!(limits(&request("SELECT 1", asked)).unwrap().rows, rows);
        }
        let refused = limits(&request("SELECT 1", 1_000_001)).unwrap_err();
        assert!(refused.contains("limit: 1000001 rows are too many"), "{refused}");
    }

    #[test]
    fn a_statement_its_record_could_not_hold_is_refused() {
        let refused = limits(&request(&"x".repeat(16_385), 0)).unwrap_err();
        assert!(refused.contains("statement: 16385 bytes are too many"), "{refused}");
    }
}
