//! The policies that `serve` puts in force: those of files, and those of the API server where the
//! configuration says so.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pcigate_agent::{
    config::Config,
    coverage,
    draft::Capability,
    kubernetes::{
        Cluster, Connection,
        documents::{CustomResources, Resolved, Row, Standing},
        secrets::{READ_EVERY, Secrets},
        status::{Facts, Pace, Telling},
        tokens::Reviewer,
    },
    policies::{self, PoliciesError},
    running::Agent,
    workloads::kubernetes::Answering,
};
use pcigate_policy::{document::Documents, mask::one_line};
use tokio::sync::watch;

use super::serving::tell_coverage;

/// How long the start waits for the API server's lists, that of pods included, and at least for
/// this one. Until then what was known last is in force, and where nothing was, all is refused.
const LIST_WITHIN: Duration = Duration::from_secs(10);
const LIST_WITHIN_LEAST: Duration = Duration::from_secs(2);

/// How far apart changes are put in force: each compiles the policies of all workloads anew, and
/// who writes one all the time must not keep the agents of all nodes busy.
const APART: Duration = Duration::from_millis(200);
/// How often it is looked whether there is something else to tell.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Bytes of a line of the log.
const LINE_MAX: usize = 1500;

/// All policies and Targets.
pub struct Policies {
    paths: Vec<PathBuf>,
    files: Documents,
    api: Option<Api>,
    cluster: Cluster,
    /// A bell that nobody rings.
    silent: watch::Sender<()>,
}

struct Api {
    resources: CustomResources,
    now: Resolved,
    /// Since when it is said not to answer.
    away: Option<Instant>,
    telling: Telling,
    told: Option<Instant>,
    /// When what is in force was last made anew.
    resolved: Instant,
}

impl Policies {
    /// The configured ones, after the API server's first list or when that does not come.
    pub async fn open(
        config: &Config,
        connection: Option<&Connection>,
        node: &str,
    ) -> anyhow::Result<Self> {
        let (paths, silent) = (config.policies.clone(), watch::Sender::new(()));
        // Also for Targets of files.
        let cluster = connection.map_or_else(Cluster::none, |connection| Cluster {
            secrets: Secrets::follow(connection, READ_EVERY),
            reviewer: Some(Arc::new(Reviewer::new(connection))),
        });
        let Some(connection) = connection.filter(|_| config.custom_resources) else {
            return Ok(Self { files: policies::read(&paths)?, paths, api: None, cluster, silent });
        };
        let files = policies::read_part(&paths)?;
        let mut resources = CustomResources::follow(connection, &config.state_dir);
        let patience = LIST_WITHIN.saturating_sub(connection.age()).max(LIST_WITHIN_LEAST);
        let is_listed = resources.listed(patience).await;
        let now = resources.resolve(&files, true);
        let now = now.unwrap_or_else(|| Resolved {
            documents: files.clone(),
            is_known: false,
            rows: Vec::new(),
        });
        if !is_listed {
            let what = if now.is_known { "as last known" } else { "not known: all is refused" };
            tracing::error!("the API server has not listed policies and Targets yet; {what}");
        }
        tell_rejected(None, &now);
        let telling = Telling::begin(connection, node, Pace::SERVE);
        let api =
            Some(Api { resources, now, away: None, telling, told: None, resolved: Instant::now() });
        Ok(Self { paths, files, api, cluster, silent })
    }

    /// What is in force, and whether all there is is known.
    pub fn now(&self) -> (Documents, bool) {
        match &self.api {
            None => (self.files.clone(), true),
            Some(api) => (api.now.documents.clone(), api.now.is_known),
        }
    }

    /// What gated sessions need of the API server.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Has those Secrets read that the Targets of governed workloads name.
    pub fn read_secrets(&self, agent: &Agent) {
        let targets = agent.governor.targets_in_use();
        self.cluster.secrets.want(targets.iter().map(|target| &**target));
    }

    /// Rings when there is something new.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.api.as_ref().map_or_else(|| self.silent.subscribe(), |api| api.resources.changed())
    }

    /// Puts in force what the API server tells now, from the next look at the workloads on.
    pub fn follow(&mut self, agent: &mut Agent) {
        let is_early = |api: &Api| api.resolved.elapsed() < APART;
        if !self.api.as_ref().is_some_and(is_early) && self.resolve(false) {
            self.put_in_force(agent);
            tell_coverage(agent, "the API server tells of other policies or Targets than before");
        }
    }

    fn put_in_force(&self, agent: &mut Agent) {
        let (documents, is_known) = self.now();
        agent.governor.replace(documents);
        agent.governor.set_known(is_known);
    }

    /// Reads the files again, and whether they are taken; wrong ones change nothing.
    pub fn reload(&mut self, agent: &mut Agent) -> bool {
        let read = self.read();
        let taken = read.is_ok();
        let message = match read {
            Ok(files) => {
                self.files = files;
                self.resolve(true);
                self.put_in_force(agent);
                "the policies were read again".to_owned()
            }
            Err(error) => {
                tracing::error!("the policies stay as they were: {error}");
                "policies with mistakes were refused; those before stay in force".to_owned()
            }
        };
        tell_coverage(agent, &message);
        taken
    }

    fn read(&self) -> Result<Documents, PoliciesError> {
        let read = if self.api.is_some() { policies::read_part } else { policies::read };
        read(&self.paths)
    }

    /// Tells the API server what this node makes of its documents.
    pub fn tell(&mut self, agent: &Agent) {
        let Some(api) = &mut self.api else { return };
        if api.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return;
        }
        api.told = Some(Instant::now());
        let facts = Facts {
            resolved: &api.now,
            unenforceable: &agent.governor.unenforceable(),
            selected: &agent.governor.selected(),
            secrets: &self.cluster.secrets.troubles(),
            missing: agent.missing(),
        };
        api.telling.tell(facts.node_state());
    }

    /// Whether something else is in force now.
    fn resolve(&mut self, anew: bool) -> bool {
        let Some(api) = &mut self.api else { return false };
        let Some(now) = api.resources.resolve(&self.files, anew) else { return false };
        tell_rejected(Some(&api.now), &now);
        api.resolved = Instant::now();
        // What else became of documents is told in Coverage's rows.
        let differs = now.documents != api.now.documents || now.is_known != api.now.is_known;
        api.now = now;
        differs
    }

    /// What Coverage records say of it. Logs when the API server goes and comes back.
    pub fn coverage(&mut self) -> Vec<Capability> {
        let mut rows = coverage::of_secrets(&self.cluster.secrets.troubles());
        let Some(api) = &mut self.api else { return rows };
        let answering = api.resources.answering();
        match (&answering, api.away) {
            (Answering::Away { since, why }, None) => {
                api.away = Some(*since);
                tracing::warn!(
                    "the API server does not tell of policies any more ({why}); those last known \
                     stay in force"
                );
            }
            (Answering::Yes, Some(since)) => {
                api.away = None;
                let seconds = since.elapsed().as_secs();
                tracing::warn!("the API server tells of policies again after {seconds} s");
            }
            _ => {}
        }
        rows.extend(coverage::of_documents(&answering, &api.now));
        rows
    }
}

/// Logs documents that are not in force, and gates that lead nowhere, which were not told before.
fn tell_rejected(before: Option<&Resolved>, now: &Resolved) {
    let was = |row: &Row| before.is_some_and(|before| before.rows.contains(row));
    for row in now.rows.iter().filter(|row| !was(row)) {
        if let Standing::Rejected(why) = &row.standing {
            let what = format!("{} {} is rejected: {why}", row.kind, row.name);
            tracing::error!("{}", one_line(&what, LINE_MAX));
        }
    }
    let before: HashSet<String> = before.into_iter().flat_map(nowhere).collect();
    for what in nowhere(now).filter(|what| !before.contains(what)) {
        tracing::warn!("{}", one_line(&what, LINE_MAX));
    }
}

fn nowhere(of: &Resolved) -> impl Iterator<Item = String> {
    of.documents.without_target().map(|(policy, rule, target)| {
        let (kind, name) = (policy.kind(), &policy.name);
        format!("rule {rule} of {kind} {name} leads nowhere: there is no Target {target}")
    })
}
