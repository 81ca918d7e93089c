//! Turns a record into one flat row, and rows of one kind into columns.

mod gateway;
mod identity;

use std::{net::IpAddr, sync::Arc};

use datafusion::arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBuilder, Int64Builder, StringViewBuilder,
    TimestampNanosecondBuilder, UInt64Builder,
};
use pcigate_proto::{
    Conflict, Coverage, Egress, Enforcement, Exec, Gap, Outcome, Process, Received, Record,
    Result as Ended, Verdict,
    coverage::State,
    egress::Operation,
    record::{Event, Subject, kind},
};

use crate::{
    narrow::Narrow,
    schema::{C, COLUMNS, SPECS, Type},
};

/// The kind of a record without an event, which no collector of this version stores.
pub const KIND_UNKNOWN: &str = "unknown";

/// The kind under which a record is filed.
pub fn kind_of(record: &Record) -> &'static str {
    record.event.as_ref().map_or(KIND_UNKNOWN, kind)
}

/// Columns of rows of one kind, growing.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    first_leaf: u64,
    last_leaf: u64,
    min_time: u64,
    max_time: u64,
    columns: Vec<Option<(Column, usize)>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            rows: 0,
            first_leaf: 0,
            last_leaf: 0,
            min_time: u64::MAX,
            max_time: 0,
            columns: std::iter::repeat_with(|| None).take(COLUMNS).collect(),
        }
    }
}

/// The builder of one column; the number beside it counts the values it has.
#[derive(Debug)]
enum Column {
    U64(UInt64Builder),
    I64(Int64Builder),
    Bool(BooleanBuilder),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Time(TimestampNanosecondBuilder),
}

impl Column {
    fn new(of: Type) -> Self {
        match of {
            Type::U64 => Self::U64(UInt64Builder::new()),
            Type::I64 => Self::I64(Int64Builder::new()),
            Type::Bool => Self::Bool(BooleanBuilder::new()),
            Type::Text => Self::Text(StringViewBuilder::new().with_deduplicate_strings()),
            Type::Bytes => Self::Bytes(BinaryViewBuilder::new().with_deduplicate_strings()),
            Type::Time => Self::Time(TimestampNanosecondBuilder::new().with_timezone("UTC")),
        }
    }

    fn append_nulls(&mut self, count: usize) {
        match self {
            Self::U64(builder) => builder.append_nulls(count),
            Self::I64(builder) => builder.append_nulls(count),
            Self::Bool(builder) => builder.append_nulls(count),
            Self::Text(builder) => (0..count).for_each(|_| builder.append_null()),
            Self::Bytes(builder) => (0..count).for_each(|_| builder.append_null()),
            Self::Time(builder) => builder.append_nulls(count),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::U64(mut builder) => Arc::new(builder.finish()),
            Self::I64(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Bytes(mut builder) => Arc::new(builder.finish()),
            Self::Time(mut builder) => Arc::new(builder.finish()),
        }
    }
}

impl Rows {
    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The rows as columns; a column without any value is left out.
    pub fn finish(self) -> Narrow {
        let rows = self.rows;
        let finish = |column: Option<(Column, usize)>| {
            column.map(|(mut column, filled)| {
                column.append_nulls(rows - filled);
                column.finish()
            })
        };
        Narrow {
            rows,
            first_leaf: self.first_leaf,
            last_leaf: self.last_leaf,
            min_time: self.min_time,
            max_time: self.max_time,
            columns: self.columns.into_iter().map(finish).collect(),
        }
    }

    /// Adds the row of a leaf. Leaves rise.
    pub fn push(&mut self, leaf: u64, record: &Record) {
        let time = record.time_unix_nano;
        if self.rows == 0 {
            self.first_leaf = leaf;
        }
        self.last_leaf = leaf;
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
        self.u64(C::Leaf, leaf);
        self.time(C::Time, time);
        if i64::try_from(time).is_err() {
            self.u64(C::TimeOverflow, time);
        }
        self.text(C::Kind, kind_of(record));
        self.push_origin(record);
        match &record.subject {
            Some(Subject::Workload(workload)) => self.push_workload(workload),
            Some(Subject::Component(component)) => {
                self.text(C::Component, &component.name);
                self.text(C::ComponentVersion, &component.version);
            }
            Some(Subject::Person(person)) => self.text(C::Person, &person.identity),
            None => {}
        }
        if let Some(process) = &record.process {
            self.push_process(process);
        }
        if let Some(outcome) = &record.outcome {
            self.push_outcome(outcome);
        }
        if !record.masked.is_empty() {
            let count = record.masked.iter().map(|finding| u64::from(finding.count)).sum();
            self.u64(C::MaskedCount, count);
            let kinds: Vec<_> = record.masked.iter().map(|found| found.kind.as_str()).collect();
            self.text(C::MaskedKinds, &kinds.join(","));
        }
        if let Some(event) = &record.event {
            self.push_event(event);
        }
        self.rows += 1;
    }

    fn push_origin(&mut self, record: &Record) {
        let Some(origin) = &record.origin else { return };
        self.text(C::Node, &origin.node);
        self.hex(C::Epoch, &origin.epoch);
        self.u64(C::Seq, origin.seq);
        if let Some(kernel) = &origin.kernel {
            self.u64(C::Cpu, kernel.cpu.into());
            self.u64(C::KernelSeq, kernel.seq);
        }
    }

    fn push_process(&mut self, process: &Process) {
        self.u64(C::Pid, process.pid.into());
        self.u64(C::Tid, process.tid.into());
        self.u64(C::StartBoottimeNs, process.start_boottime_ns);
        self.u64(C::Uid, process.uid.into());
        self.text(C::Executable, &process.executable);
        self.u64(C::ParentPid, process.parent_pid.into());
        self.u64(C::ParentStartBoottimeNs, process.parent_start_boottime_ns);
    }

    fn push_outcome(&mut self, outcome: &Outcome) {
        let ended = Ended::try_from(outcome.result).map(|ended| ended.as_str_name());
        self.name(C::Result, outcome.result, ended.ok());
        self.verdict(C::Verdict, outcome.verdict);
        self.text(C::Policy, &outcome.policy);
        self.text(C::Rule, &outcome.rule);
        let enforcement = Enforcement::try_from(outcome.enforcement);
        let enforcement = enforcement.map(|enforcement| enforcement.as_str_name());
        self.name(C::Enforcement, outcome.enforcement, enforcement.ok());
        self.verdict(C::AuditVerdict, outcome.audit_verdict);
        if outcome.audit_verdict != 0 || !outcome.audit_rule.is_empty() {
            self.text(C::AuditPolicy, &outcome.audit_policy);
            self.text(C::AuditRule, &outcome.audit_rule);
        }
        self.hex(C::PolicyHash, &outcome.policy_hash);
    }

    fn push_event(&mut self, event: &Event) {
        match event {
            Event::Exec(exec) => self.push_exec(exec),
            Event::Fork(fork) => {
                self.u64(C::ChildPid, fork.child_pid.into());
                self.u64(C::ChildStartBoottimeNs, fork.child_start_boottime_ns);
            }
            Event::Exit(exit) => {
                self.u64(C::ExitCode, exit.code.into());
                self.u64(C::Signal, exit.signal.into());
            }
            Event::Egress(egress) => self.push_egress(egress),
            Event::Lost(lost) => {
                self.u64(C::Count, lost.count);
                self.text(C::Reason, &lost.reason);
                self.text(C::Queue, &lost.queue);
            }
            Event::Gap(Gap { node, epoch, first_seq, last_seq, reason }) => {
                self.push_about(node, epoch, *first_seq, *last_seq);
                self.text(C::Reason, reason);
            }
            Event::Coverage(coverage) => self.push_coverage(coverage),
            Event::Received(Received {
                node, epoch, first_seq, last_seq, clock_offset_ns, ..
            }) => {
                self.push_about(node, epoch, *first_seq, *last_seq);
                self.i64(C::ClockOffsetNs, *clock_offset_ns);
            }
            Event::Query(query) => {
                self.text(C::Operation, &query.operation);
                self.text(C::Filter, &query.filter);
            }
            Event::Conflict(Conflict { node, epoch, seq, stored_sha256, refused_sha256 }) => {
                self.push_about(node, epoch, *seq, *seq);
                self.hex(C::StoredSha256, stored_sha256);
                self.hex(C::RefusedSha256, refused_sha256);
            }
            Event::Attempt(attempt) => {
                self.text(C::Operation, &attempt.operation);
                self.text(C::Object, &attempt.object);
            }
            Event::Session(session) => self.push_session(session),
            Event::Statement(statement) => self.push_statement(statement),
            Event::StatementEnd(end) => self.push_statement_end(end),
            Event::Traffic(traffic) => self.push_traffic(traffic),
            Event::Deletion(deletion) => {
                self.text(C::Class, &deletion.class);
                self.time(C::Before, deletion.before_unix_nano);
                self.u64(C::Count, deletion.records);
            }
            Event::Enrollment(asked) => self.push_enrollment(asked),
        }
    }

    fn push_exec(&mut self, exec: &Exec) {
        self.text(C::Path, &exec.path);
        self.text(C::Invoked, &exec.invoked);
        self.text(C::Command, &exec.args.join(" "));
        self.u64(C::ArgsCount, exec.args.len() as u64);
        self.u64(C::ArgsBytes, exec.args_bytes.into());
        self.bool(C::ArgsTruncated, exec.args_truncated);
        self.bool(C::ArgsUnavailable, exec.args_unavailable);
        self.bool(C::PathUnresolved, exec.path_unresolved);
    }

    fn push_egress(&mut self, egress: &Egress) {
        let operation = Operation::try_from(egress.operation).map(|done| done.as_str_name());
        self.name(C::Operation, egress.operation, operation.ok());
        self.text(C::Protocol, &egress.protocol);
        self.text(C::Address, &egress.address);
        if let Ok(address) = egress.address.parse::<IpAddr>() {
            self.bytes(C::AddressBytes, &address_bytes(address));
        }
        self.u64(C::Port, egress.port.into());
        self.bool(C::V4Mapped, egress.v4_mapped);
    }

    fn push_coverage(&mut self, coverage: &Coverage) {
        let state = State::try_from(coverage.state).map(|state| state.as_str_name());
        self.name(C::State, coverage.state, state.ok());
        self.text(C::Message, &coverage.message);
        let one = |capability: &pcigate_proto::Capability| {
            let said = format!("{}={}", capability.name, capability.state);
            if capability.reason.is_empty() {
                said
            } else {
                format!("{said} ({})", capability.reason)
            }
        };
        let all: Vec<_> = coverage.capabilities.iter().map(one).collect();
        self.text(C::Capabilities, &all.join("; "));
    }

    fn push_about(&mut self, node: &str, epoch: &[u8], first: u64, last: u64) {
        self.text(C::AboutNode, node);
        self.hex(C::AboutEpoch, epoch);
        self.u64(C::FirstSeq, first);
        self.u64(C::LastSeq, last);
    }

    /// The builder of a column, filled up to the row that is being added.
    fn column(&mut self, column: C) -> Option<&mut Column> {
        let place = column as usize;
        let (slot, spec) = (self.columns.get_mut(place)?, SPECS.get(place)?);
        let (builder, filled) = slot.get_or_insert_with(|| (Column::new(spec.2), 0));
        if *filled < self.rows {
            builder.append_nulls(self.rows - *filled);
        }
        *filled = self.rows + 1;
        Some(builder)
    }

    fn u64(&mut self, column: C, value: u64) {
        if let Some(Column::U64(builder)) = self.column(column) {
            builder.append_value(value);
        }
    }

    fn i64(&mut self, column: C, value: i64) {
        if let Some(Column::I64(builder)) = self.column(column) {
            builder.append_value(value);
        }
    }

    fn bool(&mut self, column: C, value: bool) {
        if let Some(Column::Bool(builder)) = self.column(column) {
            builder.append_value(value);
        }
    }

    fn text(&mut self, column: C, value: &str) {
        if let Some(Column::Text(builder)) = self.column(column) {
            builder.append_value(value);
        }
    }

    fn bytes(&mut self, column: C, value: &[u8]) {
        if let Some(Column::Bytes(builder)) = self.column(column) {
            builder.append_value(value);
        }
    }

    fn hex(&mut self, column: C, value: &[u8]) {
        let mut buffer = [0; 64];
        let Some(into) = buffer.get_mut(..value.len() * 2) else {
            return self.text(column, &hex::encode(value));
        };
        if hex::encode_to_slice(value, into).is_ok() {
            self.text(column, std::str::from_utf8(into).unwrap_or_default());
        }
    }

    fn time(&mut self, column: C, value: u64) {
        if let Some(Column::Time(builder)) = self.column(column) {
            builder.append_value(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    fn verdict(&mut self, column: C, number: i32) {
        let name = Verdict::try_from(number).map(|verdict| verdict.as_str_name());
        self.name(column, number, name.ok());
    }

    /// The name of an enum's value in lower case; NULL for "unspecified", the number of a value
    /// this version does not know.
    fn name(&mut self, column: C, number: i32, name: Option<&str>) {
        match (number, name) {
            (0, _) => {}
            (_, Some(name)) => self.text(column, &name.to_ascii_lowercase()),
            (number, None) => self.text(column, &number.to_string()),
        }
    }
}

/// An address as 16 bytes, IPv4 in its v4-mapped form.
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
