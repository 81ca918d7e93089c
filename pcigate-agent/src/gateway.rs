//! The gateway's way in: listens in the network namespaces of gated workloads, and says of each
//! connection whose it is and where it was to go.
//!
//! The kernel turns a gated connect to [`GATEWAY_PORT`] of loopback in the socket's own namespace
//! (`pcigate-ebpf/src/redirect.rs`). What arrives there is looked up by the exact socket at its
//! other end; what was not redirected is closed and recorded. Everything that is known of the
//! client comes from the kernel. What is spoken is the business of a [`Handler`].
//!
//! The way of one statement, in reading order: `postgres` hands the client's connection to the
//! gateway's own process (`process`, which reads it; `pcigate-gateway` decides); what that tells
//! comes back as frames (`link`, `wire`) to the process's `supervisor` and from there to the
//! `session`, which has it put on disk by `session_records` before it answers.

mod actor;
mod cookie;
mod dial;
mod files;
mod network;
mod places;
mod records;
mod review;

mod postgres;
mod session;
mod session_records;

pub mod keeper;
mod link;
mod live;
pub mod process;
mod supervisor;
mod timings;
pub mod wire;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pcigate_common::limits::GATEWAY_PORT;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

pub use actor::Actor;
pub use dial::DialError;
pub use keeper::Keeper;
pub use live::Live;
pub use network::Network;
pub use postgres::Postgres;
pub use supervisor::Supervisor;
pub use timings::Timings;

use crate::{
    digests::Known,
    draft::Draft,
    enforcer::{FileTable, Redirects, TableError},
    governor::{Gate, SharedDirectory},
};
use actor::Refused;
use places::Places;

/// Connections under way in one network namespace: a pod's pools of connections, many times over.
pub const PER_NETWORK_MAX: usize = 1024;
/// Connections under way in all.
pub const IN_ALL_MAX: usize = 8192;
/// How long a listener that cannot accept (no descriptors left) waits before it tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Takes drafts of records.
pub type Report = Arc<dyn Fn(Draft) + Send + Sync>;
/// Speaks with a client until its connection ends. It runs as a task of its own and must not block.
pub type Handler = Arc<dyn Fn(Accepted) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A connection that was redirected.
pub struct Accepted {
    /// To the client.
    pub stream: TcpStream,
    /// Where the client wanted to go; IPv4 also where it used the v4-mapped form.
    pub original: SocketAddr,
    /// Who the client is.
    pub actor: Actor,
    /// The rule that let it come here, and its target.
    pub gate: Arc<Gate>,
    /// The network namespace it came from.
    pub network: Arc<Network>,
    _room: [OwnedSemaphorePermit; 2],
}

impl Accepted {
    /// Connects to the target's `upstream.address`, and to nothing else: from the client's network
    /// namespace where TLS will prove who answers (`verify-full`), otherwise from the agent's own,
    /// so that nothing in the pod can watch or divert it.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, within: Duration) -> Result<TcpStream, DialError> {
        dial::dial(&self.gate.target, &self.network, within).await
    }
}

/// What the gateway works with.
pub struct Parts {
    /// The kernel's maps.
    pub redirects: Redirects,
    /// Names of workloads and rules.
    pub directory: SharedDirectory,
    /// Digests of executables.
    pub files: FileTable,
    /// Where drafts of records go; must not wait.
    pub report: Report,
    /// Who speaks with the clients.
    pub handler: Handler,
    /// Connections under way in one network namespace; what comes beyond is closed and recorded.
    pub per_network: usize,
    /// The same for all together.
    pub in_all: usize,
    /// `CLOCK_BOOTTIME` in ns: redirects from before are those of programs of an earlier agent,
    /// whose numbers mean something else.
    pub since_ns: u64,
}

/// Why the gateway does not listen in a namespace; gated connects there are refused.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The cgroups cannot be read.
    #[error("cannot read the cgroups below {path}: the gateway follows no workload")]
    Cgroups {
        /// The governed root.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are too many.
    #[error(
        "the gateway does not listen in {left_out} network namespaces of workloads with gate \
         rules, because it does in {most} at most and in {of_workload} of one workload: gated \
         connections of the others are refused; move pods to other nodes"
    )]
    TooMany {
        /// How many are left out.
        left_out: usize,
        /// The limit of all.
        most: usize,
        /// The limit of one workload.
        of_workload: usize,
    },
    /// One cannot be entered or listened in.
    #[error(
        "the gateway cannot listen in the network namespace of process {pid} ({what}), port \
         {GATEWAY_PORT} of loopback: gated connections there are refused"
    )]
    Network {
        /// A process in it.
        pid: u32,
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not take the entry.
    #[error("the kernel is not told where the gateway listens: gated connections are refused")]
    Announce(#[source] TableError),
}

/// The listeners, until this is dropped.
pub struct Gateway {
    shared: Arc<Shared>,
    /// By inode of the namespace.
    networks: BTreeMap<u64, Listening>,
    /// Whether entries of an earlier agent are still to be looked for.
    inherited: bool,
}

/// What every connection needs.
struct Shared {
    parts: Parts,
    known: Known,
    room: Arc<Semaphore>,
}

struct Listening {
    network: Arc<Network>,
    redirects: Redirects,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // First: what connects from now on is refused, instead of finding nobody.
        if let Err(error) = self.redirects.withdraw(self.network.cookie) {
            tracing::warn!(%error, "a network namespace still counts as one with a gateway");
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        self.network.close();
    }
}

impl Gateway {
    /// Listens nowhere yet. Must run inside of a tokio runtime, as must everything here.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        allow_files();
        let known = Known::new(parts.files.clone());
        let room = Arc::new(Semaphore::new(parts.in_all));
        let shared = Arc::new(Shared { parts, known, room });
        Self { shared, networks: BTreeMap::new(), inherited: true }
    }

    /// Listens in every network namespace that a process of a gated workload is in (cgroup ids of
    /// workloads below `root`), and no longer in others.
    pub fn follow(&mut self, root: &Path, gated: &HashSet<u64>) -> Vec<ListenError> {
        let mut errors = Vec::new();
        let places = match Places::of(root, gated) {
            Ok(places) => places,
            Err(source) => {
                let path = root.display().to_string();
                return vec![ListenError::Cgroups { path, source }];
            }
        };
        if places.left_out > 0 {
            errors.push(ListenError::TooMany {
                left_out: places.left_out,
                most: places::NETWORKS_MAX,
                of_workload: places::PER_WORKLOAD_MAX,
            });
        }
        self.networks.retain(|inode, _| places.networks.contains_key(inode));
        for (inode, pid) in places.networks {
            if !self.networks.contains_key(&inode) {
                errors.extend(self.listen(inode, pid, &format!("/proc/{pid}/ns/net")).err());
            }
        }
        self.withdraw_inherited();
        errors
    }

    /// Listens in the agent's own network namespace, which a command it starts will share.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn listen_here(&mut self) -> Result<(), ListenError> {
        self.listen(0, std::process::id(), "/proc/thread-self/ns/net")
    }

    /// Where it listens.
    #[must_use]
    pub fn networks(&self) -> Vec<Arc<Network>> {
        self.networks.values().map(|listening| Arc::clone(&listening.network)).collect()
    }

    fn listen(&mut self, inode: u64, pid: u32, path: &str) -> Result<(), ListenError> {
        let failed = |what| move |source| ListenError::Network { pid, what, source };
        let namespace = File::open(path);
        let namespace = match namespace {
            // It has ended since it was seen.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed("open"))?,
        };
        let entered = network::enter(namespace, self.shared.parts.per_network);
        let (network, listeners) =
            entered.map_err(|(what, source)| ListenError::Network { pid, what, source })?;
        let network = Arc::new(network);
        let redirects = self.shared.parts.redirects.clone();
        let mut listening =
            Listening { network: Arc::clone(&network), redirects, tasks: Vec::new() };
        for listener in listeners {
            let listener = listener.listen(network::BACKLOG).map_err(failed("listen"))?;
            let (shared, network) = (Arc::clone(&self.shared), Arc::clone(&network));
            listening.tasks.push(tokio::spawn(accept_all(listener, network, shared)));
        }
        self.shared.parts.redirects.announce(network.cookie).map_err(ListenError::Announce)?;
        self.networks.insert(inode, listening);
        Ok(())
    }

    /// Namespaces an agent before this one listened in, where this one does not.
    fn withdraw_inherited(&mut self) {
        if !std::mem::take(&mut self.inherited) {
            return;
        }
        let redirects = &self.shared.parts.redirects;
        for cookie in redirects.announced() {
            let is_ours = self.networks.values().any(|one| one.network.cookie == cookie);
            if !is_ours && let Err(error) = redirects.withdraw(cookie) {
                tracing::warn!(%error, "an earlier agent's gateway still counts as listening");
            }
        }
    }
}

async fn accept_all(listener: TcpListener, network: Arc<Network>, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => shared.arrived(stream, peer, &network),
            Err(error) => {
                tracing::warn!(%error, "the gateway cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

impl Shared {
    /// Looks at one connection: some system calls, none of which waits.
    fn arrived(&self, stream: TcpStream, peer: SocketAddr, network: &Arc<Network>) {
        let found = match stream.local_addr() {
            Ok(local) => actor::of(&self.parts, &self.known, network, local, peer),
            Err(source) => Err(Refused::Unreadable { source }),
        };
        let found = match found {
            Ok(found) => found,
            Err(refused) => {
                let draft = records::not_redirected(&self.parts.directory, &refused, peer);
                return (self.parts.report)(draft);
            }
        };
        let room = Arc::clone(&network.room).try_acquire_owned();
        let (Ok(here), Ok(all)) = (room, Arc::clone(&self.room).try_acquire_owned()) else {
            return (self.parts.report)(records::no_room(
                &found.actor,
                &found.gate,
                found.original,
            ));
        };
        let accepted = Accepted {
            stream,
            original: found.original,
            actor: found.actor,
            gate: found.gate,
            network: Arc::clone(network),
            _room: [here, all],
        };
        tokio::spawn((self.parts.handler)(accepted));
    }
}

/// Closes every connection once the record that says why is on disk: what is done where no protocol
/// is spoken. `report` may wait.
#[must_use]
pub fn no_protocol(report: Report) -> Handler {
    Arc::new(move |accepted: Accepted| {
        let report = Arc::clone(&report);
        Box::pin(async move {
            let Accepted { actor, gate, original, .. } = &accepted;
            let draft = records::no_protocol(actor, gate, *original);
            // It ends by a panic of `report` or with the runtime; the connection is closed anyway.
            let _ = tokio::task::spawn_blocking(move || report(draft)).await;
            drop(accepted);
        })
    })
}

/// Each namespace takes four descriptors and each connection two; the usual soft limit is 1,024.
fn allow_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
