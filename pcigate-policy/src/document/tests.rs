//! Tests of reading documents.

use proptest::prelude::*;

use super::{CertificateRef, Cidr, Documents, EgressEffect, KeyPair, Mode, PasswordRef};
use crate::workload::Identity;

const EXAMPLES: [&str; 2] = [
    include_str!("../../../deploy/examples/billing-bot.yaml"),
    include_str!("../../../deploy/examples/baseline.yaml"),
];

fn mistakes(text: &str) -> Vec<String> {
    let error = Documents::read(&[("p.yaml", text)]).err().unwrap_or_default();
    error.iter().map(ToString::to_string).collect()
}

/// The mistakes of a policy with these `exec` and `egress` rules.
fn rule_mistakes(exec: &str, egress: &str) -> Vec<String> {
    mistakes(&format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: a, namespace: n}}
spec:
  selector: {{}}
  exec: {{defaultAction: allow, rules: [{exec}]}}
  egress: {{defaultAction: deny, rules: [{egress}]}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: db, namespace: n}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 10.0.0.5/32, port: 5432}}]
  upstream: {{address: 'db:1'}}
"
    ))
}

fn policy(name: &str, selector: &str) -> String {
    format!(
        "{{apiVersion: pcigate.dev/v1alpha1, kind: AgentPolicy, metadata: {name}, \
         spec: {{selector: {selector}, exec: {{defaultAction: deny}}}}}}\n---\n"
    )
}

fn identity(namespace: &str, account: &str, labels: &[(&str, &str)]) -> Identity {
    Identity {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Identity::default()
    }
}

#[test]
fn the_examples_are_read_completely() {
    let files = [("a.yaml", EXAMPLES[0]), ("b.yaml", EXAMPLES[1])];
    let documents = Documents::read(&files).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [baseline, bot] = documents.policies() else { panic!("not two policies") };
    assert_eq!((baseline.kind(), bot.kind()), ("ClusterAgentPolicy", "AgentPolicy"));
    let exec = bot.exec.as_ref().unwrap();
    assert_eq!((exec.rules[1].mode, exec.rules[2].mode), (Mode::Enforce, Mode::Audit));
    assert!(!exec.rules[1].args.is_empty(), "inline code");
    let egress = &bot.egress.as_ref().unwrap().rules;
    assert_eq!(egress[1].about.ticket.as_deref(), Some("NET-42"));
    let EgressEffect::Gate { target, statements, .. } = &egress[2].effect else {
        panic!("no gate")
    };
    assert_eq!(statements[0].max_rows, Some(500));
    let credential = documents.targets()[target].credential.as_ref().unwrap();
    assert_eq!(credential.password, Some(PasswordRef::File("/run/pcigate/cards-db".to_owned())));
}

#[test]
fn all_mistakes_of_all_files_come_at_once_with_their_places() {
    let first = "apiVersion: pcigate.dev/v1\nkind: AgentPolicy\nmetadata: {name: A_b}\nspec:\n  \
                 selector: {}\n  egress:\n    rules:\n      - id: x\n        action: alow\n        \
                 to: [{cidr: 10.0.0.5/8}]\n        ports: [{port: 0, protcol: TCP}]\n";
    let second = "kind: Polcy\napiVersion: pcigate.dev/v1alpha1\n---\na: [\n";
    let third = "apiVersion: pcigate.dev/v1alpha1\nkind: Agentpolicy\n";
    let error = Documents::read(&[("1.yaml", first), ("2.yaml", second), ("3.yaml", third)]);
    let text = error.unwrap_err().to_string();
    for line in [
        "1.yaml:1: apiVersion: `pcigate.dev/v1` is not known; did you mean",
        "1.yaml:3: metadata.name: `A_b` is not a DNS label",
        "1.yaml:3: metadata.namespace: is required",
        "1.yaml:7: spec.egress.defaultAction: is required",
        "1.yaml:9: spec.egress.rules[0].action: `alow` is not known; did you mean `allow`?",
        "1.yaml:10: spec.egress.rules[0].to[0].cidr: `10.0.0.5/8` has host bits set; \
         write `10.0.0.0/8`",
        "1.yaml:11: spec.egress.rules[0].ports[0].port: must be a whole number from 1 to 65535",
        "1.yaml:11: spec.egress.rules[0].ports[0].protcol: unknown field; did you mean `protocol`?",
        "2.yaml:5: not valid YAML",
        "3.yaml:2: kind: `Agentpolicy` is not known; did you mean `AgentPolicy`?",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn every_wrong_rule_is_refused_with_its_reason() {
    for (exec, egress, message) in [
        ("{id: a, action: ask, paths: [/a]}", "", "`ask` is not available yet"),
        ("{action: deny, paths: [/a]}", "", "spec.exec.rules[0].id: is required"),
        ("{id: A, action: deny, paths: [/a]}", "", "`A` is not an id"),
        ("{id: a, action: deny}", "", "matches nothing"),
        ("{id: a, action: deny, paths: []}", "", "is an empty list"),
        ("{id: a, action: deny, paths: [bin/sh]}", "", "is not absolute"),
        ("{id: a, action: deny, paths: ['/b[ab]']}", "", "which is not supported"),
        ("{id: a, action: deny, sha256: [abc]}", "", "is not a SHA-256"),
        ("{id: a, action: deny, args: ['-c']}", "", "matches nothing; add `paths`"),
        ("{id: a, action: deny, paths: [/a], args: ['']}", "", "is empty; write the argument"),
        ("{id: a, action: allow, paths: [/a], args: ['-c']}", "", "belongs to `action: deny`"),
        (
            "{id: a, action: deny, paths: [/a]}",
            "{id: a, action: deny}",
            "egress.rules[0].id: `a` is used twice",
        ),
        ("", "{id: a, action: ask}", "`ask` is not known; known: allow, deny, gate"),
        ("", "{id: a, action: allow}", "to: is required for allow"),
        ("", "{id: a, action: allow, to: []}", "is an empty list"),
        ("", "{id: a, action: deny, to: [{cidr: 10.0.0.1}]}", "write `10.0.0.1/32`"),
        ("", "{id: a, action: deny, to: [{cidr: '::ffff:10.0.0.0/104'}]}", "write `10.0.0.0/8`"),
        ("", "{id: a, action: deny, to: [{cidr: 10.0.0.0/33}]}", "the length must be 0 to 32"),
        ("", "{id: a, action: deny, to: [{}]}", "exactly one of `cidr` and `fqdn`"),
        ("", "{id: a, action: deny, to: [{fqdn: 'a.*.b'}]}", "is not a host name"),
        ("", "{id: a, action: deny, to: [{fqdn: 10.0.0.1}]}", "is not a host name"),
        ("", "{id: a, action: deny, ports: [{port: 65536}]}", "from 1 to 65535"),
        ("", "{id: a, action: deny, ports: [{}]}", "needs a `port`, a `protocol`, or both"),
        ("", "{id: a, action: deny, ports: [{port: 1, protocol: ICMP}]}", "known: TCP, UDP, SCTP"),
        ("", "{id: a, action: deny, target: db}", "belongs to `action: gate`"),
        ("", "{id: a, action: gate, target: db}", "statements: is required"),
        (
            "",
            "{id: a, action: gate, target: no, statements: \
             [{id: s, action: deny, effects: [read]}]}",
            "there is no Target n/no",
        ),
        (
            "",
            "{id: a, action: gate, target: db, to: [{cidr: 10.0.0.0/8}], statements: \
             [{id: s, action: deny, effects: [reads]}]}",
            "did you mean `read`?",
        ),
        ("{id: a, action: deny, paths: [/a], mode: off}", "", "`off` is not known"),
    ] {
        let found = rule_mistakes(exec, egress);
        assert!(found.iter().any(|m| m.contains(message)), "{message}\nnot in\n{found:#?}");
    }
    let gate =
        "{id: g, action: gate, target: db, statements: [{id: s, action: ask, effects: [ddl]}]}";
    assert_eq!(rule_mistakes("{id: a, action: deny, paths: [/a]}", gate), [""; 0]);
}

#[test]
fn every_wrong_ingress_rule_is_refused_with_its_reason() {
    for (rule, message) in [
        ("{id: a, action: gate, from: [{cidr: 10.0.0.0/8}]}", "known: allow, deny"),
        ("{id: a, action: allow}", "ingress.rules[0].from: is required for allow"),
        ("{id: a, action: allow, from: []}", "is an empty list"),
        ("{id: a, action: deny, from: [{}]}", "from[0].cidr: is required"),
        ("{id: a, action: deny, from: [{fqdn: a.b}]}", "fqdn: unknown field"),
        ("{id: a, action: deny, to: [{cidr: 10.0.0.0/8}]}", "to: unknown field"),
    ] {
        let found = mistakes(&format!(
            "{{apiVersion: pcigate.dev/v1alpha1, kind: AgentPolicy, metadata: {{name: a, \
             namespace: n}}, spec: {{selector: {{}}, ingress: {{defaultAction: deny, \
             rules: [{rule}]}}}}}}"
        ));
        assert!(found.iter().any(|m| m.contains(message)), "{message}\nnot in\n{found:#?}");
    }
}

#[test]
fn every_wrong_target_is_refused_with_its_reason() {
    for (spec, message) in [
        ("endpoints: [{cidr: 10.0.0.0/8, service: s, port: 1}]", "exactly one of `cidr`, `serv"),
        ("endpoints: [{cidr: 10.0.0.0/8}]", "endpoints[0].port: is required"),
        ("endpoints: []", "is an empty list"),
        ("upstream: {address: db}", "is not host:port"),
        ("upstream: {address: 'db:1', tls: {mode: require, caFile: /a}}", "verify-full` only"),
        (
            "credential: {username: u}",
            "needs `passwordFile` or `secretRef`, `certFile` and `keyFile`, or",
        ),
        ("credential: {username: u, passwordFile: a}", "is not an absolute path"),
        ("credential: {username: u, password: hunter2}", "password: unknown field"),
        ("mask: {default: none}", "known: truncate, last4, full"),
        ("columns: [{table: a, column: b, class: cvv}]", "known: pan, sad"),
        ("clientTls: {secretRef: {}}", "clientTls.secretRef.name: is required"),
        ("clientTls: {certFile: /a}", "either `certFile` and `keyFile`, or `secretRef`"),
        ("clientTls: {required: true}", "either `certFile` and `keyFile`, or `secretRef`"),
        ("clientTls: {certFile: /a, keyFile: b}", "is not an absolute path"),
        ("token: {required: true, audience: a, issuer: b, jwksFile: /c}", "add `clientTls`"),
        ("token: {audience: a, issuer: b, jwksFile: /c}", "token.required: is required"),
        ("token: {required: false, issuer: b, jwksFile: /c}", "token.audience: is required"),
        ("token: {required: true, audience: a}", "token: needs either `issuer`"),
        (
            "token: {required: true, audience: a, tokenReview: true, jwksFile: /c}",
            "token: needs either `issuer`",
        ),
        ("sessionRole: {grants: [r]}", "sessionRole: needs a `credential`"),
        ("sessionRole: {}", "sessionRole.grants: is required"),
        ("sessionRole: {grants: [''], prefix: pg_x}", "is not the name of a role"),
        ("sessionRole: {grants: [r], prefix: pg_x}", "cannot begin the name of a role"),
        (
            "credential: {username: r, passwordFile: /a}, sessionRole: {grants: [r]}",
            "names the credential's own role",
        ),
        ("session: {}", "session: limits nothing"),
        ("session: {maxRows: 0}", "session.maxRows: must be a whole number from 1"),
        ("session: {maxDuration: 10}", "session.maxDuration: expected text, found"),
        ("session: {maxDuration: 10d}", "is not a time from 1s to 168h"),
        ("session: {idle: 169h}", "is not a time from 1s to 168h"),
        ("session: {idle: -1s}", "is not a time from 1s to 168h"),
    ] {
        let found = mistakes(&format!(
            "{{apiVersion: pcigate.dev/v1alpha1, kind: Target, metadata: {{name: t, \
             namespace: n}}, spec: {{protocol: postgres, {spec}}}}}"
        ));
        assert!(found.iter().any(|m| m.contains(message)), "{message}\nnot in\n{found:#?}");
        assert!(!found.concat().contains("hunter2"), "{found:#?}");
    }
}

#[test]
fn a_name_is_given_once_and_a_destination_belongs_to_one_namespace() {
    let twice = policy("{name: a, namespace: n}", "{}").repeat(2);
    let found = mistakes(&twice);
    assert!(found[0].contains("AgentPolicy n/a is given twice, first at p.yaml:1"), "{found:#?}");
    let target = |namespace: &str, cidr: &str| {
        format!(
            "{{apiVersion: pcigate.dev/v1alpha1, kind: Target, metadata: {{name: t, namespace: \
             {namespace}}}, spec: {{protocol: http, endpoints: [{{cidr: '{cidr}', port: 1}}], \
             upstream: {{address: 'a:1'}}}}}}\n---\n"
        )
    };
    let overlap = [target("a", "10.0.0.0/8"), target("b", "::/0"), target("c", "10.1.0.0/16")];
    let found = mistakes(&overlap.concat());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("10.1.0.0/16 port 1 overlaps Target a/t"), "{found:#?}");
}

#[test]
fn a_policy_selects_by_namespace_labels_and_service_account() {
    let text = [
        policy("{name: all, namespace: n}", "{}"),
        policy("{name: labels, namespace: n}", "{matchLabels: {app: a}}"),
        policy("{name: account, namespace: n}", "{serviceAccountNames: [x, y]}"),
        policy("{name: both, namespace: n}", "{matchLabels: {app: a}, serviceAccountNames: [y]}"),
    ]
    .concat();
    let documents = Documents::read(&[("p.yaml", text)]).unwrap();
    let names = |identity: &Identity| {
        let set = documents.select(identity);
        set.policies().iter().map(|p| p.name.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&identity("n", "z", &[])), ["all"]);
    assert_eq!(names(&identity("n", "x", &[("app", "a")])), ["account", "all", "labels"]);
    assert_eq!(names(&identity("n", "y", &[("app", "a")])).len(), 4);
    assert_eq!(names(&identity("n", "y", &[("app", "b")])), ["account", "all"]);
    assert_eq!(names(&identity("m", "y", &[("app", "a")])), [""; 0]);
}

#[test]
fn a_cluster_policy_selects_by_namespace_labels_of_which_the_name_is_always_there() {
    let text = |labels: &str| {
        format!(
            "{{apiVersion: pcigate.dev/v1alpha1, kind: ClusterAgentPolicy, metadata: {{name: a}}, \
             spec: {{namespaceSelector: {{matchLabels: {labels}}}, selector: {{}}, \
             exec: {{defaultAction: deny}}}}}}"
        )
    };
    let selects = |labels: &str, identity: &Identity| {
        let documents = Documents::read(&[("p.yaml", text(labels))]).unwrap();
        !documents.select(identity).policies().is_empty()
    };
    let mut who = identity("n", "x", &[]);
    assert!(selects("{kubernetes.io/metadata.name: n}", &who));
    assert!(!selects("{kubernetes.io/metadata.name: m}", &who));
    assert!(!selects("{pci: scope}", &who));
    who.namespace_labels.insert("pci".to_owned(), "scope".to_owned());
    assert!(selects("{pci: scope}", &who));
    assert!(selects("{}", &who));
}

#[test]
fn the_hash_is_of_the_content_not_of_the_layout() {
    let hash = |files: &[(&str, &str)]| {
        let documents = Documents::read(files).unwrap();
        documents.select(&identity("n", "x", &[])).hash()
    };
    let head = "apiVersion: pcigate.dev/v1alpha1\nkind: AgentPolicy\n";
    let a = format!(
        "{head}metadata: {{name: a, namespace: n}}\nspec: {{selector: {{}}, \
         exec: {{defaultAction: deny}}}}"
    );
    let moved = "# c\nkind: AgentPolicy\nspec:\n  exec:\n    defaultAction: 'deny'\n  \
                 selector: {}\nmetadata:\n  namespace: n\n  name: a\n\
                 apiVersion: pcigate.dev/v1alpha1\n";
    let b = a.replace("name: a", "name: b");
    let first = hash(&[("1", &a), ("2", &b)]);
    assert_eq!(first, hash(&[("x", &b), ("y", moved)]));
    assert_ne!(first, hash(&[("1", &a)]));
    assert_ne!(first, hash(&[("1", &a.replace("deny", "allow")), ("2", &b)]));
}

#[test]
fn prefixes_contain_what_they_say() {
    let contains =
        |cidr: &str, address: &str| Cidr::parse(cidr).unwrap().contains(address.parse().unwrap());
    assert!(contains("10.0.0.0/8", "10.255.0.1"));
    assert!(!contains("10.0.0.0/8", "11.0.0.0"));
    assert!(contains("0.0.0.0/0", "1.2.3.4"));
    assert!(!contains("::/0", "1.2.3.4"));
    assert!(contains("::/0", "fe80::1"));
    assert!(contains("fd00::/8", "fdff::"));
    assert!(contains("::1/128", "::1"));
}

proptest! {
    #[test]
    fn no_text_makes_reading_documents_panic(text in "\\PC*") {
        let _ = Documents::read(&[("p.yaml", text)]);
    }

    #[test]
    fn no_damaged_policy_makes_reading_documents_panic(
        which in 0..2_usize,
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(vec![
                "", " ", "\n", ":", "- ", "{", "}", "[", "]", "~", "0", "-1", "1e99", "'", "\"",
                "*a", "&a ", "!x ", "null", "é", "/", "*", "::/0", "\t", "---\n", "true", "[]",
            ])),
            1..6,
        ),
    ) {
        let mut text: Vec<char> = EXAMPLES[which].chars().collect();
        for (index, cut, insert) in edits {
            let at = index.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert.chars());
            if text.is_empty() {
                break;
            }
        }
        if let Ok(documents) = Documents::read(&[("p.yaml", text.iter().collect::<String>())]) {
            let _ = documents.select(&identity("payments", "billing-bot", &[])).compile();
        }
    }
}

#[test]
fn how_clients_get_in_and_what_a_session_may_use_are_read_completely() {
    let text = "
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: t, namespace: n}
spec:
  protocol: postgres
  endpoints: [{cidr: 10.0.0.5/32, port: 5432}]
  upstream: {address: \"10.0.0.5:5432\", tls: {mode: disable}}
  credential: {username: admin, passwordFile: /p}
  clientTls: {certFile: /c, keyFile: /k, required: true}
  token: {required: true, audience: db, issuer: https://issuer.example, jwksFile: /j}
  sessionRole: {grants: [reader, \"Odd Name\"]}
  session: {maxRows: 10, maxBytes: 20, maxStatements: 30, maxDuration: 8h, idle: 15m}
---
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: a, namespace: n}
spec:
  selector: {}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - id: g
        action: gate
        target: t
        statements: [{id: s, action: allow, effects: [read]}]
        session: {idle: 90s}
";
    let documents =
        Documents::read(&[("a.yaml", text)]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let target = documents.targets().values().next().unwrap();
    let tls = target.client_tls.as_ref().unwrap();
    let files = CertificateRef::Files(KeyPair { cert: "/c".to_owned(), key: "/k".to_owned() });
    assert_eq!((&tls.certificate, tls.required), (&files, true));
    assert_eq!(target.token.as_ref().unwrap().jwks_file, "/j");
    let role = target.session_role.as_ref().unwrap();
    assert_eq!((role.prefix.as_str(), role.grants.len()), ("pcigate_", 2));
    let session = &target.session;
    assert_eq!((session.max_rows, session.max_bytes), (Some(10), Some(20)));
    assert_eq!(session.max_duration.unwrap().as_secs(), 8 * 3600);
    let rule = &documents.policies()[0].egress.as_ref().unwrap().rules[0];
    let EgressEffect::Gate { session, .. } = &rule.effect else { panic!("no gate") };
    assert_eq!(session.idle.unwrap().as_secs(), 90);
    assert_eq!((session.max_rows, session.max_statements), (None, None));
}

#[test]
fn a_credential_is_a_password_a_certificate_or_both() {
    let read = |credential: &str, mode: &str| {
        let text = format!(
            "apiVersion: pcigate.dev/v1alpha1\nkind: Target\nmetadata: {{name: t, namespace: n}}\n\
             spec:\n  protocol: postgres\n  endpoints: [{{cidr: 10.0.0.5/32, port: 5432}}]\n  \
             upstream: {{address: \"10.0.0.5:5432\", tls: {{mode: {mode}}}}}\n  \
             credential: {{username: u, {credential}}}\n"
        );
        let documents = Documents::read(&[("t.yaml", text)]).map_err(|all| all.to_string())?;
        Ok::<_, String>(documents.targets().values().next().unwrap().credential.clone().unwrap())
    };
    let pair = KeyPair { cert: "/c".to_owned(), key: "/k".to_owned() };
    let pair = Some(CertificateRef::Files(pair));
    let own = read("certFile: /c, keyFile: /k", "require").unwrap();
    assert_eq!((own.password, own.certificate), (None, pair.clone()));
    let both = read("certFile: /c, keyFile: /k, passwordFile: /p", "require").unwrap();
    assert_eq!(both.certificate, pair);
    assert!(both.password.is_some());
    for (credential, mode, wrong) in [
        ("certFile: /c", "require", "one of `certFile` and `keyFile`"),
        ("passwordFile: /p, secretRef: {name: s, key: k}", "require", "remove one"),
        ("certFile: /c, keyFile: /k", "disable", "over TLS only"),
    ] {
        let told = read(credential, mode).unwrap_err();
        assert!(told.contains(wrong), "{told}");
    }
}
