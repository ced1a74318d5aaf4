//! `treering ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde_json::Map;
use treering_engine::operations::ls::{Listed, ls};
use treering_engine::{Entry, EntryContent, TreeReader, tidy_path};

use super::Context;
use super::revision::{Named, find_one};
use super::tree_entry::{DamagedParts, mode_text, path_text, size_text, time_text, to_json};
use crate::exit::{CommandOutcome, Failure};
use crate::ui::{JsonStream, Output, TerminalMonitor, escaped};

/// List a directory of a tree
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering ls home                     the newest revision's root
  treering ls -l home@1 alice/mail     with modes, owners, sizes and times (UTC)
  treering ls -R home@2026-11 /etc     all that is below, each with its path
  treering ls --json home docs | jq -r '.entries[] | select(.size > 1000000) | .path'

Entries come in the order of their names; what is not a directory lists itself, and links are not followed. What would
break a line or steer a terminal, and what is no UTF-8, is written as \\n, \\xff and so on, a backslash as two. With --json
a path that is no UTF-8 comes in hexadecimal digits, too, as path_bytes (so name and target); mode is octal. A time that
has no date, as after the year 9999, is seconds since 1970: @1099511627776, with --json null and mtime_seconds beside it.
What can't be read is named on stderr and as \"damaged\", the rest is shown, and the exit code is 4.")]
pub(crate) struct LsArgs {
    /// The revision; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revision: String,

    /// The path in the tree; its root without one
    path: Option<OsString>,

    /// List what is below directories, too
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Show type, mode, links, owner, group, size and time
    #[arg(short, long)]
    long: bool,
}

pub(super) fn run(context: &Context<'_>, args: &LsArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("list {}", args.shown()));
    let repository = context.repository()?;
    let named = find_one(&repository, &args.revision).map_err(during)?;
    let tree = repository.open_tree(&named.record).map_err(|error| during(error.into()))?;
    let monitor = context.ui.monitor();
    let path = tidy_path(args.path());
    let listing = Listing { args, path, named: &named, tree: &tree, monitor: &monitor };
    let mut damaged = DamagedParts::default();
    match context.ui.is_json() {
        true => listing.print_json(context, &mut damaged),
        false => listing.print(&mut damaged),
    }
    .map_err(during)?;
    Ok(damaged.code())
}

impl LsArgs {
    fn path(&self) -> &[u8] {
        self.path.as_deref().map(OsStrExt::as_bytes).unwrap_or_default()
    }

    fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("{} of {}", path_text(path.as_bytes()), self.revision),
            None => self.revision.clone(),
        }
    }
}

/// Shows an entry of this path.
type Show<'s> = &'s mut dyn FnMut(&[u8], &Entry) -> Result<(), Failure>;

struct Listing<'a> {
    args: &'a LsArgs,
    path: Vec<u8>,
    named: &'a Named,
    tree: &'a TreeReader,
    monitor: &'a TerminalMonitor,
}

impl Listing<'_> {
    fn list(&self, damaged: &mut DamagedParts, show: Show<'_>) -> Result<(), Failure> {
        let name = self.named.name();
        let mut tell = |listed: Listed<'_>| match listed {
            Listed::Entry { path, entry } => show(path, entry),
            Listed::Lost { path, error } => {
                damaged.add(path, &name, &error.to_string());
                Ok(())
            }
        };
        ls(self.tree, &name, &self.path, self.args.recursive, self.monitor, &mut tell)
    }

    fn print_json(&self, context: &Context<'_>, damaged: &mut DamagedParts) -> Result<(), Failure> {
        let mut document = JsonStream::new(context.ui, Output::new(self.monitor));
        let mut has_begun = false;
        let listed = self.list(damaged, &mut |path, entry| {
            if !std::mem::replace(&mut has_begun, true) {
                document.list("entries")?;
            }
            document.item(&to_json(path, entry, self.tree))
        });
        let listed = listed.and_then(|()| if has_begun { Ok(()) } else { document.list("entries") });
        document.end(listed, |()| {
            let mut rest = Map::new();
            damaged.insert_into(&mut rest);
            rest
        })
    }

    fn print(&self, damaged: &mut DamagedParts) -> Result<(), Failure> {
        let mut output = Output::new(self.monitor);
        self.list(damaged, &mut |path, entry| output.print(&self.line(path, entry)))?;
        output.flush()
    }

    fn line(&self, path: &[u8], entry: &Entry) -> String {
        // What lists itself has the path that was asked for.
        let needs_path = self.args.recursive || path.len() == self.path.len();
        let name = if needs_path { path_text(path) } else { escaped(entry.name.as_bytes()) };
        match self.args.long {
            true => format!("{} {name}{}\n", self.details(entry), target(entry)),
            false => format!("{name}\n"),
        }
    }

    fn details(&self, entry: &Entry) -> String {
        let owner = |name: Option<&[u8]>, number: u32| name.map_or_else(|| number.to_string(), escaped);
        let metadata = &entry.metadata;
        format!(
            "{}{:>3} {:<8} {:<8} {:>10} {}",
            mode_text(entry),
            metadata.links,
            owner(self.tree.user_name(metadata.uid), metadata.uid),
            owner(self.tree.group_name(metadata.gid), metadata.gid),
            size_text(entry),
            time_text(metadata.mtime),
        )
    }
}

/// Where a link leads.
fn target(entry: &Entry) -> String {
    match &entry.content {
        EntryContent::Symlink(target) => format!(" -> {}", escaped(target.as_bytes())),
        _ => String::new(),
    }
}
