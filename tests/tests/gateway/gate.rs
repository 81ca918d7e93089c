//! A gateway of a test's own: a listener on loopback, a Target, rules, and a recorder that keeps
//! what it gets and can be told to fail.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pcigate_gateway::{
    Client, Dial, Entry, Event, Keys, Knowledge, Limits, Maskers, NotRecorded, Plan, Tokens,
    Workload, tls,
};
use pcigate_policy::document::{Documents, EgressEffect};
use pcigate_postgres::login::{Options, Secret};
use pcigate_tests::postgres::{CERTIFICATE, DATABASE, PASSWORD, Postgres, SCRAM};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{mpsc, oneshot},
};

use super::raw;

/// Allows whatever the classifier has a word for.
pub const EVERYTHING: &str = "
          - id: everything
            action: allow
            effects: [read, write, ddl, dcl, bulkRead, function, session, unknown]
            functions: [public.*, pg_catalog.*]
            columns: [public.cards.pan, public.cards.cvv]
            shapes: [noWhere, doBlock]
          - {id: server, action: allow, effects: [read], tables: [pg_catalog.pg_stat_activity]}";

pub struct Gate {
    pub address: SocketAddr,
    pub events: Arc<Mutex<Vec<Event>>>,
    /// The recorder refuses.
    pub refuses: Arc<AtomicBool>,
    /// Ends of sessions, in order.
    pub ends: Arc<Mutex<Vec<String>>>,
    /// How often somebody waited for the disk.
    pub waits: Arc<AtomicUsize>,
    /// One for each connection: ends it.
    pub revokes: Arc<Mutex<Vec<oneshot::Sender<String>>>>,
    _runtime: Runtime,
}

/// What a test's gate differs in.
#[derive(Default)]
pub struct Setup<'a> {
    pub statements: &'a str,
    pub tls: Option<&'a str>,
    /// Logs in with a certificate in place of a password.
    pub certificate: bool,
    /// Offers TLS to the client, with the server's certificate.
    pub client_tls: bool,
    /// More of the gate rule, and of the Target's `spec`.
    pub rule: &'a str,
    pub target: &'a str,
    /// The key set of the Target's `token`.
    pub jwks: &'a str,
    pub service_account: Option<&'a str>,
    pub limits: Limits,
}

impl Gate {
    pub fn new(postgres: &Postgres, statements: &str) -> Self {
        Self::with(postgres, Setup { statements, ..Setup::default() })
    }

    pub fn with(postgres: &Postgres, setup: Setup<'_>) -> Self {
        let plan = Arc::new(plan(postgres, setup));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let keys = Keys::new(2_000);
        let (events, refuses) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let waits = Arc::new(AtomicUsize::new(0));
        let (door, entries) = mpsc::channel(256);
        let kept = (Arc::clone(&events), Arc::clone(&refuses), Arc::clone(&waits));
        runtime.spawn(recorder(entries, kept));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = postgres.port();
        let (all_keys, all_ends) = (Arc::clone(&keys), Arc::clone(&ends));
        let revokes = Arc::new(Mutex::new(Vec::new()));
        let all_revokes = Arc::clone(&revokes);
        runtime.spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let (plan, keys, door) = (Arc::clone(&plan), Arc::clone(&all_keys), door.clone());
                let (ends, revokes) = (Arc::clone(&all_ends), Arc::clone(&all_revokes));
                tokio::spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let dial: Dial<TcpStream> = Box::new(move || {
                        Box::pin(async move {
                            let stream = TcpStream::connect(("127.0.0.1", upstream)).await?;
                            stream.set_nodelay(true)?;
                            Ok(stream)
                        })
                    });
                    let (revoke, end) = oneshot::channel();
                    revokes.lock().unwrap().push(revoke);
                    let client = Client { stream, address: from.to_string(), end };
                    let served = pcigate_gateway::serve(client, &plan, &dial, &keys, &door).await;
                    let end = served.map_or_else(|error| error.to_string(), |()| "left".to_owned());
                    ends.lock().unwrap().push(end);
                });
            }
        });
        Self { address, events, refuses, ends, waits, revokes, _runtime: runtime }
    }

    /// A client program that reaches the database through the gate, with no password.
    pub fn client(&self, postgres: &Postgres, name: &str) -> Command {
        let mut client = postgres.client(name);
        self.reach(&mut client);
        client
    }

    /// Tells a program where the database is: at the gate.
    pub fn reach<'c>(&self, program: &'c mut Command) -> &'c mut Command {
        let port = self.address.port().to_string();
        program.env("PGHOST", "127.0.0.1").env("PGPORT", port).env("PGDATABASE", DATABASE);
        program.env("PGUSER", "bot").env("PGCONNECT_TIMEOUT", "20")
    }

    /// Runs SQL by psql; all it printed, errors too.
    pub fn psql(&self, postgres: &Postgres, sql: &str) -> String {
        let mut psql = self.client(postgres, "psql");
        let output = psql.args(["-XAtq", "-c", sql]).output().unwrap();
        text(&output)
    }

    /// A client that speaks the protocol itself.
    pub fn raw(&self) -> raw::Client {
        let wire = Box::new(std::net::TcpStream::connect(self.address).unwrap());
        // Batches go out message by message.
        wire.set_nodelay(true).unwrap();
        let options = Options { allow_unasked: true, password: None, ..raw::options("bot") };
        raw::Client::login(wire, options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn refuse_records(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// All records so far, as debug text.
    pub fn recorded(&self) -> String {
        format!("{:?}", self.events.lock().unwrap())
    }
}

pub fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

async fn recorder(
    mut entries: mpsc::Receiver<Entry>,
    (events, refuses, waits): (Arc<Mutex<Vec<Event>>>, Arc<AtomicBool>, Arc<AtomicUsize>),
) {
    while let Some(entry) = entries.recv().await {
        let refuses = refuses.load(Ordering::SeqCst);
        if !refuses {
            events.lock().unwrap().push(entry.event);
        }
        if let Some(durable) = entry.durable {
            waits.fetch_add(1, Ordering::SeqCst);
            let _ = durable.send(if refuses { Err(NotRecorded) } else { Ok(()) });
        }
    }
}

fn documents(postgres: &Postgres, setup: &Setup<'_>) -> String {
    let tls_mode = setup.tls.unwrap_or("disable");
    let statements = setup.statements;
    let credential = if setup.certificate {
        format!("{{username: {CERTIFICATE}, certFile: /run/cert, keyFile: /run/key}}")
    } else {
        format!("{{username: {SCRAM}, passwordFile: /run/password}}")
    };
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: bot, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: bot}}}}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - id: db
        action: gate
        target: db
        statements:{statements}
{rule}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: db, namespace: shop}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\", tls: {{mode: {tls_mode}}}}}
  credential: {credential}
  columns:
    - {{table: public.cards, column: pan, class: pan}}
    - {{table: public.cards, column: cvv, class: sad}}
{more}
",
        rule = setup.rule,
        more = setup.target,
        port = postgres.port()
    )
}

fn plan(postgres: &Postgres, setup: Setup<'_>) -> Plan {
    let tls_mode = setup.tls.unwrap_or("disable");
    let documents = documents(postgres, &setup);
    let documents = Documents::read(&[("gate.yaml", documents)])
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let rules = documents.policies()[0].egress.as_ref().unwrap().rules.iter();
    let (mut statements, mut budgets) = (Vec::new(), Vec::new());
    for rule in rules {
        if let EgressEffect::Gate { statements: these, session, .. } = &rule.effect {
            statements.extend(these.iter().cloned());
            budgets.push((format!("rule {}", rule.id), session.clone()));
        }
    }
    let target = Arc::clone(documents.targets().values().next().unwrap());
    budgets.push((format!("Target {}", target.name), target.session.clone()));
    let tokens = target.token.as_ref().map(|token| {
        Arc::new(
            Tokens::new(token, setup.jwks.as_bytes()).unwrap_or_else(|error| panic!("{error}")),
        )
    });
    let keys = &postgres.keys;
    let own = setup.certificate.then_some((keys.client.as_bytes(), keys.client_key.as_bytes()));
    let upstream_tls = match tls_mode {
        "verify-full" => Some(tls::verify_full(keys.authority.as_bytes(), own).unwrap()),
        "require" => Some(tls::encrypt_only(own).unwrap()),
        _ => None,
    };
    Plan {
        masker: Arc::new(Maskers::of(&target.mask).unwrap()),
        target,
        rules: statements,
        password: Box::new(move || (!setup.certificate).then(|| Secret::new(PASSWORD.into()))),
        upstream_tls,
        client_tls: setup.client_tls.then(|| {
            let keys = &postgres.keys;
            tls::to_clients(keys.server.as_bytes(), keys.server_key.as_bytes()).unwrap()
        }),
        tokens,
        review: None,
        workload: Workload {
            id: "shop/bot".to_owned(),
            service_account: setup.service_account.map(str::to_owned),
        },
        request_secret: Some(Arc::new(Secret::new(vec![7; 32]))),
        databases: vec![DATABASE.to_owned()],
        scope: "shop/bot db".to_owned(),
        knowledge: Arc::new(Knowledge::default()),
        limits: setup.limits,
        budgets,
    }
}

/// A published test number.
pub const PAN: &str = "4111111111111111";

/// The tables of the tests.
pub fn schema(postgres: &Postgres) {
    postgres.sql(&format!(
        "CREATE TABLE cards (id int PRIMARY KEY, pan text UNIQUE, cvv text, holder text,
             CHECK (length(cvv) < 5));
         INSERT INTO cards VALUES (1, '{PAN}', '737', 'Ann'), (2, '5555 5555 5555 4444', '871',
             'Bo');
         CREATE TABLE orders (id int PRIMARY KEY, note text);
         INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 1000) AS i;
         CREATE TABLE loose (id int, note text, big int8, num numeric, raw bytea, js json, jb jsonb,
             fl float8, doc xml, arr text[], bigs int8[], span int8range);
         INSERT INTO loose VALUES (1, 'paid with {PAN}', {PAN}, {PAN}, '{PAN}',
             '{{\"pan\": \"{PAN}\"}}', '{{\"pan\": {PAN}}}', {PAN}, '<a>{PAN}</a>',
             ARRAY['{PAN}', 'x'], ARRAY[{PAN}, 1], '[{PAN},5555555555554444)');
         CREATE VIEW shown AS SELECT id AS number, cvv AS code, pan AS label FROM cards;
         CREATE FUNCTION leaky() RETURNS text LANGUAGE plpgsql AS $$
             DECLARE found text; BEGIN SELECT pan INTO found FROM cards WHERE id = 1;
             RAISE NOTICE 'found %', found; RAISE EXCEPTION 'lost %', found; END $$;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC"
    ));
}
