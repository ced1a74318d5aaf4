//! Patterns of what is left out of a tree, in the syntax of gitignore.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Candidate, GlobSet};

use crate::error::{Error, Result};
use crate::glob::{self, Dialect};

/// Patterns that leave entries out or take them in again.
#[derive(Debug)]
pub(super) struct Excludes {
    globs: GlobSet,
    /// What each of the globs is for.
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    takes_in: bool,
    directories_only: bool,
}

impl Excludes {
    /// # Errors
    /// [`Error::BadParameter`] names a pattern that is malformed.
    pub(super) fn new(patterns: &[impl AsRef<str>]) -> Result<Self> {
        let mut globs = GlobSet::builder();
        let mut rules = Vec::new();
        for line in patterns.iter().map(AsRef::as_ref) {
            let Some((rule, glob)) = read_line(line) else { continue };
            globs.add(glob::parse(&glob, Dialect::Gitignore, false).map_err(|error| bad(line, &error))?);
            rules.push(rule);
        }
        Ok(Self { globs: globs.build().map_err(|error| bad("", &error))?, rules })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether what lies at this path below the root is left out; the last of the patterns that match decides.
    pub(super) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let mut matching = Vec::new();
        self.globs.matches_candidate_into(&Candidate::new(Path::new(OsStr::from_bytes(path))), &mut matching);
        let mut rules = matching.iter().rev().filter_map(|&index| self.rules.get(index));
        let last = rules.find(|rule| is_directory || !rule.directories_only);
        last.is_some_and(|rule| !rule.takes_in)
    }
}

fn bad(pattern: &str, error: &dyn std::fmt::Display) -> Error {
    Error::BadParameter { what: "exclude pattern", reason: format!("'{pattern}': {error}") }
}

/// What a line says, and the glob for paths from the root on; nothing if it can't match anything.
fn read_line(line: &str) -> Option<(Rule, String)> {
    if line.starts_with('#') {
        return None;
    }
    let line = without_spaces_at_its_end(line);
    let (takes_in, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
    let (directories_only, line) = line.strip_suffix('/').map_or((false, line), |line| (true, line));
    // With a slash that is not the last character it is for paths, else for names wherever they are.
    let glob = match line.strip_prefix('/') {
        Some(path) => path.to_owned(),
        None if line.contains('/') => line.to_owned(),
        None if line.is_empty() => return None,
        None => format!("**/{line}"),
    };
    let can_match = !glob.is_empty() && !glob.ends_with('/');
    can_match.then_some((Rule { takes_in, directories_only }, glob))
}

/// The line without the spaces at its end, unless they are escaped.
fn without_spaces_at_its_end(line: &str) -> &str {
    let mut end = 0;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        let last = if character == '\\' { characters.next() } else { Some((at, character)) };
        if character != ' ' {
            end = last.map_or(line.len(), |(at, last)| at + last.len_utf8());
        }
    }
    line.get(..end).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn matching<'a>(patterns: &[&str], paths: &[&'a str]) -> Vec<&'a str> {
        let excludes = Excludes::new(patterns).unwrap();
        paths.iter().copied().filter(|path| excludes.matches(path.as_bytes(), false)).collect()
    }

    #[test]
    fn patterns_are_those_of_gitignore() {
        let patterns = ["# comment", "", "*.o", "!keep.o", "/build", "tmp/", "a/**/z", r"\#x"];
        let excludes = Excludes::new(&patterns).unwrap();
        let excluded = |path: &str, is_directory| excludes.matches(path.as_bytes(), is_directory);
        assert!(excluded("x.o", false) && excluded("deep/er/x.o", false) && !excluded("deep/keep.o", false));
        assert!(excluded("build", true) && !excluded("deep/build", true));
        assert!(excluded("deep/tmp", true) && !excluded("deep/tmp", false));
        assert!(excluded("a/z", false) && excluded("a/b/c/z", false) && !excluded("b/a/z", false));
        assert!(excluded("#x", false) && !excluded("# comment", false));
    }

    #[test]
    fn patterns_match_names_that_are_no_text() {
        let excludes = Excludes::new(&["*.o", "?x", "y[!a]"]).unwrap();
        assert!(excludes.matches(b"d\xff/\xfe\xff.o", false));
        assert!(excludes.matches(b"\xffx", false) && excludes.matches(b"y\xff", false));
        assert!(!excludes.matches(b"\xff\xff.p", false));
    }

    #[test]
    fn braces_mean_themselves() {
        for pattern in ["{cache}", r"\{cache\}", "[{]cache[}]", "{[c]ache}", "{cache*"] {
            assert_eq!(matching(&[pattern], &["{cache}", "cache"]), ["{cache}"], "{pattern}");
        }
        assert_eq!(matching(&["f{1,2}"], &["f{1,2}", "f1"]), ["f{1,2}"]);
        assert_eq!(matching(&["[]{]"], &["{", "]", "x"]), ["{", "]"]);
        assert_eq!(matching(&["[!{]"], &["{", "]", "x"]), ["]", "x"]);
        assert_eq!(matching(&["a{b"], &["a{b"]), ["a{b"]);
    }

    /// They left out whole directories: `core[!a-z]*` did so with `core/data`.
    #[test]
    fn a_class_matches_no_slash() {
        let paths = ["core/data", "core.123", "corex", "deep/core.1", "a/b", "a.b"];
        assert_eq!(matching(&["core[!a-z]*"], &paths), ["core.123", "deep/core.1"]);
        assert_eq!(matching(&["/core[^a-z]*"], &paths), ["core.123"]);
        assert_eq!(matching(&["a[+-9]b"], &paths), ["a.b"]);
        assert!(matching(&["a[/]b", "a[!/]"], &paths).is_empty());
        assert_eq!(matching(&["*", "!core[!a-z]*"], &paths), ["core/data", "corex", "a/b", "a.b"]);
    }

    #[test]
    fn a_backslash_escapes_in_classes_as_well() {
        assert_eq!(matching(&[r"a[\]]"], &["a]", r"a\]", r"a\"]), ["a]"]);
        assert_eq!(matching(&[r"a[\\]"], &["a]", r"a\"]), [r"a\"]);
    }

    /// What was behind it once counted as a class, with braces that then held alternatives.
    #[test]
    fn what_is_not_closed_stands_for_itself() {
        assert_eq!(matching(&["x[{a,b}"], &["x[{a,b}", "x[a", "x[b"]), ["x[{a,b}"]);
        assert_eq!(matching(&[r"x[a\]"], &["x[a]", "xa"]), ["x[a]"]);
    }

    #[test]
    fn spaces_at_the_end_count_if_they_are_escaped() {
        let paths = ["a", "a ", "a  ", "a\t"];
        assert_eq!(matching(&["a  "], &paths), ["a"]);
        assert_eq!(matching(&[r"a\   "], &paths), ["a "]);
        assert_eq!(matching(&[r"a \ "], &paths), ["a  "]);
        assert_eq!(matching(&["a\t"], &paths), ["a\t"]);
        assert!(matching(&["   "], &["a", " "]).is_empty());
    }

    /// `!` once took everything in again, and `**//` left all directories out.
    #[test]
    fn what_no_path_is_like_matches_nothing() {
        for pattern in ["", "!", "/", "!/", "//", "**//", "a//", "a//b"] {
            let excludes = Excludes::new(&["a", pattern]).unwrap();
            assert!(excludes.matches(b"a", true) && !excludes.matches(b"b", true), "{pattern}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_refused_by_name() {
        for pattern in ["a[z-a]", "a[[:alfa:]]", "a\\"] {
            let error = Excludes::new(&["b", pattern]).unwrap_err().to_string();
            assert!(error.contains(&format!("'{pattern}'")), "{error}");
        }
    }
}
