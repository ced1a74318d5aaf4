//! `treering forget`.

use clap::Args;
use serde_json::{Value, json};
use treering_engine::operations::forget::{ForgetScope, Judged, forget, undelete_stream, undo_forget};
use treering_engine::operations::retention::{KeepWithin, Policy, Zone};
use treering_engine::{Error, RecordKey, Repository, Stream, split_revision, validate_label};

use super::Context;
use crate::exit::{Code, CommandOutcome, Failure, lines};
use crate::ui::{Align, Table, count};

/// Remove revisions, by name or by policy; no data is freed before the next gc
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering forget vm1@2026-11-20T10-07-51Z    this revision
  treering forget vm1@2026-01..2026-03        a range of them
  treering forget vm1 --keep-daily 14 --keep-weekly 8 --keep-monthly 12
  treering forget --all --keep-within 7d --keep-monthly 12 --dry-run
  treering forget --undo vm1                  brings back what gc has not taken yet

A policy keeps, of the N newest hours, days, weeks, months or years in which the stream has revisions, the newest one of
each. Rules are independent: what any of them keeps is kept. The newest revision of a stream is always kept, and so are
protected ones and those dated in the future, which count for no rule. --dry-run says what would be kept, and why.

What is forgotten can be brought back until `treering gc` frees the space.")]
pub(crate) struct ForgetArgs {
    /// Revisions; streams where a policy is given
    #[arg(value_name = "STREAM[@SPEC]", required_unless_present = "all")]
    named: Vec<String>,

    /// Apply the policy to every stream
    #[arg(long, conflicts_with_all = ["named", "undo"])]
    all: bool,

    #[command(flatten)]
    policy: PolicyArgs,

    /// Change nothing, and say which revisions would be kept, and why
    #[arg(long)]
    dry_run: bool,

    /// Bring forgotten revisions back: all of a stream, or those that SPEC means
    #[arg(long)]
    undo: bool,
}

/// What is kept of a stream
#[derive(Args, Debug)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// Keep the last N revisions
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u64,

    /// Keep the newest revision of each of N hours
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u64,

    /// Keep the newest revision of each of N days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u64,

    /// Keep the newest revision of each of N weeks, which begin on Monday
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u64,

    /// Keep the newest revision of each of N months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u64,

    /// Keep the newest revision of each of N years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u64,

    /// Keep all revisions that are not older than this, seen from the newest one whose time does not contradict the order
    /// of backups, and behind a longer gap once more: 30d, 12h, '1y 6mo'
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<String>,

    /// Keep all revisions with this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,

    /// Where days and weeks begin: UTC, Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
}

impl PolicyArgs {
    fn policy(&self) -> Result<Policy, Failure> {
        self.keep_tag.iter().try_for_each(|tag| validate_label(tag))?;
        Ok(Policy {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within.as_deref().map(str::parse::<KeepWithin>).transpose()?,
            tags: self.keep_tag.clone(),
            zone: self.timezone.parse::<Zone>()?,
        })
    }
}

/// A stream, and what became of its revisions.
struct Forgotten {
    stream: Stream,
    judged: Vec<Judged>,
}

/// A stream of which nothing could be forgotten, and why.
type FailedStream = (Stream, Error);

impl Forgotten {
    fn count(&self) -> u64 {
        self.judged.iter().filter(|judged| judged.rules.is_empty()).count() as u64
    }
}

pub(super) fn run(context: &Context<'_>, args: &ForgetArgs) -> CommandOutcome {
    let policy = args.policy.policy()?;
    refuse_nonsense(args, &policy)?;
    let repository = context.repository()?;
    if args.undo {
        return undo(context, &repository, args);
    }
    let during = |failure: Failure| failure.during("forget");
    let (forgotten, failed) = match policy.is_empty() {
        true => (by_name(&repository, args).map_err(during)?, Vec::new()),
        false => by_policy(&repository, args, &policy).map_err(during)?,
    };
    match joined(failed) {
        None => tell(context, &forgotten, args.dry_run),
        Some(failure) if context.ui.is_json() => {
            Err(failure.detail("done", documents(&forgotten, args.dry_run)))
        }
        Some(failure) => tell(context, &forgotten, args.dry_run).and(Err(failure)),
    }
}

/// One failure of all streams that failed.
fn joined(failed: Vec<FailedStream>) -> Option<Failure> {
    let more = failed.len().saturating_sub(1);
    failed.into_iter().next().map(|(stream, error)| {
        let what = match more {
            0 => format!("forget any of '{}'", stream.name),
            more => format!("forget any of '{}' and of {}", stream.name, count(more as u64, "other stream")),
        };
        Failure::from(error).during(what)
    })
}

fn refuse_nonsense(args: &ForgetArgs, policy: &Policy) -> Result<(), Failure> {
    if args.undo && !policy.is_empty() {
        return Err(Failure::usage("--undo goes without a policy")
            .hint("leave the --keep options out: it brings back what STREAM or STREAM@SPEC names"));
    }
    let spec_of = |named: &String| split_revision(named).1.map(str::to_owned);
    if !policy.is_empty() {
        return match args.named.iter().find(|named| spec_of(named).is_some()) {
            Some(named) => Err(Failure::usage(format!(
                "'{named}' names revisions, and a policy judges all those of a stream"
            ))
            .hint("give the stream without @SPEC, or leave the --keep options out")),
            None => Ok(()),
        };
    }
    let whole = args.named.iter().find(|named| spec_of(named).is_none());
    match (args.undo, args.all, whole) {
        (true, ..) | (_, false, None) => Ok(()),
        (_, true, _) => Err(no_policy("every stream")),
        (.., Some(stream)) => Err(no_policy(&format!("stream '{stream}'"))),
    }
}

fn no_policy(what: &str) -> Failure {
    Failure::usage(format!("nothing says what is to be kept of {what}")).hint(
        "give a policy, such as --keep-daily 14, or name revisions as STREAM@SPEC; `treering stream delete` removes a stream",
    )
}

/// Forgets what is named. All names are understood before anything is forgotten.
fn by_name(repository: &Repository, args: &ForgetArgs) -> Result<Vec<Forgotten>, Failure> {
    let mut found: Vec<(Stream, Vec<RecordKey>)> = Vec::new();
    for named in &args.named {
        let (stream, spec) = split_revision(named);
        let stream = repository.stream(stream)?;
        let keys = repository.find_revisions(&stream, spec.unwrap_or_default())?;
        match found.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, known)) => known.extend(keys),
            None => found.push((stream, keys)),
        }
    }
    let forget_those = |(stream, keys): (Stream, Vec<RecordKey>)| {
        let judged = forget(repository, &stream, &ForgetScope::Revisions(&keys), args.dry_run)?;
        Ok(Forgotten { stream, judged })
    };
    // A protected one is found before any is forgotten.
    for (stream, keys) in &found {
        forget(repository, stream, &ForgetScope::Revisions(keys), true)?;
    }
    found.into_iter().map(forget_those).collect()
}

/// Forgets what a policy does not keep. A stream of which that fails does not stop the others.
fn by_policy(
    repository: &Repository,
    args: &ForgetArgs,
    policy: &Policy,
) -> Result<(Vec<Forgotten>, Vec<FailedStream>), Failure> {
    let list = repository.list_streams()?;
    let streams = match args.all {
        true => list.streams,
        false => args.named.iter().map(|name| list.find(name)).collect::<Result<_, Error>>()?,
    };
    let (mut forgotten, mut failed) = (Vec::new(), Vec::new());
    for stream in streams {
        match forget(repository, &stream, &ForgetScope::Policy(policy), args.dry_run) {
            Ok(judged) => forgotten.push(Forgotten { stream, judged }),
            Err(error) => failed.push((stream, error)),
        }
    }
    Ok((forgotten, failed))
}

fn documents(forgotten: &[Forgotten], dry_run: bool) -> Value {
    let streams: Vec<Value> = forgotten.iter().map(to_json).collect();
    json!({ "dry_run": dry_run, "streams": streams })
}

fn tell(context: &Context<'_>, forgotten: &[Forgotten], dry_run: bool) -> CommandOutcome {
    if context.ui.is_json() {
        context.ui.print_json(&documents(forgotten, dry_run))?;
        return Ok(Code::Done);
    }
    let total = forgotten.iter().map(Forgotten::count).sum();
    let revisions = count(total, "revision");
    let text = match (dry_run, total) {
        (true, _) => format!("{revisions} would be forgotten\n"),
        (false, 0) => "nothing was forgotten\n".to_owned(),
        (false, _) => format!(
            "{revisions} forgotten; `treering gc` frees the space, and until then `treering forget --undo` brings them back\n"
        ),
    };
    let table = context.ui.rendered(&table(forgotten, dry_run));
    context.ui.result_or_summary(dry_run, &(table + &text))?;
    Ok(Code::Done)
}

/// What is forgotten, and in a dry run what is kept, too.
fn table(forgotten: &[Forgotten], dry_run: bool) -> Table {
    let mut table = Table::new(&[("REVISION", Align::Left), ("FATE", Align::Left), ("KEPT BY", Align::Left)]);
    for Forgotten { stream, judged } in forgotten {
        for judged in judged.iter().filter(|judged| dry_run || judged.rules.is_empty()) {
            let fate = if judged.rules.is_empty() { "forgotten" } else { "kept" };
            let name = format!("{}@{}", stream.name, judged.key.name);
            table.row(vec![name, fate.to_owned(), rules(judged).join(", ")]);
        }
    }
    table
}

fn rules(judged: &Judged) -> Vec<String> {
    judged.rules.iter().map(ToString::to_string).collect()
}

fn to_json(forgotten: &Forgotten) -> Value {
    let revision = |judged: &Judged| {
        json!({
            "id": judged.key.id.to_string(),
            "name": judged.key.name,
            "forgotten": judged.rules.is_empty(),
            "rules": rules(judged),
        })
    };
    json!({
        "stream": forgotten.stream.name,
        "forgotten": forgotten.count(),
        "kept": forgotten.judged.len() as u64 - forgotten.count(),
        "revisions": forgotten.judged.iter().map(revision).collect::<Vec<_>>(),
    })
}

fn undo(context: &Context<'_>, repository: &Repository, args: &ForgetArgs) -> CommandOutcome {
    let mut restored = Vec::new();
    for named in &args.named {
        let during = |failure: Failure| failure.during(format_args!("bring back {named}"));
        restored.push(undo_one(repository, named, args.dry_run).map_err(during)?);
    }
    if context.ui.is_json() {
        let streams = restored.iter().map(|(stream, keys)| {
            let revisions = keys.iter().map(|key| json!({ "id": key.id.to_string(), "name": key.name }));
            json!({ "stream": stream.name, "revisions": revisions.collect::<Vec<_>>() })
        });
        let streams: Vec<Value> = streams.collect();
        context.ui.print_json(&json!({ "dry_run": args.dry_run, "streams": streams }))?;
        return Ok(Code::Done);
    }
    let mut text = String::new();
    for (stream, keys) in &restored {
        keys.iter().for_each(|key| text += &format!("{}@{}\n", stream.name, key.name));
    }
    let revisions = count(restored.iter().map(|(_, keys)| keys.len() as u64).sum(), "revision");
    let fate = if args.dry_run { "can be brought back" } else { "brought back" };
    context.ui.result_or_summary(args.dry_run, &format!("{text}{revisions} {fate}\n"))?;
    Ok(Code::Done)
}

/// A stream, and those of its revisions that are brought back.
type Restored = (Stream, Vec<RecordKey>);

/// Brings back what `STREAM[@SPEC]` means; a stream that was deleted with all its revisions.
fn undo_one(repository: &Repository, named: &str, dry_run: bool) -> Result<Restored, Failure> {
    let (name, spec) = split_revision(named);
    match repository.stream(name) {
        Ok(stream) => undo_of_living(repository, stream, spec.unwrap_or(ALL), dry_run),
        Err(missing @ (Error::NoSuchStream { .. } | Error::LostStreamName { .. })) => {
            match deleted_stream(repository, name)? {
                Some(stream) => undo_of_deleted(repository, stream, name, spec, dry_run),
                None => Err(never_deleted(missing)),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The SPEC that a missing one stands for.
const ALL: &str = "all";

fn undo_of_living(
    repository: &Repository,
    stream: Stream,
    spec: &str,
    dry_run: bool,
) -> Result<Restored, Failure> {
    let keys = match repository.find_forgotten(&stream, spec) {
        Err(Error::NoSuchRevision { candidates, .. }) if candidates.is_empty() => {
            return Err(nothing_to_undo(repository, &stream)?);
        }
        Err(error @ Error::NoSuchRevision { .. }) => return Err(not_among_forgotten(error, &stream, spec)),
        keys => keys?,
    };
    let keys = if dry_run { keys } else { undo_forget(repository, &stream, &keys)? };
    Ok((stream, keys))
}

/// Nothing of a stream was forgotten; perhaps one that had its name before is meant.
fn nothing_to_undo(repository: &Repository, stream: &Stream) -> Result<Failure, Failure> {
    let name = &stream.name;
    let hint = match ids(&deleted_streams(repository, name)?) {
        ids if ids.is_empty() => format!(
            "`treering list {name}` shows the revisions that it has; what gc has taken can't be brought back"
        ),
        ids => format!(
            "a stream that had this name was deleted: give this one another name (`treering stream rename {name} NAME`), and \
             bring that one back by its id: `treering forget --undo {}`",
            ids.join("` or `treering forget --undo ")
        ),
    };
    Ok(Failure::new(format!("nothing of stream '{name}' is in the trash")).hint(hint))
}

fn not_among_forgotten(error: Error, stream: &Stream, spec: &str) -> Failure {
    let hint = match &error {
        Error::NoSuchRevision { candidates, .. } => {
            format!("these can be brought back, the newest first:{}", lines(candidates))
        }
        _ => String::new(),
    };
    let message = format!("no forgotten revision of '{}' matches '{spec}'", stream.name);
    Failure { message, ..Failure::from(error).hint(hint) }
}

fn never_deleted(missing: Error) -> Failure {
    let is_unknown = matches!(missing, Error::NoSuchStream { .. });
    let failure = Failure::from(missing);
    match is_unknown {
        true => failure.hint("`treering stream list` shows the streams, also those that can be brought back"),
        false => failure,
    }
}

fn undo_of_deleted(
    repository: &Repository,
    stream: Stream,
    name: &str,
    spec: Option<&str>,
    dry_run: bool,
) -> Result<Restored, Failure> {
    if let Some(spec) = spec.filter(|spec| *spec != ALL) {
        return Err(Failure::new(format!(
            "stream '{name}' was deleted as a whole, so '{spec}' of it is nowhere"
        ))
        .hint(format!("bring it back whole, by `treering forget --undo {name}`")));
    }
    let keys = match dry_run {
        true => would_undelete(repository, &stream),
        false => undelete_stream(repository, &stream),
    };
    match keys {
        Err(taken @ Error::NameTaken { .. }) => Err(Failure::from(taken).hint(format!(
            "give that one another name first: `treering stream rename {} NAME`",
            stream.name
        ))),
        keys => Ok((stream, keys?)),
    }
}

/// What [`undelete_stream`] would bring back.
fn would_undelete(repository: &Repository, stream: &Stream) -> Result<Vec<RecordKey>, Error> {
    if repository.streams()?.iter().any(|other| other.name == stream.name) {
        return Err(Error::NameTaken { name: stream.name.clone() });
    }
    repository.forgotten_revisions(stream)
}

/// The deleted streams of a name, or with an id.
fn deleted_streams(repository: &Repository, name: &str) -> Result<Vec<Stream>, Failure> {
    let mut deleted = repository.deleted_streams()?;
    deleted.retain(|stream| stream.name == name || stream.id.to_string() == name);
    Ok(deleted)
}

/// The deleted stream of a name, or with an id.
fn deleted_stream(repository: &Repository, name: &str) -> Result<Option<Stream>, Failure> {
    let mut meant = deleted_streams(repository, name)?;
    match meant.len() {
        0 | 1 => Ok(meant.pop()),
        number => Err(Failure::new(format!("{number} streams of the name '{name}' were deleted"))
            .hint(format!("give the id of one: {}", ids(&meant).join(", ")))),
    }
}

fn ids(streams: &[Stream]) -> Vec<String> {
    streams.iter().map(|stream| stream.id.to_string()).collect()
}
