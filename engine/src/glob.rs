//! Globs as git reads them, said in the words of the library that matches them.
//!
//! To [`globset`] a class matches slashes, a backslash in one is a character, braces always are alternatives, and three
//! asterisks are neither one nor two. What this module writes means the same to it as the original does to git.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

use globset::GlobBuilder;

/// What two kinds of globs read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Braces mean themselves, and so does a `[` that is not closed.
    Gitignore,
    /// Braces hold alternatives, and a `[` must be closed.
    Shell,
}

/// Why something is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a '[' is not closed; write '\\[' for the character")]
    Unclosed,
    #[error("the range {0}-{1} goes backwards")]
    Backwards(char, char),
    #[error("there is no class [:{0}:]")]
    NoSuchClass(String),
    #[error("{0}")]
    Library(globset::ErrorKind),
}

/// Makes of a glob one that the library takes for the same. `*`, `?` and classes match no slash.
///
/// # Errors
/// What of the glob is malformed.
pub(crate) fn parse(glob: &str, dialect: Dialect, ignore_case: bool) -> Result<globset::Glob, Malformed> {
    let exact = rewrite(glob, dialect)?;
    let mut builder = GlobBuilder::new(&exact);
    builder.literal_separator(true).backslash_escape(true).case_insensitive(ignore_case);
    builder.build().map_err(|error| Malformed::Library(error.kind().clone()))
}

fn rewrite(glob: &str, dialect: Dialect) -> Result<String, Malformed> {
    let mut exact = String::with_capacity(glob.len());
    let mut rest = glob.chars().peekable();
    // If one `[` is not closed, none behind it is.
    let mut may_close = true;
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                exact.push(character);
                exact.extend(rest.next());
            }
            '[' => {
                let mut inner = rest.clone();
                let class = if may_close { Class::read(&mut inner) } else { Err(Malformed::Unclosed) };
                match class {
                    Ok(class) => {
                        class.write(&mut exact);
                        rest = inner;
                    }
                    Err(Malformed::Unclosed) if dialect == Dialect::Gitignore => {
                        exact.push_str("\\[");
                        may_close = false;
                    }
                    Err(error) => return Err(error),
                }
            }
            '*' => {
                let more = std::iter::from_fn(|| rest.next_if_eq(&'*')).count();
                exact.push_str(if more == 0 { "*" } else { "**" });
            }
            '{' | '}' if dialect == Dialect::Gitignore => exact.extend(['\\', character]),
            _ => exact.push(character),
        }
    }
    Ok(exact)
}

/// A class of characters, `[a-z]` or `[!a-z]`.
struct Class {
    is_negated: bool,
    ranges: Vec<RangeInclusive<char>>,
}

impl Class {
    /// Reads what is behind a `[`, up to the `]`.
    fn read(rest: &mut Peekable<Chars<'_>>) -> Result<Self, Malformed> {
        let is_negated = rest.next_if(|next| matches!(next, '!' | '^')).is_some();
        let mut ranges = Vec::new();
        // What a `-` makes a range of: a character, but not one that ends a range.
        let mut start = None;
        // What is wrong with it, if it is closed and thus a class.
        let mut fault = None;
        let mut is_first = true;
        loop {
            let next = rest.next().ok_or(Malformed::Unclosed)?;
            match (next, start) {
                (']', _) if !is_first => break,
                ('-', Some(first)) if rest.peek().is_some_and(|&next| next != ']') => {
                    let last = unescaped(rest)?;
                    if last < first {
                        fault = Some(Malformed::Backwards(first, last));
                    }
                    // In place of the character that it starts with.
                    ranges.pop();
                    ranges.push(first..=last);
                    start = None;
                }
                _ if next == '['
                    && let Some(name) = take_name(rest) =>
                {
                    match named(&name) {
                        Some(members) => ranges.extend_from_slice(members),
                        None => fault = Some(Malformed::NoSuchClass(name)),
                    }
                    start = None;
                }
                _ => {
                    let one = if next == '\\' { rest.next().ok_or(Malformed::Unclosed)? } else { next };
                    ranges.push(one..=one);
                    start = Some(one);
                }
            }
            is_first = false;
        }
        fault.map_or(Ok(Self { is_negated, ranges }), Err)
    }

    /// Writes it as a class that matches no slash.
    fn write(&self, exact: &mut String) {
        let has = |character| self.ranges.iter().any(|range| range.contains(&character));
        exact.push('[');
        if self.is_negated {
            exact.push('!');
        }
        // First stands what keeps all others from being first, where some mean something else. No name has a NUL, so that
        // a class which has it matches nothing more, and one that has nothing else nothing at all.
        exact.push(if has(']') { ']' } else { '\0' });
        for range in self.ranges.iter().flat_map(|range| without(range, &['-', '/', ']'])) {
            exact.push(*range.start());
            if range.start() < range.end() {
                exact.extend(['-', *range.end()]);
            }
        }
        if self.is_negated {
            exact.push('/');
        }
        if has('-') {
            exact.push('-');
        }
        exact.push(']');
    }
}

/// The next character, or the one that is escaped.
fn unescaped(rest: &mut Peekable<Chars<'_>>) -> Result<char, Malformed> {
    let next = rest.next_if_eq(&'\\').and_then(|_| rest.next()).or_else(|| rest.next());
    next.ok_or(Malformed::Unclosed)
}

/// Takes `:alpha:]` from behind a `[` in a class, and gives the name.
fn take_name(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut ahead = rest.clone();
    ahead.next_if_eq(&':')?;
    let letters = std::iter::from_fn(|| ahead.next_if(|next| !matches!(next, ':' | '[' | ']')));
    let name = letters.collect();
    ahead.next_if_eq(&':')?;
    ahead.next_if_eq(&']')?;
    *rest = ahead;
    Some(name)
}

/// The characters of a class that has a name, as git knows them: those of ASCII.
fn named(name: &str) -> Option<&'static [RangeInclusive<char>]> {
    Some(match name {
        "alnum" => &['0'..='9', 'A'..='Z', 'a'..='z'],
        "alpha" => &['A'..='Z', 'a'..='z'],
        "blank" => &['\t'..='\t', ' '..=' '],
        "cntrl" => &['\0'..='\x1f', '\x7f'..='\x7f'],
        "digit" => &['0'..='9'],
        "graph" => &['!'..='~'],
        "lower" => &['a'..='z'],
        "print" => &[' '..='~'],
        "punct" => &['!'..='/', ':'..='@', '['..='`', '{'..='~'],
        "space" => &['\t'..='\n', '\r'..='\r', ' '..=' '],
        "upper" => &['A'..='Z'],
        "xdigit" => &['0'..='9', 'A'..='F', 'a'..='f'],
        _ => return None,
    })
}

/// The parts of a range that are left without these characters, which ascend.
fn without(range: &RangeInclusive<char>, gone: &[char]) -> Vec<RangeInclusive<char>> {
    let mut left = Vec::new();
    let mut rest = range.clone();
    for &gone in gone {
        if rest.contains(&gone) {
            let (before, behind) = (u32::from(gone) - 1, u32::from(gone) + 1);
            left.extend(char::from_u32(before).map(|before| *rest.start()..=before));
            rest = char::from_u32(behind).map_or('\u{1}'..='\0', |behind| behind..=*rest.end());
        }
    }
    left.push(rest);
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_rewritten(glob: &str, expected: &str) {
        assert_eq!(rewrite(glob, Dialect::Gitignore).unwrap(), expected, "{glob}");
    }

    #[test]
    fn classes_have_no_slash_whatever_they_span() {
        for (class, expected) in [
            ("[abc]", "[\0abc]"),
            ("[a-c]", "[\0a-c]"),
            ("[!a]", "[!\0a/]"),
            ("[^a-c-]", "[!\0a-c/-]"),
            ("[+-9]", "[\0+-,.0-9-]"),
            ("[--/]", "[\0.-]"),
            ("[/]", "[\0]"),
            ("[!/]", "[!\0/]"),
        ] {
            assert_rewritten(class, expected);
        }
    }

    #[test]
    fn characters_of_a_class_are_escaped_and_end_it_as_in_git() {
        for (class, expected) in [
            (r"[\]]", "[]]"),
            (r"[\]a]", "[]a]"),
            ("[]a]", "[]a]"),
            ("[!]a]", "[!]a/]"),
            (r"[\!a]", "[\0!a]"),
            (r"[\\]", "[\0\\]"),
            (r"[a\-c]", "[\0ac-]"),
            (r"[Z-\]]", "[]Z-\\]"),
            ("[a-c-e]", "[\0a-ce-]"),
            ("[[]", "[\0[]"),
            ("[{,}]", "[\0{,}]"),
            ("[[:digit:]a]", "[\u{0}0-9a]"),
            ("[[:a]b]", "[\0[:a]b]"),
        ] {
            assert_rewritten(class, expected);
        }
    }

    #[test]
    fn what_is_not_closed_stands_for_itself_with_all_behind_it() {
        for (glob, expected) in [
            ("x[", r"x\["),
            ("x[{a,b}", r"x\[\{a,b\}"),
            (r"[a\]", r"\[a\]"),
            ("[]", r"\[]"),
            ("[!]*", r"\[!]*"),
            ("[z-a", r"\[z-a"),
            ("[a][[[", "[\0a]\\[\\[\\["),
        ] {
            assert_rewritten(glob, expected);
            assert!(matches!(rewrite(glob, Dialect::Shell), Err(Malformed::Unclosed)), "{glob}");
        }
    }

    #[test]
    fn many_asterisks_are_two() {
        assert_rewritten("a/***/b*", "a/**/b*");
        assert_rewritten(r"\***\\", r"\***\\");
        assert_eq!(rewrite("{a,b}[{]", Dialect::Shell).unwrap(), "{a,b}[\0{]");
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (glob, expected) in [
            ("[z-a]", "the range z-a goes backwards"),
            ("[[:alfa:]]", "there is no class [:alfa:]"),
            ("a\\", "dangling '\\'"),
        ] {
            assert_eq!(parse(glob, Dialect::Gitignore, false).unwrap_err().to_string(), expected);
        }
        assert!(parse("a{b", Dialect::Shell, false).is_err() && parse("a}b", Dialect::Shell, false).is_err());
    }
}
