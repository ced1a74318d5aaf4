//! Paths in trees: names from the root on.

use crate::error::Error;

/// The names on a path from the root on. A `.` leads nowhere, as nothing is called so; `..` is a name that is not there.
pub(crate) fn names_on(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The path with one slash between names and none before or behind them, as trees name what they hold. That of the root
/// is empty.
pub fn tidy_path(path: &[u8]) -> Vec<u8> {
    names_on(path).collect::<Vec<_>>().join(&b'/')
}

/// The path in messages.
fn path_text(path: &[u8]) -> String {
    match path.is_empty() {
        true => "/".to_owned(),
        false => path.escape_ascii().to_string(),
    }
}

/// Says that a path leads nowhere.
pub(crate) fn no_such_path(path: &[u8], revision: impl Into<String>) -> Error {
    Error::NoSuchPath { path: path_text(path), revision: revision.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_that_say_nothing_are_left_out() {
        for (path, tidy) in [
            ("", ""),
            ("/", ""),
            ("//", ""),
            ("a", "a"),
            ("/a//b/", "a/b"),
            (".", ""),
            ("./a/./b/.", "a/b"),
            ("../.a", "../.a"),
        ] {
            assert_eq!(tidy_path(path.as_bytes()), tidy.as_bytes());
        }
        assert_eq!((path_text(b"").as_str(), path_text(b"a\n\xff").as_str()), ("/", "a\\n\\xff"));
    }
}
