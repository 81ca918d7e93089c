//! Memory and open files of this process, from /proc, when somebody looks.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use super::gauge;

/// Gauges of the process.
#[derive(Debug, Default)]
pub struct Process {
    resident: Gauge,
    open_files: Gauge,
    open_files_limit: Gauge,
}

impl Process {
    pub(super) fn register(all: &mut Registry) -> Self {
        let process = Self::default();
        all.register(
            "resident_memory_bytes",
            "Memory of the process (VmRSS)",
            process.resident.clone(),
        );
        all.register("open_files", "Open file descriptors", process.open_files.clone());
        all.register(
            "open_files_limit",
            "File descriptors the process may have",
            process.open_files_limit.clone(),
        );
        process
    }

    /// Reads /proc; what cannot be read stays as it was.
    pub(super) fn refresh(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kib) = resident_kib(&status) {
            self.resident.set(gauge(kib.saturating_mul(1_024)));
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // The directory being read is one of them.
            self.open_files.set(gauge((files.count() as u64).saturating_sub(1)));
        }
        if let Ok((soft, _)) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        {
            self.open_files_limit.set(gauge(soft));
        }
    }
}

/// `VmRSS` of a `/proc/PID/status`, KiB.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
