//! Egress rules by name: what teaches an address, what does not, and for whom.

use std::sync::{Arc, Mutex};

use pcigate_agent::draft::{Ending, Event};
use pcigate_common::names::Count;
use pcigate_tests::{
    dns::{self, A, AAAA, CNAME, QUESTION, Reply, Server, address, answer, name, record},
    kernel::{Kernel, Setup},
    network::Network,
};

const RULES: &str = "
      - {id: api, action: allow, to: [{fqdn: api.example.com}], ports: [{port: 443, protocol: UDP}]}
      - {id: below, action: allow, to: [{fqdn: \"*.example.org\"}]}
      - {id: not-this, action: deny, to: [{fqdn: bad.example.org}]}
      - {id: not-there, action: deny, to: [{cidr: 10.77.13.0/24}]}
";

fn policy(name: &str, server: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: {name}, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - {{id: dns, action: allow, to: [{{cidr: {server}/32}}],
         ports: [{{port: 53, protocol: UDP}}, {{port: 53, protocol: TCP}}]}}{rules}"
    )
}

type Answers = Arc<Mutex<Vec<Reply>>>;

/// What an ordinary server says: an address of the type that is asked for.
fn by_type(query: &[u8]) -> Vec<u8> {
    let six = query.get(dns::question_end(query) - 3) != Some(&1);
    answer(query, &[address(if six { "fd77:9::1" } else { "10.77.9.1" })])
}

/// A governed pod with a network and a server that sends what it is told to, or what is usual.
struct Pod {
    // The kernel goes first: nothing is governed by the time the server stops.
    kernel: Kernel,
    _server: Server,
    replies: Answers,
    network: Network,
}

impl Pod {
    fn new(rules: &str) -> Self {
        Self::with(|server| policy("billing-bot", server, rules))
    }

    fn with(policy: impl Fn(&str) -> String) -> Self {
        let network = Network::new();
        let policy = policy(&network.servers[0].to_string());
        let setup = Setup { policy, loopback_teaches: network.loopback, ..Setup::default() };
        let replies = Answers::default();
        let told = Arc::clone(&replies);
        let server = Server::start(&network, move |query| {
            let told = told.lock().unwrap().clone();
            if told.is_empty() {
                return vec![Reply::Message(by_type(query))];
            }
            let as_asked = |bytes: Vec<u8>| {
                // What a test builds without an id gets that of the query.
                let id = query.get(..2).unwrap_or_default().to_vec();
                id.into_iter().chain(bytes.into_iter().skip(2)).collect()
            };
            told.into_iter()
                .map(|reply| match reply {
                    Reply::Message(bytes) if bytes.starts_with(&[0, 0]) => {
                        Reply::Message(as_asked(bytes))
                    }
                    Reply::FromOther(bytes) => Reply::FromOther(as_asked(bytes)),
                    Reply::Pieces(first, second) => {
                        let id = query.get(..2).unwrap_or_default();
                        let first = [&first[..2], id, &first[4..]].concat();
                        Reply::Pieces(first, second)
                    }
                    reply @ Reply::Message(_) => reply,
                })
                .collect()
        });
        Self { kernel: Kernel::start(&setup), _server: server, replies, network }
    }

    fn probe(&self, actions: &[&str]) -> Vec<String> {
        let pod = self.network.pod().display().to_string();
        self.kernel.probe_with(&["--netns", &pod], self.kernel.root(), actions)
    }

    /// Asks for a name and gets these replies; whether something came back.
    fn resolve(&self, how: &str, name: &str, replies: Vec<Reply>) -> String {
        *self.replies.lock().unwrap() = replies;
        let server = self.network.servers[0];
        self.probe(&[&format!("resolve:{how},{name}@{server}:53")]).remove(0)
    }

    /// Asks over UDP for A records and gets these.
    fn told(&self, name: &str, records: &[Vec<u8>]) {
        let reply = Reply::Message(answer(&dns::query(0, name, A), records));
        assert_eq!(self.resolve("udp,1", name, vec![reply]), "ok", "no answer arrived");
    }

    /// Whether a datagram may be sent there. Without a way to it the answer is another errno.
    fn is_open(&self, place: &str) -> bool {
        self.probe(&[&format!("udp:{place}")])[0] != "EPERM"
    }
}

#[test]
fn a_name_opens_the_addresses_it_resolved_to_on_its_ports_and_nothing_else() {
    let mut pod = Pod::new(RULES);
    assert!(!pod.is_open("10.77.9.1:443"), "before it was resolved");
    pod.told("api.example.com", &[address("10.77.9.1"), address("10.77.9.2")]);
    assert!(pod.is_open("10.77.9.1:443") && pod.is_open("10.77.9.2:443"));
    assert!(pod.is_open("[::ffff:10.77.9.1]:443"));
    assert!(!pod.is_open("10.77.9.1:444") && !pod.is_open("10.77.9.3:443"));
    assert_eq!(pod.kernel.names(Count::Learned), 2);
    let by: Vec<_> = pod
        .kernel
        .drafts()
        .into_iter()
        .filter_map(|draft| match draft.event {
            Event::Egress { port: 443, .. } => Some(draft.outcome),
            _ => None,
        })
        .map(|outcome| (outcome.result, outcome.decision.unwrap().rule.id.as_str().to_owned()))
        .collect();
    assert_eq!(by[0], (Ending::Refused, "default".to_owned()));
    assert_eq!(by[1], (Ending::Success, "api".to_owned()));
}

#[test]
fn every_right_form_of_an_answer_teaches() {
    let pod = Pod::new(RULES);
    let cdn = name("edge.cdn.test");
    let chain = [
        record(&QUESTION, CNAME, 5, &cdn),
        // Not of the chain.
        record(&name("other.test"), A, 60, &[10, 77, 9, 9]),
        record(&cdn, CNAME, 5, &[1, b'e', 0xc0, 12]),
        record(&name("E.API.Example.com"), A, 60, &[10, 77, 9, 3]),
        record(&QUESTION, A, 60, &[10, 77, 9, 10]),
    ];
    pod.told("api.example.com", &chain);
    assert!(pod.is_open("10.77.9.3:443"), "at the end of a chain, case folded");
    assert!(!pod.is_open("10.77.9.9:443") && !pod.is_open("10.77.9.10:443"), "beside the chain");

    pod.told("aPi.ExAmPlE.cOm", &[address("10.77.9.4")]);
    assert!(pod.is_open("10.77.9.4:443"), "letters of mixed case");

    let six = answer(&dns::query(0, "api.example.com", AAAA), &[address("fd77:9::1")]);
    assert_eq!(pod.resolve("udp,28", "api.example.com", vec![Reply::Message(six)]), "ok");
    assert!(pod.is_open("[fd77:9::1]:443") && !pod.is_open("[fd77:9::2]:443"));

    let many: Vec<_> = (1..=200).map(|n| record(&QUESTION, A, 0, &[10, 77, 10, n])).collect();
    pod.told("api.example.com", &many);
    assert!(pod.is_open("10.77.10.1:443") && pod.is_open("10.77.10.200:443"));

    pod.told("x.y.example.org", &[address("10.77.9.5")]);
    assert!(pod.is_open("10.77.9.5:9"), "below a wildcard");
    for other in ["example.org", "badexample.org", "example.com", "example.org.evil.test"] {
        pod.told(other, &[address("10.77.9.6")]);
        assert!(!pod.is_open("10.77.9.6:443"), "{other}");
    }
    assert_eq!(pod.kernel.names(Count::Unasked), 0);
}

#[test]
fn the_strictest_of_all_names_and_prefixes_wins() {
    let pod = Pod::new(RULES);
    pod.told("good.example.org", &[address("10.77.9.1"), address("10.77.13.1")]);
    assert!(pod.is_open("10.77.9.1:9"));
    assert!(!pod.is_open("10.77.13.1:9"), "a prefix refuses what the name allows");
    pod.told("bad.example.org", &[address("10.77.9.1"), address("10.77.9.2")]);
    assert!(!pod.is_open("10.77.9.2:9"));
    assert!(!pod.is_open("10.77.9.1:9"), "another name of the same address");
}

#[test]
fn a_forged_answer_opens_nothing() {
    let pod = Pod::new(RULES);
    let query = |name| dns::query(0, name, A);
    let right = answer(&query("api.example.com"), &[address("10.77.9.1")]);
    let mut other_id = right.clone();
    other_id[..2].copy_from_slice(&[0xff, 0xff]);
    let other_question = answer(&query("x.example.org"), &[address("10.77.9.1")]);
    let other_type = answer(&dns::query(0, "api.example.com", AAAA), &[address("10.77.9.1")]);
    let forged = [
        ("another id", Reply::Message(other_id)),
        ("another question", Reply::Message(other_question)),
        ("another type", Reply::Message(other_type)),
        ("another source", Reply::FromOther(right.clone())),
    ];
    for (what, reply) in forged {
        assert_eq!(pod.resolve("udp,1", "api.example.com", vec![reply]), "ok", "{what}");
        assert!(!pod.is_open("10.77.9.1:443"), "{what}");
    }
    assert_eq!(pod.kernel.names(Count::Unasked), 3);
    assert_eq!(pod.kernel.names(Count::Learned), 0);
    // A question has one answer.
    let second = answer(&query("api.example.com"), &[address("10.77.9.2")]);
    let replies = vec![Reply::Message(right), Reply::Message(second)];
    assert_eq!(pod.resolve("udp,1", "api.example.com", replies), "ok");
    assert!(pod.is_open("10.77.9.1:443") && !pod.is_open("10.77.9.2:443"));
}

#[test]
fn an_answer_that_is_wrong_cut_or_too_long_opens_nothing() {
    let pod = Pod::new(RULES);
    let right = answer(&dns::query(0, "api.example.com", A), &[address("10.77.9.1")]);
    let with = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        Reply::Message(bytes)
    };
    let owner = dns::question_end(&right);
    let padded = |more: usize| {
        let mut bytes = right.clone();
        bytes.resize(bytes.len() + more, 0);
        Reply::Message(bytes)
    };
    let cut = Reply::Message(right[..owner + 12].to_vec());
    let wrong = [
        ("truncated", with(2, 0x83)),
        ("an error", with(3, 0x83)),
        ("another operation", with(2, 0xa9)),
        ("a query", with(2, 0x01)),
        ("two questions", with(5, 2)),
        ("another class", with(owner + 5, 3)),
        ("a pointer to itself", with(owner + 1, u8::try_from(owner).unwrap())),
        ("a pointer behind", with(owner, 0xff)),
        ("an address of another length", with(owner + 11, 5)),
        ("cut", cut),
        ("more than 4,096 bytes", padded(4096)),
    ];
    for (what, reply) in wrong {
        assert_eq!(pod.resolve("udp,1", "api.example.com", vec![reply]), "ok", "{what}");
        assert!(!pod.is_open("10.77.9.1:443"), "{what}");
    }
    assert_eq!(pod.kernel.names(Count::Truncated), 1);
    assert_eq!(pod.kernel.names(Count::Oversized), 1);
    assert!(pod.kernel.names(Count::Malformed) >= 3);
    assert_eq!(pod.kernel.names(Count::Learned), 0);
    let replies = vec![padded(4096 - right.len())];
    assert_eq!(pod.resolve("udp,1", "api.example.com", replies), "ok");
    assert!(pod.is_open("10.77.9.1:443"), "the longest message");
}

#[test]
fn over_tcp_an_answer_in_one_segment_teaches_and_one_in_pieces_is_counted() {
    let pod = Pod::new(RULES);
    let message = answer(&dns::query(0, "api.example.com", A), &[address("10.77.9.1")]);
    let framed = dns::framed(&message);
    let (first, second) = framed.split_at(20);
    let pieces = vec![Reply::Pieces(first.to_vec(), second.to_vec())];
    assert_eq!(pod.resolve("tcp,1", "api.example.com", pieces), "ok");
    assert!(!pod.is_open("10.77.9.1:443"));
    assert!(pod.kernel.names(Count::Split) >= 1);
    let whole = vec![Reply::Message(message)];
    assert_eq!(pod.resolve("tcp,1", "api.example.com", whole), "ok");
    assert!(pod.is_open("10.77.9.1:443"));
}

#[test]
fn a_name_opens_no_address_of_this_host_its_links_or_a_group() {
    let pod = Pod::new(RULES);
    let places = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.77.9.1"];
    pod.told("api.example.com", &places.map(address));
    let open: Vec<_> = places.into_iter().filter(|at| pod.is_open(&format!("{at}:443"))).collect();
    assert_eq!(open, ["10.77.9.1"]);
}

#[test]
fn a_server_that_is_not_allowed_cannot_be_asked() {
    let pod = Pod::new(RULES);
    let other = pod.network.servers[1];
    let ask = |how| format!("resolve:{how},1,api.example.com@{other}:53");
    assert_eq!(pod.probe(&[&ask("udp"), &ask("tcp")]), ["EPERM", "EPERM"]);
}

#[test]
fn a_process_of_the_pod_that_answers_itself_opens_nothing() {
    let network = Network::new();
    for server in ["127.0.0.1", "10.77.0.2"] {
        if network.loopback && server != "127.0.0.1" {
            continue;
        }
        // The answer goes to the port of the one who asked, which is any.
        let rules =
            format!("{RULES}      - {{id: own, action: allow, to: [{{cidr: {server}/32}}]}}\n");
        let kernel = Kernel::with_policy(&policy("billing-bot", server, &rules));
        let pod = network.pod().display().to_string();
        let actions =
            [&format!("forge:api.example.com=10.77.9.1@{server}:53")[..], "udp:10.77.9.1:443"];
        let results = kernel.probe_with(&["--netns", &pod], kernel.root(), &actions);
        assert_eq!(results, ["ok", "EPERM"], "{server}");
        assert_eq!(kernel.names(Count::Learned), 0);
    }
}

#[test]
fn a_name_resolved_for_one_pod_opens_nothing_for_another() {
    let mut pod = Pod::new(RULES);
    let root = pod.kernel.root().to_owned();
    let pods = ["one", "two"].map(|name| root.join(name));
    for path in &pods {
        std::fs::create_dir(path).unwrap();
        pod.kernel.govern(path, "billing-bot");
    }
    let reply = answer(&dns::query(0, "api.example.com", A), &[address("10.77.9.1")]);
    *pod.replies.lock().unwrap() = vec![Reply::Message(reply)];
    let netns = pod.network.pod().display().to_string();
    let ask = format!("resolve:udp,1,api.example.com@{}:53", pod.network.servers[0]);
    let options = ["--netns", &netns];
    let results = pod.kernel.probe_with(&options, &pods[0], &[&ask, "udp:10.77.9.1:443"]);
    assert!(results[0] == "ok" && results[1] != "EPERM", "{results:?}");
    let results = pod.kernel.probe_with(&options, &pods[1], &["udp:10.77.9.1:443"]);
    assert_eq!(results, ["EPERM"]);
    // A container below is of its pod.
    let container = pods[0].join("container");
    std::fs::create_dir(&container).unwrap();
    let results = pod.kernel.probe_with(&options, &container, &["udp:10.77.9.1:443"]);
    assert_ne!(results, ["EPERM"]);
    for path in [&container, &pods[0], &pods[1]] {
        std::fs::remove_dir(path).unwrap();
    }
}

/// A process may make itself a network namespace, be the server there, and answer what it likes.
#[test]
fn what_is_learned_in_another_network_opens_nothing_in_the_pod_s_own() {
    let pod = Pod::new(RULES);
    let made = Pod { kernel: pod.kernel, ..Pod::new(RULES) };
    made.told("api.example.com", &[address("10.77.9.1")]);
    assert!(made.is_open("10.77.9.1:443"), "there");
    let own = pod.network.pod().display().to_string();
    let kernel = &made.kernel;
    let results = kernel.probe_with(&["--netns", &own], kernel.root(), &["udp:10.77.9.1:443"]);
    assert_eq!(results, ["EPERM"]);
}

#[test]
fn what_is_learned_outlives_a_change_of_policies_that_still_names_it() {
    let changed = "
      - {id: same, action: allow, to: [{fqdn: api.example.com}, {fqdn: \"*.example.org\"}]}
      - {id: told-apart, action: deny, to: [{fqdn: new.example.org}]}
";
    let mut pod = Pod::with(|server| {
        policy("billing-bot", server, RULES) + &policy("other", server, changed)
    });
    pod.told("api.example.com", &[address("10.77.9.1")]);
    pod.told("x.example.org", &[address("10.77.9.2")]);
    let root = pod.kernel.root().to_owned();
    pod.kernel.govern(&root, "other");
    assert!(pod.is_open("10.77.9.1:443"));
    assert!(!pod.is_open("10.77.9.2:443"), "it may have been the name that is refused now");
    pod.kernel.govern(&root, "billing-bot");
    assert!(pod.is_open("10.77.9.2:443"));
}

#[test]
fn what_is_learned_outlives_the_agent_that_follows() {
    let mut pod = Pod::new(RULES);
    pod.told("api.example.com", &[address("10.77.9.1")]);
    let server = pod.network.servers[0].to_string();
    let policy = policy("billing-bot", &server, RULES);
    let setup = Setup { policy, loopback_teaches: pod.network.loopback, ..Setup::default() };
    pod.kernel = pod.kernel.replaced(&setup);
    assert!(pod.is_open("10.77.9.1:443") && !pod.is_open("10.77.9.1:444"));
    assert_eq!(pod.kernel.names(Count::Learned), 0, "taken over, not learned again");
}

#[test]
fn the_resolver_of_the_c_library_teaches_what_it_looks_up() {
    let pod = Pod::new(RULES);
    let netns = pod.network.pod().display().to_string();
    let resolver = pod.network.servers[0].to_string();
    let options = ["--netns", netns.as_str(), "--resolver", &resolver];
    let actions = ["lookup:api.example.com", "udp:10.77.9.1:443", "udp:[fd77:9::1]:443"];
    let results = pod.kernel.probe_with(&options, pod.kernel.root(), &actions);
    assert_eq!(results[0], "ok");
    assert!(results[1] != "EPERM" && results[2] != "EPERM", "{results:?}");
}
