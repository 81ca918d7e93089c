//! Waiting for another agent's end, so that the next one is there before the last one goes.

use std::{path::Path, time::Duration};

use pcigate_agent::enforcer;
use tokio::signal::unix::Signal;

/// How often it looks whether it is its turn.
const EVERY: Duration = Duration::from_millis(50);

/// Waits until no other agent enforces with these pins; false when it is told to end before.
/// Nothing is opened meanwhile that the other one uses.
#[expect(clippy::print_stdout, reason = "the line that says what it waits for")]
pub async fn wait(pins: &Path, [terminate, interrupt]: [&mut Signal; 2]) -> anyhow::Result<bool> {
    let mut look = tokio::time::interval(EVERY);
    let mut said = false;
    // The claim is given back at once: it is taken when there is something to enforce with.
    while enforcer::claim(pins)?.is_none() {
        if !said {
            println!("pcigate-agent stands by: another one enforces with {}", pins.display());
            said = true;
        }
        tokio::select! {
            _ = terminate.recv() => return Ok(false),
            _ = interrupt.recv() => return Ok(false),
            _ = look.tick() => {}
        }
    }
    Ok(true)
}
