//! Tests of precedence, case by case.

use std::net::IpAddr;

use pcigate_common::maps::verdict::{ALLOW, DENY};

use super::{EgressRequest, ExecRequest, effective};
use crate::document::Documents;
use crate::rule::{RuleRef, verdict_name};
use crate::workload::{Identity, PolicySet};

/// Policies given as (mode, exec default, exec rules); they are called p0, p1, …
fn set(policies: &[(&str, &str, &str)]) -> PolicySet {
    let mut text = String::new();
    for (index, (mode, default, rules)) in policies.iter().enumerate() {
        text += &format!(
            "---\n{{apiVersion: pcigate.dev/v1alpha1, kind: AgentPolicy, metadata: {{name: \
             p{index}, namespace: n}}, spec: {{selector: {{}}, mode: {mode}, exec: \
             {{defaultAction: {default}, rules: [{rules}]}}}}}}\n"
        );
    }
    let documents = Documents::read(&[("p.yaml", text)]).unwrap_or_else(|error| panic!("{error}"));
    documents.select(&Identity { namespace: "n".to_owned(), ..Identity::default() })
}

/// (verdict, rule, audit verdict) in words; "-" = no audit remark.
fn answer(set: &PolicySet, path: Option<&str>, invoked: &str) -> (String, String, String) {
    let path = path.map(str::as_bytes);
    let request = ExecRequest { path, invoked: invoked.as_bytes(), sha256: None, args: Some(&[]) };
    let answer = set.decide_exec(&request);
    let audit = answer.audit.map_or("-", |(verdict, _)| verdict_name(verdict));
    let rule = answer.rule.rule_id().to_owned();
    (verdict_name(answer.verdict).to_owned(), rule, audit.to_owned())
}

fn expect(found: &(String, String, String), verdict: &str, rule: &str, audit: &str) {
    assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), (verdict, rule, audit));
}

const ALLOW_A: &str = "{id: allow-a, action: allow, paths: [/a]}";
const DENY_A: &str = "{id: deny-a, action: deny, paths: ['/*']}";
const AUDIT_DENY_A: &str = "{id: audit-a, action: deny, mode: audit, paths: [/a]}";
const AUDIT_ALLOW_A: &str = "{id: audit-a, action: allow, mode: audit, paths: [/a]}";

#[test]
fn the_strictest_matching_rule_of_all_policies_wins_whatever_the_order() {
    let a = ("enforce", "allow", ALLOW_A);
    let d = ("enforce", "allow", DENY_A);
    for policies in [[a, d], [d, a]] {
        expect(&answer(&set(&policies), Some("/a"), ""), "deny", "deny-a", "-");
    }
    let both = format!("{ALLOW_A}, {DENY_A}");
    expect(&answer(&set(&[("enforce", "allow", &both)]), Some("/a"), ""), "deny", "deny-a", "-");
}

#[test]
fn where_no_rule_matches_any_enforced_default_deny_denies() {
    let policies = set(&[("enforce", "allow", ALLOW_A), ("enforce", "deny", "")]);
    expect(&answer(&policies, Some("/b"), ""), "deny", "default", "-");
    expect(&answer(&policies, Some("/a"), ""), "allow", "allow-a", "-");
    let policies = set(&[("enforce", "allow", ALLOW_A), ("audit", "deny", "")]);
    expect(&answer(&policies, Some("/b"), ""), "allow", "default", "deny");
    expect(&answer(&set(&[]), Some("/b"), ""), "allow", "pcigate/no-policy", "-");
}

#[test]
fn audit_mode_never_changes_what_is_enforced() {
    let found = answer(&set(&[("enforce", "allow", AUDIT_DENY_A)]), Some("/a"), "");
    expect(&found, "allow", "default", "deny");
    let found = answer(&set(&[("enforce", "deny", AUDIT_ALLOW_A)]), Some("/a"), "");
    expect(&found, "deny", "default", "-");
    let found = answer(&set(&[("audit", "deny", DENY_A)]), Some("/a"), "");
    expect(&found, "allow", "default", "deny");
    let both = format!("{ALLOW_A}, {AUDIT_DENY_A}");
    let found = answer(&set(&[("enforce", "deny", &both)]), Some("/a"), "");
    expect(&found, "allow", "allow-a", "deny");
}

#[test]
fn the_invoked_name_can_only_make_the_answer_stricter() {
    let deny = set(&[("enforce", "allow", "{id: sh, action: deny, paths: [/bin/sh]}")]);
    expect(&answer(&deny, Some("/usr/bin/dash"), "/bin/sh"), "deny", "sh", "-");
    expect(&answer(&deny, Some("/usr/bin/dash"), "sh"), "allow", "default", "-");
    let allow = set(&[("enforce", "deny", "{id: sh, action: allow, paths: [/bin/sh]}")]);
    expect(&answer(&allow, Some("/usr/bin/dash"), "/bin/sh"), "deny", "default", "-");
    expect(&answer(&allow, Some("/bin/sh"), "/bin/x"), "allow", "sh", "-");
    let rules = "{id: dash, action: allow, paths: [/usr/bin/dash]}, \
                 {id: sh, action: allow, mode: audit, paths: [/bin/sh]}";
    let audited = set(&[("enforce", "deny", rules)]);
    expect(&answer(&audited, Some("/usr/bin/dash"), "/bin/sh"), "allow", "dash", "-");
}

#[test]
fn an_unresolved_path_is_denied_where_an_enforced_rule_might_have_spoken() {
    let found = |mode, default, rules| answer(&set(&[(mode, default, rules)]), None, "/x");
    expect(&found("enforce", "allow", ALLOW_A), "deny", "pcigate/unresolved-path", "-");
    expect(&found("enforce", "deny", ""), "deny", "pcigate/unresolved-path", "-");
    expect(&found("enforce", "allow", ""), "allow", "default", "-");
    expect(&found("enforce", "allow", AUDIT_DENY_A), "allow", "default", "deny");
    expect(&found("audit", "deny", DENY_A), "allow", "default", "deny");
    expect(&answer(&set(&[]), None, ""), "allow", "pcigate/no-policy", "-");
}

#[test]
fn a_known_digest_is_checked_and_an_unknown_one_errs_on_the_strict_side() {
    let digest = [0xab; 32];
    let rules = format!(
        "{{id: d, action: deny, paths: [/d], sha256: ['{0}']}}, \
         {{id: a, action: allow, paths: [/a], sha256: ['{0}']}}",
        hex::encode(digest)
    );
    let set = set(&[("enforce", "deny", &format!("{rules}, {DENY_B}"))]);
    let verdict = |path: &[u8], sha256| {
        let request = ExecRequest { path: Some(path), invoked: b"", sha256, args: None };
        set.decide_exec(&request).verdict
    };
    assert_eq!(verdict(b"/a", Some(digest)), ALLOW);
    assert_eq!(verdict(b"/a", Some([0; 32])), DENY);
    assert_eq!(verdict(b"/a", None), DENY);
    let request = ExecRequest { path: Some(b"/d"), invoked: b"", sha256: None, args: None };
    assert_eq!(set.decide_exec(&request).rule.rule_id(), "d");
    let request = ExecRequest { sha256: Some([0; 32]), ..request };
    assert_eq!(set.decide_exec(&request).rule, RuleRef::Default);
}

#[test]
fn a_rule_with_arguments_counts_where_one_of_them_matches_or_they_are_not_known() {
    let rules = "{id: inline, action: deny, paths: ['/usr/bin/python3*'], args: ['-*c*']}";
    let set = set(&[("enforce", "allow", rules)]);
    let rule = |args: Option<&[&[u8]]>| {
        let path = Some(b"/usr/bin/python3.11".as_slice());
        let request = ExecRequest { path, invoked: b"python3", sha256: None, args };
        set.decide_exec(&request).rule.rule_id().to_owned()
    };
    assert_eq!(rule(Some(&[b"python3", b"-c", b"print()"])), "inline");
    assert_eq!(rule(Some(&[b"python3", b"-Ic", b"print()"])), "inline");
    assert_eq!(rule(Some(&[b"python3", b"main.py"])), "default");
    assert_eq!(rule(None), "inline");
}

const DENY_B: &str = "{id: b, action: deny, paths: [/b]}";

#[test]
fn a_cluster_policy_s_deny_and_gate_are_not_lifted_by_an_agent_policy() {
    let text = "
{apiVersion: pcigate.dev/v1alpha1, kind: ClusterAgentPolicy, metadata: {name: c}, spec: {
  namespaceSelector: {}, selector: {}, egress: {defaultAction: allow, rules: [
    {id: wide, action: deny, to: [{cidr: 10.0.0.0/8}]},
    {id: db, action: gate, target: n/t, statements: [{id: s, action: allow, effects: [read]}]}]}}}
---
{apiVersion: pcigate.dev/v1alpha1, kind: AgentPolicy, metadata: {name: a, namespace: n}, spec: {
  selector: {}, egress: {defaultAction: allow, rules: [
    {id: narrow, action: allow, to: [{cidr: 10.0.0.1/32}, {cidr: 192.0.2.1/32}]}]}}}
---
{apiVersion: pcigate.dev/v1alpha1, kind: Target, metadata: {name: t, namespace: n}, spec: {
  protocol: http, endpoints: [{cidr: 192.0.2.1/32, port: 80}], upstream: {address: 'a:1'}}}
";
    let documents = Documents::read(&[("p.yaml", text)]).unwrap_or_else(|error| panic!("{error}"));
    let set = documents.select(&Identity { namespace: "n".to_owned(), ..Identity::default() });
    let answer = |address: &str, port| {
        let address = address.parse().unwrap();
        let answer = set.decide_egress(&EgressRequest {
            address: Some(address),
            names: &[],
            protocol: 6,
            port,
        });
        format!("{} by {}", verdict_name(answer.verdict), answer.rule)
    };
    assert_eq!(answer("10.0.0.1", 80), "deny by rule wide of ClusterAgentPolicy c");
    assert_eq!(answer("192.0.2.1", 80), "gate by rule db of ClusterAgentPolicy c");
    assert_eq!(answer("::ffff:192.0.2.1", 81), "allow by rule narrow of AgentPolicy n/a");
}

#[test]
fn addresses_are_taken_as_the_kernel_uses_them() {
    let used = |text: &str| effective(text.parse::<IpAddr>().unwrap()).to_string();
    assert_eq!(used("::ffff:10.0.0.1"), "10.0.0.1");
    assert_eq!(used("0.0.0.0"), "127.0.0.1");
    assert_eq!(used("::ffff:0.0.0.0"), "127.0.0.1");
    assert_eq!(used("::"), "::1");
    assert_eq!(used("::10.0.0.1"), "::a00:1");
}
