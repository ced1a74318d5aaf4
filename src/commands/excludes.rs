//! What `--exclude` and `--exclude-from` name, in the order in which they were given: of the patterns that match, the last
//! decides.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::exit::Failure;

/// The options, in their order.
#[derive(Clone, Debug)]
pub(super) struct ExcludeArgs(Vec<Exclude>);

#[derive(Clone, Debug)]
enum Exclude {
    Pattern(String),
    File(PathBuf),
}

/// What the library reads, which keeps the order of each option alone.
#[derive(Args, Debug)]
struct Options {
    /// Leave out what matches a pattern, as in .gitignore; of all patterns that match, the last one decides
    #[arg(long = "exclude", value_name = "GLOB")]
    patterns: Vec<String>,

    /// Leave out what matches the patterns in a file, one a line; may be given several times
    #[arg(long = "exclude-from", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Args for ExcludeArgs {
    fn augment_args(command: Command) -> Command {
        Options::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Options::augment_args_for_update(command)
    }
}

impl FromArgMatches for ExcludeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let options = Options::from_arg_matches(matches)?;
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let patterns = options.patterns.into_iter().map(Exclude::Pattern);
        let files = options.files.into_iter().map(Exclude::File);
        let mut given: Vec<_> = places("patterns").zip(patterns).chain(places("files").zip(files)).collect();
        given.sort_by_key(|(place, _)| *place);
        Ok(Self(given.into_iter().map(|(_, exclude)| exclude).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ExcludeArgs {
    /// An option that was given.
    pub(super) fn first_option(&self) -> Option<&'static str> {
        self.0.first().map(|exclude| match exclude {
            Exclude::Pattern(_) => "--exclude",
            Exclude::File(_) => "--exclude-from",
        })
    }

    /// All patterns.
    pub(super) fn read(&self) -> Result<Vec<String>, Failure> {
        let mut patterns = Vec::new();
        for exclude in &self.0 {
            match exclude {
                Exclude::Pattern(pattern) => patterns.push(pattern.clone()),
                Exclude::File(file) => patterns.extend(patterns_in(file)?),
            }
        }
        Ok(patterns)
    }
}

fn patterns_in(file: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let failure = Failure::io(&format!("read exclude patterns from {}", file.display()), &error);
        match error.kind() {
            std::io::ErrorKind::InvalidData => failure.hint("patterns are UTF-8, one in a line"),
            _ => failure,
        }
    })?;
    // Some editors begin a text with a mark for the order of its bytes, which git passes by, too.
    Ok(text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect())
}
