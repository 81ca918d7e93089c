//! `pcigate completions` and `pcigate manuals`: what shells and `man` need, made from the command
//! line as it is, when it is packaged. Nothing of it is kept in the repository, where it would age.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::{Answer, Failure};

/// For which shell.
#[derive(Args, Debug)]
#[command(after_help = "bash: pcigate completions bash > /etc/bash_completion.d/pcigate\n\
    zsh:  pcigate completions zsh > \"${fpath[1]}/_pcigate\"")]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to.
#[derive(Args, Debug)]
pub struct Manuals {
    /// An existing directory, such as /usr/share/man/man1.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes the script to standard output.
pub fn completions(mut command: Command, options: &Completions) -> Result<Answer, Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// Writes a page for the command and one for each of its verbs.
pub fn manuals(command: Command, options: &Manuals) -> Result<Answer, Failure> {
    clap_mangen::generate_to(command, &options.directory).map_err(|error| {
        let directory = options.directory.display();
        Failure::because(
            format!("cannot write manual pages to {directory}: give a writable directory"),
            error,
        )
    })?;
    Ok(Answer::Yes)
}
