//! An earlier generation, and how its rings are read.

use std::sync::{Arc, RwLock};

use super::{ATTEMPTS, BATCH_RECORDS, PAUSE, Survival, names, twice::Twice};
use crate::{
    attribution::Attribution,
    enforcer::{Generation, Rings},
    governor::Directory,
    pipeline,
    recorder::RecorderHandle,
    sensor::{Batch, Sensor},
};

/// An earlier generation.
pub(super) struct Before {
    pub(super) generation: Generation,
    /// For its counters, and for its rings where they cannot be decoded.
    pub(super) rings: Option<Rings>,
    pub(super) reader: Option<Reader>,
}

/// Reads the rings of one generation.
pub struct Reader {
    /// The rings.
    pub sensor: Sensor,
    /// What its numbers mean.
    pub attribution: Attribution,
    pub(super) batch: Batch,
}

impl Reader {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(sensor: Sensor, attribution: Attribution) -> Self {
        Self { sensor, attribution, batch: Batch::default() }
    }
}

impl Before {
    pub(super) fn open(generation: Generation, survival: &Survival, done: bool) -> Self {
        let readable = !done && generation.is_readable();
        let rings = if done { None } else { generation.rings() };
        let reader = generation.rings().filter(|_| readable).map(|rings| {
            let names = Directory::kept(&names(survival, generation.number));
            let attribution = Attribution::new(Arc::new(RwLock::new(names)));
            Reader::new(Sensor::new(rings), attribution)
        });
        Self { generation, rings, reader }
    }

    /// Whether anything of it is attached or was ever recorded by it.
    pub(super) fn matters(&self) -> bool {
        let made = self.rings.as_ref().map_or([0; 2], |rings| rings.counts().made);
        self.generation.enforces() || made != [0; 2]
    }

    /// Hands one batch to the recorder; how many records. 0 = there is nothing.
    pub(super) fn read(&mut self, recorder: &RecorderHandle, twice: Option<&mut Twice>) -> usize {
        let Some(Reader { sensor, attribution, batch }) = &mut self.reader else { return 0 };
        let Some(room) = room(recorder) else { return 0 };
        sensor.drain(batch, room.min(BATCH_RECORDS));
        // Its programs write no more, or what they write is read later.
        batch.release();
        if let Some(twice) = twice {
            batch.events().for_each(|event| twice.saw(&event));
        }
        pipeline::hand_over(batch, attribution, recorder)
    }
}

/// Room for a batch of two rings. `None`: the recorder does not come to make any.
pub(super) fn room(recorder: &RecorderHandle) -> Option<usize> {
    for _ in 0..ATTEMPTS {
        match recorder.room() / 2 {
            0 => std::thread::sleep(PAUSE),
            room => return Some(room),
        }
    }
    None
}
