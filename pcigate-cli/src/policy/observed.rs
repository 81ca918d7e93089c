//! What was recorded of workloads, for questions about policies: which records, and each as what
//! `pcigate_policy` decides about.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::decide::{EgressRequest, ExecRequest, effective};
use pcigate_policy::workload::PolicySet;
use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{QueryRequest, Record, Result as Ending, Verdict};

use super::explain::label;
use super::workloads::{Who, Workloads};
use crate::failure::{Failure, remark};
use crate::kubernetes::Options as Kubernetes;
use crate::session::source::{self, RECORDS_MAX, Source};
use crate::{collector, time};

/// Which records. All conditions that are given must hold.
#[derive(Args, Debug)]
#[group(id = "observed")]
pub struct Options {
    /// Only records from this time on: RFC 3339, or a duration back from now (12h, 30d).
    #[arg(long, value_name = "T", value_parser = time::parse, default_value = "30d")]
    pub since: time::Given,
    /// Only records before this time.
    #[arg(long, value_name = "T", value_parser = time::parse)]
    pub until: Option<time::Given>,
    /// Only this namespace.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    pub namespace: String,
    /// Only this ServiceAccount.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub service_account: String,
    /// Only this pod; with a `*` at the end, every pod whose name begins so.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pod: String,
    /// A label of pods that --pods does not name: records hold no labels. May be given several
    /// times.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Pods and namespaces with their labels, as `kubectl get pods,namespaces -A -o json` writes
    /// them.
    #[arg(long, value_name = "FILE")]
    pub pods: Option<PathBuf>,
    /// Ask the API server for pods and namespaces with their labels, by your own kubectl.
    #[arg(long, conflicts_with = "pods")]
    pub cluster: bool,
    #[command(flatten)]
    kubernetes: Kubernetes,
    #[command(flatten)]
    source: source::Options,
}

/// A record of a known workload.
pub struct Seen<'a> {
    /// Its place in the ledger.
    pub index: u64,
    /// When, nanoseconds since 1970.
    pub time: u64,
    /// Who acted.
    pub who: Who,
    /// What happened.
    pub event: &'a Event,
    /// Whether it happened: it was not refused and did not fail.
    pub happened: bool,
    /// What was said to it.
    pub verdict: Verdict,
    /// `namespace/name` of the policy and id of the rule behind that.
    pub by: (&'a str, &'a str),
}

/// What is asked of policies about a record.
pub enum Asked<'a> {
    /// To execute a program.
    Exec {
        /// `None` = not resolved completely.
        path: Option<&'a [u8]>,
        /// The name it was called by, where different.
        invoked: &'a [u8],
        /// `None` = not known completely.
        args: Option<Vec<&'a [u8]>>,
    },
    /// To reach a destination.
    Egress {
        /// Where to.
        address: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Port.
        port: u16,
    },
}

impl Options {
    /// Who pods are.
    pub fn workloads(&self) -> Result<Workloads, Failure> {
        let labels = self.labels.iter().cloned().collect();
        let mut known = Workloads::read(self.pods.as_deref(), labels)?;
        if self.cluster {
            let objects = self.kubernetes.get(&["pods,namespaces", "--all-namespaces"])?;
            known.take_all(&objects);
        }
        Ok(known)
    }

    /// Gives every record of these kinds, and of a known workload, to `see`; the first and the last
    /// time that counts.
    pub async fn each(
        &self,
        collector: &collector::Options,
        kinds: &[&str],
        mut see: impl FnMut(&Seen<'_>),
    ) -> Result<(u64, u64), Failure> {
        let now = time::now();
        let since = self.since.unix_nano(now);
        let until = self.until.map_or(now, |given| given.unix_nano(now));
        if until <= since {
            return Err(Failure::input(
                "--until is not later than --since: no record can match".to_owned(),
            ));
        }
        let (pod, begins) = match self.pod.strip_suffix('*') {
            Some(begins) => (String::new(), begins),
            None => (self.pod.clone(), ""),
        };
        let asked = QueryRequest {
            since_unix_nano: since,
            until_unix_nano: until,
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            pod,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            limit: RECORDS_MAX,
            ..QueryRequest::default()
        };
        let mut source = Source::open(collector, &self.source).await?;
        let left_out = source
            .each(&asked, |index, record| {
                if let Some(seen) =
                    seen(index, &record).filter(|seen| seen.who.pod.starts_with(begins))
                {
                    see(&seen);
                }
                Ok(())
            })
            .await?;
        if left_out > 0 {
            remark(&format!(
                "{left_out} older records were not looked at: a shorter period or --ledger DIR \
                 looks at all"
            ));
        }
        Ok((since, until))
    }
}

fn seen(index: u64, record: &Record) -> Option<Seen<'_>> {
    let Some(Subject::Workload(workload)) = &record.subject else { return None };
    if workload.unknown {
        return None;
    }
    let outcome = record.outcome.as_ref()?;
    Some(Seen {
        index,
        time: record.time_unix_nano,
        who: Who {
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.clone(),
            pod: workload.pod.clone(),
        },
        event: record.event.as_ref()?,
        happened: outcome.result() == Ending::Success,
        verdict: outcome.verdict(),
        by: (&outcome.policy, &outcome.rule),
    })
}

impl<'a> Asked<'a> {
    /// What a record's event asks; nothing where no exec or egress rule is about it.
    pub fn of(event: &'a Event) -> Option<Self> {
        match event {
            Event::Exec(exec) => {
                let all = exec.args.iter().map(String::as_bytes).collect();
                let known = !exec.args_truncated && !exec.args_unavailable;
                Some(Self::Exec {
                    path: (!exec.path_unresolved).then_some(exec.path.as_bytes()),
                    invoked: exec.invoked.as_bytes(),
                    args: known.then_some(all),
                })
            }
            Event::Egress(egress) => {
                let address = effective(egress.address.parse().ok()?);
                let port = u16::try_from(egress.port).ok()?;
                Some(Self::Egress { address, protocol: protocol(&egress.protocol)?, port })
            }
            _ => None,
        }
    }

    /// What a set of policies says to it. `names` are the names a destination was resolved by.
    pub fn decide(&self, set: &PolicySet, names: &[&str]) -> pcigate_policy::decide::Answer {
        match self {
            Self::Exec { path, invoked, args } => {
                let args = args.as_deref();
                set.decide_exec(&ExecRequest { path: *path, invoked, sha256: None, args })
            }
            Self::Egress { address, protocol, port } => {
                let (address, protocol, port) = (Some(*address), *protocol, *port);
                set.decide_egress(&EgressRequest { address, names, protocol, port })
            }
        }
    }
}

/// The number of a protocol as records name it.
pub fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        other => other.strip_prefix("ip-proto-")?.parse().ok(),
    }
}
