//! The commands that work on a ledger's files: `backup`, `restore`, `fsck`.

use std::{
    error::Error,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use pcigate_collector::{
    backup, config,
    fsck::{self, CursorState, Findings},
    restore,
};

use crate::{complain, say};

/// Time between two signs of progress.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// The answer is "no": something is wrong.
const FOUND: u8 = 1;
/// There is nothing that could be checked.
const CANNOT: u8 = 3;

/// `backup`.
#[derive(Args)]
#[command(
    after_help = "DIR looks like a state directory afterwards: `pcigate-collector fsck DIR` \
    and `pcigate verify DIR/ledger` check it. Where it holds an older backup of the same log, only \
    what is new is copied; all of it is verified each time."
)]
pub struct Backup {
    /// The collector's configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The directory of the backup, outside of stateDir; made if it does not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Copy the signing key ledger.key too. It is a secret: whoever has it can sign another history
    #[arg(long)]
    with_key: bool,
}

/// `restore`.
#[derive(Args)]
#[command(
    after_help = "Everything is verified before the ledger is put in place. The signing key \
    comes from the backup (made with --with-key), or from stateDir/ledger.key if you put it there."
)]
pub struct Restore {
    /// The collector's configuration file; its stateDir must have no ledger
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// `fsck`.
#[derive(Args)]
#[command(
    after_help = "Exit code 0: nothing is wrong; 1: something is; 2: wrong usage; 3: there is \
    no ledger that could be checked."
)]
pub struct Fsck {
    /// The collector's configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "dir")]
    config: Option<PathBuf>,
    /// Instead: a state directory, or a backup
    #[arg(value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
}

/// Runs `backup`.
pub fn backup(args: &Backup) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    let (to, with_key) = (args.to.clone(), args.with_key);
    let order = backup::Order { state_dir: config.state_dir, to, with_key };
    let mut show = Show::default();
    let done = backup::backup(&order, &mut |what, leaves, all| show.progress(what, leaves, all));
    show.end();
    let backup::Backup { origin, size, root, copied } = done?;
    let dir = args.to.display();
    say(&format!("origin  {origin}\nsize    {size}\nroot    {root}"))?;
    say(&format!("copied  {} files, {} bytes", copied.files, copied.bytes))?;
    let key = match with_key {
        true => "key     included: keep this backup as secret as the key",
        false => {
            "key     not included: keep a copy of ledger.key elsewhere, without it a restored \
             ledger cannot go on"
        }
    };
    say(key)?;
    say(&format!("ok: {dir} is verified and durable"))?;
    Ok(())
}

/// Runs `restore`.
pub fn restore(args: &Restore) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    let state_dir = config.state_dir.clone();
    let order = restore::Order { state_dir, from: args.from.clone(), origin: config.origin };
    let mut show = Show::default();
    let done = restore::restore(&order, &mut |what, leaves, all| show.progress(what, leaves, all));
    show.end();
    let restore::Restored { size, root, files } = done?;
    say(&format!("size    {size}\nroot    {root}\nfiles   {files}"))?;
    say(&format!("ok: the ledger in {} is restored and verified", config.state_dir.display()))?;
    say("What nodes had acknowledged after this backup is gone from the ledger. What they still \
         hold in their spools is sent again; the rest becomes Gap records. Every node that has \
         seen the longer ledger raises an alarm (Coverage records) and goes on raising it until \
         its witness directory is removed: see docs/operations.md.")?;
    Ok(())
}

/// Runs `fsck`.
pub fn fsck(args: &Fsck) -> ExitCode {
    match try_fsck(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            complain(&error);
            ExitCode::from(CANNOT)
        }
    }
}

fn try_fsck(args: &Fsck) -> anyhow::Result<bool> {
    let dir = match (&args.dir, &args.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(config)) => config::load(config)?.state_dir,
        (None, None) => anyhow::bail!("give --config FILE or a directory"),
    };
    let mut show = Show::default();
    let began = Instant::now();
    let found = fsck::fsck(&dir, |leaves, all| show.progress("checked", leaves, all));
    show.end();
    let found = found?;
    report(&dir, &found, began.elapsed())?;
    Ok(found.is_ok())
}

fn report(dir: &Path, found: &Findings, took: Duration) -> anyhow::Result<()> {
    if let Ok(report) = &found.verified {
        let root = hex::encode(report.root);
        say(&format!("origin   {}\nsize     {}\nroot     {root}", report.origin, report.size))?;
    }
    let (gaps, missing) = found.gaps;
    say(&format!("records  {} of nodes, in {} spools", found.records, found.spools))?;
    say(&format!("gaps     {gaps}, covering {missing} records; conflicts {}", found.conflicts))?;
    say(&match found.cursors {
        CursorState::None => "cursors  none saved; they are rebuilt at the start".to_owned(),
        CursorState::Ignored => "cursors  saved for another ledger or damaged; they are rebuilt \
                                 at the start"
            .to_owned(),
        CursorState::Right(size) => format!("cursors  right, at {size} leaves"),
        CursorState::Wrong(size) => format!(
            "WRONG    index/cursors differs from the ledger at {size} leaves: stop the collector, \
             delete the file, start it again"
        ),
    })?;
    let left = &found.left_over;
    if left.count() > 0 {
        say(&format!(
            "harmless {} files beyond the checkpoint, {} partial tiles of older checkpoints, {} \
             that are no part of a log ({})",
            left.beyond,
            left.older,
            left.foreign,
            left.names.join(", ")
        ))?;
    }
    if let Err(error) = &found.verified {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        say(&format!("WRONG    {error}{cause}"))?;
    }
    for wrong in &found.wrong {
        say(&format!("WRONG    leaf {}: {}", wrong.leaf, wrong.why))?;
    }
    if found.wrong_count > found.wrong.len() as u64 {
        say(&format!("WRONG    {} leaves in all", found.wrong_count))?;
    }
    let verdict = if found.is_ok() { "ok" } else { "restore what is wrong from a backup" };
    say(&format!("{verdict}: {} in {:.1} s", dir.display(), took.as_secs_f64()))?;
    Ok(())
}

/// Progress on a terminal.
#[derive(Default)]
struct Show {
    last: Option<Instant>,
}

impl Show {
    fn progress(&mut self, what: &str, leaves: u64, all: u64) {
        let mut errors = std::io::stderr();
        if self.last.is_some_and(|last| last.elapsed() < SHOW_EVERY) || !errors.is_terminal() {
            return;
        }
        self.last = Some(Instant::now());
        // Progress is no part of the answer.
        drop(write!(errors, "\r\u{1b}[K{leaves} of {all} leaves {what}"));
    }

    fn end(&self) {
        if self.last.is_some() {
            drop(write!(std::io::stderr(), "\r\u{1b}[K"));
        }
    }
}
