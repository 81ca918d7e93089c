//! Drafts for the tests of this crate.

use std::sync::Arc;

use pcigate_common::event::Operation;
use pcigate_policy::mask::{Cut, Masked};
use pcigate_proto::{Enforcement, Verdict};

use super::{Decided, Draft, Ending, Event, Exec, Outcome, Process, Rule, Subject, Workload};

/// Masks a complete text.
pub(crate) fn masked(text: &str) -> Masked {
    Masked::new(text.as_bytes(), Cut::Whole)
}

/// A workload whose names are all `name`.
pub(crate) fn workload(name: &str) -> Subject {
    Subject::Workload(Arc::new(Workload {
        namespace: masked(name),
        pod: masked(name),
        pod_uid: masked(name),
        service_account: masked(name),
        container: masked(name),
        container_id: masked(name),
        cgroup_id: 7,
        cgroup_path: masked(name),
        owner_kind: masked(name),
        owner_name: masked(name),
        image: masked(name),
        image_digest: masked(name),
    }))
}

/// A process.
pub(crate) fn process(executable: &str) -> Process {
    Process {
        pid: 42,
        tid: 42,
        start_boottime_ns: 1,
        uid: 1000,
        executable: Some(Arc::new(masked(executable))),
        parent_pid: 1,
        parent_start_boottime_ns: 0,
    }
}

/// An allowed exec with these NUL-separated arguments.
pub(crate) fn exec(args: &str) -> Draft {
    Draft {
        time_unix_nano: 1_700_000_000_000_000_000,
        kernel: Some((0, 1)),
        subject: workload("billing-bot"),
        process: Some(process("/bin/bash")),
        outcome: Outcome::plain(Ending::Success),
        event: Event::Exec(Exec {
            path: masked("/bin/true"),
            invoked: None,
            args: masked(args),
            args_truncated: false,
            args_unavailable: false,
            path_unresolved: false,
            args_bytes: 0,
        }),
    }
}

/// A refused connect.
pub(crate) fn refused_connect() -> Draft {
    let rule = Arc::new(Rule { policy: masked("payments/billing-bot"), id: masked("default") });
    Draft {
        outcome: Outcome {
            result: Ending::Refused,
            decision: Some(Decided { verdict: Verdict::Deny, rule }),
            enforcement: Some(Enforcement::Cgroup),
            audit: None,
            policy_hash: Some([1; 8]),
        },
        event: Event::Egress {
            operation: Operation::Connect,
            protocol: 6,
            address: [10, 0, 0, 5].into(),
            port: 5432,
            v4_mapped: false,
        },
        ..exec("")
    }
}
