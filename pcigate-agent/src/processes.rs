//! Which program a process runs, by (pid, start): remembered from fork and exec, looked up in /proc
//! for processes older than the agent.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt, sync::Arc};

use pcigate_policy::mask::{Cut, Masked};

/// Processes remembered. Beyond that the memory is emptied and filled again from /proc, which costs
/// time, not truth.
const PROCESSES_MAX: usize = 65_536;
/// `/proc/PID/stat` counts in ticks of 1/100 s.
const TICK_NS: u64 = 10_000_000;
/// Position of `starttime` in `/proc/PID/stat`, counted after the closing parenthesis of `comm`.
const START_FIELD: usize = 19;

/// (process id, start in ns since boot): the identity of a process.
pub type Key = (u32, u64);

/// The executables of living processes.
#[derive(Default)]
pub struct Processes {
    executables: HashMap<Key, Arc<Masked>>,
}

impl Processes {
    /// The program a process runs, where it can be known.
    pub fn executable(&mut self, key: Key) -> Option<Arc<Masked>> {
        if let Some(known) = self.executables.get(&key) {
            return Some(Arc::clone(known));
        }
        let found = Arc::new(from_proc(key)?);
        self.set(key, Arc::clone(&found));
        Some(found)
    }

    /// Execs were lost: what is remembered may be out of date, /proc is not.
    pub fn forget(&mut self) {
        self.executables.clear();
    }

    /// A process executed a program.
    pub fn set(&mut self, key: Key, executable: Arc<Masked>) {
        if self.executables.len() >= PROCESSES_MAX {
            self.executables.clear();
        }
        self.executables.insert(key, executable);
    }

    /// A process was created and runs what its parent runs.
    pub fn fork(&mut self, parent: Key, child: Key) {
        if let Some(executable) = self.executable(parent) {
            self.set(child, executable);
        }
    }

    /// A process ended.
    pub fn remove(&mut self, key: Key) {
        self.executables.remove(&key);
    }
}

/// Reads the link and makes sure it is still the same process.
fn from_proc((pid, start_ns): Key) -> Option<Masked> {
    let link = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (start_ticks(&stat)? == start_ns / TICK_NS)
        .then(|| Masked::new(link.as_os_str().as_bytes(), Cut::Whole))
}

fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(START_FIELD)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_key() -> Key {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        (std::process::id(), start_ticks(&stat).unwrap() * TICK_NS)
    }

    #[test]
    fn a_process_older_than_the_agent_is_found_in_proc() {
        let executable = Processes::default().executable(own_key()).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(executable.as_str(), own.to_str().unwrap());
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process_that_had_it() {
        let (pid, start) = own_key();
        assert!(Processes::default().executable((pid, start - TICK_NS)).is_none());
    }

    #[test]
    fn a_child_runs_what_its_parent_runs_until_it_executes() {
        let mut processes = Processes::default();
        let masked = |text: &str| Arc::new(Masked::new(text.as_bytes(), Cut::Whole));
        processes.set((1, 10), masked("/bin/parent"));
        processes.fork((1, 10), (2, 20));
        assert_eq!(processes.executable((2, 20)).unwrap().as_str(), "/bin/parent");
        processes.set((2, 20), masked("/bin/child"));
        processes.remove((1, 10));
        assert_eq!(processes.executable((2, 20)).unwrap().as_str(), "/bin/child");
    }
}
