//! Asks the server for its catalog, in one round trip.

use std::collections::{HashMap, HashSet};

use bytes::BytesMut;
use pcigate_policy::document::Target;
use pcigate_postgres::{backend, frontend};
use pcigate_sql::Relation;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Known, views};
use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::rows::shape::{FIRST_OWN, Shape, Types};

/// Everything in one transaction, with names that no search path can divert. The parts answer in
/// the order of [`Answers`].
const QUESTIONS: &str = "\
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT s FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s;
SET LOCAL search_path = pg_catalog;
SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp_)';
SELECT n.nspname, c.relname, c.oid, a.attnum, a.attname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND n.nspname !~ '^pg_(toast|temp_|catalog$)'
    AND n.nspname <> 'information_schema' ORDER BY 1, 2, 4;
SELECT n.nspname, c.relname, pg_get_viewdef(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^pg_(toast|temp_|catalog$)'
    AND n.nspname <> 'information_schema';
SELECT p.oid, n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname <> 'pg_catalog';
SELECT t.oid, t.typtype, t.typname, t.typelem, r.rngsubtype
  FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid WHERE t.oid >= 16384;
SELECT inhrelid, inhparent FROM pg_inherits;
COMMIT";

/// Most bytes and rows of all answers.
const BYTES_MAX: usize = 64 << 20;
const ROWS_MAX: usize = 500_000;

type Row = Vec<Option<String>>;

/// The rows of each question that gives some.
#[derive(Default)]
struct Answers {
    path: Vec<Row>,
    schemas: Vec<Row>,
    attributes: Vec<Row>,
    views: Vec<Row>,
    functions: Vec<Row>,
    types: Vec<Row>,
    parents: Vec<Row>,
}

/// What is known of the database, and the session's search path.
pub(crate) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    server: &mut Framed<S>,
    limits: &backend::Limits,
    target: &Target,
) -> Result<(Known, Vec<String>), SessionEnd> {
    let answers = ask(server, limits).await?;
    let path = answers.path.iter().map(|row| text(row, 0).to_owned()).collect();
    Ok((known(&answers, target)?, path))
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    server: &mut Framed<S>,
    limits: &backend::Limits,
) -> Result<Answers, SessionEnd> {
    let mut query = BytesMut::new();
    frontend::Message::Query(QUESTIONS.as_bytes().into()).encode(&mut query)?;
    let lost = |source| SessionEnd::Server { source: Some(source) };
    server.send(&query).await.map_err(lost)?;
    let mut answers = Answers::default();
    let (mut part, mut rows, mut bytes) = (0, 0, 0);
    loop {
        match server.answer(limits).await? {
            backend::Message::DataRow(values) => {
                let value = |value: Option<&[u8]>| {
                    value.map(|value| String::from_utf8_lossy(value).into_owned())
                };
                let row: Row = values.iter().map(value).collect();
                rows += 1;
                bytes += row.iter().flatten().map(String::len).sum::<usize>();
                if rows > ROWS_MAX || bytes > BYTES_MAX {
                    let why = "its catalog is larger than the gateway reads".to_owned();
                    return Err(SessionEnd::Unknown { why });
                }
                let into = match part {
                    1 => &mut answers.path,
                    3 => &mut answers.schemas,
                    4 => &mut answers.attributes,
                    5 => &mut answers.views,
                    6 => &mut answers.functions,
                    7 => &mut answers.types,
                    _ => &mut answers.parents,
                };
                into.push(row);
            }
            backend::Message::CommandComplete(_) => part += 1,
            backend::Message::ErrorResponse(report) => {
                let code = report.code().iter().filter(|byte| byte.is_ascii_alphanumeric());
                let why = code.take(5).copied().map(char::from).collect();
                return Err(SessionEnd::Unknown { why });
            }
            backend::Message::ReadyForQuery(_) if part == 10 => return Ok(answers),
            backend::Message::ReadyForQuery(_) => {
                let why = "it answered only a part of the questions".to_owned();
                return Err(SessionEnd::Unknown { why });
            }
            _ => {}
        }
    }
}

fn text(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

fn oid(row: &Row, column: usize) -> u32 {
    text(row, column).parse().unwrap_or(0)
}

fn known(answers: &Answers, target: &Target) -> Result<Known, SessionEnd> {
    let mut known = Known { types: types(&answers.types), ..Known::default() };
    answers.schemas.iter().for_each(|row| known.catalog.add_schema(text(row, 0)));
    let mut tables = views::Tables::default();
    let definitions: HashMap<(&str, &str), &str> =
        answers.views.iter().map(|row| ((text(row, 0), text(row, 1)), text(row, 2))).collect();
    for rows in answers.attributes.chunk_by(|a, b| a.get(..2) == b.get(..2)) {
        let Some(first) = rows.first() else { continue };
        let (schema, name) = (text(first, 0), text(first, 1));
        let attributes = rows.iter().filter(|row| !text(row, 4).is_empty());
        let columns: Vec<String> = attributes.clone().map(|row| text(row, 4).to_owned()).collect();
        let numbers = attributes.map(|row| text(row, 3).parse().unwrap_or(0)).collect();
        let definition = definitions.get(&(schema, name)).map(|&text| text.to_owned());
        tables.add(schema, name, oid(first, 2), columns.clone(), numbers);
        known.catalog.add(schema, name, Relation { columns, definition });
    }
    for row in &answers.functions {
        let (schema, name) = (text(row, 1), text(row, 2));
        known.catalog.add_function(name);
        known.functions.insert(oid(row, 0), (schema.to_owned(), name.to_owned()));
    }
    let parents: HashSet<(u32, u32)> =
        answers.parents.iter().map(|row| (oid(row, 0), oid(row, 1))).collect();
    tables.tag(&target.columns);
    tables.tag_children(&parents);
    let views = definitions.into_iter();
    tables.tag_views(views, &known.catalog);
    tables.finish(&target.columns, &mut known);
    Ok(known)
}

/// How the types of the database are written.
fn types(rows: &[Row]) -> Types {
    let own = rows.iter().map(|row| {
        let element = oid(row, 3);
        let shape = match (text(row, 1), text(row, 2)) {
            ("c", _) => Shape::Composite,
            ("r", _) => Shape::Range(oid(row, 4)),
            ("m", _) => Shape::Multirange(0),
            ("e", _) => Shape::Text,
            ("b", "hstore") => Shape::Hstore,
            ("b", "citext") => Shape::Text,
            ("b", _) if element != 0 => Shape::Array { of_text: element >= FIRST_OWN },
            _ => Shape::Other,
        };
        (oid(row, 0), shape)
    });
    own.collect()
}
