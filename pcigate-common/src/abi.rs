//! What tells one layout of kernel records from another, for an agent that finds the rings of an
//! earlier one.

/// The sources that say how a record's bytes lie and what its numbers mean. Their text without
/// comments is the layout: whatever changes there makes another one, and nobody has to remember to
/// count a version up.
pub const LAYOUT: [&str; 3] =
    [include_str!("event.rs"), include_str!("maps.rs"), include_str!("redirect.rs")];
