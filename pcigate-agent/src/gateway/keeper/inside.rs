//! The keeper's own process: no privilege, one thread, two things to do.

use std::{
    io::{self, Stdin},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{DONE, END, FAILED, MESSAGE_MAX, START};
use crate::gateway::{
    link,
    process::{self, confined},
};

/// Names of variables the gateway's process is given.
const VARIABLES: [&str; 1] = ["PCIGATE_LOG"];

/// Gives up its privileges, says so, and does what it is asked until nobody can ask any more. Its
/// socket is standard input.
///
/// # Errors
/// Nobody can be told.
pub fn run() -> io::Result<()> {
    let socket = io::stdin();
    if let Err(error) = confined::give_up_all().and_then(|()| confined::start_programs_only()) {
        return say(&socket, FAILED, &error.to_string());
    }
    say(&socket, DONE, "ready")?;
    let mut gateway = None;
    let mut message = [0; MESSAGE_MAX];
    loop {
        let (length, _) = link::receive(socket.as_fd(), &mut message, false)?;
        match message.get(..length) {
            Some([START]) => {
                end(gateway.take());
                gateway = start(&socket)?;
            }
            Some([END]) => say(&socket, DONE, &end(gateway.take()))?,
            _ => {
                end(gateway.take());
                return Ok(());
            }
        }
    }
}

fn say(socket: &Stdin, first: u8, text: &str) -> io::Result<()> {
    let mut message = vec![first];
    message.extend(text.bytes().take(MESSAGE_MAX - 1));
    link::send(socket.as_fd(), &message, None)
}

fn start(socket: &Stdin) -> io::Result<Option<Child>> {
    let started = link::pair().and_then(|(ours, theirs)| {
        let mut command = Command::new("/proc/self/exe");
        let kept = VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.arg(process::VERB).env_clear().envs(kept);
        Ok((command.stdin(theirs).stdout(Stdio::null()).spawn()?, ours))
    });
    match started {
        Ok((child, ours)) => {
            link::send(socket.as_fd(), &[DONE], Some(ours.as_fd()))?;
            Ok(Some(child))
        }
        Err(error) => {
            let remedy = "let everybody execute pcigate-agent's file";
            say(socket, FAILED, &format!("{error}; {remedy}"))?;
            Ok(None)
        }
    }
}

/// Ends it where it has not ended already; one that is about to end says how by itself.
fn end(gateway: Option<Child>) -> String {
    let Some(mut gateway) = gateway else { return "it did not run".to_owned() };
    match gateway.kill().and_then(|()| gateway.wait()) {
        Ok(status) => words(status),
        Err(error) => format!("cannot be ended: {error}"),
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}
