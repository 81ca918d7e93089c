//! A workload that tries one way out and says how far it came: `pcigate-attack NAME [KEY=VALUE]…`
//! prints `through`, or `STEP ERRNO`.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::process::ExitCode;

use pcigate_tests::attack::{PASS, pass, vectors};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    if name == PASS {
        return if pass().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let Some(vector) = vectors().into_iter().find(|vector| vector.name == name) else {
        println!("there is no way out named `{name}`");
        return ExitCode::from(2);
    };
    match vector.run(words.collect()) {
        Ok(()) => println!("through"),
        Err(stopped) => println!("{} {:?}", stopped.step, stopped.errno),
    }
    ExitCode::SUCCESS
}
