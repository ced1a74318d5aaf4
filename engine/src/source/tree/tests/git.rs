//! Exclude patterns against git's, where it is installed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::sample::select;

use super::super::excludes::Excludes;
use super::*;
use crate::glob::{self, Dialect};

/// A part of a pattern, and what it may stand for in a path.
type Part = (String, String);

/// Patterns, and paths that many of them match or nearly do.
#[derive(Clone, Debug)]
struct Case {
    patterns: Vec<String>,
    paths: Vec<String>,
}

const ORDINARY: [char; 12] = ['a', 'b', 'c', '-', ']', '!', '^', '{', '}', ',', '.', '\u{e4}'];
const SPECIAL: [char; 4] = ['*', '?', '[', '\\'];

fn character() -> impl Strategy<Value = char> {
    prop_oneof![4 => select(&['a', 'b', 'c'][..]), 3 => select(&ORDINARY[..]), 1 => select(&SPECIAL[..])]
}

/// A class that is closed, of characters, ranges that don't go backwards, and names.
fn class() -> impl Strategy<Value = String> {
    let plain = select(&["a", "b", "c", "!", "^", "-", "[", "{", "}", ",", ".", "/", "?", "*", "\u{e4}"][..]);
    let escaped = select(&[r"\]", r"\\", r"\-", r"\a", r"\!", r"\[", r"\/"][..]);
    let range = select(
        &["+-9", "!-~", "a-c", r"\!-\]", r"[-\]", "--a", ".-0", "]-a", "a-c-e", "a-\u{e4}", "*--", r"\--a"][..],
    );
    let named = select(&["[:alpha:]", "[:punct:]", "[:digit:]", "[:space:]", "[:graph:]"][..]);
    let inner = prop_oneof![6 => plain, 2 => escaped, 3 => range, 1 => named];
    let first = select(&["", "", "", "]", "-"][..]);
    let last = select(&["", "", "", "-"][..]);
    (select(&["", "!", "^"][..]), first, prop::collection::vec(inner, 1..4), last)
        .prop_map(|(negation, first, inner, last)| format!("[{negation}{first}{}{last}]", inner.concat()))
        // A range of git's ends with the first byte of a character, and the next may begin with the last.
        .prop_filter("the same in bytes", |class| !class.contains("\u{e4}-"))
        .prop_filter("well-formed", |class| glob::parse(class, Dialect::Shell, false).is_ok())
}

fn part() -> impl Strategy<Value = Part> {
    let any = || prop::collection::vec(character(), 0..3).prop_map(String::from_iter);
    prop_oneof![
        6 => select(&ORDINARY[..]).prop_map(|plain| (plain.to_string(), plain.to_string())),
        2 => character().prop_map(|escaped| (format!("\\{escaped}"), escaped.to_string())),
        2 => any().prop_map(|name| ("*".to_owned(), name)),
        1 => character().prop_map(|one| ("?".to_owned(), one.to_string())),
        5 => (class(), prop_oneof![4 => character(), 1 => Just('/')])
            .prop_map(|(class, one)| (class, one.to_string())),
        3 => select(&["/", "/", r"\/"][..]).prop_map(|slash| (slash.to_owned(), "/".to_owned())),
        1 => any().prop_map(|name| ("/**/".to_owned(), format!("/{name}/"))),
    ]
}

/// A pattern, and a path that is made like it.
fn pattern() -> impl Strategy<Value = Part> {
    let start = select(&["", "", "", "", "/", "!", "!/", "**/", "/**/", "***/"][..]);
    let end = select(&["", "", "", "/", "/**", "/*", "/***", " ", r"\ ", r"\  ", "//"][..]);
    (start, prop::collection::vec(part(), 1..6), end, select(&["", "", "/a", "b", " "][..]))
        .prop_map(|(start, parts, end, rest)| {
            let (pattern, path): (Vec<String>, Vec<String>) = parts.into_iter().unzip();
            (format!("{start}{}{end}", pattern.concat()), path.concat() + rest)
        })
        .prop_filter("the same to git", |(pattern, _)| !is_read_differently(pattern))
}

/// Whether git reads something in it in another way than its documentation says: `**` beside something else than a slash
/// (where no wildcard comes before), or beside one that is escaped; or an escaped slash at the end.
fn is_read_differently(pattern: &str) -> bool {
    let pattern = pattern.trim_end();
    let mut names = pattern.trim_start_matches('!').split('/');
    pattern.contains(r"**\/")
        || pattern.ends_with(r"\/")
        || names.any(|name| name.ends_with("**") && name.chars().any(|character| character != '*'))
}

/// The path without what no path has.
fn tidy(path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    (!names.is_empty()).then(|| names.join("/"))
}

fn case() -> impl Strategy<Value = Case> {
    let more = prop::collection::vec(prop_oneof![3 => character(), 1 => Just('/')], 1..6);
    let more = prop::collection::vec(more.prop_map(String::from_iter), 2);
    (prop::collection::vec(pattern(), 1..4), more).prop_map(|(patterns, more)| {
        let (patterns, paths): (Vec<String>, Vec<String>) = patterns.into_iter().unzip();
        Case { patterns, paths: paths.iter().chain(&more).filter_map(|path| tidy(path)).collect() }
    })
}

/// The paths that git ignores, each behind the number of its case.
fn ignored_by_git(repository: &Path, cases: &[Case]) -> Vec<String> {
    let mut asked = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let directory = repository.join(number.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(".gitignore"), case.patterns.join("\n") + "\n").unwrap();
        asked.extend(case.paths.iter().flat_map(|path| format!("{number}/{path}\0").into_bytes()));
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(repository).args([
        "-c",
        "core.excludesFile=",
        "check-ignore",
        "--no-index",
        "--stdin",
        "-z",
    ]);
    let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut questions = git.stdin.take().unwrap();
    let writer = std::thread::spawn(move || questions.write_all(&asked).unwrap());
    let answer = git.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(matches!(answer.status.code(), Some(0 | 1)), "{answer:?}");
    let answer = String::from_utf8(answer.stdout).unwrap();
    answer.split_terminator('\0').map(str::to_owned).collect()
}

/// Whether a walk leaves out a file: it or a directory above it.
fn is_left_out(excludes: &Excludes, path: &str) -> bool {
    let above = path.match_indices('/').map(|(end, _)| &path.as_bytes()[..end]);
    above.into_iter().any(|above| excludes.matches(above, true)) || excludes.matches(path.as_bytes(), false)
}

/// Patterns once matched slashes by classes, and left out what git would not.
#[test]
fn patterns_leave_out_what_git_ignores() {
    let Ok(version) = Command::new("git").arg("--version").output() else {
        writeln!(std::io::stderr(), "SKIPPED patterns_leave_out_what_git_ignores: needs git").unwrap();
        return;
    };
    assert!(version.status.success());
    let repository = tempfile::tempdir().unwrap();
    let made = Command::new("git").args(["init", "-q"]).arg(repository.path()).status().unwrap();
    assert!(made.success());
    let usual = ProptestConfig::default();
    // Each is many patterns, for one run of git.
    let cases = usual.cases / 8;
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..usual };
    proptest!(config, |(cases in prop::collection::vec(case(), 1..100))| {
        let ignored = ignored_by_git(repository.path(), &cases);
        for (number, case) in cases.iter().enumerate() {
            let excludes = Excludes::new(&case.patterns);
            let excludes = excludes.map_err(|error| TestCaseError::fail(error.to_string()))?;
            for path in &case.paths {
                let by_git = ignored.contains(&format!("{number}/{path}"));
                prop_assert_eq!(is_left_out(&excludes, path), by_git, "{:?} {}", &case.patterns, path);
            }
        }
    });
}
