//! Parts of a running agent that take more than a call to start: the gateway, the exporter, and the
//! thread that reads digests.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;

use crate::{
    cgroup::Cgroup,
    config::{Collector, Enroll},
    digests::{self, Digests},
    enforcer::Redirects,
    enroll,
    exporter::{self, Exporter},
    gateway::{self, Gateway, Keeper, Postgres},
    governor::Governor,
    grants,
    kubernetes::Cluster,
    recorder::{Recorder, RecorderHandle},
    spool::Spool,
};

/// How long digests are read before the programs are attached; the rest is read afterwards.
const READ_FIRST: Duration = Duration::from_secs(10);

pub(super) fn start_gateway(
    keeper: Keeper,
    redirects: Redirects,
    governor: &Governor,
    (recorder, cluster): (RecorderHandle, Cluster),
) -> (Gateway, Postgres) {
    let (durable, speaking) = (recorder.clone(), recorder.clone());
    // What finds no room is counted, and becomes a Lost record.
    let report: gateway::Report = Arc::new(move |draft| {
        let _ = recorder.record(vec![draft]);
    });
    let closed: gateway::Report = Arc::new(move |draft| {
        if let Err(error) = durable.record_durable(vec![draft]) {
            tracing::warn!(%error, "a gated connection was closed without its record");
        }
    });
    let postgres = Postgres::new(keeper, speaking, closed, Arc::clone(&report), cluster);
    let gateway = Gateway::new(gateway::Parts {
        redirects,
        directory: governor.directory(),
        files: governor.files(),
        handler: postgres.handler(),
        report,
        per_network: gateway::PER_NETWORK_MAX,
        in_all: gateway::IN_ALL_MAX,
        since_ns: grants::now_ns(),
    });
    (gateway, postgres)
}

pub(super) fn start_exporter(
    to: Option<Collector>,
    node: String,
    witness_dir: PathBuf,
    spool: &Arc<Mutex<Spool>>,
    recorder: &Recorder,
) -> anyhow::Result<Option<Exporter>> {
    let Some(to) = to else { return Ok(None) };
    let tls = match to.enroll {
        None => exporter::Tls::fixed(pcigate_proto::tls::client(&to.tls_dir)?),
        Some(Enroll { url, token_file, ca_file }) => {
            let tls_dir = to.tls_dir;
            let settings = enroll::Settings { url, token_file, ca_file, tls_dir, node };
            enroll::start(settings, recorder.handle())
        }
    };
    let settings = exporter::Settings {
        tls: Some(tls),
        url: to.url,
        witness_dir,
        backoff: exporter::Backoff::default(),
    };
    Ok(Some(exporter::start(settings, Arc::clone(spool), recorder.handle())?))
}

pub(super) fn start_digests(
    root: &Cgroup,
    shares_root: bool,
    governor: &Governor,
) -> anyhow::Result<Digests> {
    let (wanted, files) = (governor.wanted(), governor.files());
    if shares_root {
        let now = wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        digests::read_now(Path::new("/"), &now, &files);
    }
    Digests::start(root.path.clone(), wanted, files, READ_FIRST)
        .context("the thread that reads digests")
}
