//! The stages of `cargo xtask test`, in order, and what each runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::run::{cargo, is_ci, root};
use crate::setup::Scope;
use crate::verifier;
use crate::vm;

/// Integration tests of the crate `tests` that need neither root nor kernel programs, by file name.
const ROOTLESS: &[&str] = &[];

/// Test programs whose tests must not run side by side, with the threads each may have.
const THREADS: &[(&str, usize)] = &[];

/// In an unattended run a stage that hangs is ended after this long, so that the rest is reported.
const STAGE_MINUTES_MAX: u32 = 30;

/// The stages to run, and what is left out and why.
pub struct Plan {
    pub stages: Vec<Stage>,
    pub not_run: Vec<String>,
}

/// One stage of the run.
pub struct Stage {
    pub name: String,
    pub work: Work,
    /// Whether nothing after it makes sense when it fails.
    pub needed_by_the_rest: bool,
}

/// A command to be made when its turn comes; the flag says that root is not wanted.
pub type Make = Box<dyn Fn(bool) -> Command>;

/// What a stage does.
pub enum Work {
    Root,
    Setup(Scope),
    Tidy,
    /// Checks: one failure when any of them fails.
    Commands(Vec<Make>),
    /// Tests: counted by what they print.
    Tests(Make),
    /// The kernel tests in virtual machines, side by side; each is a stage of its own when done.
    Vms(Vec<vm::Run>),
}

impl Plan {
    /// The whole run, or what of it needs no root; with cargo-deny when `deny`.
    pub fn new(no_root: bool, deny: bool) -> Self {
        let mut plan = Self { stages: Vec::new(), not_run: Vec::new() };
        plan.needed("root", Work::Root);
        let scope = if no_root { Scope::Host } else { Scope::All };
        plan.needed("setup", Work::Setup(scope));
        plan.checks(deny);
        plan.verifier(no_root);
        // One selection and one profile for build and tests, so that nothing is compiled twice.
        plan.needed(
            "build",
            Work::Commands(vec![tool(&["build", "--workspace", "--lib", "--bins", "--tests"])]),
        );
        plan.unit_tests();
        for name in integration_tests(&root().join("tests")) {
            if no_root && !ROOTLESS.contains(&name.as_str()) {
                plan.not_run.push(format!("test {name}: it needs root (--no-root was given)"));
            } else {
                let threads = THREADS.iter().find(|(known, _)| *known == name);
                plan.tests(&name, &system_test(&name, threads.map(|(_, threads)| *threads)));
            }
        }
        plan.machines(no_root);
        plan
    }

    fn machines(&mut self, no_root: bool) {
        let runs = vm::default();
        if no_root {
            let names = runs.iter().map(vm::Run::name);
            let why = "the kernel programs are not built (--no-root was given)";
            self.not_run.extend(names.map(|name| format!("kernel in VM {name}: {why}")));
        } else {
            self.add("kernel in VMs", Work::Vms(runs));
        }
    }

    fn checks(&mut self, deny: bool) {
        let ebpf = ["fmt", "--manifest-path", "pcigate-ebpf/Cargo.toml", "--", "--check"];
        let all = ["fmt", "--all", "--", "--check"];
        self.add("format", Work::Commands(vec![tool(&all), tool(&ebpf)]));
        self.add("tidy", Work::Tidy);
        if deny && verifier::on_path("cargo-deny") {
            self.add("deny", Work::Commands(vec![tool(&["deny", "--all-features", "check"])]));
        } else if deny {
            self.not_run.push("deny: no cargo-deny here (`cargo install cargo-deny`)".to_owned());
        }
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        self.add("clippy", Work::Commands(vec![tool(&clippy)]));
    }

    fn verifier(&mut self, no_root: bool) {
        // Setup brings Go before this stage runs, except without root.
        if no_root && !verifier::is_possible() {
            self.not_run.push("independent verifier: no Go with golang.org/x/mod here".to_owned());
            return;
        }
        let build: Make = Box::new(|_| verifier::build());
        self.add("build the independent verifier", Work::Commands(vec![build]));
        self.add("independent verifier", Work::Tests(Box::new(|_| verifier::test())));
    }

    fn unit_tests(&mut self) {
        let mut words: Vec<String> =
            ["test", "--workspace", "--no-fail-fast", "--lib", "--bins"].map(str::to_owned).into();
        for member in members() {
            for name in integration_tests(&root().join(member)) {
                words.extend(["--test".to_owned(), name]);
            }
        }
        self.tests("unit and property tests", &words);
        let words = ["test", "--workspace", "--no-fail-fast", "--doc"].map(str::to_owned);
        self.tests("examples in the documentation", &words);
    }

    fn tests(&mut self, name: &str, words: &[String]) {
        let words = words.to_vec();
        let make: Make = Box::new(move |no_root| timed(&words, no_root));
        self.add(name, Work::Tests(make));
    }

    fn add(&mut self, name: &str, work: Work) {
        self.stages.push(Stage { name: name.to_owned(), work, needed_by_the_rest: false });
    }

    fn needed(&mut self, name: &str, work: Work) {
        self.stages.push(Stage { name: name.to_owned(), work, needed_by_the_rest: true });
    }
}

fn tool(words: &[&str]) -> Make {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Box::new(move |no_root| with_kernel_programs(cargo(&words), no_root))
}

/// The words for one integration test of the crate `tests`. The whole workspace stays selected:
/// another selection would have other features, and compile the dependencies again.
fn system_test(name: &str, threads: Option<usize>) -> Vec<String> {
    let mut words: Vec<String> =
        ["test", "--workspace", "--no-fail-fast", "--test", name].map(str::to_owned).into();
    if let Some(threads) = threads {
        words.extend(["--".to_owned(), format!("--test-threads={threads}")]);
    }
    words
}

fn timed(words: &[String], no_root: bool) -> Command {
    if !is_ci() {
        return with_kernel_programs(cargo(words), no_root);
    }
    let mut command = crate::run::command("timeout", ["--kill-after=30s"]);
    command.arg(format!("{STAGE_MINUTES_MAX}m")).arg("cargo").args(words);
    for (name, value) in cargo(words).get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    with_kernel_programs(command, no_root)
}

fn with_kernel_programs(mut command: Command, no_root: bool) -> Command {
    if no_root {
        command.env("PCIGATE_SKIP_EBPF", "1");
    }
    command
}

/// The members of the workspace but the crate `tests`.
fn members() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root()).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name == "xtask" || name.starts_with("pcigate-")).collect()
}

/// The integration tests of the crate in `dir`: `tests/NAME.rs` and `tests/NAME/main.rs`.
fn integration_tests(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.join("tests")).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let tests = paths.filter(|path| {
        path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").is_file()
    });
    tests.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Plan, Work, system_test};

    fn names(plan: &Plan) -> Vec<&str> {
        plan.stages.iter().map(|stage| stage.name.as_str()).collect()
    }

    #[test]
    fn checks_come_before_the_build_and_the_build_before_the_tests() {
        let plan = Plan::new(false, false);
        let names = names(&plan);
        let at = |name| names.iter().position(|known| *known == name).unwrap();
        assert!(at("setup") < at("format") && at("format") < at("clippy"));
        assert!(at("clippy") < at("build") && at("build") < at("unit and property tests"));
    }

    #[test]
    fn the_kernels_of_the_virtual_machines_are_named_where_they_do_not_run() {
        let left_out = Plan::new(true, false).not_run;
        for kernel in ["6.1 (BPF-LSM)", "6.12 (BPF-LSM)", "6.12 (no BPF-LSM)"] {
            assert!(left_out.iter().any(|line| line.contains(kernel)), "{left_out:?}");
        }
        let all = Plan::new(false, false);
        assert!(
            all.stages
                .iter()
                .any(|stage| matches!(&stage.work, Work::Vms(runs) if runs.len() == 3))
        );
    }

    #[test]
    fn without_root_no_kernel_program_is_built() {
        let plan = Plan::new(true, false);
        for stage in &plan.stages {
            let Work::Commands(makes) = &stage.work else { continue };
            for make in makes.iter().filter(|make| make(true).get_program() == "cargo") {
                let command = make(true);
                let mut variables = command.get_envs();
                assert!(variables.any(|(name, _)| name == "PCIGATE_SKIP_EBPF"), "{command:?}");
            }
        }
    }

    #[test]
    fn every_test_run_selects_the_whole_workspace() {
        let words = system_test("kernel", Some(1)).join(" ");
        assert_eq!(words, "test --workspace --no-fail-fast --test kernel -- --test-threads=1");
    }
}
