//! Where and when something was measured.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::run;

/// The machine behind figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors the system has.
    pub cores: usize,
    /// Main memory, MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of the compiler of the host crates.
    pub rustc: String,
    /// File system of the build directory, where benches write.
    pub file_system: String,
    /// Day of the measurement, UTC.
    pub date: String,
}

impl Machine {
    /// This machine, today.
    pub fn here() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal");
        let memory = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        let one = |program: &str, args: &[&str]| -> Result<String> {
            Ok(run::read(&mut run::command(program, args))?.trim().to_owned())
        };
        Ok(Self {
            cpu: field(&read("/proc/cpuinfo")?, "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory / 1024,
            // The version alone: what follows it names one cloud's build.
            kernel: version(&read("/proc/sys/kernel/osrelease")?),
            rustc: one("rustc", &["--version"])?.split(' ').nth(1).unwrap_or_default().to_owned(),
            file_system: one("stat", &["--file-system", "--format=%T", "."])?,
            date: one("date", &["--utc", "+%F"])?,
        })
    }
}

fn version(release: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    release.trim().chars().take_while(|c| number(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Machine, version};

    #[test]
    fn a_machine_tells_what_it_is() {
        let machine = Machine::here().unwrap();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert_eq!(machine.date.len(), "2026-11-23".len());
        assert!(!machine.kernel.is_empty() && !machine.rustc.is_empty(), "{machine:?}");
        assert_eq!(version("6.18.44-cloud-v5\n"), "6.18.44");
    }
}
