//! A PostgreSQL of a test's own: initialised in a temporary directory, on a loopback port and a
//! unix socket of its own, with a role for every way of logging in; gone when it is dropped.

mod keys;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread::JoinHandle,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

pub use keys::Keys;

use crate::site::succeed;

/// Where Debian puts the programs of this major version.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// What brings them.
const REMEDY: &str = "apt-get update && apt-get install -y --no-install-recommends postgresql-15";
/// The database of the tests.
pub const DATABASE: &str = "shop";
/// The password of every role that has one.
pub const PASSWORD: &str = "made up for the tests";
/// The role whose password is kept, and asked for, as SCRAM-SHA-256.
pub const SCRAM: &str = "app_scram";
/// The role whose password is kept, and asked for, as MD5.
pub const MD5: &str = "app_md5";
/// The role whose password is asked for as it is.
pub const CLEARTEXT: &str = "app_password";
/// The role that nobody asks for anything.
pub const TRUST: &str = "app_trust";
/// The role that logs in by a client certificate.
pub const CERTIFICATE: &str = "app_cert";

const HBA: &str = "\
local   all all           trust
hostssl all app_cert     127.0.0.1/32 cert
host    all app_trust    127.0.0.1/32 trust
host    all app_md5      127.0.0.1/32 md5
host    all app_password 127.0.0.1/32 password
host    all all          127.0.0.1/32 scram-sha-256
";

/// A running server.
pub struct Postgres {
    directory: TempDir,
    port: u16,
    server: Child,
    /// Writes the server's log into a file.
    log: Option<JoinHandle<()>>,
    /// Certificates: the authority, the server's, and a client's for [`CERTIFICATE`].
    pub keys: Keys,
}

impl Postgres {
    /// One that answers. `settings` are further lines of `postgresql.conf`.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        assert!(
            Path::new(PROGRAMS).join("postgres").exists(),
            "PostgreSQL 15 is missing in {PROGRAMS}: run `{REMEDY}` as root, or `cargo xtask setup`"
        );
        let directory = tempfile::tempdir().expect("a temporary directory");
        own(directory.path());
        let data = directory.path().join("data");
        let options =
            ["-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "-E", "UTF8", "-D"];
        succeed(as_owner(&mut program("initdb")).args(options).arg(&data));
        let keys = Keys::new(CERTIFICATE);
        write(&data, "pg_hba.conf", HBA);
        write(&data, "ca.pem", &keys.authority);
        write(&data, "server.pem", &keys.server);
        write(&data, "server.key", &keys.server_key);
        let (server, log, port) = listening(directory.path(), &data, settings);
        let postgres = Self { directory, port, server, log: Some(log), keys };
        postgres.roles();
        postgres
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the unix socket, as in `host=…`; the superuser is `postgres`, and nobody
    /// is asked for anything there.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's process, whose children serve the sessions.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Runs SQL as the superuser in the tests' database; unaligned rows without headings.
    ///
    /// # Panics
    /// It fails.
    pub fn sql(&self, sql: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = psql.output().expect("psql can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql failed at {sql}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A client program (`psql`, `pgbench`, …) for the tests' database through the unix socket, as
    /// the superuser. Set `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD` for another way in.
    #[must_use]
    pub fn client(&self, name: &str) -> Command {
        let mut client = program(name);
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            client.env_remove(variable);
        }
        client.env("PGHOST", self.directory.path()).env("PGPORT", self.port.to_string());
        client.env("PGUSER", "postgres").env("PGDATABASE", DATABASE).stdin(Stdio::null());
        client.current_dir(self.directory.path());
        client
    }

    /// Everything the server has logged so far.
    ///
    /// # Panics
    /// The log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("server.log")).expect("there is a log");
        String::from_utf8_lossy(&log).into_owned()
    }

    fn roles(&self) {
        succeed(self.client("createdb").env("PGDATABASE", "postgres").arg(DATABASE));
        for (role, encryption) in
            [(SCRAM, "scram-sha-256"), (MD5, "md5"), (CLEARTEXT, "scram-sha-256")]
        {
            self.sql(&format!(
                "SET password_encryption = '{encryption}'; \
                 CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"
            ));
        }
        self.sql(&format!("CREATE ROLE {TRUST} LOGIN; CREATE ROLE {CERTIFICATE} LOGIN"));
        self.sql(&format!(
            "GRANT ALL ON SCHEMA public TO PUBLIC; GRANT ALL ON DATABASE {DATABASE} \
            TO PUBLIC"
        ));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.server.id()) {
            // Immediate shutdown: sessions are cut off, shared memory is given back.
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = self.server.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}

/// Starts the server on a port that is free. Another may take the port first: then once more.
fn listening(directory: &Path, data: &Path, settings: &str) -> (Child, JoinHandle<()>, u16) {
    let mut told = String::new();
    for _ in 0..5 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let configuration = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_ca_file = 'ca.pem'\nssl_cert_file = 'server.pem'\n\
             ssl_key_file = 'server.key'\nfsync = off\nshared_buffers = 32MB\n\
             max_connections = 200\nlc_messages = 'C'\n{settings}\n",
            directory.display()
        );
        write(data, "postgresql.conf", &configuration);
        let mut server = as_owner(&mut program("postgres"))
            .arg("-D")
            .arg(data)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres can be started");
        let mut output = BufReader::new(server.stderr.take().expect("it is piped"));
        let mut log = fs::File::options()
            .append(true)
            .create(true)
            .open(directory.join("server.log"))
            .expect("the directory is ours");
        if is_ready(&mut output, &mut log, &mut told) {
            let log = std::thread::spawn(move || drop(std::io::copy(&mut output, &mut log)));
            return (server, log, port);
        }
        let _ = server.wait();
    }
    panic!("PostgreSQL does not start:\n{told}");
}

/// Reads the log up to the line that says so; an end before it says the contrary.
fn is_ready(output: &mut BufReader<ChildStderr>, log: &mut fs::File, told: &mut String) -> bool {
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).expect("the log is text") == 0 {
            return false;
        }
        log.write_all(line.as_bytes()).expect("the log is ours");
        told.push_str(&line);
        if line.contains("database system is ready to accept connections") {
            return true;
        }
    }
}

fn program(name: &str) -> Command {
    let mut command = Command::new(PathBuf::from(PROGRAMS).join(name));
    command.env("LC_ALL", "C").current_dir("/");
    command
}

/// PostgreSQL refuses to run as root: its owner is then the user Debian made for it, or nobody.
fn owner() -> Option<User> {
    let named = |name| User::from_name(name).ok().flatten();
    geteuid().is_root().then(|| named("postgres").or_else(|| named("nobody")))?
}

fn as_owner(command: &mut Command) -> &mut Command {
    match owner() {
        Some(owner) => command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw()),
        None => command,
    }
}

fn own(path: &Path) {
    if let Some(owner) = owner() {
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        chown(path, Some(uid), Some(gid)).expect("root may give a file away");
    }
}

/// A file only the server may read.
fn write(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    fs::write(&path, text).expect("the directory is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    own(&path);
}
