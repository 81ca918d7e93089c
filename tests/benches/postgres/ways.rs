//! The ways to the database: direct, through pgbouncer, and gated; and pgbench on each.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::unistd::User;
use pcigate_tests::{
    postgres::{DATABASE, PASSWORD, Postgres, SCRAM},
    site::{POLICY, Site},
};

use super::{WIDE_COLUMNS, WIDE_ROWS};

const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";
/// Rows of pgbench's tables, in hundreds of thousands.
const SCALE: &str = "10";
/// Where `cargo xtask bench` puts pgbouncer, below the target directory; then Debian's place.
const BOUNCERS: [&str; 2] = ["pgbouncer/usr/sbin/pgbouncer", "/usr/sbin/pgbouncer"];

/// A way to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Direct,
    Bouncer,
    Gateway,
}

/// What pgbench runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    ReadOnly,
    TpcB,
}

impl Script {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "-S",
            Self::TpcB => "TPC-B",
        }
    }

    fn builtin(self) -> &'static str {
        match self {
            Self::ReadOnly => "select-only",
            Self::TpcB => "tpcb-like",
        }
    }
}

/// One measurement: latencies in µs.
pub struct Cell {
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

/// The database, and what stands in front of it.
pub struct Bench {
    postgres: Postgres,
    site: Site,
    bouncer: Option<Bouncer>,
}

impl Bench {
    pub fn new() -> Self {
        let postgres = Postgres::start(
            "fsync = on\nmax_connections = 1100\nshared_buffers = 128MB\nmax_wal_size = 4GB",
        );
        let mut init = postgres.client("pgbench");
        let made = init.args(["-i", "-q", "-s", SCALE]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let columns: Vec<String> = (0..WIDE_COLUMNS).map(column).collect();
        postgres.sql(&format!(
            "CREATE TABLE wide AS SELECT {} FROM generate_series(1, {WIDE_ROWS}) AS i;
             CREATE TABLE cards (id int, pan text, cvv text);
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {SCRAM}",
            columns.join(", ")
        ));
        postgres.sql("VACUUM ANALYZE");
        postgres.sql("CHECKPOINT");
        let site = Site::new();
        site.write("password", PASSWORD);
        let password = site.path("password").display().to_string();
        site.write("policy.yaml", &format!("{POLICY}{}", rules(postgres.port(), &password)));
        site.write("wide.sql", "SELECT * FROM wide;\n");
        let bouncer = Bouncer::start(&postgres);
        Self { postgres, site, bouncer }
    }

    /// Those there are.
    pub fn ways(&self) -> Vec<Way> {
        let all = [Way::Direct, Way::Bouncer, Way::Gateway];
        all.into_iter().filter(|way| *way != Way::Bouncer || self.bouncer.is_some()).collect()
    }

    pub fn directory(&self) -> PathBuf {
        self.site.path("")
    }

    pub fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// A command under `pcigate-agent exec`, whose only way to the database is the gateway. Its
    /// records stay in the spool, a new one each time: a collector is another machine's work.
    pub fn governed(&self, command: &[&str]) -> Command {
        let _ = fs::remove_dir_all(self.site.path("exec"));
        let mut agent = self.site.command("pcigate-agent");
        agent.args(["exec", "--policy", "policy.yaml", "--name", "payments/billing-bot"]);
        agent.args(["--service-account", "billing-bot", "--label", "app=billing-bot"]);
        agent.args(["--state-dir", "exec", "--"]).args(command);
        agent
    }

    pub fn run(&self, way: Way, script: Script, clients: usize, seconds: u64) -> Cell {
        let (clients, threads) = (clients.to_string(), clients.min(2).to_string());
        let seconds = seconds.to_string();
        let words = [
            "-b",
            script.builtin(),
            "-c",
            &clients,
            "-j",
            &threads,
            "-T",
            &seconds,
            "-M",
            "simple",
        ];
        self.pgbench(way, &words)
    }

    /// One client that asks for all of the wide table, so many times.
    pub fn wide(&self, way: Way, times: u64) -> Cell {
        let file = self.site.path("wide.sql").display().to_string();
        self.pgbench(way, &["-f", &file, "-c", "1", "-t", &times.to_string()])
    }

    fn pgbench(&self, way: Way, words: &[&str]) -> Cell {
        let logs = self.site.path("latencies");
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir(&logs).unwrap();
        let prefix = format!("--log-prefix={}/of", logs.display());
        let port = match (way, &self.bouncer) {
            (Way::Bouncer, Some(bouncer)) => bouncer.port,
            _ => self.postgres.port(),
        };
        let port = port.to_string();
        let place = ["-n", "-h", "127.0.0.1", "-p", &port, "-U", SCRAM, "-l", &prefix];
        let all = [&[PGBENCH], &place[..], words, &[DATABASE]].concat();
        let mut command = match way {
            Way::Gateway => self.governed(&all),
            _ => {
                let mut command = Command::new(PGBENCH);
                command.args(&all[1..]).env("PGPASSWORD", PASSWORD);
                command
            }
        };
        let began = Instant::now();
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pgbench, {way:?}: {told}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let cell = Cell::of(&latencies(&logs), per_second(&told));
        let took = began.elapsed().as_secs_f64();
        let rate = cell.per_second;
        eprintln!("postgres: {way:?} {}: {rate:.0}/s, {took:.1} s", words[..4].join(" "));
        cell
    }
}

impl Cell {
    fn of(sorted: &[f64], per_second: f64) -> Self {
        Self { per_second, p50: percentile(sorted, 50), p99: percentile(sorted, 99) }
    }
}

/// Of sorted values.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The line `tps = 1234.5 (without initial connection time)`.
fn per_second(told: &str) -> f64 {
    let line = told.lines().find_map(|line| line.strip_prefix("tps = "));
    let word = line.and_then(|line| line.split(' ').next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no tps in {told}"))
}

/// The third word of each line of all logs: µs of one transaction. Sorted.
fn latencies(directory: &Path) -> Vec<f64> {
    let mut all = Vec::new();
    for log in fs::read_dir(directory).unwrap() {
        let text = fs::read_to_string(log.unwrap().path()).unwrap();
        let words = text.lines().filter_map(|line| line.split(' ').nth(2));
        all.extend(words.map(|word| word.parse::<f64>().unwrap()));
    }
    assert!(!all.is_empty(), "pgbench logged no transaction");
    all.sort_by(f64::total_cmp);
    all
}

/// Numbers, dates and words in turn.
fn column(number: u64) -> String {
    let value = match number % 3 {
        0 => format!("i * {} AS", number + 1),
        1 => format!("md5((i + {number})::text) AS"),
        _ => format!("now() - i * interval '{number} minutes' AS"),
    };
    format!("{value} c{number}")
}

fn rules(port: u16, password: &str) -> String {
    format!(
        "    rules:
      - id: database
        action: gate
        target: database
        statements:
          - {{id: use, action: allow, effects: [read, write]}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: database, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\", tls: {{mode: disable}}}}
  credential: {{username: {SCRAM}, passwordFile: {password}}}
  mask: {{default: truncate}}
  columns:
    - {{table: public.cards, column: pan, class: pan}}
    - {{table: public.cards, column: cvv, class: sad}}
"
    )
}

/// pgbouncer in session mode, as an unprivileged user.
struct Bouncer {
    port: u16,
    process: Child,
}

impl Bouncer {
    /// Nothing where there is no pgbouncer.
    fn start(postgres: &Postgres) -> Option<Self> {
        // The programs lie two directories below the target directory's root.
        let own = std::env::current_exe().unwrap();
        let target = own.ancestors().nth(3).unwrap();
        let program = BOUNCERS.iter().map(|path| target.join(path)).find(|path| path.exists())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = postgres.socket_directory().join("pgbouncer.ini");
        let upstream = postgres.port();
        let settings = format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={upstream} user={SCRAM} \
             password='{PASSWORD}'\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = session\nmax_client_conn = 200\n\
             default_pool_size = 100\nlog_connections = 0\nlog_disconnections = 0\n"
        );
        fs::write(&file, settings).unwrap();
        // It refuses to run as root.
        let owner = User::from_name("postgres").unwrap().expect("Debian's user is there");
        chown(&file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        let libraries = target.join("pgbouncer/usr/lib/x86_64-linux-gnu");
        let process = Command::new(program)
            .arg("-q")
            .arg(file)
            .env("LD_LIBRARY_PATH", libraries)
            .uid(owner.uid.as_raw())
            .gid(owner.gid.as_raw())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { port, process })
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
