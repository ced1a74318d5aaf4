//! The commands, one module each: arguments, whose doc comments are the help, and what is done with them.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod dump;
mod excludes;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod init;
mod inventory;
pub(crate) mod labels;
pub(crate) mod list;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod mount;
pub(crate) mod restore;
mod restore_trees;
mod revision;
pub(crate) mod scrub;
mod serve;
pub(crate) mod status;
pub(crate) mod stream;
mod tree_entry;
pub(crate) mod unmount;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use treering_engine::{DEFAULT_CACHE_BYTES, Repository};

use crate::cli::{Cli, Command};
use crate::exit::{CommandOutcome, Failure};
use crate::ui::Ui;

/// What every command has at hand.
struct Context<'a> {
    cli: &'a Cli,
    ui: &'a Ui,
}

/// Does what the command line asks for.
pub(crate) fn run(cli: &Cli, ui: &Ui) -> CommandOutcome {
    raise_open_file_limit();
    let context = Context { cli, ui };
    let outcome = match &cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Backup(args) => backup::run(&context, args),
        Command::List(args) => list::run(&context, args),
        Command::Status(args) => status::run(&context, args),
        Command::Restore(args) => restore::run(&context, args),
        Command::Dump(args) => dump::run(&context, args),
        Command::Ls(args) => ls::run(&context, args),
        Command::Find(args) => find::run(&context, args),
        Command::History(args) => history::run(&context, args),
        Command::Diff(args) => diff::run(&context, args),
        Command::Tag(args) => labels::tag(&context, args),
        Command::Protect(args) => labels::protect(&context, args),
        Command::Unprotect(args) => labels::unprotect(&context, args),
        Command::Forget(args) => forget::run(&context, args),
        Command::Gc(args) => gc::run(&context, args),
        Command::Stream(args) => stream::run(&context, args),
        Command::Mount(args) => mount::run(&context, args),
        Command::Unmount(args) => unmount::run(&context, args),
        Command::Scrub(args) => scrub::run(&context, args),
        Command::Check(args) => check::run(&context, args),
        Command::Copy(args) => copy::run(&context, args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    match tells_damage(&cli.command) {
        true => outcome,
        false => outcome.map_err(Failure::without_damage_code),
    }
}

/// Lets the process open as many files as it may: each index table and each open revision takes some.
fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("cannot raise the limit of open files: {error}");
    }
}

/// Whether the exit code tells damage from other errors: where it is looked for, or data can't be given back for it.
fn tells_damage(command: &Command) -> bool {
    matches!(
        command,
        Command::Scrub(_)
            | Command::Check(_)
            | Command::Copy(_)
            | Command::Restore(_)
            | Command::Dump(_)
            | Command::Ls(_)
            | Command::Find(_)
            | Command::History(_)
            | Command::Diff(_)
    )
}

impl Context<'_> {
    /// Where the repository is said to lie.
    fn repository_path(&self) -> Result<&Path, Failure> {
        let named = self.cli.global.repository.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path = named.ok_or_else(|| {
            Failure::usage("no repository was named").hint("give -r REPO, or set TREERING_REPOSITORY")
        })?;
        refuse_remote(path)?;
        Ok(path)
    }

    /// Opens the repository.
    fn repository(&self) -> Result<Repository, Failure> {
        self.repository_with_cache(DEFAULT_CACHE_BYTES)
    }

    /// Opens the repository with so much memory for what was read.
    fn repository_with_cache(&self, cache_bytes: u64) -> Result<Repository, Failure> {
        let path = self.repository_path()?;
        let opened = Repository::open(path, cache_bytes);
        let repository = opened.map_err(|error| {
            Failure::from(error).during(format_args!("open repository {}", path.display()))
        })?;
        self.tell_waits(&repository);
        Ok(repository)
    }

    /// Lets it be told what a repository is waited for.
    fn tell_waits(&self, repository: &Repository) {
        repository.tell_waits(Arc::new(self.ui.wait_monitor()));
    }
}

/// A directory called `ssh:` would be a nasty surprise.
fn refuse_remote(path: &Path) -> Result<(), Failure> {
    let text = path.to_string_lossy();
    match text.split_once("://") {
        Some((scheme, _)) if !scheme.contains('/') => Err(Failure::usage(format!(
            "cannot use {text}: this version keeps repositories in directories only"
        ))
        .hint("give the path of a directory")),
        _ => Ok(()),
    }
}

/// The path from the root, so that messages and scripts can rely on it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
