//! Waiting for a condition with a deadline: tests never sleep for a guessed time.

use std::time::{Duration, Instant};

/// Longer than anything a test waits for may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
///
/// # Panics
/// None came in time; `what` says what was waited for.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for {what}");
        std::thread::yield_now();
    }
}
