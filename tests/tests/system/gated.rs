//! A gated database, from a command's first packet to the record of every statement.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcigate_agent::gateway::process::confined;
use pcigate_tests::{
    issuer::Issuer,
    postgres::{DATABASE, PASSWORD, Postgres, SCRAM},
    site::{POLICY, Site, output, succeed},
    wait,
};

use crate::serve::Node;

const PAN: &str = "4111111111111111";

/// Beside a command that shares the machine's network there is one gateway.
pub static ONE: Mutex<()> = Mutex::new(());

pub fn database() -> Postgres {
    let postgres = Postgres::start("");
    postgres.sql(&format!(
        "CREATE TABLE cards (id int PRIMARY KEY, pan text, cvv text);
         CREATE TABLE orders (id int PRIMARY KEY, item text);
         INSERT INTO cards VALUES (1, '{PAN}', '737');
         INSERT INTO orders VALUES (7, 'tea');
         GRANT ALL ON cards, orders TO {SCRAM};"
    ));
    postgres
}

/// A site whose only way to the database is a gate.
fn site(port: u16) -> Site {
    site_with(port, "", |_| String::new())
}

/// The same with more of the gate rule, and of the Target as its files make it.
fn site_with(port: u16, rule: &str, target: impl Fn(&Site) -> String) -> Site {
    let mut site = Site::new();
    site.write("password", &format!("{PASSWORD}\n"));
    site.write("policy.yaml", &policy(&site, port, rule, &target(&site)));
    site.start_collector();
    site
}

pub fn policy(site: &Site, port: u16, rule: &str, target: &str) -> String {
    let rules = format!(
        "    rules:
      - id: cards-db
        action: gate
        target: cards-db
        statements:
          - {{id: read, action: allow, effects: [read], tables: [public.cards, public.orders]}}
          - {{id: change, action: allow, effects: [write], tables: [public.orders]}}
{rule}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: cards-db, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\", tls: {{mode: disable}}}}
  credential: {{username: {SCRAM}, passwordFile: {}}}
  mask: {{default: truncate}}
  columns:
    - {{table: public.cards, column: pan, class: pan}}
    - {{table: public.cards, column: cvv, class: sad}}
{target}
",
        site.path("password").display()
    );
    format!("{POLICY}{rules}")
}

pub fn place(port: u16) -> String {
    format!("host=127.0.0.1 port={port} dbname={DATABASE} user=nobody-at-all")
}

fn psql(site: &Site, port: u16, statements: &[&str]) -> Command {
    let place = place(port);
    let mut command = vec!["/usr/bin/psql", "-X", "-At", "-d", &place];
    for statement in statements {
        command.extend(["-c", statement]);
    }
    site.exec(&command)
}

#[test]
fn a_command_without_a_password_reads_masked_cards_and_every_statement_is_on_record() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    let site = site(postgres.port());
    let statements = [
        "SELECT id, pan, cvv FROM cards",
        "DELETE FROM orders",
        "COPY cards TO STDOUT",
        "UPDATE orders SET item = 'coffee' WHERE id = 7",
        "SELECT item FROM orders",
    ];
    let run = output(&mut psql(&site, postgres.port(), &statements));
    let (answer, errors) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(answer.contains("1|411111******1111|\n"), "{answer}\n{errors}");
    assert!(answer.contains("UPDATE 1\ncoffee\n"), "{answer}\n{errors}");
    assert_eq!(errors.matches("ERROR:").count(), 2, "{errors}");
    assert!(
        errors.contains(" 3 gated, 2 refused, "),
        "the connection, and the session twice: {errors}"
    );
    assert_eq!(postgres.sql("SELECT count(*) FROM orders").trim(), "1", "nothing was deleted");

    let records = site.records(&["--kind", "statement"]);
    let said = |at: usize| {
        let record = &records[at];
        let (event, outcome) = (&record["statement"], &record["outcome"]);
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        (word(&event["text"]), word(&outcome["verdict"]), word(&outcome["rule"]))
    };
    let expected = [("allow", "read"), ("deny", "default"), ("deny", "default")];
    for (at, (verdict, rule)) in expected.into_iter().enumerate() {
        let (text, decided, by) = said(at);
        assert_eq!((text.as_str(), decided.as_str(), by.as_str()), (statements[at], verdict, rule));
    }
    assert_eq!(records.len(), statements.len());
    for record in &records {
        assert_eq!(record["subject"]["workload"]["pod"], "billing-bot", "{record}");
        assert_eq!(record["process"]["executable"], "/usr/lib/postgresql/15/bin/psql", "{record}");
    }
    assert_eq!(site.records(&["--kind", "session"]).len(), 2);
    the_session_can_be_told_and_replayed(&site);
    for secret in [PAN, "737|", PASSWORD] {
        let holding = site.files_holding(secret);
        let holding: Vec<_> = holding.iter().filter(|path| !path.ends_with("password")).collect();
        assert!(holding.is_empty(), "{holding:?}");
    }
}

/// From the collector, and from the ledger's directory alone.
fn the_session_can_be_told_and_replayed(site: &Site) {
    let said = |arguments: &[&str]| {
        let mut command = site.pcigate(arguments);
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    };
    let listed = said(&["sessions", "--output", "json", "--pod", "billing-bot"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["statements"], &listed["refused"]), (&5.into(), &2.into()), "{listed}");
    assert_eq!((&listed["state"], &listed["role"]), (&"ended".into(), &SCRAM.into()), "{listed}");
    let id = listed["session"].as_str().unwrap();
    let offline = ["--ledger", "ledger"];
    for place in [&[][..], &offline] {
        let with = |arguments: &[&str]| said(&[arguments, place].concat());
        assert!(with(&["sessions"]).contains("payments/cards-db"));
        let story = with(&["session", "show", &id[..8]]);
        assert!(story.contains("DENY by payments/billing-bot/default  DELETE"), "{story}");
        assert!(story.contains("masked 1 cvv, 1 pan") && !story.contains("!!"), "{story}");
        let replayed = with(&["session", "replay", id, "--speed", "max"]);
        assert!(replayed.contains("< 1 | 411111******1111 | NULL\n"), "{replayed}");
        assert!(replayed.contains("> DELETE FROM orders\n"), "{replayed}");
        assert!(replayed.contains("< ERROR:  pcigate: ") && !replayed.contains("!!"), "{replayed}");
        assert!(!story.contains(PAN) && !replayed.contains(PAN), "{replayed}");
    }
}

#[test]
fn without_its_gate_the_database_is_out_of_reach() {
    let postgres = database();
    let mut site = Site::new();
    site.write("policy.yaml", POLICY);
    site.start_collector();
    let run = output(&mut psql(&site, postgres.port(), &["SELECT 1"]));
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && errors.contains("Operation not permitted"), "{errors}");
    succeed(&mut site.exec(&["/usr/bin/true"]));
}

/// A client in the middle of its session, and what it says.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of a process's status.
fn status(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The gateway's process of an agent: the child of its child.
fn gateway_of(agent: i32) -> Option<i32> {
    let parent = |pid: i32| status(pid, "PPid")?.parse::<i32>().ok();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|&pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_gateway = String::from_utf8_lossy(&line).contains("gateway-process");
        is_gateway && parent(pid).and_then(parent) == Some(agent)
    })
}

#[test]
fn what_reads_foreign_bytes_has_no_privilege_and_its_death_ends_sessions_and_nothing_else() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    let site = site(postgres.port());
    let script = "{ echo 'SELECT item FROM orders;'; head -n 1; } | psql -X -At -d \"$0\"
        echo first $?
        psql -X -At -d \"$0\" -c 'SELECT item FROM orders'; echo second $?";
    let mut client =
        Client::start(&mut site.exec(&["/bin/sh", "-c", script, &place(postgres.port())]));
    assert_eq!(client.line(), "tea", "a session is under way");
    let agent = i32::try_from(client.child.id()).unwrap();
    let gateway = gateway_of(agent).unwrap();

    let user = [confined::USER.to_string().as_str(); 4].join(" ");
    let none = "0000000000000000".to_owned();
    for (field, expected) in [
        ("Uid", &user),
        ("Gid", &user),
        ("Groups", &String::new()),
        ("CapEff", &none),
        ("CapPrm", &none),
        ("CapInh", &none),
        ("CapBnd", &none),
        ("CapAmb", &none),
        ("NoNewPrivs", &"1".to_owned()),
        ("Seccomp", &"2".to_owned()),
    ] {
        assert_eq!(status(gateway, field).as_ref(), Some(expected), "{field}");
    }
    let files = fs::read_dir(format!("/proc/{gateway}/fd")).unwrap().flatten();
    let files = files.filter_map(|file| fs::read_link(file.path()).ok());
    let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
    let harmless = |file: &String| {
        ["socket:", "anon_inode:", "pipe:", "/dev/null"].iter().any(|kind| file.starts_with(kind))
    };
    assert!(files.iter().all(harmless), "no file and no directory: {files:?}");

    kill(Pid::from_raw(gateway), Signal::SIGKILL).unwrap();
    wait::until("the end of the gateway", || status(gateway, "Seccomp").is_none().then_some(()));
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "first 2", "as psql has it when its connection is lost");
    assert_eq!(client.line(), "tea", "another gateway serves the next");
    assert_eq!(client.line(), "second 0");
    assert!(client.child.wait().unwrap().success(), "the agent lives");

    let all = site.records(&["--limit", "1000"]);
    let of = |text: &str| all.iter().filter(|record| record.to_string().contains(text)).count();
    assert_eq!(of("the gateway's process is gone (signal 9)"), 1, "{all:#?}");
    assert_eq!(of("the gateway's process is gone; connect again"), 1, "the session's end");
    assert_eq!(site.records(&["--kind", "session"]).len(), 4);
}

#[test]
fn a_session_ends_when_its_policy_changes_and_one_whose_policy_stays_goes_on() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    let mut node = Node::new("gated");
    node.site.write("password", &format!("{PASSWORD}\n"));
    let before = policy(&node.site, postgres.port(), "", "");
    node.site.write("policies/billing-bot.yaml", &before);
    node.site.start_collector();
    fs::create_dir_all(node.container()).unwrap();
    let agent = node.serve();
    let mut client = Client::start(&mut inside(&node.container(), postgres.port()));
    assert_eq!(client.line(), "1", "the agent has seen the pod");
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "tea");
    let changes = || {
        let all = node.site.records(&["--kind", "coverage"]);
        all.iter().filter(|record| record.to_string().contains("read again")).count()
    };
    // Another rule for somebody else: the session goes on.
    node.site.write("policies/other.yaml", &POLICY.replace("billing-bot", "another-bot"));
    agent.signal(Signal::SIGHUP);
    wait::until("the policies to be read", || (changes() == 1).then_some(()));
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "tea");

    let after = before.replace("effects: [write], tables", "effects: [write, ddl], tables");
    assert_ne!(before, after);
    node.site.write("policies/billing-bot.yaml", &after);
    agent.signal(Signal::SIGHUP);
    let ended = wait::until("the session's end", || {
        let all = node.site.records(&["--kind", "session"]);
        all.iter().map(ToString::to_string).find(|record| record.contains("has changed"))
    });
    assert!(ended.contains("the policy that let it in has changed; connect again"), "{ended}");
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "", "nothing is answered any more");
    assert_eq!(client.child.wait().unwrap().code(), Some(2), "psql's code of a lost connection");
    drop(agent);
}

#[test]
fn a_password_that_is_exchanged_in_the_middle_of_a_session_counts_for_its_next_login() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    postgres.sql(&format!(
        "ALTER ROLE {SCRAM} CREATEROLE; CREATE ROLE reader; GRANT SELECT ON orders TO reader"
    ));
    let own = |_: &Site| "  sessionRole: {grants: [reader]}".to_owned();
    let site = site_with(postgres.port(), "", own);
    let place = place(postgres.port());
    let command = ["/usr/bin/psql", "-X", "-At", "-d", &place];
    let mut client = Client::start(&mut site.exec(&command));
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "tea");
    postgres.sql(&format!("ALTER ROLE {SCRAM} PASSWORD 'another one, made up'"));
    site.write("password", "another one, made up\n");
    writeln!(client.input, "\\q").unwrap();
    assert!(client.child.wait().unwrap().success());
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pcigate%'";
    assert_eq!(postgres.sql(left).trim(), "0", "its role is dropped with the new password");
}

/// A client in a cgroup, from when the agent has seen it there; what it says first is 1.
fn inside(cgroup: &Path, port: u16) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = "echo 0 > \"$0/cgroup.procs\" || exit
        for try in $(seq 1000); do
            psql -X -At -d \"$1\" -c 'SELECT 1' 2> /dev/null && exec psql -X -At -d \"$1\"
        done";
    command.args(["-c", script]).arg(cgroup).arg(place(port));
    command
}

#[test]
fn a_client_proves_itself_by_a_token_and_has_a_role_and_a_budget_of_its_own() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    postgres.sql(&format!(
        "ALTER ROLE {SCRAM} CREATEROLE; CREATE ROLE reader; GRANT SELECT ON cards, orders TO reader"
    ));
    let issuer = Issuer::new();
    let rule = "          - {id: big, action: ask, effects: [ddl]}\n        session: {maxRows: 2}";
    let site = site_with(postgres.port(), rule, |site| {
        let file = |name: &str, text: &str| {
            site.write(name, text);
            site.path(name).display().to_string()
        };
        let (certificate, key) = (&postgres.keys.server, &postgres.keys.server_key);
        let (certificate, key) = (file("server.pem", certificate), file("server.key", key));
        let keys = file("jwks.json", &issuer.set());
        format!(
            "  clientTls: {{certFile: {certificate}, keyFile: {key}, required: true}}
  token:
    required: true
    audience: cards-db
    issuer: \"https://issuer.example\"
    jwksFile: {keys}
  sessionRole: {{grants: [reader]}}"
        )
    });
    site.write("authority.pem", &postgres.keys.authority);
    let run = |token: &str, statements: &[&str]| {
        let mut psql = psql(&site, postgres.port(), statements);
        psql.env("PGSSLMODE", "verify-full").env("PGPASSWORD", token);
        let run = output(psql.env("PGSSLROOTCERT", site.path("authority.pem")));
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
    };
    let own = issuer.token("system:serviceaccount:payments:billing-bot", "cards-db", 300);
    let statements = [
        "SELECT session_user LIKE 'pcigate_%', pan, cvv FROM cards",
        "DROP TABLE orders",
        "SELECT item FROM orders",
        "SELECT item FROM orders",
        "SELECT 1",
    ];
    let told = run(&own, &statements);
    assert!(told.contains("t|411111******1111|\ntea\n"), "{told}");
    assert!(told.contains("needs approval") && told.contains("request: "), "{told}");
    assert_eq!(
        told.matches("2 rows in all (session.maxRows of rule cards-db)").count(),
        2,
        "{told}"
    );
    let other = issuer.token("system:serviceaccount:payments:other", "cards-db", 300);
    let told = run(&other, &["SELECT 1"]);
    assert!(told.contains("another ServiceAccount"), "{told}");
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pcigate%'";
    wait::until("the roles' end", || (postgres.sql(left).trim() == "0").then_some(()));
    let sessions = site.records(&["--kind", "session"]);
    let began = sessions.iter().find(|one| one["session"]["phase"] == "started").unwrap();
    let session = &began["session"];
    assert_eq!(session["token_subject"], "system:serviceaccount:payments:billing-bot");
    assert_eq!(session["token_issuer"], "https://issuer.example");
    assert!(session["role"].as_str().unwrap().starts_with("pcigate_"), "{session}");
    let question = "SELECT count(*) AS n FROM records WHERE length(request_key) = 64";
    let answer = output(&mut site.pcigate(&["sql", question, "--output", "json"]));
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.contains("\"n\":1"), "{answer}");
    for secret in [own.rsplit('.').next().unwrap(), "SCRAM-SHA-256$"] {
        assert!(site.files_holding(secret).is_empty(), "{:?}", site.files_holding(secret));
    }
}
