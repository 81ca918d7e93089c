//! What is refused and what passes, as rules written in a policy decide it.

mod bounds;
mod dangerous;
mod ordinary;
mod properties;
mod rules;
