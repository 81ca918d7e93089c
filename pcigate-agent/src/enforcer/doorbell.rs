//! Hears that a cgroup was made, in a thread of its own, and wakes whoever has to look.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Notify;

use super::{EnforcerError, tables::take};

/// How soon the thread notices that it is to end, ms.
const LOOK_UP_EVERY_MS: u16 = 500;

/// Rings for every cgroup that is made on this machine; many at once are one ring.
pub struct Doorbell {
    rung: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

impl Doorbell {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>, EnforcerError> {
        take(ebpf, "BIRTHS")
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start(mut ring: RingBuf<MapData>) -> io::Result<Self> {
        let (rung, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (rings, stopped) = (Arc::clone(&rung), Arc::clone(&stop));
        thread::Builder::new().name("doorbell".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
                // An interrupted wait only means to look at the ring now.
                let _ = poll(&mut fds, PollTimeout::from(LOOK_UP_EVERY_MS));
                let mut any = false;
                while ring.next().is_some() {
                    any = true;
                }
                if any {
                    rings.notify_one();
                }
            }
        })?;
        Ok(Self { rung, stop })
    }

    /// What is notified: one that nobody waits for is kept for the next who does.
    #[must_use]
    pub fn rung(&self) -> Arc<Notify> {
        Arc::clone(&self.rung)
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
