//! What a power cut leaves of a medium.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::medium::{Content, Medium, Move, Name, Node};
use crate::random::Random;

/// How a power cut ends for what is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is lost.
    Nothing,
    /// All of it survives.
    Everything,
    /// All names survive, and no byte.
    NamesOnly,
    /// Each name and each file fares in its own way, drawn from this seed.
    Mixed(u64),
}

/// What is found after a power cut: directories, and files with their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Remains(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Medium {
    /// What a power cut leaves.
    pub(crate) fn after_power_cut(&self, outcome: Outcome) -> Remains {
        let mut fate = Fate::new(outcome);
        let names: BTreeMap<PathBuf, &Name> = self.names().collect();
        let mut states: BTreeMap<&Path, usize> =
            names.iter().map(|(path, name)| (path.as_path(), fate.of_name(name))).collect();
        for Move { from, to } in self.moves() {
            let (source, target) = (names[&from.0], names[&to.0]);
            let is_removed = !source.is_before(states[from.0.as_path()], from.1);
            // Never in none of both (assumption 2).
            if is_removed && target.is_before(states[to.0.as_path()], to.1) {
                states.insert(&to.0, target.place_of(to.1));
            }
        }
        let left = states.into_iter().filter_map(|(path, state)| Some((path, names[path].states[state]?)));
        self.contents_of(left, &mut fate)
    }

    /// A directory that is lost takes along all that lies in it, durable or not.
    fn contents_of<'a>(&self, left: impl Iterator<Item = (&'a Path, Node)>, fate: &mut Fate) -> Remains {
        let mut remains = Remains::default();
        // Paths are sorted: a directory comes before what lies in it.
        for (path, node) in left {
            let parent = path.parent().filter(|parent| *parent != Path::new(""));
            if parent.is_none_or(|parent| remains.0.contains_key(parent)) {
                let content = match node {
                    Node::Directory => None,
                    Node::File(file) => Some(fate.of_content(self.content(file))),
                };
                remains.0.insert(path.to_owned(), content);
            }
        }
        remains
    }
}

impl Remains {
    /// Lays them into an empty directory.
    pub(crate) fn write_to(&self, directory: &Path) {
        for (path, content) in &self.0 {
            let path = directory.join(path);
            match content {
                None => fs::create_dir(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
        }
    }
}

/// Decides what survives.
struct Fate {
    outcome: Outcome,
    random: Random,
}

impl Fate {
    fn new(outcome: Outcome) -> Self {
        let seed = if let Outcome::Mixed(seed) = outcome { seed } else { 0 };
        Self { outcome, random: Random::seeded(seed) }
    }

    /// Which of its states a name has then.
    fn of_name(&mut self, name: &Name) -> usize {
        let newest = name.states.len() - 1;
        match self.outcome {
            Outcome::Nothing => 0,
            Outcome::Everything | Outcome::NamesOnly => newest,
            Outcome::Mixed(_) => self.random.below(newest as u64 + 1) as usize,
        }
    }

    fn of_content(&mut self, content: &Content) -> Vec<u8> {
        let all = &content.bytes;
        let durable = &all[..content.durable_len];
        match self.outcome {
            Outcome::Everything => all.clone(),
            Outcome::Mixed(_) if durable.len() < all.len() => self.torn(content),
            _ => durable.to_vec(),
        }
    }

    /// Whole, a part of it, or its full length of which the end was never written.
    fn torn(&mut self, content: &Content) -> Vec<u8> {
        let all = &content.bytes;
        let at_risk = (all.len() - content.durable_len) as u64;
        let kept = content.durable_len + self.random.below(at_risk) as usize;
        let mut torn = all.clone();
        match self.random.below(4) {
            0 => {}
            1 => torn.truncate(kept),
            2 => torn[kept..].fill(0),
            _ => torn[kept..].iter_mut().for_each(|byte| *byte = self.random.below(256) as u8),
        }
        torn
    }
}
