//! The entries against `decide`, on random policies and requests, and what they cost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use pcigate_common::maps::{Decision, rule, verdict};
use proptest::prelude::*;
use proptest::sample::select;

use super::{CompileError, KernelEntries};
use crate::decide::{EgressRequest, ExecRequest};
use crate::document::Documents;
use crate::glob::tests::{by_recursion, path, pattern};
use crate::workload::{Identity, PolicySet};

const TARGET: &str = "{apiVersion: pcigate.dev/v1alpha1, kind: Target, metadata: {name: t, \
    namespace: n}, spec: {protocol: http, upstream: {address: 'a:1'}, endpoints: \
    [{cidr: 10.0.0.1/32, port: 80}, {cidr: 'fd00::/16', port: 443}, {service: s, port: 80}, \
    {fqdn: t.svc, port: 80}]}}\n";

fn identity() -> Identity {
    Identity { namespace: "n".to_owned(), ..Identity::default() }
}

fn set(text: &str) -> PolicySet {
    let documents = Documents::read(&[("p.yaml", text)]);
    documents.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}")).select(&identity())
}

/// One policy as YAML. `cluster` makes it a ClusterAgentPolicy.
fn policy(index: usize, cluster: bool, audit: bool, exec: &str, egress: &str) -> String {
    let mode = if audit { "audit" } else { "enforce" };
    let (kind, namespace, selector) = if cluster {
        ("ClusterAgentPolicy", "", "namespaceSelector: {}, ")
    } else {
        ("AgentPolicy", ", namespace: n", "")
    };
    format!(
        "---\n{{apiVersion: pcigate.dev/v1alpha1, kind: {kind}, metadata: {{name: p{index}\
         {namespace}}}, spec: {{{selector}selector: {{}}, mode: {mode}{exec}{egress}}}}}\n"
    )
}

fn section(name: &str, deny: bool, rules: &[String]) -> String {
    let default = if deny { "deny" } else { "allow" };
    let mut text = format!(", {name}: {{defaultAction: {default}, rules: [");
    for (index, rule) in rules.iter().enumerate() {
        let _ = write!(text, "{{id: {}-{index}, {rule}}}, ", &name[..2]);
    }
    text + "]}"
}

fn mode() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", ", mode: audit"])
}

fn exec_rule() -> impl Strategy<Value = String> {
    let digest = format!(", sha256: ['{}']", "ab".repeat(32));
    let digest = select(vec![String::new(), String::new(), String::new(), digest]);
    let paths = prop::collection::vec(pattern(), 1..4);
    (select(vec!["allow", "deny"]), mode(), paths, digest).prop_map(
        |(action, mode, paths, digest)| {
            format!("action: {action}{mode}, paths: ['{}']{digest}", paths.join("', '"))
        },
    )
}

fn egress_rule() -> impl Strategy<Value = String> {
    let cidr = select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.0/31",
        "10.0.0.1/32",
        "10.1.0.0/16",
        "127.0.0.0/8",
        "::/0",
        "fd00::/8",
        "fd00::/16",
        "fd00::1/128",
        "::/1",
        "::1/128",
    ]);
    let to = prop::collection::vec(cidr, 1..4);
    let port = select(vec![
        "port: 80",
        "port: 443",
        "port: 53, protocol: UDP",
        "protocol: UDP",
        "protocol: TCP",
        "port: 443, protocol: UDP",
    ]);
    let ports = prop::collection::vec(port, 0..3);
    let names = prop::collection::vec(select(NAMES.to_vec()), 0..3);
    let direct = (select(vec!["allow", "deny"]), to, names, ports);
    let direct = direct.prop_map(|(action, to, names, ports)| {
        let cidrs = to.iter().map(|cidr| format!("{{cidr: '{cidr}'}}"));
        let names: Vec<_> = names.iter().map(|name| format!("{{fqdn: '{name}'}}")).collect();
        let to: Vec<_> = cidrs.take(3 - names.len()).chain(names).collect();
        let mut text = format!("action: {action}, to: [{}]", to.join(", "));
        if !ports.is_empty() {
            let ports: Vec<_> = ports.iter().map(|port| format!("{{{port}}}")).collect();
            let _ = write!(text, ", ports: [{}]", ports.join(", "));
        }
        text
    });
    let gate = Just(
        "action: gate, target: n/t, statements: [{id: s, action: ask, effects: [ddl]}]".to_owned(),
    );
    (prop_oneof![8 => direct, 1 => gate], mode()).prop_map(|(rule, mode)| rule + mode)
}

/// Up to four policies that all select [`identity`].
fn policies() -> impl Strategy<Value = String> {
    let exec = prop::collection::vec(exec_rule(), 0..5);
    let egress = prop::collection::vec(egress_rule(), 0..6);
    let exec = prop::option::weighted(0.8, (any::<bool>(), exec));
    let egress = prop::option::weighted(0.8, (any::<bool>(), egress));
    let one = (any::<bool>(), prop::bool::weighted(0.3), exec, egress);
    prop::collection::vec(one, 0..4).prop_map(|policies| {
        let mut text = TARGET.to_owned();
        for (index, (cluster, audit, exec, egress)) in policies.into_iter().enumerate() {
            // In an audit-mode policy a rule's own mode changes nothing.
            let mut exec = exec.map(|(deny, rules)| section("exec", deny, &rules));
            let egress = egress.map(|(deny, rules)| section("egress", deny, &rules));
            if exec.is_none() && egress.is_none() {
                exec = Some(section("exec", false, &[]));
            }
            let egress = egress.unwrap_or_default();
            let egress = if cluster { egress } else { egress.replace("n/t", "t") };
            text += &policy(index, cluster, audit, &exec.unwrap_or_default(), &egress);
        }
        text
    })
}

/// Wildcards within wildcards, a name beside the wildcard below it, and one that only ends alike.
const NAMES: &[&str] = &["*.com", "*.a.com", "a.com", "x.a.com", "*.x.a.com", "ba.com", "t.svc"];

fn resolved() -> impl Strategy<Value = Vec<&'static str>> {
    let names = vec!["a.com", "x.a.com", "y.X.A.com", "z.y.x.a.com", "ba.com", "t.svc", "com"];
    prop::collection::vec(select(names), 0..4)
}

fn address() -> impl Strategy<Value = IpAddr> {
    let known = select(vec![
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.1.1",
        "10.1.2.3",
        "11.0.0.0",
        "0.0.0.0",
        "127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:10.1.0.0",
        "::ffff:0.0.0.0",
        "::",
        "::1",
        "fd00::1",
        "fd00:1::",
        "fe80::1",
        "::10.0.0.1",
        "7fff::",
    ]);
    let known = known.prop_map(|text| text.parse().unwrap());
    prop_oneof![9 => known, 1 => any::<IpAddr>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_entries_answer_every_exec_as_decide_does(
        text in policies(),
        requests in prop::collection::vec(
            (prop::option::weighted(0.9, path()), prop_oneof![path(), Just(b"sh".to_vec())]), 20),
    ) {
        let set = set(&text);
        let entries = set.compile().unwrap();
        for (path, invoked) in &requests {
            let request = ExecRequest { path: path.as_deref(), invoked, sha256: None };
            let answer = set.decide_exec(&request);
            let found = entries.exec(path.as_deref(), invoked);
            prop_assert_eq!(found, answer.decision, "{:?}\n{}", request, text);
            prop_assert_eq!(entries.rule(found.rule), answer.rule);
        }
    }

    #[test]
    fn the_entries_answer_every_destination_as_decide_does(
        text in policies(),
        requests in prop::collection::vec(
            (address(), resolved(), select(vec![6_u8, 17, 132, 1]),
             select(vec![80_u16, 443, 53, 0, 9])), 40),
    ) {
        let set = set(&text);
        let entries = set.compile().unwrap();
        for (address, names, protocol, port) in requests {
            let request = EgressRequest { address: Some(address), names: &names, protocol, port };
            let answer = set.decide_egress(&request);
            let found = entries.egress(address, &names, protocol, port);
            prop_assert_eq!(found, answer.decision, "{:?}\n{}", request, text);
            prop_assert_eq!(entries.rule(found.rule), answer.rule);
        }
        for prefix in &entries.egress {
            prop_assert_eq!(prefix.ports.iter().filter(|p| (p.0, p.1) == (0, 0)).count(), 1);
        }
    }

    #[test]
    fn the_automaton_matches_what_recursion_matches(
        patterns in prop::collection::vec(pattern(), 1..5),
        paths in prop::collection::vec(path(), 20),
    ) {
        let rules: Vec<_> =
            patterns.iter().map(|p| format!("action: deny, paths: ['{p}']")).collect();
        let set = set(&policy(0, false, false, &section("exec", false, &rules), ""));
        let automaton = set.compile().unwrap().exec.unwrap();
        prop_assert!(automaton.cells.len().is_multiple_of(usize::from(automaton.columns)));
        for path in &paths {
            let first = patterns.iter().position(|pattern| by_recursion(pattern, path));
            let rule = automaton.run(path).map(|decision| decision.rule as usize);
            prop_assert_eq!(rule, first, "{:?}", String::from_utf8_lossy(path));
        }
    }
}

#[test]
fn without_a_selecting_policy_everything_is_allowed_and_says_so() {
    let entries = Documents::default().select(&identity()).compile().unwrap();
    let allowed = Decision::enforced(verdict::ALLOW, rule::NO_POLICY);
    let expected = KernelEntries { hash: entries.hash, ..KernelEntries::fixed(allowed) };
    assert_eq!(entries, expected);
}

#[test]
fn a_longer_prefix_carries_what_a_shorter_one_denies() {
    let rules = [
        "action: deny, to: [{cidr: 10.0.0.0/8}], ports: [{port: 22}]".to_owned(),
        "action: allow, to: [{cidr: 10.0.0.1/32}]".to_owned(),
    ];
    let entries = set(&policy(0, false, false, "", &section("egress", true, &rules)));
    let entries = entries.compile().unwrap();
    let answer = |text: &str, port| entries.egress(text.parse().unwrap(), &[], 6, port).verdict;
    assert_eq!(answer("10.0.0.1", 22), verdict::DENY);
    assert_eq!(answer("::ffff:10.0.0.1", 23), verdict::ALLOW);
    assert_eq!(answer("10.0.0.2", 23), verdict::DENY);
}

#[test]
fn what_the_kernel_cannot_do_is_listed() {
    let digest = "ab".repeat(32);
    let exec = [
        format!("action: allow, paths: [/a], sha256: ['{digest}']"),
        format!("action: deny, paths: [/b], sha256: ['{digest}']"),
        format!("action: deny, sha256: ['{digest}']"),
        "action: deny, paths: [/c]".to_owned(),
    ];
    let egress = [
        "action: deny, to: [{fqdn: a.b}, {cidr: 10.0.0.0/8}]".to_owned(),
        "action: gate, target: t, statements: [{id: s, action: deny, effects: [read]}]".to_owned(),
    ];
    let (exec, egress) = (section("exec", true, &exec), section("egress", false, &egress));
    let entries = set(&format!("{TARGET}{}", policy(0, false, false, &exec, &egress)));
    let entries = entries.compile().unwrap();
    let listed: Vec<_> = entries.unenforceable.iter().map(|one| one.rule.as_str()).collect();
    assert_eq!(listed, ["ex-0", "ex-1", "ex-2", "eg-0", "eg-1", "eg-1", "eg-1"]);
    assert_eq!(entries.exec(Some(b"/a"), b"").verdict, verdict::DENY, "by default");
    assert_eq!(entries.exec(Some(b"/b"), b"").rule, 1, "by path alone");
    assert_eq!(entries.egress("10.0.0.1".parse().unwrap(), &[], 6, 80).verdict, verdict::DENY);
    assert_eq!(entries.egress("fd00::1".parse().unwrap(), &[], 6, 443).verdict, verdict::GATE);
}

#[test]
fn names_are_enforced_but_a_deny_beside_an_open_default_is_said_to_be_inexact() {
    let noted = |default_deny: bool, action: &str| {
        let rule = format!("action: {action}, to: [{{fqdn: a.com}}, {{fqdn: '*.b.com'}}]");
        let set = set(&policy(0, false, false, "", &section("egress", default_deny, &[rule])));
        set.compile().unwrap().unenforceable.len()
    };
    assert_eq!(noted(true, "allow"), 0);
    assert_eq!(noted(false, "allow"), 0);
    assert_eq!(noted(true, "deny"), 0);
    assert_eq!(noted(false, "deny"), 2);
}

#[test]
fn what_is_learned_by_a_wildcard_counts_only_where_the_same_names_below_it_are_told_apart() {
    let ids = |names: &[&str]| {
        let to: Vec<_> = names.iter().map(|name| format!("{{fqdn: '{name}'}}")).collect();
        let rule = format!("action: allow, to: [{}]", to.join(", "));
        let set = set(&policy(0, false, false, "", &section("egress", true, &[rule])));
        let names = set.compile().unwrap().names;
        names.into_iter().map(|name| (name.key, name.id)).collect::<BTreeMap<_, _>>()
    };
    let (wildcard, exact) = (&b"moc.a."[..], &b"moc.a.x\0"[..]);
    let (alone, beside) = (ids(&["*.a.com"]), ids(&["*.a.com", "b.com", "*.com"]));
    let apart = ids(&["*.a.com", "x.a.com"]);
    assert_eq!(alone[wildcard], beside[wildcard]);
    assert_ne!(alone[wildcard], apart[wildcard]);
    assert_eq!(apart[exact], ids(&["x.a.com"])[exact]);
}

#[test]
fn globs_that_explode_are_refused_with_the_policy_named() {
    let rules: Vec<_> = (0..40)
        .map(|n| format!("action: deny, paths: ['/**a**{n}**b**{n}**c?????????{n}**']"))
        .collect();
    let error = set(&policy(0, false, false, &section("exec", false, &rules), "")).compile();
    let error = error.unwrap_err();
    assert!(matches!(error, CompileError::ExecSize { .. }), "{error}");
    assert!(error.to_string().starts_with("exec rules of n/p0 need"), "{error}");
}

/// 200 exec rules with two globs each and 10,000 prefixes below a common one.
fn large() -> String {
    let exec: Vec<_> = (0..200)
        .map(|n| format!("action: deny, paths: ['/usr/bin/tool-{n}*', '/opt/**/bin/app{n}']"))
        .collect();
    let mut egress = vec!["action: deny, to: [{cidr: 10.0.0.0/8}], ports: [{port: 22}]".to_owned()];
    for rule in 0..100 {
        let to: Vec<_> = (0..100).map(|n| format!("{{cidr: 10.{rule}.{n}.0/24}}")).collect();
        let ports = "[{port: 443}, {port: 53, protocol: UDP}]";
        egress.push(format!("action: allow, to: [{}], ports: {ports}", to.join(", ")));
    }
    let (exec, egress) = (section("exec", false, &exec), section("egress", true, &egress));
    policy(0, false, false, &exec, &egress)
}

#[test]
fn two_hundred_rules_and_ten_thousand_prefixes_fit_the_kernel_tables() {
    let set = set(&large());
    let start = std::time::Instant::now();
    let entries = set.compile().unwrap();
    let took = start.elapsed();
    assert_eq!(entries.egress.len(), 10_001);
    let automaton = entries.exec.as_ref().unwrap();
    let states = automaton.cells.len() / usize::from(automaton.columns);
    assert!(states < 5_000, "{states} states");
    assert_eq!(entries.exec(Some(b"/opt/x/y/bin/app7"), b"").verdict, verdict::DENY);
    assert_eq!(entries.exec(Some(b"/opt/x/y/bin/app"), b"").verdict, verdict::ALLOW);
    // The unoptimised build takes about ten times as long as the release build.
    assert!(took.as_secs() < 10, "compiled in {took:?}");
}
