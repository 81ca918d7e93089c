//! A PostgreSQL of the demo's own: in a directory of its own, on a loopback port, by a user without
//! privileges; ended and removed when this is dropped.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::postgres::PROGRAMS;

/// The role the gateway logs in with.
pub const ROLE: &str = "billing_ro";
/// Its password, which only the gateway is told.
pub const PASSWORD: &str = "made up for this demo";
/// The database.
pub const NAME: &str = "shop";

const START_WITHIN: Duration = Duration::from_secs(20);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The server's own user on Debian, or one without any rights. PostgreSQL refuses to run as root.
const OWNERS: [&str; 2] = ["postgres", "nobody"];

/// A running server.
pub struct Database {
    directory: PathBuf,
    owner: (u32, u32),
    /// On 127.0.0.1.
    pub port: u16,
    server: Option<Child>,
}

impl Database {
    /// One that answers, with a table of cards and one of orders.
    pub fn start(card: &str) -> Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("pcigate-demo-db-{}", std::process::id()));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let port = TcpListener::bind("127.0.0.1:0").context("a free port")?.local_addr()?.port();
        // From here on dropped, and so removed, whatever happens.
        let mut database = Self { directory, owner: owner()?, port, server: None };
        chown(&database.directory, Some(database.owner.0), Some(database.owner.1))?;
        database.initialise()?;
        database.serve()?;
        database.fill(card)?;
        Ok(database)
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        self.directory.display().to_string()
    }

    /// Runs SQL as the superuser over the unix socket; unaligned rows without headings.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.program("psql");
        psql.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        psql.args(["-h", &self.shown(), "-p", &self.port.to_string(), "-c", sql]);
        let output = psql.output().context("psql cannot be started")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the demo's database refused its schema: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C").current_dir(&self.directory).stdin(Stdio::null());
        command.uid(self.owner.0).gid(self.owner.1);
        command
    }

    fn initialise(&self) -> Result<()> {
        let mut initdb = self.program("initdb");
        initdb.args(["-A", "scram-sha-256", "-U", "postgres", "--no-sync", "--no-locale"]);
        initdb.args(["-E", "UTF8", "-D", "data"]);
        // The superuser has no password, and only comes through the socket.
        initdb.args(["--auth-local", "trust"]);
        let output = initdb.stdout(Stdio::null()).output().context("initdb cannot be started")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb failed: {errors}");
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let log = fs::File::create(self.directory.join("server.log"))?;
        let mut server = self.program("postgres");
        server.args(["-D", "data", "-p", &self.port.to_string(), "-k", &self.shown()]);
        server.args(["-h", "127.0.0.1", "-F", "-c", "shared_buffers=16MB"]);
        server.stdout(Stdio::null()).stderr(log);
        self.server = Some(server.spawn().context("postgres cannot be started")?);
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let log = fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
            if log.contains("database system is ready to accept connections") {
                return Ok(());
            }
            let server = self.server.as_mut().context("it was started")?;
            if server.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("PostgreSQL does not start:\n{log}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn fill(&self, card: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE {NAME}"))?;
        let schema = format!(
            "CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}';
             CREATE TABLE cards (id int PRIMARY KEY, holder text, pan text, cvv text);
             CREATE TABLE orders (id int PRIMARY KEY, card int, item text);
             INSERT INTO cards VALUES (1, 'Ada', '{card}', '737');
             INSERT INTO orders VALUES (7, 1, 'tea'), (8, 1, 'a teapot');
             GRANT ALL ON cards, orders TO {ROLE}"
        );
        self.sql(NAME, &schema).map(drop)
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let pid = server.id().to_string();
        // At once: sessions are cut off, shared memory is given back.
        Command::new("sh").args(["-c", "kill -QUIT \"$1\"", "sh", &pid]).status()?;
        let deadline = Instant::now() + END_WITHIN;
        while server.try_wait()?.is_none() {
            if Instant::now() > deadline {
                server.kill()?;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the path is in the temporary directory.
        let _ = self.end();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// User and group ids of who runs the server.
fn owner() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let ids = |name: &&str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    OWNERS.iter().find_map(ids).context("there is neither a user postgres nor nobody to run it")
}
