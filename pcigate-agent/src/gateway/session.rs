//! The agent's half of a gated session, while the gateway's process speaks with its client: keeps
//! its records, dials its Target and no other, and ends it when what let it in does not hold.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use pcigate_gateway::Unreviewed;
use tokio::{
    sync::oneshot,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{
    Network, dial, files,
    review::Review,
    session_records::Recording,
    supervisor::{Said, Session},
};
use crate::{causes::chain, draft::Workload, governor::Gate, kubernetes::Cluster};

/// How long the server may take to answer a connection.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Connections to the Target that a session may be waiting for, and those it may ask for in a
/// minute: one to begin with, two for a role of its own, one for each statement that is cancelled,
/// and one for each reading of the database (two in a second, at most).
const DIALS_AT_A_TIME: usize = 8;
const DIALS_A_MINUTE: u32 = 600;
/// Answers to such questions that wait for the gateway's process to take them.
const ANSWERS_MAX: usize = 64;
/// How long a session may take to end when it is told to: the engine takes no longer than 20 s to
/// open and 40 s to end, with a role to be dropped at a server that says nothing.
const END_WITHIN: Duration = Duration::from_secs(90);

pub(super) struct Attended {
    pub session: Session,
    pub recording: Recording,
    pub gate: Arc<Gate>,
    pub network: Arc<Network>,
    /// Who connected.
    pub workload: Arc<Workload>,
    pub cluster: Cluster,
}

impl Attended {
    /// Until it is over. `end` says why it has to be, before it is by itself.
    pub(super) async fn run(mut self, mut end: oneshot::Receiver<String>) {
        let mut dials = Dials::new();
        let mut review = Review::default();
        // When it has to be over at last, once it was told to end.
        let mut deadline = None;
        loop {
            let told_to = deadline.is_some();
            let at = deadline.unwrap_or_else(Instant::now);
            let why = tokio::select! {
                said = self.session.said() => match said {
                    Some(Said::Told { durable, mut told }) => {
                        if !review.vouch(self.gate.target.token.as_ref(), &mut told) {
                            self.session.give_up();
                            continue;
                        }
                        let kept = self.recording.record(told, durable).await;
                        // Otherwise the process is gone, and the next turn sees it.
                        let _ = self.session.kept(kept).await;
                        continue;
                    }
                    Some(Said::Dial(dial)) => {
                        dials.begin(&self, dial);
                        continue;
                    }
                    Some(Said::Review(token)) => {
                        review.begin(&self, token);
                        continue;
                    }
                    Some(Said::Over(why)) => return self.over(&why, dials.any).await,
                    None => {
                        let why = "the gateway's process is gone; connect again";
                        return self.recording.broke_off(why).await;
                    }
                },
                _ = dials.under_way.join_next(), if !dials.under_way.is_empty() => continue,
                Some(done) = review.under_way.join_next() => {
                    let fault = |_| Err(Unreviewed::Later("a fault of the agent".to_owned()));
                    review.end(&self, done.unwrap_or_else(fault)).await;
                    continue;
                }
                Ok(why) = &mut end, if !told_to => why,
                () = self.network.closed(), if !told_to => {
                    "the gateway does not listen for its workload any more".to_owned()
                }
                () = sleep_until(at), if told_to => {
                    self.session.give_up();
                    deadline = Some(Instant::now() + END_WITHIN);
                    continue;
                }
            };
            deadline = Some(Instant::now() + END_WITHIN);
            let _ = self.session.end(why).await;
        }
    }

    async fn over(mut self, why: &str, dialled: bool) {
        if why.is_empty() {
            return self.recording.left(dialled).await;
        }
        let shown = super::records::masked(why);
        tracing::info!("a gated session ended: {}", shown.as_str());
        // Of what it has recorded the end of itself there is no second record.
        self.recording.broke_off(why).await;
    }
}

/// The connections a session asks for.
struct Dials {
    under_way: JoinSet<()>,
    count: u32,
    since: Instant,
    /// There was one at all.
    any: bool,
}

impl Dials {
    fn new() -> Self {
        Self { under_way: JoinSet::new(), count: 0, since: Instant::now(), any: false }
    }

    fn begin(&mut self, of: &Attended, number: u32) {
        let now = Instant::now();
        if now.duration_since(self.since) > Duration::from_secs(60) {
            (self.count, self.since) = (0, now);
        }
        self.count += 1;
        self.any = true;
        let too_many = self.count > DIALS_A_MINUTE || self.under_way.len() >= DIALS_AT_A_TIME;
        if self.under_way.len() >= ANSWERS_MAX {
            // Nobody who asks so often and takes no answer means well.
            return of.session.give_up();
        }
        let (running, session) = of.session.answers();
        let (target, network) = (Arc::clone(&of.gate.target), Arc::clone(&of.network));
        let secrets = of.cluster.secrets.clone();
        self.under_way.spawn(async move {
            let answer = if too_many {
                Err("the session asks for too many connections at a time; wait".to_owned())
            } else {
                let dialled = dial::dial(&target, &network, DIAL_WITHIN).await;
                dialled.map_err(|error| chain(&error))
            };
            let password = match answer {
                Ok(_) => {
                    spawn_blocking(move || files::password(&target, &secrets)).await.ok().flatten()
                }
                Err(_) => None,
            };
            let connection = answer.as_ref().map(AsFd::as_fd).map_err(Clone::clone);
            // The process is gone otherwise, and the session with it.
            let _ = running.dialled(session, number, connection, password).await;
        });
    }
}
