//! The entries against `decide`, on random policies and requests, and what they cost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use pcigate_common::maps::{Decision, rule, verdict};
use proptest::prelude::*;
use proptest::sample::select;

use super::{CompileError, KernelEntries};
use crate::decide::{EgressRequest, ExecRequest, IngressRequest};
use crate::document::{Documents, ObjectName};
use crate::glob::tests::{by_recursion, path, pattern};
use crate::rule::RuleRef;
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
    let of = |digests: &[&str]| {
        let digests: Vec<_> = digests.iter().map(|two| two.repeat(32)).collect();
        format!(", sha256: ['{}']", digests.join("', '"))
    };
    let digest = select(vec![String::new(), of(&["ab"]), of(&["cd"]), of(&["cd", "ab"])]);
    let digest = prop_oneof![1 => Just(String::new()), 1 => digest];
    let args = prop::collection::vec(select(vec!["-c", "-*c*", "*", "?", "/**/é", "-?"]), 1..3);
    let paths = prop::collection::vec(pattern(), 0..4);
    let parts = (select(vec!["allow", "deny"]), mode(), paths, digest);
    (parts, prop::option::weighted(0.3, args)).prop_map(|((action, mode, paths, digest), args)| {
        let mut rule = format!("action: {action}{mode}{digest}");
        if !paths.is_empty() || digest.is_empty() {
            let paths = if paths.is_empty() { "/**".to_owned() } else { paths.join("', '") };
            let _ = write!(rule, ", paths: ['{paths}']");
        }
        if let (Some(args), "deny") = (args, action) {
            let _ = write!(rule, ", args: ['{}']", args.join("', '"));
        }
        rule
    })
}

/// A file's digest: not known, one that rules name, one that none names.
fn digest() -> impl Strategy<Value = Option<[u8; 32]>> {
    select(vec![None, Some([0xab; 32]), Some([0xcd; 32]), Some([0; 32])])
}

fn arguments() -> impl Strategy<Value = Option<Vec<&'static str>>> {
    let one = select(vec!["sh", "-c", "-ic", "-é", "/a/é", "", "-", "/é"]);
    prop::option::weighted(0.9, prop::collection::vec(one, 0..4))
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

fn ingress_rule() -> impl Strategy<Value = String> {
    let cidr =
        select(vec!["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "::/0", "::/1"]);
    let port = select(vec!["port: 80", "port: 443, protocol: UDP", "protocol: UDP"]);
    let from = prop::collection::vec(cidr, 1..4);
    let ports = prop::collection::vec(port, 0..3);
    (select(vec!["allow", "deny"]), from, ports, mode()).prop_map(|(action, from, ports, mode)| {
        let from: Vec<_> = from.iter().map(|cidr| format!("{{cidr: '{cidr}'}}")).collect();
        let mut text = format!("action: {action}, from: [{}]", from.join(", "));
        if !ports.is_empty() {
            let ports: Vec<_> = ports.iter().map(|port| format!("{{{port}}}")).collect();
            let _ = write!(text, ", ports: [{}]", ports.join(", "));
        }
        text + mode
    })
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
        requests in prop::collection::vec((
            prop::option::weighted(0.9, path()), prop_oneof![path(), Just(b"sh".to_vec())],
            digest(), arguments(),
        ), 20),
    ) {
        let set = set(&text);
        let entries = set.compile().unwrap();
        for (path, invoked, sha256, args) in &requests {
            let args: Option<Vec<&[u8]>> =
                args.as_ref().map(|args| args.iter().map(|arg| arg.as_bytes()).collect());
            let (path, sha256) = (path.as_deref(), *sha256);
            let request = ExecRequest { path, invoked, sha256, args: args.as_deref() };
            let answer = set.decide_exec(&request);
            let found = entries.exec(&request);
            prop_assert_eq!(found, answer.decision, "{:?}\n{}", request, text);
            prop_assert_eq!(entries.rule(found.rule), answer.rule);
        }
    }

    #[test]
    fn the_entries_answer_every_destination_as_decide_does(
        text in policies(),
        requests in prop::collection::vec(
            (
                address(),
                resolved(),
                select(vec![6_u8, 17, 132, 1]),
                select(vec![80_u16, 443, 53, 0, 9, 15_099]),
            ),
            40,
        ),
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
    fn the_entries_answer_every_source_as_decide_does(
        policies in prop::collection::vec(
            (any::<bool>(), any::<bool>(), prop::collection::vec(ingress_rule(), 0..6)), 0..4),
        requests in prop::collection::vec(
            (address(), select(vec![6_u8, 17]), select(vec![80_u16, 443, 9])), 40),
    ) {
        let one = |(index, (audit, deny, rules)): (usize, &(bool, bool, Vec<String>))| {
            policy(index, false, *audit, "", &section("ingress", *deny, rules))
        };
        let set = set(&policies.iter().enumerate().map(one).collect::<String>());
        let entries = set.compile().unwrap();
        prop_assert_eq!(entries.decides_ingress, !policies.is_empty());
        for (address, protocol, port) in requests {
            let request = IngressRequest { source: address, protocol, port };
            let answer = set.decide_ingress(&request);
            let found = entries.ingress(address, protocol, port);
            prop_assert_eq!(found, answer.decision, "{:?}\n{:?}", request, policies);
            prop_assert_eq!(entries.rule(found.rule), answer.rule);
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
        let exec = set.compile().unwrap().exec.unwrap();
        let automaton = &exec.paths;
        prop_assert!(automaton.cells.len().is_multiple_of(usize::from(automaton.columns)));
        for path in &paths {
            let first = patterns.iter().position(|pattern| by_recursion(pattern, path));
            let row = usize::from(automaton.run(path)).checked_sub(1);
            let rule = row.map(|row| exec.answers[row].decision.rule as usize);
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
fn a_workload_that_is_not_known_well_enough_is_refused_everything() {
    let entries = KernelEntries::refused();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    for path in [None, Some(&b"/bin/true"[..])] {
        let request = ExecRequest { path, invoked: b"", sha256: None, args: None };
        assert_eq!(entries.exec(&request).verdict, verdict::DENY);
    }
    assert_eq!(entries.egress(address, &["example.com"], 6, 443).verdict, verdict::DENY);
    assert_eq!(entries.ingress(address, 6, 443).verdict, verdict::DENY);
    assert!(entries.decides_ingress && !entries.exempt);
    assert_ne!(entries.hash, KernelEntries::exempt().hash);
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

const GATE: &str = "action: gate, target: t, statements: [{id: s, action: deny, effects: [read]}]";

#[test]
fn a_target_is_kept_from_everyone_without_an_enforced_gate_rule() {
    let at = "10.0.0.1".parse().unwrap();
    let rule = |rules: &[String]| {
        let egress = section("egress", false, rules);
        let entries = set(&format!("{TARGET}{}", policy(0, false, false, "", &egress)));
        let entries = entries.compile().unwrap();
        let rule = |protocol, port| entries.rule(entries.egress(at, &[], protocol, port).rule);
        (rule(6, 80), rule(17, 80), rule(6, 81))
    };
    let allow = "action: allow, to: [{cidr: 10.0.0.0/8}]".to_owned();
    let written = |index: usize| RuleRef::Written {
        policy: ObjectName { namespace: "n".to_owned(), name: "p0".to_owned() },
        id: format!("eg-{index}"),
    };
    let kept = (RuleRef::Target, RuleRef::Target, written(0));
    assert_eq!(rule(std::slice::from_ref(&allow)), kept);
    // A gate rule in audit mode lifts nothing; an enforced one is the answer over TCP.
    assert_eq!(rule(&[allow.clone(), format!("{GATE}, mode: audit")]), kept);
    assert_eq!(rule(&[allow, GATE.to_owned()]), (written(1), RuleRef::Target, written(0)));
    // Without any policy, and for workloads nobody knows, it is kept all the same.
    let documents = Documents::read(&[("p.yaml", TARGET)]).unwrap();
    for set in [documents.select(&identity()), documents.select_none()] {
        let entries = set.compile().unwrap();
        assert_eq!(entries.egress(at, &[], 6, 80), Decision::enforced(verdict::DENY, rule::TARGET));
        assert_eq!(entries.egress(at, &[], 6, 81).verdict, verdict::ALLOW);
        assert_eq!(entries.unenforceable.len(), 2, "addresses of name and Service are not known");
    }
}

#[test]
fn no_rule_opens_the_gateway_s_listener() {
    let all = "action: allow, to: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}]".to_owned();
    let set = set(&policy(0, false, false, "", &section("egress", false, &[all])));
    let entries = set.compile().unwrap();
    for (address, port, refused) in [
        ("127.0.0.1", 15_099, true),
        ("::1", 15_099, true),
        ("0.0.0.0", 15_099, true),
        ("::ffff:127.0.0.1", 15_099, true),
        ("127.0.0.2", 15_099, false),
        ("127.0.0.1", 15_098, false),
    ] {
        let decision = entries.egress(address.parse().unwrap(), &[], 6, port);
        assert_eq!(decision.rule == rule::GATEWAY_LISTENER, refused, "{address} {port}");
        assert_eq!(decision.verdict == verdict::DENY, refused, "{address} {port}");
    }
}

#[test]
fn what_the_kernel_cannot_do_is_listed() {
    let egress = [
        "action: deny, to: [{fqdn: a.b}, {cidr: 10.0.0.0/8}]".to_owned(),
        "action: gate, target: t, statements: [{id: s, action: deny, effects: [read]}]".to_owned(),
    ];
    let egress = section("egress", false, &egress);
    let entries = set(&format!("{TARGET}{}", policy(0, false, false, "", &egress)));
    let entries = entries.compile().unwrap();
    let listed: Vec<_> = entries.unenforceable.iter().map(|one| one.rule.as_str()).collect();
    assert_eq!(listed, ["eg-0", "eg-1", "eg-1", "eg-1"]);
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

/// 500 allowed digests are one class, because the same rule names them all.
#[test]
fn digests_that_the_same_rules_name_share_their_answers() {
    let digests: Vec<_> = (0..500).map(|n| format!("{n:064x}")).collect();
    let rules = [
        format!("action: allow, sha256: ['{}']", digests.join("', '")),
        format!("action: deny, paths: [/a], sha256: ['{}']", digests[7]),
    ];
    let entries = set(&policy(0, false, false, &section("exec", true, &rules), ""));
    let exec = entries.compile().unwrap().exec.unwrap();
    assert_eq!((exec.digest_classes, exec.digests.len(), exec.answers.len()), (5, 500, 10));
    let globs: Vec<_> = exec.hashed.iter().map(crate::glob::Glob::text).collect();
    assert_eq!(globs, ["/**", "/a"]);
}

/// What the hook refuses that cannot know the digest is refused whatever the digest is.
#[test]
fn what_is_left_to_a_later_hook_is_never_stricter_than_it() {
    let digest = "ab".repeat(32);
    let rules = [
        format!("action: deny, paths: ['/a*'], sha256: ['{digest}']"),
        format!("action: allow, paths: ['/*b'], sha256: ['{digest}']"),
        "action: deny, paths: ['/*c']".to_owned(),
    ];
    let entries = set(&policy(0, false, false, &section("exec", true, &rules), ""));
    let exec = entries.compile().unwrap().exec.unwrap();
    for row in exec.answers.chunks(exec.digest_classes as usize) {
        let later = &row[pcigate_common::maps::digest_class::LATER as usize];
        let always = row.iter().all(|answer| !answer.decision.allows() || answer == later);
        assert!(later.decision.allows() || always, "{row:?}");
    }
    let later = |path: &[u8]| {
        let row = usize::from(exec.paths.run(path)) - 1;
        exec.answers[row * exec.digest_classes as usize + 2].decision
    };
    assert_eq!((later(b"/c").verdict, later(b"/b").verdict), (verdict::DENY, verdict::ALLOW));
}

#[test]
fn more_rules_with_arguments_than_a_policy_can_hold_are_refused() {
    let rules: Vec<_> =
        (0..65).map(|n| format!("action: deny, paths: [/a], args: ['{n}']")).collect();
    let error = set(&policy(0, false, false, &section("exec", false, &rules), "")).compile();
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("exec rules of n/p0 need more than 64 rules with `args`"), "{error}");
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
    let automaton = &entries.exec.as_ref().unwrap().paths;
    let states = automaton.cells.len() / usize::from(automaton.columns);
    assert!(states < 5_000, "{states} states");
    let verdict = |path: &[u8]| {
        let request = ExecRequest { path: Some(path), invoked: b"", sha256: None, args: None };
        entries.exec(&request).verdict
    };
    assert_eq!(verdict(b"/opt/x/y/bin/app7"), verdict::DENY);
    assert_eq!(verdict(b"/opt/x/y/bin/app"), verdict::ALLOW);
    // The unoptimised build takes about ten times as long as the release build.
    assert!(took.as_secs() < 10, "compiled in {took:?}");
}
