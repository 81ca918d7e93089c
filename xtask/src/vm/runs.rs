//! Which kernels the tests run on in virtual machines, and with which security modules.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// What a test that is not run says it needs (`tests/src/needs.rs`).
const ACTIVE: &str = "it needs BPF-LSM active";
const NOT_LISTED: &str = "it needs BPF-LSM compiled in, but not active";
const RELEASE: &str = "it needs Linux ";

/// One virtual machine, from boot to result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// A series of Debian's kernels, such as `6.1`, or the path of an image.
    pub kernel: Kernel,
    /// Whether `bpf` is in its list of security modules.
    pub bpf_lsm: bool,
    /// Where not all tests can pass: which are run, and why no others.
    pub only: Option<(&'static str, &'static str)>,
    /// Tests whose names contain one of these are left to other kernels.
    pub left_out: &'static [&'static str],
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian's newest of this series.
    Series(String),
    /// A file of one's own.
    File(PathBuf),
}

/// The kernels of every `cargo xtask test`.
const DEFAULT: [(&str, bool); 3] = [("6.1", true), ("6.12", true), ("6.12", false)];
/// The one of these that has every test.
const WHOLE: (&str, bool) = ("6.12", true);
/// Those that `--all` adds.
const MORE: [(&str, bool); 4] = [("5.10", true), ("6.1", false), ("6.18", true), ("7.3", true)];

/// Kernels that the programs cannot be loaded into; what is tested there is that they say so.
const TOO_OLD: [&str; 1] = ["5.10"];
const ONLY_TOO_OLD: (&str, &str) = ("too_old::", "the kernel programs need Linux 5.17");

/// What every `cargo xtask test` leaves to the native run, to 6.12 with BPF-LSM, and to `--all`:
/// emulated, the verifier takes ten seconds for each test.
const LONG: [&str; 9] = [
    "exec_digests::",
    "flood::",
    "grants::",
    "identity::",
    "names::",
    "privileges::",
    "redirect::",
    "start::",
    "survival::",
];

/// The runs of `cargo xtask test`.
pub fn default() -> Vec<Run> {
    let run = |&(series, bpf_lsm): &(&str, bool)| {
        let whole = (series, bpf_lsm) == WHOLE;
        Run { left_out: if whole { &[] } else { &LONG }, ..of(series, bpf_lsm) }
    };
    DEFAULT.iter().map(run).collect()
}

/// Those, and the kernels that take longer to fetch.
pub fn all() -> Vec<Run> {
    DEFAULT.iter().chain(&MORE).map(|(series, bpf_lsm)| of(series, *bpf_lsm)).collect()
}

/// The runs on the kernels that were asked for: `6.1`, or the path of an image.
pub fn named(kernels: &[String]) -> Vec<Run> {
    let mut runs = Vec::new();
    for kernel in kernels {
        let known = all().into_iter().filter(|run| run.kernel == Kernel::Series(kernel.clone()));
        let before = runs.len();
        runs.extend(known);
        if runs.len() == before {
            runs.push(of(kernel, true));
        }
    }
    runs
}

fn of(kernel: &str, bpf_lsm: bool) -> Run {
    let only = TOO_OLD.contains(&kernel).then_some(ONLY_TOO_OLD);
    let kernel = if kernel.contains('/') {
        Kernel::File(kernel.into())
    } else {
        Kernel::Series(kernel.to_owned())
    };
    Run { kernel, bpf_lsm, only, left_out: &[] }
}

/// The (6, 12) of `6.12`.
fn numbers(series: &str) -> Option<(u32, u32)> {
    let (major, minor) = series.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Run {
    /// `6.1 (BPF-LSM)`.
    pub fn name(&self) -> String {
        let kernel = match &self.kernel {
            Kernel::Series(series) => series.clone(),
            Kernel::File(path) => path.display().to_string(),
        };
        let lsm = if self.bpf_lsm { "BPF-LSM" } else { "no BPF-LSM" };
        format!("{kernel} ({lsm})")
    }

    /// The name of its log, without blanks and slashes.
    pub fn file_name(&self) -> String {
        let plain = |c: char| if c.is_alphanumeric() || c == '.' { c } else { '-' };
        let name: String = self.name().chars().map(plain).collect();
        format!("{}.log", name.trim_matches(['-', '.']))
    }

    /// The list for the kernel's command line.
    pub fn modules(&self) -> &'static str {
        if self.bpf_lsm {
            "landlock,lockdown,yama,integrity,bpf"
        } else {
            "landlock,lockdown,yama,integrity"
        }
    }

    /// Whether what was printed is what this machine must print: no test is left out that has all
    /// it needs, and where only some are wanted, there are some.
    pub fn believe(&self, lines: &[String]) -> Result<()> {
        if let Some(line) = lines.iter().find(|line| self.contradicts(line)) {
            bail!("a test says `{line}`, but this machine has it");
        }
        if let Some((filter, _)) = self.only
            && !lines.iter().any(|line| line.starts_with(&format!("test {filter}")))
        {
            bail!("no test is named {filter}*, so nothing was tested");
        }
        Ok(())
    }

    fn contradicts(&self, not_run: &str) -> bool {
        let lsm = if self.bpf_lsm { ACTIVE } else { NOT_LISTED };
        let release = not_run.split_once(RELEASE).and_then(|(_, rest)| {
            let has = numbers(match &self.kernel {
                Kernel::Series(series) => series,
                Kernel::File(_) => return None,
            })?;
            Some(numbers(rest.split(' ').next()?)? <= has)
        });
        not_run.contains(lsm) || release == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kernel, all, default, named};

    #[test]
    fn every_test_run_has_both_kernels_by_name_with_the_lsm_and_once_without() {
        let names: Vec<String> = default().iter().map(super::Run::name).collect();
        assert_eq!(names, ["6.1 (BPF-LSM)", "6.12 (BPF-LSM)", "6.12 (no BPF-LSM)"]);
        let all: Vec<String> = all().iter().map(super::Run::name).collect();
        assert!(names.iter().all(|name| all.contains(name)));
        for kernel in ["5.10", "6.18", "7.3"] {
            assert!(all.contains(&format!("{kernel} (BPF-LSM)")));
        }
    }

    #[test]
    fn a_kernel_is_named_by_series_or_by_file() {
        let runs = named(&["6.12".into(), "6.6".into(), "./vmlinuz".into()]);
        let lsm: Vec<bool> = runs.iter().map(|run| run.bpf_lsm).collect();
        assert_eq!(lsm, [true, false, true, true]);
        assert_eq!(runs[3].kernel, Kernel::File("./vmlinuz".into()));
        assert_eq!(runs[3].file_name(), "vmlinuz--BPF-LSM.log");
        assert!(runs[0].only.is_none());
        assert_eq!(named(&["5.10".into()])[0].only.unwrap().0, "too_old::");
    }

    #[test]
    fn a_test_that_could_have_run_and_says_otherwise_is_wrong() {
        let runs = named(&["6.12".into()]);
        let active = "not run: lsm::a: it needs BPF-LSM active";
        assert!(runs[0].contradicts(active) && !runs[1].contradicts(active));
        let inactive = "not run: lsm::b: it needs BPF-LSM compiled in, but not active";
        assert!(!runs[0].contradicts(inactive) && runs[1].contradicts(inactive));
        let newer = |release: &str| format!("not run: c: it needs Linux {release} or newer");
        assert!(runs[0].contradicts(&newer("6.2")) && runs[0].contradicts(&newer("6.12")));
        assert!(!runs[0].contradicts(&newer("6.13")) && !runs[0].contradicts(&newer("7.0")));
        assert!(!runs[0].contradicts("not run: d: it needs a Linux older than 5.17"));
        assert!(runs[0].believe(&[active.into()]).is_err());
        assert!(runs[1].believe(&[active.into()]).is_ok());
    }

    #[test]
    fn a_machine_for_some_tests_that_ran_none_of_them_proves_nothing() {
        let run = &named(&["5.10".into()])[0];
        assert!(run.believe(&["test result: ok. 0 passed".into()]).is_err());
        assert!(run.believe(&["test too_old::a ... ok".into()]).is_ok());
    }
}
