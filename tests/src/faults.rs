//! A disk that loses what a real one may lose: a file system of our own in user space (FUSE), on
//! which the real programs run unchanged.
//!
//! What it models, and what not:
//!
//! * Written bytes are volatile until `fsync` or `fdatasync` of that file, names until `fsync` of
//!   that directory. [`Disk::cut_power`] drops volatile changes wholly, in part, or torn between
//!   sectors of 512 bytes, independently for each file and directory.
//! * A file's own `fsync` does not make its name durable (stricter than ext4).
//! * A failed `fsync` of a file may have written any part, and what it has not written is never
//!   written by a later one (as Linux does it).
//! * Files written before the cut come back with zeros where a part did not arrive.
//! * Not modelled: a disk that says "durable" and is not, bits that change by themselves.

mod disk;
mod mount;
mod plan;
mod random;

pub use disk::Disk;
pub use mount::{FaultyDisk, Stats};
pub use plan::{Call, Effect, Fault};
pub use random::Random;
