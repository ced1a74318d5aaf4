//! `treering check`.

use clap::Args;
use serde_json::{Map, Value, json};
use treering_engine::operations::check::{
    AffectedFile, AffectedRevision, BadFinding, CheckReport, FilePart, Leftovers, Places, Repaired,
    UnfinishedRepair, check, check_and_repair,
};
use treering_engine::{Error, FileCount, ObjectType};

use super::Context;
use super::tree_entry::{insert_path, path_text};
use crate::exit::{Code, CommandOutcome, Failure, damage_hint, ranges_json};
use crate::ui::{count, size};

macro_rules! examples {
    () => {
        "\
Examples:
  treering check
  treering check --json | jq '.affected'
  treering check --repair

Reads all that says where data is, but not the data: records, labels, index tables, nodes, the directories of packs. All that
revisions need must have its place. What is bad, be it found now or by `treering scrub`, is named with the revisions, files
and ranges that it affects; what has no copy is marked, and the next backup stores it anew. It takes no lock, and runs beside
everything else. Exit code 4 if there is any damage."
    };
}

const EXAMPLES: &str = examples!();

const LONG_HELP: &str = concat!(
    examples!(),
    "

--repair makes index tables anew from packs, copies out of damaged packs what can still be read there, and makes the file of a
stream anew from its revisions. What is damaged is moved to `quarantine/` in the repository, and nothing is deleted; it can be
interrupted at any time and run again. It waits for nobody, and is refused while a backup, a copy or gc runs. Then it checks.
It ends with 0 if the repository is whole then and nothing had to be given up for that, and else with 4. Bits that flipped
within single chunks are not found by it: `treering scrub` reads the data, and the next backup heals it.

Leftovers of killed runs, and files that are none of the repository's, are named as notes and are no damage.

Keys of --json:
  damaged_files  stored files that are damaged or lost: file, reason, hint
  bad            objects that revisions need and of which no copy is good: object (its id), type (chunk, node, directory, or
                 null), reason, revisions, more_revisions (how many more need it: of very many few are named)
  unused         the same of those on the damage list that no revision uses; no damage
  affected       revision, and of an image ranges (offset, length), of a tree files (path, and part: content, attributes,
                 or entries of a directory, with what is below); more (how many more places there are than are named)
  superseded     packs that are damaged or gone though nothing is missed in them: file, reason; no damage
  leftovers      files (files, bytes), packs_without_table (files, bytes), labels (of revisions that there are not)
  quarantine     what repairs have set aside: files, bytes
  strangers      files that are no objects of the repository; no damage
  incomplete     whether more is bad than is kept (100,000 objects), so that not all that is affected is named
  repaired       what --repair did: file, action, loss (what is lost for good with it, or null)
  checked        revisions, packs, tables, nodes, chunks: how many were looked at
After an error, error.found.repaired is what --repair had done until then."
);

/// Verify the structure of the repository, and repair it
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = LONG_HELP)]
pub(crate) struct CheckArgs {
    /// Make index tables anew from packs, and set aside what is damaged
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(context: &Context<'_>, args: &CheckArgs) -> CommandOutcome {
    let action = if args.repair { "repair the repository" } else { "check the repository" };
    let repository = context.repository()?;
    let report = {
        let monitor = context.ui.monitor();
        match args.repair {
            true => check_and_repair(&repository, &monitor),
            false => check(&repository, &monitor)
                .map_err(|error| Box::new(UnfinishedRepair { error, repaired: Vec::new() })),
        }
    };
    let report = report.map_err(|unfinished| ended(context, *unfinished, action))?;
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(&report))?,
        false => {
            tell_repaired(context, &report.repaired)?;
            context.ui.print(&findings(&report))?;
            context.ui.summary(&(notes(&report) + &verdict(&report)))?;
        }
    }
    Ok(if report.is_clean() { Code::Done } else { Code::Damage })
}

/// Tells what a repair has done that did not come to its end.
fn ended(context: &Context<'_>, unfinished: UnfinishedRepair, action: &str) -> Failure {
    let UnfinishedRepair { error, repaired } = unfinished;
    let failure = failed(error).during(action);
    if repaired.is_empty() {
        return failure;
    }
    if context.ui.is_json() {
        return failure.detail("found", json!({ "repaired": repaired_json(&repaired) }));
    }
    tell_repaired(context, &repaired).err().unwrap_or(failure)
}

/// It can't be told to wait; and what a medium does not give back is not to be set aside.
fn failed(error: Error) -> Failure {
    let (is_busy, is_of_medium) = (matches!(error, Error::Busy { .. }), error.is_of_medium());
    let failure = Failure::from(error);
    match (is_busy, is_of_medium) {
        (true, _) => failure.hint("run it again when that is done"),
        (_, true) => failure.hint(
            "nothing is set aside that the medium may give back another time: look into the system's log, copy what can be read \
             to a sound one (`treering copy --all --to REPO`), or move the file away by hand",
        ),
        _ => failure,
    }
}

fn repaired_json(repaired: &[Repaired]) -> Vec<Value> {
    let repaired = repaired.iter();
    repaired.map(|done| json!({ "file": done.file, "action": done.action, "loss": done.loss })).collect()
}

/// Tells what a repair did; what is lost with it is a finding.
fn tell_repaired(context: &Context<'_>, repaired: &[Repaired]) -> Result<(), Failure> {
    repaired
        .iter()
        .try_for_each(|done| context.ui.result_or_summary(done.loss.is_some(), &repaired_text(done)))
}

fn repaired_text(done: &Repaired) -> String {
    let loss = done.loss.as_deref().map(|loss| format!("; LOST: {loss}")).unwrap_or_default();
    format!("REPAIRED {}: {}{loss}\n", done.file, done.action)
}

fn to_json(report: &CheckReport) -> Value {
    let damaged = report.damaged_files.iter();
    let damaged: Vec<Value> = damaged
        .map(|(file, reason)| json!({ "file": file, "reason": reason, "hint": damage_hint(file) }))
        .collect();
    let superseded = report.superseded.iter();
    let superseded: Vec<Value> =
        superseded.map(|(file, reason)| json!({ "file": file, "reason": reason })).collect();
    json!({
        "damaged_files": damaged,
        "bad": report.bad.iter().map(bad_json).collect::<Vec<_>>(),
        "unused": report.unused.iter().map(bad_json).collect::<Vec<_>>(),
        "affected": report.affected.iter().map(affected_json).collect::<Vec<_>>(),
        "superseded": superseded,
        "leftovers": leftovers_json(&report.leftovers),
        "strangers": report.strangers,
        "quarantine": { "files": report.quarantine.files, "bytes": report.quarantine.bytes },
        "incomplete": report.is_incomplete,
        "repaired": repaired_json(&report.repaired),
        "checked": {
            "revisions": report.counts.revisions,
            "packs": report.counts.packs,
            "tables": report.counts.tables,
            "nodes": report.counts.nodes,
            "chunks": report.counts.chunks,
        },
    })
}

fn bad_json(bad: &BadFinding) -> Value {
    json!({
        "object": bad.id.to_string(),
        "type": bad.object_type.map(|object_type| format!("{object_type:?}").to_lowercase()),
        "reason": bad.reason,
        "revisions": bad.revisions,
        "more_revisions": bad.more_revisions,
    })
}

fn affected_json(affected: &AffectedRevision) -> Value {
    let mut object = Map::new();
    object.insert("revision".to_owned(), json!(affected.revision));
    match &affected.places {
        Places::Ranges(ranges) => object.insert("ranges".to_owned(), ranges_json(ranges)),
        Places::Files(files) => object.insert("files".to_owned(), files.iter().map(file_json).collect()),
    };
    object.insert("more".to_owned(), json!(affected.more));
    Value::Object(object)
}

fn file_json(file: &AffectedFile) -> Value {
    let mut object = Map::new();
    insert_path(&mut object, "path", &file.path);
    object.insert("part".to_owned(), json!(part_name(file.part)));
    Value::Object(object)
}

fn part_name(part: FilePart) -> &'static str {
    match part {
        FilePart::Content => "content",
        FilePart::Attributes => "attributes",
        FilePart::Entries => "entries",
    }
}

fn leftovers_json(leftovers: &Leftovers) -> Value {
    let files = |count: FileCount| json!({ "files": count.files, "bytes": count.bytes });
    json!({
        "files": files(leftovers.files),
        "packs_without_table": files(leftovers.packs_without_table),
        "labels": leftovers.labels,
    })
}

/// So many bad objects are named to people, and so many places of each revision.
const SHOWN: usize = 20;

/// What is wrong, and what is affected by it.
fn findings(report: &CheckReport) -> String {
    let mut text = String::new();
    for (file, reason) in &report.damaged_files {
        text += &format!("DAMAGED  {file}: {reason}; {}\n", damage_hint(file));
    }
    for bad in report.bad.iter().take(SHOWN) {
        text += &format!("BAD      {} {} ({})\n", noun(bad.object_type), bad.id, bad.reason);
    }
    if let Some(more) = report.bad.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text += &format!("BAD      {more} more; --json names all\n");
    }
    report.affected.iter().for_each(|affected| text += &affected_text(affected));
    if report.is_incomplete {
        text +=
            "AFFECTED more than is named: too much is bad to be kept; check again after the next backup\n";
    }
    text
}

fn affected_text(affected: &AffectedRevision) -> String {
    let places: Vec<String> = match &affected.places {
        Places::Ranges(ranges) => ranges
            .iter()
            .take(SHOWN)
            .map(|range| format!("{} bytes at offset {}", range.end - range.start, range.start))
            .collect(),
        Places::Files(files) => files.iter().take(SHOWN).map(file_text).collect(),
    };
    let more = affected.more + (affected.places.count() - places.len()) as u64;
    let lines: String = places.iter().map(|place| format!("           {place}\n")).collect();
    let rest = if more > 0 { format!("           and {more} more\n") } else { String::new() };
    format!("AFFECTED {}\n{lines}{rest}", affected.revision)
}

fn file_text(file: &AffectedFile) -> String {
    let path = path_text(&file.path);
    match file.part {
        FilePart::Content => path,
        FilePart::Attributes => format!("{path} (extended attributes)"),
        FilePart::Entries => format!("{path} (a directory, of which entries can't be read)"),
    }
}

fn notes(report: &CheckReport) -> String {
    let mut text = String::new();
    for (file, reason) in &report.superseded {
        text += &format!("note     {file}: {reason}; no revision misses anything in it\n");
    }
    for bad in report.unused.iter().take(SHOWN) {
        text += &format!("note     {} ({}); no revision uses it\n", bad.id, bad.reason);
    }
    let Leftovers { files, packs_without_table, labels } = &report.leftovers;
    if files.files > 0 {
        let number = count(files.files, "file");
        text +=
            &format!("note     {number} with {} of interrupted runs, which gc removes\n", size(files.bytes));
    }
    if packs_without_table.files > 0 {
        let (number, bytes) = (count(packs_without_table.files, "pack"), size(packs_without_table.bytes));
        text += &format!(
            "note     {number} with {bytes} that no index table names, which gc removes if unused\n"
        );
    }
    for file in labels {
        text += &format!("note     {file}: labels of a revision that is not there\n");
    }
    if report.quarantine.files > 0 {
        let (number, bytes) = (count(report.quarantine.files, "file"), size(report.quarantine.bytes));
        text += &format!(
            "note     quarantine/: {number} with {bytes}, set aside by repairs; remove it when all is well\n"
        );
    }
    for file in &report.strangers {
        let file = crate::ui::escaped(file.as_bytes());
        text += &format!("note     {file}: it is none of the repository's\n");
    }
    text
}

fn noun(object_type: Option<ObjectType>) -> String {
    object_type.map_or_else(|| "object".to_owned(), |object_type| format!("{object_type:?}").to_lowercase())
}

fn verdict(report: &CheckReport) -> String {
    let counts = report.counts;
    let looked_at = format!(
        "{}, {}, {}, {} and {} checked",
        count(counts.revisions, "revision"),
        count(counts.packs, "pack"),
        count(counts.tables, "index table"),
        count(counts.nodes, "node"),
        count(counts.chunks, "chunk"),
    );
    match (report.is_clean(), report.bad.is_empty()) {
        (true, _) => format!("{looked_at}: all is in order\n"),
        (false, true) => format!("{looked_at}: see above\n"),
        (false, false) => {
            format!("{looked_at}: see above; the next backup heals what its source still has\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_places_some_are_shown_and_the_rest_is_counted() {
        let ranges = (0..50).map(|number| number * 10..number * 10 + 5).collect();
        let affected =
            AffectedRevision { revision: "vm@x".to_owned(), places: Places::Ranges(ranges), more: 7 };
        let text = affected_text(&affected);
        assert_eq!(text.lines().count(), 1 + SHOWN + 1);
        assert!(text.ends_with("and 37 more\n"), "{text}");
        assert_eq!(affected_json(&affected)["ranges"].as_array().map(Vec::len), Some(50));
    }

    #[test]
    fn what_of_a_file_is_bad_is_told() {
        let file = |path: &[u8], part| file_text(&AffectedFile { path: path.to_vec(), part });
        assert_eq!(file(b"a/b", FilePart::Content), "a/b");
        assert!(file(b"a", FilePart::Attributes).contains("attributes"));
        assert!(file(b"", FilePart::Entries).starts_with("/ (a directory"));
    }
}
