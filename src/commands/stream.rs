//! `treering stream`: streams as a whole.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use treering_engine::operations::forget::delete_stream;
use treering_engine::{Error, LostPart, Repository, Stream, split_revision};

use super::Context;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{Align, Table, count};

/// List, rename or delete whole streams
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering stream list
  treering stream rename vm1 mail-server
  treering stream delete old-vm --yes")]
pub(crate) struct StreamArgs {
    #[command(subcommand)]
    command: StreamCommand,
}

#[derive(Debug, Subcommand)]
enum StreamCommand {
    List(ListArgs),
    Rename(RenameArgs),
    Delete(DeleteArgs),
}

/// Show the streams that there are, and those that were deleted and can be brought back
#[derive(Args, Debug)]
struct ListArgs {}

/// Give a stream another name; mounts show it within a second or so
#[derive(Args, Debug)]
struct RenameArgs {
    /// The stream; its id where its name is lost
    stream: String,
    /// Its new name
    name: String,
}

/// Delete a stream with all its revisions; until the next gc `treering forget --undo STREAM` brings it back
#[derive(Args, Debug)]
struct DeleteArgs {
    /// The stream
    stream: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(context: &Context<'_>, args: &StreamArgs) -> CommandOutcome {
    match &args.command {
        StreamCommand::List(_) => list(context),
        StreamCommand::Rename(args) => rename(context, args),
        StreamCommand::Delete(args) => delete(context, args),
    }
}

fn list(context: &Context<'_>) -> CommandOutcome {
    let repository = context.repository()?;
    let streams = repository.streams()?;
    let deleted = repository.deleted_streams()?;
    let rows =
        streams.iter().map(|stream| (stream, false)).chain(deleted.iter().map(|stream| (stream, true)));
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("KIND", Align::Left),
        ("REVISIONS", Align::Right),
        ("FORGOTTEN", Align::Right),
        ("ID", Align::Left),
    ]);
    let mut document: Vec<Value> = Vec::new();
    for (stream, is_deleted) in rows {
        let revisions = if is_deleted { 0 } else { repository.revisions(stream)?.len() };
        let forgotten = repository.forgotten_revisions(stream)?.len();
        let name = if is_deleted { format!("{} (deleted)", stream.name) } else { stream.name.clone() };
        let kind = stream.kind.to_string();
        table.row(vec![name, kind, revisions.to_string(), forgotten.to_string(), stream.id.to_string()]);
        document.push(json!({
            "name": stream.name,
            "id": stream.id.to_string(),
            "kind": stream.kind.as_str(),
            "revisions": revisions,
            "forgotten": forgotten,
            "deleted": is_deleted,
        }));
    }
    match context.ui.is_json() {
        true => context.ui.print_json(&json!({ "streams": document }))?,
        false => context.ui.print_table(&table)?,
    }
    Ok(Code::Done)
}

/// The stream of a name that must not be that of a revision.
fn find_whole(repository: &Repository, named: &str) -> Result<Stream, Failure> {
    match split_revision(named) {
        (stream, None) => Ok(repository.stream(stream)?),
        (stream, Some(_)) => Err(Failure::usage(format!("'{named}' names revisions, and no stream"))
            .hint(format!("give the stream as a whole: {stream}"))),
    }
}

/// The stream of a name that has lost all its revisions: who knows that they do not come back deletes it.
fn find_lost(repository: &Repository, named: &str) -> Result<Option<Stream>, Failure> {
    let list = repository.list_streams()?;
    let has_lost_all = |stream: &Stream| {
        let own = list.damaged.iter().find(|damaged| damaged.id == stream.id);
        own.is_some_and(|damaged| damaged.lost == LostPart::Revisions)
    };
    Ok(list.streams.iter().find(|stream| stream.name == named && has_lost_all(stream)).cloned())
}

fn rename(context: &Context<'_>, args: &RenameArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("rename stream '{}'", args.stream));
    let repository = context.repository()?;
    let stream = find_whole(&repository, &args.stream).map_err(during)?;
    let renamed = repository.rename_stream(&stream, &args.name);
    renamed.map_err(|error| during(not_renamed(args, error)))?;
    match context.ui.is_json() {
        true => context.ui.print_json(&json!({ "id": stream.id.to_string(), "name": args.name }))?,
        false => context.ui.summary(&format!("stream '{}' is now '{}'\n", args.stream, args.name))?,
    }
    Ok(Code::Done)
}

/// A name that is not allowed is told with the command that takes one.
fn not_renamed(args: &RenameArgs, error: Error) -> Failure {
    let is_of_name = matches!(error, Error::BadName { .. });
    let failure = Failure::from(error);
    match (is_of_name, &failure.hint) {
        (true, Some(hint)) => {
            let usage = format!("{hint}: `treering stream rename {} NAME`", args.stream);
            failure.hint(usage)
        }
        _ => failure,
    }
}

fn delete(context: &Context<'_>, args: &DeleteArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("delete stream '{}'", args.stream));
    let repository = context.repository()?;
    let stream = match find_lost(&repository, &args.stream)? {
        Some(stream) => stream,
        None => find_whole(&repository, &args.stream).map_err(during)?,
    };
    let revisions = repository.revisions(&stream)?.len() as u64;
    if !args.yes && !is_confirmed(context, &repository, &args.stream, revisions)? {
        return Err(
            Failure::new(format!("stream '{}' was not deleted", args.stream)).hint("answer with its name")
        );
    }
    delete_stream(&repository, &stream).map_err(|error| during(error.into()))?;
    match context.ui.is_json() {
        true => context.ui.print_json(&json!({
            "id": stream.id.to_string(),
            "name": stream.name,
            "revisions": revisions,
        }))?,
        false => context.ui.summary(&format!(
            "stream '{}' is deleted with {}; until the next gc `treering forget --undo {}` brings it back\n",
            stream.name,
            count(revisions, "revision"),
            stream.name
        ))?,
    }
    Ok(Code::Done)
}

/// Whether who sits at the terminal wants it.
fn is_confirmed(
    context: &Context<'_>,
    repository: &Repository,
    name: &str,
    revisions: u64,
) -> Result<bool, Failure> {
    let revisions = count(revisions, "revision");
    let place = repository.location();
    let question = format!("Delete stream '{name}' with {revisions} from {place}? Answer with its name: ");
    let answer = context.ui.ask(&question)?;
    let nobody =
        || Failure::usage("nobody can be asked whether the stream is to be deleted").hint("give --yes");
    Ok(answer.ok_or_else(nobody)? == name)
}
