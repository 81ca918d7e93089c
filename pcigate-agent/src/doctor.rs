//! `pcigate-agent doctor`: what this node can and cannot enforce.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use pcigate_agent::{
    btf::{self, Btf},
    cgroup,
    config::Config,
    coverage::{self, Confinement},
    draft::{Capability, CapabilityState},
    enforcer::{self, Enforcer, ExecRefusal, Options as Load},
    offsets, policies,
    preflight::{self, Check, State},
};
use pcigate_common::settings::Settings;
use pcigate_policy::entries::Unenforceable;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
Loads and attaches the kernel programs for a moment, to an empty cgroup of their own. Exit code 0: \
this node can enforce (perhaps not everything: read the table); 1: it cannot.")]
pub struct Options {
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = preflight::BPFFS)]
    bpffs: PathBuf,
    /// Also look at this configuration and its policies.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// table or json.
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

struct Findings {
    checks: Vec<Check>,
    capabilities: Vec<Capability>,
    rules: Vec<Unenforceable>,
}

/// Looks and prints.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let findings = look(options)?;
    match options.output {
        Output::Table => print!("{}", table(&findings)),
        Output::Json => println!("{:#}", as_json(&findings)),
    }
    let able = findings.checks.iter().all(|check| check.state != State::Missing);
    Ok(u8::from(!able))
}

fn look(options: &Options) -> anyhow::Result<Findings> {
    let mut checks = preflight::checks();
    let mut capabilities = Vec::new();
    if checks.iter().all(|check| check.state != State::Missing) {
        match trial() {
            Ok(refusal) => {
                checks.push(check(State::Ok, "load and attach".into(), ""));
                let bpffs = checks.iter().find(|check| check.name == "bpffs");
                let pinned = bpffs.is_some_and(|check| check.state == State::Ok);
                capabilities = coverage::capabilities(&refusal, Confinement::Runtime { pinned });
            }
            Err(error) => {
                let remedy = "report it with the kernel's version; `pcigate-agent exec -- true` \
                              shows the end of what the kernel says";
                checks.push(check(State::Missing, error.to_string(), remedy));
            }
        }
    }
    checks.extend(pins(&options.bpffs)?);
    let mut rules = Vec::new();
    if let Some(path) = &options.config {
        let config = Config::read(path)?;
        let read = if config.custom_resources { policies::read_part } else { policies::read };
        let documents = read(&config.policies)?;
        let of = |policy: &std::sync::Arc<pcigate_policy::document::Policy>| {
            documents.select(&policy.sample_workload()).unenforceable()
        };
        rules = documents.policies().iter().flat_map(of).collect();
        rules.sort_by(|a, b| (&a.policy, &a.rule, &a.why).cmp(&(&b.policy, &b.rule, &b.why)));
        rules.dedup();
    }
    Ok(Findings { checks, capabilities, rules })
}

/// What earlier or running agents have pinned, one line per governed root.
fn pins(bpffs: &Path) -> anyhow::Result<Vec<Check>> {
    let pinned = enforcer::pinned(bpffs).context("cannot list what is pinned")?;
    let of = |pinned: &enforcer::Pinned| {
        let generations: Vec<_> = pinned.generations.iter().map(ToString::to_string).collect();
        let (state, whose, remedy) = if pinned.is_read {
            (State::Ok, "an agent reads it", "")
        } else {
            let remedy = "start the agent; `pcigate-agent uninstall` ends what is pinned";
            (State::Limited, "no agent reads it", remedy)
        };
        let place = pinned.directory.display();
        let detail = format!("{place}: {}; {whose}", generations.join(", "));
        Check { name: "pins", state, detail, remedy: remedy.to_owned() }
    };
    Ok(pinned.iter().map(of).collect())
}

fn check(state: State, detail: String, remedy: &str) -> Check {
    Check { name: "kernel-programs", state, detail, remedy: remedy.to_owned() }
}

/// Loads everything and attaches it to an empty cgroup.
fn trial() -> anyhow::Result<ExecRefusal> {
    let offsets = Btf::read(btf::VMLINUX.as_ref()).and_then(|btf| offsets::find(&btf))?;
    let own = cgroup::create(&format!("doctor-{}", std::process::id()))?;
    let settings = Settings {
        root_cgroup: own.cgroup.id,
        root_level: own.cgroup.level,
        ..Settings::default()
    };
    let mut enforcer = Enforcer::load(&Load::new(offsets, settings))?;
    Ok(enforcer.attach(&own.cgroup.path)?)
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "MISSING",
    }
}

fn table(findings: &Findings) -> String {
    let mut text = String::from("This node\n");
    for check in &findings.checks {
        let _ = writeln!(text, "  {:<18} {:<8} {}", check.name, word(check.state), check.detail);
        if !check.remedy.is_empty() {
            let _ = writeln!(text, "  {:<18} {:<8} → {}", "", "", check.remedy);
        }
    }
    if !findings.capabilities.is_empty() {
        text.push_str("\nWhat it does for pods\n");
    }
    for capability in &findings.capabilities {
        let (state, reason) = (capability.state.as_str(), capability.reason.as_str());
        let _ = writeln!(text, "  {:<24} {state:<22} {reason}", capability.name);
    }
    if !findings.rules.is_empty() {
        text.push_str("\nPolicy rules not enforceable here yet\n");
    }
    for rule in &findings.rules {
        let _ = writeln!(text, "  {} {}: {}", rule.policy, rule.rule, rule.why);
    }
    text
}

fn as_json(findings: &Findings) -> serde_json::Value {
    let checks = findings.checks.iter().map(|check| {
        json!({"name": check.name, "state": word(check.state).to_lowercase(),
               "detail": check.detail, "remedy": check.remedy})
    });
    let capabilities = findings.capabilities.iter().map(|capability| {
        json!({"name": capability.name, "state": CapabilityState::as_str(capability.state),
               "reason": capability.reason.as_str()})
    });
    let rules = findings
        .rules
        .iter()
        .map(|rule| json!({"policy": rule.policy.to_string(), "rule": rule.rule, "why": rule.why}));
    json!({
        "checks": checks.collect::<Vec<_>>(),
        "capabilities": capabilities.collect::<Vec<_>>(),
        "notEnforceableRules": rules.collect::<Vec<_>>(),
    })
}
