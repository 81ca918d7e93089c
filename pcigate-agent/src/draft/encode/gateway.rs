//! Records of gated sessions, each text bounded.

use pcigate_proto::{self as proto, record::RECORD_BYTES_MAX, session};

use super::{COMMON_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX, Text};
use crate::draft::{Phase, Session, Statement, StatementEnd, Traffic};

const STATEMENT_BYTES_MAX: usize = 10 * 1024;
const TABLES_BYTES_MAX: usize = 2 * 1024;
const PARAMETERS_BYTES_MAX: usize = 4 * 1024;
const WHY_BYTES_MAX: usize = 1024;
const TRAFFIC_BYTES_MAX: usize = 20 * 1024;
/// Tags and lengths of a parameter, its own and of its parts.
const PARAMETER_OVERHEAD: usize = 12;

const _: () = assert!(
    COMMON_BYTES_MAX
        + STATEMENT_BYTES_MAX
        + TABLES_BYTES_MAX
        + PARAMETERS_BYTES_MAX
        + WHY_BYTES_MAX
        + 2 * NAME_BYTES_MAX
        <= RECORD_BYTES_MAX
);
const _: () = assert!(COMMON_BYTES_MAX + TRAFFIC_BYTES_MAX <= RECORD_BYTES_MAX);
const _: () =
    assert!(COMMON_BYTES_MAX + MESSAGE_BYTES_MAX + 10 * NAME_BYTES_MAX <= RECORD_BYTES_MAX);

pub(super) fn session(session: &Session, text: &mut Text) -> proto::Session {
    text.add(&session.masked);
    let mut record = proto::Session {
        id: session.id.to_vec(),
        phase: session::Phase::Started.into(),
        target: text.required(&session.target, 2 * NAME_BYTES_MAX),
        protocol: session.protocol.to_owned(),
        database: text.take(&session.database, NAME_BYTES_MAX),
        user: text.take(&session.user, NAME_BYTES_MAX),
        role: text.take(&session.role, NAME_BYTES_MAX),
        application: text.take(&session.application, NAME_BYTES_MAX),
        client: text.take(&session.client, NAME_BYTES_MAX),
        client_tls: session.client_tls,
        ..proto::Session::default()
    };
    if let Some((subject, issuer)) = session.identity.as_deref() {
        record.token_subject = text.take(subject, NAME_BYTES_MAX);
        record.token_issuer = text.take(issuer, NAME_BYTES_MAX);
    }
    if let Phase::Ended { reason, masked, .. } = &session.phase {
        record.phase = session::Phase::Ended.into();
        record.reason = text.take(reason, MESSAGE_BYTES_MAX);
        text.add(masked);
    }
    if let Phase::Ended { statements, refused, rows, bytes, duration_ns, .. } = session.phase {
        (record.statements, record.refused) = (statements, refused);
        (record.rows, record.bytes, record.duration_ns) = (rows, bytes, duration_ns);
    }
    record
}

pub(super) fn statement(statement: &Statement, text: &mut Text) -> proto::Statement {
    text.add(&statement.masked);
    let (parameters, parameters_truncated) = parameters(statement, text);
    let tables: Vec<String> =
        statement.tables.iter().map(|table| text.take(table, NAME_BYTES_MAX)).collect();
    let effects = statement.effects.iter().map(|effect| (*effect).to_owned());
    proto::Statement {
        session: statement.session.to_vec(),
        number: statement.number,
        target: text.required(&statement.target, 2 * NAME_BYTES_MAX),
        step: statement.step.to_owned(),
        command: text.take(&statement.command, REASON_BYTES_MAX),
        text: text.take(&statement.text, STATEMENT_BYTES_MAX),
        text_bytes: statement.text_bytes,
        parameters,
        parameters_truncated,
        effects: effects.collect(),
        tables: fitting(tables),
        reason: text.take(&statement.reason, WHY_BYTES_MAX),
        request_key: statement.request_key.map_or_else(Vec::new, |key| key.to_vec()),
    }
}

/// As many tables as fit, and `…` where that is not all.
fn fitting(tables: Vec<String>) -> Vec<String> {
    let mut room = TABLES_BYTES_MAX;
    let mut kept = Vec::new();
    for table in tables {
        let Some(left) = room.checked_sub(table.len() + PARAMETER_OVERHEAD) else {
            kept.push("…".to_owned());
            break;
        };
        room = left;
        kept.push(table);
    }
    kept
}

fn parameters(statement: &Statement, text: &mut Text) -> (Vec<proto::Parameter>, bool) {
    let mut room = PARAMETERS_BYTES_MAX;
    let mut kept = Vec::new();
    for parameter in &statement.parameters {
        let Some(space) = room.checked_sub(PARAMETER_OVERHEAD) else { return (kept, true) };
        let Some(value) = parameter else {
            room = space;
            kept.push(proto::Parameter { null: true, text: String::new() });
            continue;
        };
        let taken = text.take(value, space);
        if taken.len() > space {
            return (kept, true);
        }
        room = space - taken.len();
        let is_cut = value.as_str().len() > space;
        kept.push(proto::Parameter { null: false, text: taken });
        if is_cut {
            return (kept, true);
        }
    }
    (kept, false)
}

pub(super) fn statement_end(end: &StatementEnd, text: &mut Text) -> proto::StatementEnd {
    text.add(&end.masked);
    let sqlstate = end.sqlstate.as_ref();
    proto::StatementEnd {
        session: end.session.to_vec(),
        number: end.number,
        rows: end.rows,
        bytes: end.bytes,
        duration_ns: end.duration_ns,
        sqlstate: sqlstate.map_or_else(String::new, |state| text.take(state, REASON_BYTES_MAX)),
    }
}

pub(super) fn traffic(traffic: &Traffic, text: &mut Text) -> proto::Traffic {
    text.add(&traffic.masked);
    let is_cut = traffic.text.as_str().len() > TRAFFIC_BYTES_MAX;
    proto::Traffic {
        session: traffic.session.to_vec(),
        from_client: traffic.from_client,
        text: text.take(&traffic.text, TRAFFIC_BYTES_MAX),
        truncated: traffic.truncated || is_cut,
    }
}
