//! What is refused and what passes, as rules written in a policy decide it.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod bounds;
mod dangerous;
mod dangers;
mod ordinary;
mod properties;
mod rules;
