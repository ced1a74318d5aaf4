//! What names and paths are held against.

mod glob;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Result};
use glob::Glob;

/// A pattern for names or paths, which are bytes.
#[derive(Clone, Debug)]
pub struct Pattern {
    form: Form,
    directories_only: bool,
}

#[derive(Clone, Debug)]
enum Form {
    Name(Glob),
    Path(Glob),
    Regex(Regex),
}

impl Pattern {
    /// A glob: without a slash for the last name of a path, with one for the path from the tree's root on, where `*` and
    /// `?` stand for no slash, and `**` for any number of names. With a slash at its end, which does not count as one, it
    /// is for directories alone.
    ///
    /// # Errors
    /// [`Error::BadParameter`] if it is none, or can't match anything.
    pub fn glob(text: &str, ignore_case: bool) -> Result<Self> {
        let names = text.trim_end_matches('/');
        let path = tidy_glob(names)?;
        let glob = Glob::new(&path, ignore_case)?;
        let form = if names.contains('/') { Form::Path(glob) } else { Form::Name(glob) };
        Ok(Self { form, directories_only: names.len() < text.len() })
    }

    /// A regular expression, which must match somewhere in the path; paths begin without a slash.
    ///
    /// # Errors
    /// [`Error::BadParameter`] if it is none, or a too large one.
    pub fn regex(text: &str, ignore_case: bool) -> Result<Self> {
        let mut builder = RegexBuilder::new(text);
        let regex = builder.case_insensitive(ignore_case).build();
        let regex = regex.map_err(|error| bad_pattern(&error))?;
        Ok(Self { form: Form::Regex(regex), directories_only: false })
    }

    /// Whether a path from the tree's root on is like the pattern.
    pub fn is_match(&self, path: &[u8]) -> bool {
        let name = || path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        match &self.form {
            Form::Name(glob) => glob.is_match(name()),
            Form::Path(glob) => glob.is_match(path),
            Form::Regex(regex) => regex.is_match(path),
        }
    }

    /// Whether it is for directories alone.
    pub fn directories_only(&self) -> bool {
        self.directories_only
    }
}

/// A glob without what paths in a tree don't have: they begin with a name, and nothing in them is called `.` or `..`.
fn tidy_glob(glob: &str) -> Result<String> {
    let names: Vec<&str> = glob.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.is_empty() {
        return Err(bad_pattern(&"it has no name to look for, and the root has none"));
    }
    if names.contains(&"..") {
        return Err(bad_pattern(&"paths go from the tree's root on, and have no '..'"));
    }
    Ok(names.join("/"))
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
            ("./*.txt", &["a.txt", "new\nline.txt"]),
            (".//sub/./deep//b.*", &["sub/deep/b.txt"]),
            ("//sub/*", &["sub/a.txt"]),
        ] {
            assert_eq!(matching(&Pattern::glob(glob, false).unwrap(), &PATHS), expected, "{glob}");
        }
        assert_eq!(matching(&Pattern::glob("a.TXT", true).unwrap(), &PATHS), ["a.txt", "A.TXT", "sub/a.txt"]);
    }

    /// `/a[!x]b` once found `a/b`.
    #[test]
    fn a_class_stands_for_no_slash_and_may_have_escapes() {
        let paths = ["a/b", "a.b", "axb", "a]b", "x/a.b", r"a\]b"];
        for (glob, expected) in [
            ("/a[!x]b", &["a.b", "a]b"][..]),
            ("/a[+-9]b", &["a.b"]),
            ("a[!x]b", &["a.b", "a]b", "x/a.b"]),
            ("{a[!x],x/a[^x]}b", &["a.b", "a]b", "x/a.b"]),
            (r"a[\]]b", &["a]b"]),
            ("/a[/]b", &[]),
        ] {
            assert_eq!(matching(&Pattern::glob(glob, false).unwrap(), &paths), expected, "{glob}");
        }
        for refused in ["[a", r"[a\]", "[z-a]", "a\\"] {
            let refused = Pattern::glob(refused, false).unwrap_err();
            assert!(matches!(refused, Error::BadParameter { what: "pattern", .. }), "{refused}");
        }
    }

    #[test]
    fn a_glob_with_a_slash_behind_it_is_for_directories() {
        for (glob, expected) in [
            ("sub/", &["sub"][..]),
            ("sub*//", &["sub"]),
            ("/sub/", &["sub"]),
            ("./sub/*/", &["sub/a.txt"]),
            ("**/", &PATHS),
        ] {
            let pattern = Pattern::glob(glob, false).unwrap();
            assert!(pattern.directories_only());
            assert_eq!(matching(&pattern, &PATHS), expected, "{glob}");
        }
        assert!(!Pattern::glob("/sub", false).unwrap().directories_only());
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
        for nothing in ["", "/", ".", "./", "//", "../x", "a/..", "a/../b"] {
            let refused = Pattern::glob(nothing, false).map(|_| ()).unwrap_err();
            assert!(matches!(refused, Error::BadParameter { what: "pattern", .. }), "{nothing}");
        }
        assert!(Pattern::regex("(a{1000}){1000}", false).is_err(), "a too large one");
    }
}
