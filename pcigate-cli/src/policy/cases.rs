//! `pcigate policy test`: cases from YAML files, each a request and the answer it must get.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use pcigate_policy::decide::{EgressRequest, ExecRequest, IngressRequest};
use pcigate_policy::document::Documents;
use pcigate_policy::explain::{Explanation, Request, explain};
use pcigate_policy::rule::verdict_name;
use pcigate_policy::workload::Identity;
use pcigate_policy::yaml::{self, Fields, Mistakes, choice};

use super::destination::{Destination, Host, destination, shown, source};
use super::explain::{absolute, digest, pod};
use super::files;
use crate::failure::{Answer, Failure};

/// Which cases.
#[derive(Args, Debug)]
#[command(after_help = "A file of cases:

  policies: [policy.yaml]        # files or directories, beside this file; or --policies
  workload:                      # who asks, unless a case says otherwise
    pod: ci/builder-1
    serviceAccount: builder
    labels: {app: builder}
    namespaceLabels: {team: build}
  cases:
    - {exec: /usr/bin/git, args: [clone], expect: allow}
    - {name: no shells, exec: /usr/bin/dash, invoked: /bin/sh, expect: deny, rule: no-shells}
    - {connect: \"tcp:10.0.0.7:443\", expect: allow}
    - {connect: \"db.payments:5432\", expect: gate, rule: payments/bot/db}
    - {accept: \"10.244.0.7:8080\", expect: deny}    # from that address, at its own port

`expect` is allow, gate or deny; `audit` what would be if nothing were in audit mode; `rule` the id
of the rule behind the verdict, or POLICY/ID, or `default`. A case without `args` or `sha256` asks
about a program whose arguments are none and whose digest is not known.

Exit code 1 if any case fails, 2 if a file has a mistake.")]
pub struct Options {
    /// Files of cases.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Files of policy documents, or directories, instead of those the files name; may be given
    /// several times.
    #[arg(long, value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
}

/// One case.
struct Case {
    name: String,
    line: usize,
    identity: Identity,
    asked: Asked,
    expect: &'static str,
    audit: Option<&'static str>,
    rule: Option<String>,
}

enum Asked {
    Exec { path: String, invoked: String, args: Vec<String>, sha256: Option<[u8; 32]> },
    Connect(Destination),
    Accept(IngressRequest),
}

struct File {
    policies: Vec<PathBuf>,
    cases: Vec<Case>,
}

const VERDICTS: &[(&str, &str)] =
    &[("allow", "allow"), ("gate", "gate"), ("ask", "ask"), ("deny", "deny")];

/// Runs all cases of all files.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let mut out = io::stdout().lock();
    let (mut passed, mut failed) = (0, 0);
    for path in &options.files {
        let file = read(path)?;
        let documents = documents(path, &file, &options.policies)?;
        for case in &file.cases {
            let explanation = ask(&documents, case);
            match wrong(case, &explanation) {
                None => {
                    passed += 1;
                    writeln!(out, "ok      {}", case.name)?;
                }
                Some(wrong) => {
                    failed += 1;
                    writeln!(out, "FAILED  {} ({}:{})", case.name, path.display(), case.line)?;
                    writeln!(out, "  {wrong}")?;
                    for line in explanation.to_string().lines() {
                        writeln!(out, "  {line}")?;
                    }
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    out.flush()?;
    Ok(if failed == 0 { Answer::Yes } else { Answer::No })
}

fn documents(path: &Path, file: &File, given: &[PathBuf]) -> Result<Documents, Failure> {
    let beside = path.parent().unwrap_or(Path::new(""));
    let named: Vec<PathBuf> = file.policies.iter().map(|policy| beside.join(policy)).collect();
    let paths = if given.is_empty() { &named } else { given };
    if paths.is_empty() {
        return Err(Failure::input(format!(
            "{} names no policies: add `policies: [FILE]`, or give --policies",
            path.display()
        )));
    }
    let (_, read) = files::documents(paths)?;
    read.map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })
}

fn read(path: &Path) -> Result<File, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::because(format!("cannot read {name}: give a readable file of cases"), error)
    })?;
    parse(&name, &text).map_err(|mistakes| {
        Failure::because(format!("{name} holds no cases that can be run"), mistakes)
    })
}

fn parse(file: &str, text: &str) -> Result<File, Mistakes> {
    let root = yaml::read_one(file, text)?;
    let mut mistakes = Mistakes::default();
    let mut top = Fields::of(&root, "", &mut mistakes);
    let policies = top.parsed_list("policies", |text| Ok(PathBuf::from(text)));
    let common = top.fields("workload").map(workload);
    let items = top.list("cases");
    if items.is_empty() {
        top.mistake("cases", "holds none; add one such as {exec: /bin/sh, expect: deny}");
    }
    let mut cases = Vec::new();
    for item in &items {
        let fields = Fields::of(item.node, item.path.as_str(), top.mistakes());
        cases.extend(case(fields, common.as_ref()));
    }
    top.finish();
    mistakes.into_result(File { policies, cases })
}

fn case(mut fields: Fields<'_, '_>, common: Option<&Identity>) -> Option<Case> {
    let line = fields.line();
    let own = fields.fields("workload").map(workload);
    if own.is_none() && common.is_none() {
        fields.mistake("workload", "is required: who asks? Give it here or for the whole file");
    }
    let exec = fields.parsed("exec", absolute);
    let connect = fields.parsed("connect", destination);
    let accept = fields.parsed("accept", source);
    let is_exec = fields.has("exec");
    let asked = [is_exec, fields.has("connect"), fields.has("accept")];
    if asked.iter().filter(|asked| **asked).count() != 1 {
        fields.mistake("", "needs exactly one of `exec`, `connect` and `accept`");
    }
    let invoked = fields.string("invoked").unwrap_or_default();
    let args = fields.string_list("args");
    let sha256 = fields.parsed("sha256", digest);
    if !is_exec {
        for name in ["invoked", "args", "sha256"] {
            if fields.has(name) {
                fields.mistake(name, "belongs to `exec`; remove it");
            }
        }
    }
    let expect = fields.required_parsed("expect", |text| choice(text, VERDICTS));
    let audit = fields.parsed("audit", |text| choice(text, VERDICTS));
    let rule = fields.string("rule");
    let name = fields.string("name");
    fields.finish();
    let asked = match (exec, connect, accept) {
        (Some(path), _, _) => Asked::Exec { path, invoked, args, sha256 },
        (None, Some(destination), _) => Asked::Connect(destination),
        (None, None, Some(ingress)) => Asked::Accept(ingress),
        (None, None, None) => return None,
    };
    let identity = own.or_else(|| common.cloned())?;
    let name = name.unwrap_or_else(|| asked.name());
    Some(Case { name, line, identity, asked, expect: expect?, audit, rule })
}

fn workload(mut fields: Fields<'_, '_>) -> Identity {
    let (namespace, pod) = fields.required_parsed("pod", pod).unwrap_or_default();
    let account = fields.string("serviceAccount");
    let identity = Identity {
        namespace,
        pod,
        pod_uid: String::new(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        labels: fields.string_map("labels"),
        namespace_labels: fields.string_map("namespaceLabels"),
    };
    fields.finish();
    identity
}

impl Asked {
    fn name(&self) -> String {
        match self {
            Self::Exec { path, args, .. } if args.is_empty() => format!("exec {path}"),
            Self::Exec { path, args, .. } => format!("exec {path} {}", args.join(" ")),
            Self::Connect(Destination { to: Host::Address(address), protocol, port }) => {
                format!("connect {}", shown(*address, *protocol, *port))
            }
            Self::Connect(Destination { to: Host::Name(name), protocol, port }) => {
                let protocol = match protocol {
                    17 => "udp:",
                    132 => "sctp:",
                    _ => "tcp:",
                };
                format!("connect {protocol}{name}:{port}")
            }
            Self::Accept(IngressRequest { source, protocol, port }) => {
                format!("accept {}", shown(*source, *protocol, *port))
            }
        }
    }
}

fn ask(documents: &Documents, case: &Case) -> Explanation {
    match &case.asked {
        Asked::Exec { path, invoked, args, sha256 } => {
            let called = if invoked.is_empty() { path } else { invoked };
            let all = std::iter::once(called.as_bytes()).chain(args.iter().map(String::as_bytes));
            let all: Vec<&[u8]> = all.collect();
            let request = ExecRequest {
                path: Some(path.as_bytes()),
                invoked: invoked.as_bytes(),
                sha256: *sha256,
                args: Some(&all),
            };
            explain(documents, &case.identity, &Request::Exec(request))
        }
        Asked::Connect(Destination { to, protocol, port }) => {
            let (address, name) = match to {
                Host::Address(address) => (Some(*address), None),
                Host::Name(name) => (None, Some(name.as_str())),
            };
            let names = name.as_slice();
            let (protocol, port) = (*protocol, *port);
            let request = EgressRequest { address, names, protocol, port };
            explain(documents, &case.identity, &Request::Egress(request))
        }
        Asked::Accept(request) => explain(documents, &case.identity, &Request::Ingress(*request)),
    }
}

/// What is not as it must be, in a sentence.
fn wrong(case: &Case, explanation: &Explanation) -> Option<String> {
    let answer = &explanation.answer;
    let verdict = verdict_name(answer.verdict);
    if verdict != case.expect {
        return Some(format!("expected {}, got {verdict}", case.expect));
    }
    let audit = answer.audit.as_ref().map_or(verdict, |(verdict, _)| verdict_name(*verdict));
    if let Some(expected) = case.audit.filter(|expected| *expected != audit) {
        return Some(format!("expected {expected} if nothing were in audit mode, got {audit}"));
    }
    let rule = case.rule.as_ref()?;
    let (policy, id) = (answer.rule.policy_name(), answer.rule.rule_id());
    if rule == id || *rule == format!("{policy}/{id}") {
        return None;
    }
    Some(format!("expected {verdict} by rule {rule}, got it by {}", answer.rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: &str = "workload: {pod: ci/bot}\n";

    fn mistakes(text: &str) -> String {
        parse("cases.yaml", text).err().map(|mistakes| mistakes.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_mistake_of_a_file_of_cases_is_reported_with_its_line() {
        let text = mistakes(
            "cases:\n- {exec: sh, expect: deny}\n- {exec: /bin/sh, connect: 'x:1', expect: no}\n\
             - {connect: 'x:1', args: [a], expect: allow, worklod: 1}\n",
        );
        for part in [
            "cases.yaml:2: cases[0].workload: is required",
            "cases.yaml:2: cases[0].exec: `sh` is not absolute",
            "cases.yaml:3: cases[1]: needs exactly one",
            "cases.yaml:3: cases[1].expect: `no` is not known",
            "cases.yaml:4: cases[2].args: belongs to `exec`",
            "cases.yaml:4: cases[2].worklod: unknown field",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(mistakes(WORKLOAD).contains("cases"), "no cases are no test");
    }

    #[test]
    fn a_case_has_the_workload_of_its_file_unless_it_names_its_own() {
        let text = format!(
            "{WORKLOAD}cases:\n- {{exec: /bin/sh, expect: deny}}\n- {{exec: /bin/sh, args: [-c], \
             expect: deny, workload: {{pod: a/b, serviceAccount: c}}}}\n"
        );
        let file = parse("cases.yaml", &text).expect("cases");
        let of = |case: &Case| (case.identity.pod.clone(), case.identity.service_account.clone());
        let all: Vec<_> = file.cases.iter().map(of).collect();
        assert_eq!(all, [("bot".into(), "default".into()), ("b".into(), "c".into())]);
        assert_eq!(file.cases.get(1).map(|case| case.name.as_str()), Some("exec /bin/sh -c"));
    }
}
