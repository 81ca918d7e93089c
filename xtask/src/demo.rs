//! `cargo xtask demo`: the whole line on real kernel events, from nothing to a verified answer.

mod database;
mod gated;
mod place;
mod stage;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{run, setup};
use place::Place;
use stage::Stage;

/// A published test number (never a real card), passed as an argument by the workload.
const CARD: &str = "4111111111111111";
/// What may be shown of it (PCI DSS 3.4.1, 3.5.1).
const TRUNCATED: &str = "411111******1111";
/// The program the policy refuses.
const REFUSED_PROGRAM: &str = "/usr/bin/base64";

/// Run the whole line for real: collector, agent, a governed workload, and the evidence of it.
#[derive(clap::Args)]
#[command(after_help = "\
Needs root. Installs what is missing (apt; PostgreSQL 15 for the gated database, which is left out \
where it cannot be had), builds, and runs everything on this machine: traffic \
stays on loopback, programs are attached to a cgroup made for it, and all of it is gone \
afterwards, also after Ctrl-C. The first run builds for some minutes, the next takes seconds.")]
pub struct Options {
    /// Leave all data in DIR (the ledger in DIR/ledger, its verifier key in DIR/ledger.vkey).
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Shows the product at work, and leaves nothing behind but what `--keep` asks for.
pub fn main(options: &Options) -> Result<ExitCode> {
    let interrupted = stage::catch_interrupts()?;
    ensure!(run::is_root(), "the demo governs real processes and needs root: run it with sudo");
    setup::ensure(setup::Scope::Kernel)?;
    println!("\n== build");
    run::run(&mut run::programs())?;
    let began = Instant::now();
    let place = Place::make(options.keep.as_deref())?;
    let mut stage = Stage::new(place, interrupted);
    let shown = show(&mut stage);
    let strike = stage.strike();
    shown?;
    strike?;
    println!(
        "\n== done in {:.1} s: everything above came from the kernel of this machine",
        began.elapsed().as_secs_f32()
    );
    if let Some(keep) = &options.keep {
        println!("   kept: {}", keep.display());
        println!("   try:  target/debug/pcigate verify {}/ledger", keep.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn show(stage: &mut Stage) -> Result<()> {
    println!("\n== 1  certificates and a collector (mTLS)");
    for holder in [
        ["--server", "127.0.0.1", "--out", "tls/collector"],
        ["--node", "demo-node", "--out", "tls/node"],
        ["--person", "demo@example.com", "--out", "tls/person"],
    ] {
        stage.run("pcigate-collector", &["issue", "--ca-dir", "ca"], &holder)?;
    }
    let url = stage.start_collector()?;
    println!("   listening on {url}, evidence in {}", stage.place.shown("ledger"));

    println!("\n== 2  a workload as pod payments/billing-bot, governed by this policy");
    let listener = TcpListener::bind("127.0.0.1:0").context("a listener on loopback")?;
    let port = listener.local_addr()?.port();
    let policy = policy(port);
    stage.place.write("policy.yaml", &policy)?;
    println!("{}", indented(&policy));
    let output = govern(stage, &url, port)?;
    check_workload(&output)?;

    println!("\n== 3  what the evidence says (pcigate records --namespace payments)");
    let people = ["--collector", &url, "--tls-dir", "tls/person"];
    let pod = ["--namespace", "payments", "--pod", "billing-bot"];
    let all = stage.ask(&["records"], &[&people[..], &pod].concat())?;
    println!("{all}");
    println!("== 4  only what was refused (… --verdict deny)");
    let refused = stage.ask(&["records", "--verdict", "deny"], &[&people[..], &pod].concat())?;
    println!("{refused}");
    check_records(&all, &refused)?;

    println!(
        "== 5  a database behind the gateway: no password in the workload, every statement decided"
    );
    let left_out = gated::show(stage, &url, &people)?;

    let row = if left_out.is_none() { ", and in a row of the database" } else { "" };
    println!("== 6  the card number: {CARD} was an argument{row}");
    let (files, bytes) = stage.place.search(CARD)?;
    ensure!(all.contains(TRUNCATED), "the argument is not in the evidence as {TRUNCATED}");
    println!(
        "   in the evidence as {TRUNCATED}; not in any of {files} files ({bytes} bytes) written"
    );

    println!("\n== 7  the ledger, verified offline");
    stage.stop_collector()?;
    let verified = stage.ask(&["verify", "ledger", "--key", "ledger.vkey"], &[])?;
    println!("{}", indented(&verified));
    if let Some(left_out) = left_out {
        println!("\n!! left out: step 5, the gated database: {left_out}");
    }
    Ok(())
}

/// Allowed: one port of one address. Refused: everything else, and one program.
fn policy(port: u16) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}, serviceAccountNames: [billing-bot]}}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {{id: no-encoders, action: deny, paths: [\"{REFUSED_PROGRAM}\"]}}
  egress:
    defaultAction: deny
    rules:
      - {{id: payment-service, action: allow, to: [{{cidr: 127.0.0.1/32}}], \
             ports: [{{port: {port}, protocol: TCP}}]}}
"
    )
}

/// Runs the workload and gives what it printed.
fn govern(stage: &mut Stage, url: &str, port: u16) -> Result<String> {
    let actions = [
        "exec:/usr/bin/id -un".to_owned(),
        format!("exec:/usr/bin/env true --card={CARD}"),
        format!("exec:{REFUSED_PROGRAM} /etc/hostname"),
        format!("tcp:127.0.0.1:{port}"),
        format!("tcp:127.0.0.2:{port}"),
        format!("tcp:[::1]:{port}"),
        format!("tcp:[::ffff:127.0.0.2]:{port}"),
        format!("udp:127.0.0.1:{port}"),
        "call:bpf".to_owned(),
        "write:/sys/fs/cgroup/unified/cgroup.procs".to_owned(),
    ];
    let mut agent = stage.program("pcigate-agent");
    agent
        .args(["exec", "--policy", "policy.yaml", "--name", "payments/billing-bot"])
        .args(["--service-account", "billing-bot", "--label", "app=billing-bot"])
        .args(["--collector", url, "--tls-dir", "tls/node", "--state-dir", "agent", "--"])
        .arg(stage::built("pcigate-probe"))
        .args(&actions);
    println!(
        "   $ pcigate-agent exec --policy policy.yaml --name payments/billing-bot … -- probe …"
    );
    let output = stage.output(&mut agent)?;
    println!("{}", indented(&output.replace(CARD, TRUNCATED)));
    Ok(output)
}

fn check_workload(output: &str) -> Result<()> {
    let result = |action: &str| -> Result<&str> {
        let line = output.lines().find(|line| line.starts_with(action));
        let line = line.with_context(|| format!("the workload did not try {action}"))?;
        Ok(line.rsplit(' ').next().unwrap_or_default())
    };
    for allowed in ["exec:/usr/bin/id", "exec:/usr/bin/env", "tcp:127.0.0.1"] {
        ensure!(result(allowed)? == "ok", "{allowed} was not allowed: {}", result(allowed)?);
    }
    for refused in ["tcp:127.0.0.2", "tcp:[::1]", "tcp:[::ffff:", "udp:127.0.0.1", "call:bpf"] {
        ensure!(result(refused)? == "EPERM", "{refused} was not refused: {}", result(refused)?);
    }
    let refused = format!("exec:{REFUSED_PROGRAM}");
    // By LSM the call fails, without LSM the program is killed before its first instruction.
    let how = result(&refused)?;
    ensure!(["EPERM", "signal-9"].contains(&how), "{refused} was not refused: {how}");
    Ok(())
}

fn check_records(all: &str, refused: &str) -> Result<()> {
    for needed in ["payments/billing-bot", "billing-bot", "payment-service", "/usr/bin/id"] {
        ensure!(all.contains(needed), "the records do not show {needed}");
    }
    for needed in ["127.0.0.2", "[::1]", "v4-mapped", "udp", REFUSED_PROGRAM, "no-encoders"] {
        ensure!(refused.contains(needed), "the refusals do not show {needed}");
    }
    if all.contains(CARD) {
        bail!("the card number is in the answer");
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("   | {line}\n")).collect()
}

/// The command as people would type it in the place of the demo.
fn typed(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program);
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name.to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}
