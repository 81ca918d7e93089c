//! What a session is given: the Target, the rules, how to reach the server, and limits.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pcigate_policy::document::{Masking, SessionBudget, Statement, Target};
use pcigate_policy::mask::{Detector, Masker, SettingsError};
use pcigate_postgres::login::Secret;
use pcigate_postgres::{backend, frontend, session};
use rustls::{ClientConfig, ServerConfig};

use crate::known::Knowledge;
use crate::review::Review;
use crate::tokens::Tokens;

/// Opens a connection to the Target's server: called once for the session, and once for each
/// statement that has to be cancelled.
pub type Dial<U> = Box<dyn Fn() -> Dialling<U> + Send + Sync>;

/// A connection on its way.
pub type Dialling<U> = Pin<Box<dyn Future<Output = io::Result<U>> + Send>>;

/// The password for one login, fetched when it is needed.
pub type Password = Box<dyn Fn() -> Option<Secret> + Send + Sync>;

/// All that decides about a session. Made once for each workload and Target, shared by sessions.
pub struct Plan {
    /// The Target: credential's user, columns, TLS mode.
    pub target: Arc<Target>,
    /// Statement rules of the gate rules that lead here. None = nothing is allowed.
    pub rules: Vec<Statement>,
    /// The credential's password; says nothing where the server lets us in by certificate.
    pub password: Password,
    /// TLS towards the server: [`crate::tls::verify_full`] or [`crate::tls::encrypt_only`], as the
    /// Target's mode says; nothing for `disable`. A missing one ends every session.
    pub upstream_tls: Option<Arc<ClientConfig>>,
    /// TLS towards the client; nothing = not offered.
    pub client_tls: Option<Arc<ServerConfig>>,
    /// Keys for the tokens of clients, where the Target has `token`. A missing one ends every
    /// session.
    pub tokens: Option<Arc<Tokens>>,
    /// Who reviews tokens, where the Target has `tokenReview`. A missing one ends every session.
    pub review: Option<Review>,
    /// Who is at the other end.
    pub workload: Workload,
    /// The key of requests for approval; without it they have none.
    pub request_secret: Option<Arc<Secret>>,
    /// Databases that may be opened; empty = any.
    pub databases: Vec<String>,
    /// Who may cancel: a key of one scope means nothing in another. Name workload and Target.
    pub scope: String,
    /// How answers are masked: [`Knowledge::maskers`].
    pub masker: Arc<Maskers>,
    /// What is known of databases, shared so that equal knowledge is kept once.
    pub knowledge: Arc<Knowledge>,
    /// How much a session may use of the gateway.
    pub limits: Limits,
    /// How much a session may use of the Target, by whose word: the least of each counts.
    pub budgets: Vec<(String, SessionBudget)>,
}

/// Who is at the other end, as the kernel and the API server prove it.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Names it for ever, across restarts of the gateway.
    pub id: String,
    /// Its ServiceAccount as `namespace/name`, where that is known.
    pub service_account: Option<String>,
}

/// How answers are masked.
pub struct Maskers {
    pub(crate) values: Masker,
    /// For texts that hold texts of many types, as COPY and records do.
    pub(crate) mixed: Masker,
}

/// A number of 12 to 19 digits as the server writes a `double precision` of that size.
const EXPONENT: &str = "[1-9]\\.[0-9]{11,17}e\\+1[1-8]";

impl Maskers {
    /// Those for answers of a Target with this `mask`.
    ///
    /// # Errors
    /// It has as many detectors as a masker can have, so that there is no room for one more.
    pub fn of(mask: &Masking) -> Result<Self, SettingsError> {
        let values = mask.masker()?;
        let mut settings = mask.settings();
        let exponent =
            Detector { name: "exponent".to_owned(), pattern: EXPONENT.to_owned(), luhn: false };
        settings.detectors.push(exponent);
        Ok(Self { values, mixed: Masker::new(settings)? })
    }
}

/// How much one session may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest messages of the client.
    pub frontend: frontend::Limits,
    /// Largest messages of the server.
    pub backend: backend::Limits,
    /// Requests, statements and portals at a time.
    pub session: session::Limits,
    /// Bytes held in each direction before reading stops; one message may be larger.
    pub buffer: usize,
    /// Bytes of traffic recorded for replay; 0 = none.
    pub traffic: u64,
    /// End the session once that much is recorded, instead of going on unseen.
    pub end_when_truncated: bool,
    /// From the first byte to the end of the login.
    pub opening: Duration,
    /// How long bytes may wait for a peer that takes none.
    pub stalled: Duration,
    /// How old what is known of the database may be when a statement is decided.
    pub catalog: Duration,
    /// How long a client may say nothing while nothing of its is running; `None` = for ever.
    pub idle: Option<Duration>,
}

impl Default for Limits {
    /// 256 KiB of buffer each way, 16 MiB of traffic, opening 20 s, stalled 60 s, catalog
    /// 60 s, idle for ever.
    fn default() -> Self {
        Self {
            frontend: frontend::Limits::default(),
            backend: backend::Limits::default(),
            session: session::Limits::default(),
            buffer: 256 << 10,
            traffic: 16 << 20,
            end_when_truncated: false,
            opening: Duration::from_secs(20),
            stalled: Duration::from_secs(60),
            catalog: Duration::from_secs(60),
            idle: None,
        }
    }
}
