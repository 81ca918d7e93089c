//! Runs the commands of a chore: prints each before it runs, and names it in every error.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// The folder of the workspace: what `cargo run` says, else where this was compiled.
pub fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf)
}

/// A command that will run in the workspace folder.
///
/// What `cargo run` told this process about xtask is taken away: build scripts (ring's, for one)
/// watch those variables, and would compile everything again after each chore.
pub fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// `command("cargo", …)`, with what an unattended run wants when `CI` is set.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = command("cargo", args);
    if is_ci() {
        command.env("CARGO_INCREMENTAL", "0").env("CARGO_TERM_COLOR", "never");
    }
    command
}

/// Builds all programs. The whole workspace, as `cargo xtask test` does: a smaller selection has
/// other features, and compiles heavy dependencies a second time.
pub fn programs() -> Command {
    cargo(["build", "--workspace", "--bins"])
}

/// Whether this is an unattended run.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Whether this process is root, which kernel tests and package installs need.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The command as one would type it, with the variables it sets that are not set already.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)))
        .filter(|(name, value)| std::env::var_os(name).as_deref() != Some(value))
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), quoted(value)))
        .collect();
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

/// Runs the command with our terminal; an error when it cannot start or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| cannot_start(command))?;
    succeeded(command, status)
}

/// Runs the command quietly and gives what it printed.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| cannot_start(command))?;
    succeeded(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the command, prints what it prints, and shows each line to `seen` as well.
pub fn watch(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<()> {
    println!("$ {}", shown(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| cannot_start(command))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // Best effort: a closed terminal must not hide the result of the tests.
            let _ = std::io::stdout().write_all(&line);
            seen(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
    }
    let status = child.wait().with_context(|| cannot_start(command))?;
    succeeded(command, status)
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("`{}` cannot be started", shown(command))
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=:+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{command, read, run, shown, watch};

    #[test]
    fn an_error_names_the_whole_command_that_failed() {
        let error = run(&mut command("sh", ["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "`sh -c 'exit 3'` failed (exit status: 3)");
        let error = run(&mut command("no-such-program", ["x"])).unwrap_err().to_string();
        assert_eq!(error, "`no-such-program x` cannot be started");
    }

    #[test]
    fn the_shown_command_can_be_typed_again() {
        let mut echo = command("echo", ["a b", "it's", ""]);
        assert_eq!(shown(echo.env("WHO", "me & you")), r"WHO='me & you' echo 'a b' 'it'\''s' ''");
    }

    #[test]
    fn output_is_read_and_watched_line_by_line() {
        assert_eq!(read(&mut command("printf", ["one\ntwo\n"])).unwrap(), "one\ntwo\n");
        let mut lines = Vec::new();
        watch(&mut command("printf", ["one\ntwo\n"]), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
    }
}
