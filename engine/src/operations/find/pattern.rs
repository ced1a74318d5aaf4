//! What names and paths are held against.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Result};

/// A pattern for names or paths, which are bytes.
#[derive(Clone, Debug)]
pub struct Pattern(Form);

#[derive(Clone, Debug)]
enum Form {
    Name(GlobMatcher),
    Path(GlobMatcher),
    Regex(Regex),
}

impl Pattern {
    /// A glob: without a slash for the last name of a path, with one for the path from the tree's root on, where `*` and
    /// `?` stand for no slash, and `**` for any number of names.
    ///
    /// # Errors
    /// [`Error::BadParameter`] if it is none.
    pub fn glob(text: &str, ignore_case: bool) -> Result<Self> {
        let has_slash = text.contains('/');
        // Paths begin without a slash.
        let text = text.strip_prefix('/').unwrap_or(text);
        let mut builder = GlobBuilder::new(text);
        let glob = builder.literal_separator(true).case_insensitive(ignore_case).build();
        let matcher = glob.map_err(|error| bad_pattern(&error))?.compile_matcher();
        Ok(Self(if has_slash { Form::Path(matcher) } else { Form::Name(matcher) }))
    }

    /// A regular expression, which must match somewhere in the path; paths begin without a slash.
    ///
    /// # Errors
    /// [`Error::BadParameter`] if it is none, or a too large one.
    pub fn regex(text: &str, ignore_case: bool) -> Result<Self> {
        let mut builder = RegexBuilder::new(text);
        let regex = builder.case_insensitive(ignore_case).build();
        regex.map(|regex| Self(Form::Regex(regex))).map_err(|error| bad_pattern(&error))
    }

    /// Whether a path from the tree's root on is like the pattern.
    pub fn is_match(&self, path: &[u8]) -> bool {
        let name = || path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let matches = |glob: &GlobMatcher, text: &[u8]| glob.is_match(Path::new(OsStr::from_bytes(text)));
        match &self.0 {
            Form::Name(glob) => matches(glob, name()),
            Form::Path(glob) => matches(glob, path),
            Form::Regex(regex) => regex.is_match(path),
        }
    }
}

fn bad_pattern(error: &dyn std::fmt::Display) -> Error {
    Error::BadParameter { what: "pattern", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching<'a>(pattern: &Pattern, paths: &[&'a str]) -> Vec<&'a str> {
        paths.iter().copied().filter(|path| pattern.is_match(path.as_bytes())).collect()
    }

    const PATHS: [&str; 7] =
        ["a.txt", "A.TXT", "sub/a.txt", "sub/deep/b.txt", "sub", "sub.txt/c", "new\nline.txt"];

    #[test]
    fn a_glob_is_for_names_unless_it_has_a_slash() {
        for (glob, expected) in [
            ("*.txt", &["a.txt", "sub/a.txt", "sub/deep/b.txt", "new\nline.txt"][..]),
            ("a*", &["a.txt", "sub/a.txt"]),
            ("/*.txt", &["a.txt", "new\nline.txt"]),
            ("sub/*", &["sub/a.txt"]),
            ("sub/**", &["sub/a.txt", "sub/deep/b.txt"]),
            ("**/b.txt", &["sub/deep/b.txt"]),
            ("**/a.txt", &["a.txt", "sub/a.txt"]),
            ("{sub,c}", &["sub", "sub.txt/c"]),
            ("[!as]", &["sub.txt/c"]),
            ("txt", &[]),
        ] {
            assert_eq!(matching(&Pattern::glob(glob, false).unwrap(), &PATHS), expected, "{glob}");
        }
        assert_eq!(matching(&Pattern::glob("a.TXT", true).unwrap(), &PATHS), ["a.txt", "A.TXT", "sub/a.txt"]);
    }

    #[test]
    fn a_regular_expression_is_for_any_part_of_a_path() {
        for (regex, expected) in [
            (r"^[a-z]+\.txt$", &["a.txt"][..]),
            ("deep", &["sub/deep/b.txt"]),
            ("^sub$", &["sub"]),
            ("b/.*b", &["sub/deep/b.txt"]),
        ] {
            assert_eq!(matching(&Pattern::regex(regex, false).unwrap(), &PATHS), expected, "{regex}");
        }
        assert_eq!(matching(&Pattern::regex(r"^a\.txt", true).unwrap(), &PATHS), ["a.txt", "A.TXT"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_like_others() {
        for pattern in [Pattern::glob("x*y", false), Pattern::regex(r"x(?-u:.)+y$", false)] {
            assert!(pattern.unwrap().is_match(b"sub/x\xff\xfey"));
        }
        assert!(Pattern::glob("x?y", false).unwrap().is_match(b"x\xffy"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for refused in [Pattern::glob("a{b", false), Pattern::glob("[", false), Pattern::regex("(", false)] {
            assert!(matches!(refused, Err(Error::BadParameter { what: "pattern", .. })));
        }
        assert!(Pattern::regex("(a{1000}){1000}", false).is_err(), "a too large one");
    }
}
