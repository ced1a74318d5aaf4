//! Globs for what is mostly text and may be any bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::GlobMatcher;
use regex::{Regex, RegexBuilder};

use super::bad_pattern;
use crate::error::Result;
use crate::glob::{self, Dialect};

/// A glob, in which `?` and a class stand for a character, or for a byte where something is no UTF-8.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    for_text: Regex,
    for_bytes: GlobMatcher,
}

impl Glob {
    pub(super) fn new(glob: &str, ignore_case: bool) -> Result<Self> {
        if let Some(class) = named_class(glob) {
            let reason =
                format!("it has the class {class}; write its characters, such as [a-z], or use --regex");
            return Err(bad_pattern(&reason));
        }
        let glob = glob::parse(glob, Dialect::Shell, ignore_case).map_err(|error| bad_pattern(&error))?;
        let mut for_text = RegexBuilder::new(&in_characters(glob.regex()));
        let for_text = for_text.dot_matches_new_line(true).build().map_err(|error| bad_pattern(&error))?;
        Ok(Self { for_text, for_bytes: glob.compile_matcher() })
    }

    pub(super) fn is_match(&self, bytes: &[u8]) -> bool {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.for_text.is_match(text),
            Err(_) => self.for_bytes.is_match(Path::new(OsStr::from_bytes(bytes))),
        }
    }
}

/// A class such as `[:alpha:]`, which has other members in each of the shells' languages.
fn named_class(glob: &str) -> Option<&str> {
    glob.match_indices("[:").find_map(|(start, opening)| {
        let name = glob.get(start + opening.len()..)?;
        let length = name.find(|letter: char| !letter.is_ascii_lowercase())?;
        let end = start + opening.len() + length + ":]".len();
        glob.get(start..end).filter(|class| length > 0 && class.ends_with(":]"))
    })
}

/// Makes of a regular expression for bytes, as [`globset::Glob::regex`] gives it, one for characters. It writes each
/// character that is not ASCII as its bytes, `\xc3\xa4`.
fn in_characters(regex: &str) -> String {
    let mut rest = regex.strip_prefix("(?-u)").unwrap_or(regex);
    let (mut result, mut bytes) = (String::new(), Vec::new());
    while let Some(next) = rest.chars().next() {
        let taken = match escaped_byte(rest) {
            Some((byte, length)) => {
                bytes.push(byte);
                length
            }
            None => {
                result.push_str(&String::from_utf8_lossy(&bytes));
                bytes.clear();
                // A backslash and what it is before belong together.
                let length = rest.chars().take(if next == '\\' { 2 } else { 1 }).map(char::len_utf8).sum();
                result.push_str(rest.get(..length).unwrap_or_default());
                length
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    result.push_str(&String::from_utf8_lossy(&bytes));
    result
}

/// The byte that a regular expression begins with, if it is written in digits, and how long that is.
fn escaped_byte(regex: &str) -> Option<(u8, usize)> {
    let digits = regex.strip_prefix("\\x")?.get(..2)?;
    u8::from_str_radix(digits, 16).ok().map(|byte| (byte, "\\x".len() + digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching<'a>(glob: &str, names: &[&'a str]) -> Vec<&'a str> {
        let glob = Glob::new(glob, false).unwrap();
        names.iter().copied().filter(|name| glob.is_match(name.as_bytes())).collect()
    }

    /// GNU find finds these in a UTF-8 locale; each character once counted as its bytes.
    #[test]
    fn a_character_is_one_whatever_it_takes() {
        let names = ["xay", "x\u{e4}y", "x\u{20ac}y", "x\u{1f600}y", "xa\u{308}y", "x\ny", "x\\x61y"];
        assert_eq!(matching("x?y", &names), [names[0], names[1], names[2], names[3], names[5]]);
        assert_eq!(matching("x??y", &names), ["xa\u{308}y"]);
        assert_eq!(matching("x[\u{e4}\u{f6}]y", &names), ["x\u{e4}y"]);
        assert_eq!(matching("x[\u{e0}-\u{ff}]y", &names), ["x\u{e4}y"]);
        assert_eq!(matching("x[!a-z]y", &names), [names[1], names[2], names[3], names[5]]);
        assert_eq!(matching("x\u{20ac}*", &names), ["x\u{20ac}y"]);
        assert_eq!(matching("x{\u{e4},\u{20ac}}y", &names), ["x\u{e4}y", "x\u{20ac}y"]);
        assert_eq!(matching("x\\\\x61y", &names), ["x\\x61y"], "no escape");
        assert_eq!(matching("*", &names), names);
        let umlauts = Glob::new("\u{e4}r*", true).unwrap();
        assert!(umlauts.is_match("\u{c4}rger.txt".as_bytes()) && !umlauts.is_match(b"arger.txt"));
    }

    #[test]
    fn every_character_stands_for_itself() {
        for character in ('\u{1}'..'\u{180}').chain(['\u{2028}', '\u{ffff}', '\u{10000}', '\u{10ffff}']) {
            let glob = match character {
                '?' | '*' | '[' | ']' | '{' | '}' | '\\' | ',' | '!' => format!("\\{character}"),
                _ => character.to_string(),
            };
            let glob = Glob::new(&format!("a{glob}b"), false).unwrap();
            assert!(glob.is_match(format!("a{character}b").as_bytes()), "{character:?}");
            assert!(!glob.is_match(b"a_b") || character == '_', "{character:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_matched_byte_by_byte() {
        let is_match = |glob: &str, name: &[u8]| Glob::new(glob, false).unwrap().is_match(name);
        assert!(is_match("x?y", b"x\xffy") && is_match("x*y", b"x\xff\xfey"));
        assert!(is_match("x??\u{e4}", b"x\xff\xfe\xc3\xa4"));
        assert!(!is_match("x?y", b"x\xff\xfey"));
    }

    #[test]
    fn classes_by_name_are_refused_and_nothing_that_looks_like_one() {
        for refused in ["[[:alpha:]]", "x[![:digit:]_]*"] {
            assert!(Glob::new(refused, false).unwrap_err().to_string().contains(":]; write"), "{refused}");
        }
        for taken in ["[:]", "[:a]", "[a:]", "[::]", "x:]"] {
            assert!(Glob::new(taken, false).is_ok(), "{taken}");
        }
    }
}
