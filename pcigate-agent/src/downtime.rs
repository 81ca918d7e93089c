//! How long no agent ran: a heartbeat in the state directory, read by the next one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use crate::{pipeline::now_unix_nano, sensor::boot_clock};

/// Changes with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The heartbeat of this agent.
#[derive(Debug)]
pub struct Heartbeat {
    file: File,
    boot: String,
}

/// The time between an earlier agent's last heartbeat and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downtime {
    /// How long. By the wall clock after a reboot, so only as right as that is.
    pub lasted: Duration,
    /// The machine was started in between, which takes away everything that was pinned.
    pub rebooted: bool,
}

/// Boot id, boot clock and wall clock in ns.
type Beat = (String, u64, u64);

impl Heartbeat {
    /// Reads the last heartbeat and takes the file over; `None`: no agent has run here.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Downtime>)> {
        let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let before = fs::read_to_string(path).ok().and_then(|text| parse(&text));
        let now = (boot.clone(), boot_clock(), now_unix_nano());
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        Ok((Self { file, boot }, before.map(|before| between(&before, &now))))
    }

    /// This agent is alive.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn beat(&self) -> io::Result<()> {
        let line = format!("{} {:020} {:020}\n", self.boot, boot_clock(), now_unix_nano());
        self.file.write_all_at(line.as_bytes(), 0)
    }
}

fn parse(text: &str) -> Option<Beat> {
    let mut words = text.lines().next()?.split(' ');
    let boot = words.next()?.to_owned();
    Some((boot, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn between(before: &Beat, now: &Beat) -> Downtime {
    let rebooted = before.0 != now.0;
    let nanos =
        if rebooted { now.2.saturating_sub(before.2) } else { now.1.saturating_sub(before.1) };
    Downtime { lasted: Duration::from_nanos(nanos), rebooted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_last_heartbeat_is_told_and_a_reboot_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alive");
        let (heartbeat, before) = Heartbeat::open(&path).unwrap();
        assert_eq!(before, None);
        heartbeat.beat().unwrap();
        let (_, before) = Heartbeat::open(&path).unwrap();
        assert!(before.is_some_and(|downtime| !downtime.rebooted), "{before:?}");
        let at = |boot: &str, boot_ns, wall| (boot.to_owned(), boot_ns, wall);
        let same = between(&at("a", 5_000, 100), &at("a", 9_000, 90));
        let lasted = Duration::from_micros(4);
        assert_eq!(
            same,
            Downtime { lasted, rebooted: false },
            "the boot clock, not the wall clock"
        );
        let other = between(&at("a", 5_000, 100), &at("b", 10, 4_100));
        assert_eq!(other, Downtime { lasted, rebooted: true });
    }

    #[test]
    fn a_file_that_is_no_heartbeat_is_none() {
        for text in ["", "x", "x 1", "x y z", "\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
