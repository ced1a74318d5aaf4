//! Style that can be tested: which layer may know which, how long a file may be, and that nothing is left out.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file in lines, its tests not counted.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Source files below a directory, or one such file, with their text.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![root().join(directory)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    assert!(!found.is_empty(), "{directory} has no sources");
    found
}

/// The code without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Fails where a file below `directory`, other than the exceptions, has any of the words.
#[track_caller]
fn assert_unknown(directory: &str, words: &[&str], exceptions: &[&str]) {
    for (path, text) in sources(directory) {
        if exceptions.iter().any(|exception| path.ends_with(exception)) {
            continue;
        }
        let code = code(&text);
        for word in words {
            assert!(!code.contains(word), "{} must not know '{word}'", path.display());
        }
    }
}

/// The layers of the engine: each knows only those before it.
const LAYERS: [&str; 17] = [
    "id",
    "error",
    "extent",
    "glob",
    "monitor",
    "parallel",
    "random",
    "recent",
    "format",
    "chunker",
    "backend",
    "store",
    "repository",
    "revision",
    "source",
    "operations",
    "fuzzing",
];

#[test]
fn the_layers_of_the_engine_import_downwards_only() {
    for (place, layer) in LAYERS.iter().enumerate() {
        let above: Vec<String> = LAYERS[place + 1..]
            .iter()
            // Neither of these two is above the other.
            .filter(|above| (*layer, **above) != ("revision", "source"))
            .map(|above| format!("crate::{above}"))
            .collect();
        let above: Vec<&str> = above.iter().map(String::as_str).collect();
        let file = format!("engine/src/{layer}.rs");
        let layer = if root().join(&file).exists() { file } else { format!("engine/src/{layer}") };
        assert_unknown(&layer, &above, &[]);
        for (path, text) in sources(&layer) {
            for module in imported(&code(&text)) {
                let word = format!("crate::{module}");
                assert!(!above.contains(&word.as_str()), "{} imports {module}", path.display());
            }
        }
    }
}

#[test]
fn every_module_of_the_engine_is_a_layer_and_is_told_in_its_story() {
    let story = fs::read_to_string(root().join("engine/src/lib.rs")).unwrap();
    let modules: Vec<&str> = story
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(modules.len(), LAYERS.len(), "{modules:?}");
    let (_, layers) = story.split_once("//! Layers,").unwrap();
    for module in modules {
        assert!(LAYERS.contains(&module), "{module} is no layer");
        assert!(layers.contains(&format!("`{module}`")), "{module} is not in the list of layers");
    }
}

/// The modules of the crate that `use` brings in, in whatever form: `crate::a`, `crate::{a::X, b}`, `super::super::a`.
/// Names that are no modules come as well.
fn imported(code: &str) -> Vec<String> {
    let statements = code.split("use ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(used, _)| used);
    let reach_up = |used: &&str| used.starts_with("crate::") || used.starts_with("super::super::");
    let mut modules = Vec::new();
    for used in statements.filter(reach_up) {
        let used = used.trim_start_matches("crate::").trim_start_matches("super::");
        let group = used.strip_prefix('{').and_then(|group| group.strip_suffix('}'));
        // Of nested groups the inner names come, too.
        let parts = group.map_or(vec![used], |group| group.split([',', '{', '}']).collect());
        modules.extend(parts.iter().filter_map(|part| part.trim().split("::").next()).map(str::to_owned));
    }
    modules
}

#[test]
fn imports_are_found_in_every_form() {
    let code =
        "use crate::a::X;\nuse crate::{\n    b::{Y, Z}, c,\n};\nuse super::super::d::V;\nuse super::e;";
    let found = imported(code);
    for module in ["a", "b", "c", "d"] {
        assert!(found.iter().any(|found| found == module), "{module}: {found:?}");
    }
    assert!(!found.iter().any(|found| found == "e"));
}

#[test]
fn operations_never_call_each_other() {
    let operations = ["backup", "restore", "dump", "ls", "find", "history", "diff", "scrub", "check", "copy"];
    for (path, text) in sources("engine/src/operations") {
        // Tests of one operation after the other.
        if path.components().any(|part| part.as_os_str() == "crash_tests") {
            continue;
        }
        for other in operations {
            let own =
                path.components().any(|part| Path::new(part.as_os_str()).file_stem() == Some(other.as_ref()));
            assert!(
                own || !code(&text).contains(&format!("operations::{other}")),
                "{}: {other}",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_command_line_knows_terminal_arguments_and_environment() {
    let words = ["clap", "indicatif", "println!", "eprintln!", "std::env", "process::exit", "is_terminal"];
    // Tests in files of their own.
    let tests = ["format/golden.rs", "crash_tests/seed.rs", "fuzzing/corpus.rs"];
    assert_unknown("engine/src", &words, &tests);
    assert_unknown("fuse/src", &words, &[]);
}

#[test]
fn only_one_module_knows_each_awkward_crate() {
    assert_unknown("engine/src", &["bincode"], &["format/codec.rs"]);
    assert_unknown("engine/src", &["fuser", "libc::"], &[]);
    assert_unknown("fuse/src", &["fuser::"], &["adapter.rs", "session.rs"]);
    assert_unknown("src", &["fuser", "bincode", "blake3"], &[]);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for directory in ["src", "engine/src", "fuse/src"] {
        for (path, text) in sources(directory) {
            let lines = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 60);
}

#[test]
fn every_module_says_what_it_is() {
    for directory in ["src", "engine/src", "fuse/src", "tests"] {
        for (path, text) in sources(directory) {
            assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
        }
    }
}

#[test]
fn every_command_has_a_file_of_tests() {
    // Commands whose tests stand with those of another.
    let elsewhere = [("unmount", "mount"), ("completions", "usage"), ("man", "usage")];
    let no_commands = ["mod", "excludes", "inventory", "revision", "serve", "tree_entry"];
    for (path, _) in sources("src/commands") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let tests = elsewhere.iter().find(|(command, _)| *command == name).map_or(name, |(_, tests)| tests);
        let tests = root().join("tests").join(format!("{tests}.rs"));
        assert!(no_commands.contains(&name) || tests.exists(), "{name} has no tests");
    }
}
