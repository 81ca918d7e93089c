//! `cargo xtask vm`: the kernel tests of the native run, unchanged, on other kernels in QEMU.

mod console;
mod cpio;
mod guest;
mod kernels;
mod machine;
mod programs;
mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

pub use machine::QEMU;
use machine::{Machine, logs, tail};
pub use programs::libraries;
use runs::Kernel;
pub use runs::{Run, default};

use crate::run::root;
use crate::setup;
use crate::tables::{Extent, Tables};
use crate::test::Tally;

/// Machines that run side by side; more would only wait for each other on two cores.
const AT_ONCE: usize = 2;
/// Lines of a console that are shown again after a failure.
const TAIL_LINES: usize = 30;

/// Run the kernel tests in virtual machines: Debian's 6.1 and 6.12 with BPF-LSM, 6.12 without.
///
/// The same files as in the native run, built by cargo once; QEMU emulates, so neither KVM nor
/// root is needed once QEMU is installed. Kernels are fetched by apt into target/vm.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Also on 5.10 (too old: the agent has to say so), 6.18, 7.3, and 6.1 without BPF-LSM.
    #[arg(long)]
    all: bool,
    /// Only on this kernel: a series of Debian's (6.1), or the path of an image. May be repeated.
    #[arg(long, value_name = "KERNEL", conflicts_with = "all")]
    kernel: Vec<String>,
    /// Open a shell in the machine instead, with the tests at hand (default kernel: 6.12).
    #[arg(long)]
    shell: bool,
    /// Keep the console logs of runs that passed, too.
    #[arg(long)]
    keep_log: bool,
    /// Keep the tables that the tests print as docs/NAME.md. Without --kernel, the tests also run
    /// on this machine's own kernel, as root.
    #[arg(long, conflicts_with = "shell")]
    write: bool,
    /// Only tests whose names contain one of these.
    #[arg(value_name = "TEST")]
    tests: Vec<String>,
}

/// What became of one machine.
pub struct Finished {
    /// Which.
    pub name: String,
    /// Its column in tables.
    pub column: String,
    /// From its start to its end.
    pub took: Duration,
    /// The lines of its console.
    pub lines: Vec<String>,
    /// Good, or why not: one sentence.
    pub outcome: Result<()>,
}

impl Finished {
    /// Counts its tests.
    pub fn count(&self, tally: &mut Tally) {
        let failed = tally.failed;
        tally.begin(&self.name);
        self.lines.iter().for_each(|line| tally.take(line));
        tally.end(&self.outcome, failed);
    }

    /// Hands over the rows of tables it printed.
    pub fn tell(&self, tables: &mut Tables) {
        self.lines.iter().for_each(|line| tables.take(&self.column, line));
    }
}

/// Runs the tests, or a shell.
pub fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::All)?;
    let chosen = match (options.all, options.kernel.as_slice()) {
        (true, _) => runs::all(),
        (false, []) => runs::default(),
        (false, kernels) => runs::named(kernels),
    };
    if options.shell {
        let chosen = if options.kernel.is_empty() { runs::named(&["6.12".into()]) } else { chosen };
        let run = chosen.first().context("no kernel")?;
        shell(run)?;
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut finished = Vec::new();
    if options.write && options.kernel.is_empty() {
        finished.push(native(&options.tests));
    }
    finished.extend(run_all(&chosen, &options.tests, options.keep_log));
    let mut tables = Tables::default();
    println!("\n== summary");
    for finished in finished {
        let failed = tally.failed;
        finished.count(&mut tally);
        finished.tell(&mut tables);
        let word = if tally.failed == failed { "ok" } else { "FAILED" };
        println!("{word:>7} {:>7.1} s  {}", finished.took.as_secs_f64(), finished.name);
    }
    let extent = if options.tests.is_empty() { Extent::Whole } else { Extent::Part };
    if options.write && tally.failed == 0 {
        tables.write(extent, &runs::all().iter().map(Run::name).collect::<Vec<_>>())?;
    }
    tally.stale(&tables.stale(extent)?);
    tally.not_run().for_each(|what| println!("not run  {what}"));
    tally.failed_names.iter().for_each(|name| println!("failed   {name}"));
    println!("all of it took {:.0} s", began.elapsed().as_secs_f64());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fetches the kernels of every `cargo xtask test`.
pub fn fetch_kernels() -> Result<()> {
    for run in runs::default() {
        image(&run)?;
    }
    Ok(())
}

/// Runs the tests in every machine, two at a time; what each printed, in the order of `runs`.
pub fn run_all(runs: &[Run], tests: &[String], keep_log: bool) -> Vec<Finished> {
    let prepared = zeros_do_not_boot().and_then(|()| prepare(tests));
    // One after the other, so that apt is not called twice at once.
    let images: Vec<Result<PathBuf>> = match &prepared {
        Ok(_) => runs.iter().map(image).collect(),
        Err(_) => Vec::new(),
    };
    let next = AtomicUsize::new(0);
    let finished: Mutex<Vec<(usize, Finished)>> = Mutex::default();
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = runs.get(number) else { return };
            let ready = match (&prepared, images.get(number)) {
                (Ok(guest), Some(Ok(image))) => Ok((guest, image.as_path())),
                (Err(error), _) | (_, Some(Err(error))) => Err(anyhow!("{error:#}")),
                (Ok(_), None) => Err(anyhow!("no kernel was looked for")),
            };
            let one = run_one(run, ready, keep_log);
            if let Ok(mut all) = finished.lock() {
                all.push((number, one));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    finished.sort_by_key(|(number, _)| *number);
    finished.into_iter().map(|(_, finished)| finished).collect()
}

fn run_one(run: &Run, ready: Result<(&Guest, &Path)>, keep_log: bool) -> Finished {
    let began = Instant::now();
    let mut lines = Vec::new();
    let outcome = ready.and_then(|(guest, image)| guest.test(run, image, &mut lines, keep_log));
    let (name, took) = (format!("kernel in VM {}", run.name()), began.elapsed());
    let seconds = took.as_secs_f64();
    match &outcome {
        Ok(()) => println!("== {name}: ok in {seconds:.1} s"),
        Err(error) => println!("== {name}: FAILED in {seconds:.1} s: {error:#}"),
    }
    Finished { name, column: run.name(), took, lines, outcome }
}

/// The same tests on this machine's own kernel.
fn native(tests: &[String]) -> Finished {
    let began = Instant::now();
    let (name, column) = ("kernel".to_owned(), crate::tables::native());
    let mut lines = Vec::new();
    let words = ["test", "--workspace", "--no-fail-fast", "--test", "kernel", "--"];
    let mut command = crate::run::cargo(words);
    let outcome = crate::run::watch(command.args(tests), |line| lines.push(line.to_owned()));
    Finished { name, column, took: began.elapsed(), lines, outcome }
}

fn image(run: &Run) -> Result<PathBuf> {
    match &run.kernel {
        Kernel::Series(series) => kernels::image(series),
        Kernel::File(path) if path.is_file() => Ok(path.clone()),
        Kernel::File(path) => bail!("there is no kernel image {}", path.display()),
    }
}

/// What all machines share.
struct Guest {
    initramfs: PathBuf,
    test: &'static str,
    tests: Vec<String>,
}

fn prepare(tests: &[String]) -> Result<Guest> {
    if let Some(wrong) = tests.iter().find(|test| test.contains(char::is_whitespace)) {
        bail!("`{wrong}` is no part of a test's name: it holds a blank");
    }
    let initramfs = root().join("target/vm/initramfs");
    let test = guest::write(&programs::build()?, &initramfs)?;
    Ok(Guest { initramfs, test, tests: tests.to_vec() })
}

impl Guest {
    fn test(&self, run: &Run, image: &Path, lines: &mut Vec<String>, keep_log: bool) -> Result<()> {
        let mut words = vec!["run", self.test, "--test-threads=2"];
        words.extend(run.only.map(|(filter, _)| filter));
        // libtest runs what any filter matches: a person's own would not narrow the run's.
        if run.only.is_none() {
            words.extend(self.tests.iter().map(String::as_str));
        }
        words.extend(run.left_out.iter().flat_map(|test| ["--skip", test]));
        let work = words.join(" ");
        let machine = Machine {
            kernel: image,
            initramfs: &self.initramfs,
            modules: run.modules(),
            work: &work,
        };
        fs::create_dir_all(logs()).with_context(|| format!("cannot make {}", logs().display()))?;
        let log = logs().join(run.file_name());
        let name = run.name();
        let mut seen = |line: &str| {
            if !line.is_empty() {
                println!("[{name}] {line}");
            }
            lines.push(line.to_owned());
        };
        if !run.left_out.is_empty() {
            let left_out = run.left_out.join(", ");
            seen(&format!("left out: {left_out}: native, on 6.12 with BPF-LSM, and with --all"));
        }
        if let Some((filter, why)) = run.only {
            seen(&format!("left out: all tests but {filter}*: {why}"));
        }
        let outcome = machine.test(&log, &mut seen).and_then(|()| run.believe(lines));
        match &outcome {
            Ok(()) if !keep_log => drop(fs::remove_file(&log)),
            Ok(()) => println!("[{name}] console: {}", log.display()),
            Err(_) => {
                let end = tail(&log, TAIL_LINES);
                println!("[{name}] the end of its console ({}):\n{end}", log.display());
            }
        }
        outcome
    }
}

fn shell(run: &Run) -> Result<()> {
    let guest = prepare(&[])?;
    let image = image(run)?;
    println!("{}: Ctrl-A, then X ends it", run.name());
    let machine = Machine {
        kernel: &image,
        initramfs: &guest.initramfs,
        modules: run.modules(),
        work: "shell",
    };
    machine.shell()
}

/// Boots a file of zeros: a harness that takes it for a good run proves nothing about others.
fn zeros_do_not_boot() -> Result<()> {
    let place = root().join("target/vm");
    let zeros = place.join("zeros");
    let written = fs::create_dir_all(&place).and_then(|()| fs::write(&zeros, [0; 64 * 1024]));
    written.with_context(|| format!("cannot write {}", zeros.display()))?;
    let machine = Machine { kernel: &zeros, initramfs: &zeros, modules: "", work: "shell" };
    match machine.test(&place.join("zeros.log"), &mut |_| {}) {
        Err(error) if error.to_string().starts_with("the kernel does not boot: ") => Ok(()),
        Err(error) => Err(error.context("a file of zeros was started as a kernel")),
        Ok(()) => bail!("a file of zeros passed for a kernel"),
    }
}
