//! What a node's metrics say of a gated session, from its statements to what masking took out.

use std::{fs, net::TcpListener, process::Command, sync::PoisonError};

use nix::sys::signal::Signal;
use pcigate_tests::{postgres::PASSWORD, site::succeed, wait};

use crate::{
    gated::{ONE, database, place, policy},
    serve::{Node, ask},
};

#[test]
fn a_gated_session_shows_in_the_metrics_of_its_node_and_no_name_of_it_does() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    let mut node = Node::new("metrics");
    node.site.write("password", &format!("{PASSWORD}\n"));
    let documents = policy(&node.site, postgres.port(), "", "");
    node.site.write("policies/billing-bot.yaml", &documents);
    node.site.start_collector();
    fs::create_dir_all(node.container()).unwrap();
    // Nobody else takes it in between: ports are given in turn.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = node.serve_with(&format!("admin: {{listen: {address}}}\n"));
    let script = "echo 0 > \"$0/cgroup.procs\" || exit
        for try in $(seq 1000); do
            psql -X -At -d \"$1\" -c 'SELECT pan FROM cards' -c 'DROP TABLE cards' 2> said
            grep -q denied said || grep -q refused said && exit 0
        done
        exit 1";
    let mut client = Command::new("/bin/sh");
    client.args(["-c", script]).arg(node.container()).arg(place(postgres.port()));
    client.current_dir(node.site.path(""));
    let seen = String::from_utf8(succeed(&mut client).stdout).unwrap();
    assert!(seen.contains("411111******1111"), "{seen}");
    let value = |text: &str, name: &str| {
        let name = format!("pcigate_agent_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    let text = wait::until("the session's end", || {
        let (_, text) = ask(address, "/metrics");
        let over = value(&text, "gateway_sessions") == 0.0
            && value(&text, "records_total{kind=\"statement-end\",verdict=\"none\"}") >= 1.0;
        over.then_some(text)
    });
    for (name, least) in [
        ("records_total{kind=\"statement\",verdict=\"allow\"}", 1.0),
        ("records_total{kind=\"statement\",verdict=\"deny\"}", 1.0),
        ("records_total{kind=\"session\",verdict=\"gate\"}", 2.0),
        ("masked_values_total{kind=\"pan\"}", 1.0),
        ("statement_decision_seconds_count", 2.0),
        ("durable_wait_seconds_count", 2.0),
    ] {
        assert!(value(&text, name) >= least, "{name} is {}\n{text}", value(&text, name));
    }
    let slowest = value(&text, "statement_decision_seconds_sum");
    assert!(slowest > 0.0 && slowest < 60.0, "measured in seconds: {slowest}");
    for name in ["billing-bot", "payments", "cards", "SELECT", "411111", "psql"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    agent.end(Signal::SIGTERM);
}
