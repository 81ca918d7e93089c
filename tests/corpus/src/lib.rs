//! Card data and look-alikes with labels, made from a seed: what the detector is judged by.
//!
//! It shares no code with the detector (its own brand table, its own encoders and decoders), so
//! that one mistake cannot hide in both. Nothing is stored: every number is made at run time and is
//! random but for its prefix and check digit. The same seed gives the same bytes on every machine.

mod aside;
mod encode;
mod files;
mod fill;
mod judge;
mod logs;
mod lookalikes;
mod number;
mod positives;
mod rng;
mod spelling;
mod text;

pub use aside::sensitive;
pub use files::write;
pub use judge::survives;
pub use logs::{clean_log, dense_log};
pub use lookalikes::{NEVER, look_alike_classes, look_alikes};
pub use number::brands;
pub use positives::positives;
pub use rng::Rng;
pub use spelling::{OPTIONAL, spellings};
pub use text::{Kind, Label, Line, Text};
