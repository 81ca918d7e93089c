//! The columns of the table `records`: names, types and what they say. docs/sql.md lists them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An unsigned number.
    U64,
    /// A signed number.
    I64,
    /// A truth value.
    Bool,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Nanoseconds since 1970 UTC.
    Time,
}

impl Type {
    /// The type as Arrow and Parquet know it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::U64 => DataType::UInt64,
            Self::I64 => DataType::Int64,
            Self::Bool => DataType::Boolean,
            Self::Text => DataType::Utf8View,
            Self::Bytes => DataType::BinaryView,
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        }
    }
}

/// A column by its place in [`SPECS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum C {
    Leaf,
    Time,
    TimeOverflow,
    Kind,
    Node,
    Epoch,
    Seq,
    Cpu,
    KernelSeq,
    UnknownWorkload,
    Namespace,
    Pod,
    PodUid,
    ServiceAccount,
    Container,
    ContainerId,
    CgroupId,
    CgroupPath,
    Component,
    ComponentVersion,
    Person,
    Pid,
    Tid,
    StartBoottimeNs,
    Uid,
    Executable,
    ParentPid,
    ParentStartBoottimeNs,
    Result,
    Verdict,
    Policy,
    Rule,
    Enforcement,
    AuditVerdict,
    AuditPolicy,
    AuditRule,
    PolicyHash,
    MaskedCount,
    MaskedKinds,
    Path,
    Invoked,
    Command,
    ArgsCount,
    ArgsBytes,
    ArgsTruncated,
    ArgsUnavailable,
    PathUnresolved,
    ChildPid,
    ChildStartBoottimeNs,
    ExitCode,
    Signal,
    Operation,
    Protocol,
    Address,
    AddressBytes,
    Port,
    V4Mapped,
    Count,
    Reason,
    Queue,
    AboutNode,
    AboutEpoch,
    FirstSeq,
    LastSeq,
    ClockOffsetNs,
    StoredSha256,
    RefusedSha256,
    State,
    Message,
    Capabilities,
    Filter,
    Class,
    Before,
    Object,
    Session,
    Number,
    Target,
    Database,
    User,
    Application,
    Step,
    Statement,
    Effects,
    Tables,
    Rows,
    Bytes,
    DurationNs,
    Sqlstate,
    FromClient,
    TokenSubject,
    TokenIssuer,
    RequestKey,
    OwnerKind,
    OwnerName,
    Image,
    ImageDigest,
}

/// Number of columns.
pub const COLUMNS: usize = SPECS.len();

/// Every column: its place, name, type, and what it says.
pub const SPECS: [(C, &str, Type, &str); 96] = [
    (C::Leaf, "leaf", Type::U64, "position in the ledger; what `pcigate record N` takes"),
    (C::Time, "time", Type::Time, "when it happened, by the clock of the machine in `node`"),
    (
        C::TimeOverflow,
        "time_overflow",
        Type::U64,
        "ns since 1970 where `time` cannot hold them (after 2262; `time` is then its last value)",
    ),
    (C::Kind, "kind", Type::Text, "`exec`, `fork`, `exit`, `egress`, `lost`, …"),
    (C::Node, "node", Type::Text, "`origin.node`"),
    (C::Epoch, "epoch", Type::Text, "`origin.epoch` in hex; empty in the collector's own records"),
    (C::Seq, "seq", Type::U64, "`origin.seq`"),
    (C::Cpu, "cpu", Type::U64, "`origin.kernel.cpu`"),
    (C::KernelSeq, "kernel_seq", Type::U64, "`origin.kernel.seq`"),
    (C::UnknownWorkload, "unknown_workload", Type::Bool, "`workload.unknown`"),
    (C::Namespace, "namespace", Type::Text, "`workload.namespace`"),
    (C::Pod, "pod", Type::Text, "`workload.pod`"),
    (C::PodUid, "pod_uid", Type::Text, "`workload.pod_uid`"),
    (C::ServiceAccount, "service_account", Type::Text, "`workload.service_account`"),
    (C::Container, "container", Type::Text, "`workload.container`"),
    (C::ContainerId, "container_id", Type::Text, "`workload.container_id`"),
    (C::CgroupId, "cgroup_id", Type::U64, "`workload.cgroup_id`"),
    (C::CgroupPath, "cgroup_path", Type::Text, "`workload.cgroup_path`"),
    (C::Component, "component", Type::Text, "`component.name`: `agent` or `collector`"),
    (C::ComponentVersion, "component_version", Type::Text, "`component.version`"),
    (C::Person, "person", Type::Text, "`person.identity`"),
    (C::Pid, "pid", Type::U64, "`process.pid`"),
    (C::Tid, "tid", Type::U64, "`process.tid`"),
    (C::StartBoottimeNs, "start_boottime_ns", Type::U64, "`process.start_boottime_ns`"),
    (C::Uid, "uid", Type::U64, "`process.uid`"),
    (C::Executable, "executable", Type::Text, "`process.executable`: the program that acts"),
    (C::ParentPid, "parent_pid", Type::U64, "`process.parent_pid`"),
    (
        C::ParentStartBoottimeNs,
        "parent_start_boottime_ns",
        Type::U64,
        "`process.parent_start_boottime_ns`",
    ),
    (C::Result, "result", Type::Text, "`success`, `refused` or `failed`"),
    (C::Verdict, "verdict", Type::Text, "`allow`, `gate`, `ask` or `deny`"),
    (C::Policy, "policy", Type::Text, "`outcome.policy`"),
    (C::Rule, "rule", Type::Text, "`outcome.rule`"),
    (C::Enforcement, "enforcement", Type::Text, "`cgroup`, `lsm` or `kill`"),
    (C::AuditVerdict, "audit_verdict", Type::Text, "as `verdict`, of rules in audit mode"),
    (C::AuditPolicy, "audit_policy", Type::Text, "`outcome.audit_policy`"),
    (C::AuditRule, "audit_rule", Type::Text, "`outcome.audit_rule`"),
    (C::PolicyHash, "policy_hash", Type::Text, "`outcome.policy_hash` in hex"),
    (C::MaskedCount, "masked_count", Type::U64, "how often masking took something out"),
    (C::MaskedKinds, "masked_kinds", Type::Text, "what it took out: `pan,track2`"),
    (C::Path, "path", Type::Text, "exec: the program that was asked for"),
    (C::Invoked, "invoked", Type::Text, "exec: the name it was called by, where different"),
    (C::Command, "command", Type::Text, "exec: the arguments, joined by a space"),
    (C::ArgsCount, "args_count", Type::U64, "exec: number of arguments kept"),
    (C::ArgsBytes, "args_bytes", Type::U64, "exec: bytes the arguments had"),
    (C::ArgsTruncated, "args_truncated", Type::Bool, "exec: `command` is not all of it"),
    (C::ArgsUnavailable, "args_unavailable", Type::Bool, "exec: the arguments were not read"),
    (C::PathUnresolved, "path_unresolved", Type::Bool, "exec: `path` holds only its end"),
    (C::ChildPid, "child_pid", Type::U64, "fork"),
    (C::ChildStartBoottimeNs, "child_start_boottime_ns", Type::U64, "fork"),
    (C::ExitCode, "exit_code", Type::U64, "exit"),
    (C::Signal, "signal", Type::U64, "exit: 0 = none"),
    (
        C::Operation,
        "operation",
        Type::Text,
        "egress: `connect`, `send`, `packet`; attempt: what was tried; query: what was called; \
         statement: its command",
    ),
    (
        C::Protocol,
        "protocol",
        Type::Text,
        "egress: `tcp`, `udp`, `ip-proto-N`; session: `postgres`",
    ),
    (C::Address, "address", Type::Text, "egress: destination as text; session: the client's"),
    (
        C::AddressBytes,
        "address_bytes",
        Type::Bytes,
        "egress: destination as 16 bytes, IPv4 as ::ffff:a.b.c.d",
    ),
    (C::Port, "port", Type::U64, "egress"),
    (C::V4Mapped, "v4_mapped", Type::Bool, "egress: the caller used the IPv6 form"),
    (C::Count, "count", Type::U64, "lost: events; deletion: records; enrollment: askings"),
    (
        C::Reason,
        "reason",
        Type::Text,
        "lost, gap; session: why it ended; statement, enrollment: why refused",
    ),
    (C::Queue, "queue", Type::Text, "lost"),
    (
        C::AboutNode,
        "about_node",
        Type::Text,
        "gap, received, conflict: whose numbers; enrollment: for which node",
    ),
    (C::AboutEpoch, "about_epoch", Type::Text, "gap, received, conflict: in hex"),
    (C::FirstSeq, "first_seq", Type::U64, "gap, received; conflict: the number"),
    (C::LastSeq, "last_seq", Type::U64, "gap (0 = not known), received; conflict: the number"),
    (C::ClockOffsetNs, "clock_offset_ns", Type::I64, "received: sender's clock minus ours"),
    (C::StoredSha256, "stored_sha256", Type::Text, "conflict: in hex"),
    (C::RefusedSha256, "refused_sha256", Type::Text, "conflict: in hex"),
    (
        C::State,
        "state",
        Type::Text,
        "coverage: `start`, `stop`, `change`; session: `started`, `ended`",
    ),
    (C::Message, "message", Type::Text, "coverage; traffic: one line a message"),
    (
        C::Capabilities,
        "capabilities",
        Type::Text,
        "coverage: `name=state (reason)`, separated by `; `",
    ),
    (C::Filter, "filter", Type::Text, "query: what was asked"),
    (C::Class, "class", Type::Text, "deletion: the kind of the records"),
    (C::Before, "before", Type::Time, "deletion: those with an earlier time"),
    (C::Object, "object", Type::Text, "attempt: what of, in words; enrollment: `namespace/pod`"),
    (C::Session, "session", Type::Text, "session and what belongs to one: its id in hex"),
    (C::Number, "number", Type::U64, "statement, statement-end: counted within the session"),
    (C::Target, "target", Type::Text, "session, statement: `namespace/name`"),
    (C::Database, "database", Type::Text, "session"),
    (C::User, "db_user", Type::Text, "session: the user that was asked for; proves nothing"),
    (C::Application, "application", Type::Text, "session: what the client calls itself"),
    (C::Step, "step", Type::Text, "statement: `query`, `prepare`, `execute`, `function-call`"),
    (C::Statement, "statement", Type::Text, "statement: its text, masked"),
    (C::Effects, "effects", Type::Text, "statement: `read,write`"),
    (C::Tables, "tables", Type::Text, "statement: `public.cards,public.orders`"),
    (C::Rows, "rows", Type::U64, "statement-end; session, where ended"),
    (C::Bytes, "bytes", Type::U64, "statement-end; session, where ended"),
    (C::DurationNs, "duration_ns", Type::U64, "statement-end; session, where ended"),
    (C::Sqlstate, "sqlstate", Type::Text, "statement-end: of its error; NULL = it succeeded"),
    (C::FromClient, "from_client", Type::Bool, "traffic: which way"),
    (C::TokenSubject, "token_subject", Type::Text, "session: whom the client's token was given to"),
    (C::TokenIssuer, "token_issuer", Type::Text, "session: by whom"),
    (C::RequestKey, "request_key", Type::Text, "statement: what an approval would name; in hex"),
    (C::OwnerKind, "owner_kind", Type::Text, "`workload.owner_kind`: `Deployment`, `CronJob`, …"),
    (C::OwnerName, "owner_name", Type::Text, "`workload.owner_name`"),
    (C::Image, "image", Type::Text, "`workload.image`"),
    (C::ImageDigest, "image_digest", Type::Text, "`workload.image_digest`: `sha256:…`"),
];

/// The table's schema: every column, all but `leaf`, `time` and `kind` possibly NULL.
pub fn table() -> SchemaRef {
    static TABLE: LazyLock<SchemaRef> = LazyLock::new(|| {
        let always = [C::Leaf, C::Time, C::Kind];
        let field = |(column, name, of, _): &(C, &str, Type, &str)| {
            Field::new(*name, of.arrow(), !always.contains(column))
        };
        Arc::new(Schema::new(SPECS.iter().map(field).collect::<Vec<_>>()))
    });
    Arc::clone(&TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_stands_at_its_own_place() {
        for (place, (column, name, ..)) in SPECS.iter().enumerate() {
            assert_eq!(*column as usize, place, "{name}");
        }
    }

    #[test]
    fn the_manual_lists_every_column_in_order() {
        let manual = include_str!("../../docs/sql.md");
        let listed: Vec<_> = manual.lines().filter(|line| line.starts_with("| `")).collect();
        let type_name = |of: Type| match of {
            Type::U64 => "unsigned",
            Type::I64 => "signed",
            Type::Bool => "boolean",
            Type::Text => "text",
            Type::Bytes => "bytes",
            Type::Time => "time",
        };
        let expected =
            SPECS.map(|(_, name, of, text)| format!("| `{name}` | {} | {text} |", type_name(of)));
        let listed: Vec<_> = listed.into_iter().take(expected.len()).collect();
        assert_eq!(listed, expected);
    }
}
