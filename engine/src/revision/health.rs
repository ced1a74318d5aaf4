//! How a repository is beyond its single files: what killed runs have left, whether its tables and packs are all there.

use super::{MapReader, TreeReader};
use crate::backend::{Area, ClaimState, Key};
use crate::error::Result;
use crate::format::{Kind, Record};
use crate::id::ObjectId;
use crate::repository::Repository;

/// Places of each newest revision whose objects are looked for in the tables: enough that a table with a tenth of what it
/// reaches is missed with hardly a doubt,
const SAMPLED_MAX: usize = 48;

/// fewer where there are many streams, as each place costs some reads,
const SAMPLED_IN_ALL: usize = 2000;

/// but so many all the same.
const SAMPLED_MIN: usize = 8;

/// Files, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// How many files.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl FileCount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl Repository {
    /// What killed processes have left: what was being written, and what was claimed.
    pub fn leftovers(&self) -> Result<FileCount> {
        let mut left = FileCount::default();
        for area in [Area::incoming(), Area::sessions(), Area::pins()] {
            for listed in self.backend().list(&area)? {
                // Where locks don't work nobody can tell, and what lies there counts.
                let state = self.backend().claim_state(&area.key(&listed.name));
                if !matches!(state, Ok(ClaimState::Living | ClaimState::Gone)) {
                    left.add(listed.size);
                }
            }
        }
        Ok(left)
    }

    /// Packs that no table names. Killed runs leave such, and so do tables that are lost: which it is, only a walk over all
    /// revisions tells. What a running backup has stored gets its table soon and does not count.
    pub fn packs_without_table(&self) -> Result<FileCount> {
        let mut packs = FileCount::default();
        for listed in self.backend().list(&Area::sessions())? {
            let state = self.backend().claim_state(&Area::sessions().key(&listed.name));
            if matches!(state, Ok(ClaimState::Living)) {
                return Ok(packs);
            }
        }
        self.store().index().unnamed_packs()?.into_iter().for_each(|bytes| packs.add(bytes));
        Ok(packs)
    }

    /// What is damaged or missing of index tables and packs, and the damage list and the scrub ledger if they are damaged themselves: files, and what
    /// is wrong with them. Tables of more than `bytes_max` together are only opened: a scrub reads them all.
    pub fn damaged_tables(&self, bytes_max: u64) -> Result<Vec<(String, String)>> {
        let mut damaged = self.store().index().verify_tables(bytes_max, |_| Ok(()))?;
        if damaged.is_empty() && self.lacks_tables()? {
            let reason = "index tables are missing: none names some of what the newest revisions are made of";
            damaged.push((format!("{}/", Area::index().path()), reason.to_owned()));
        }
        for (pack, kind) in self.store().index().missing_packs()? {
            let key = Key::pack(kind, pack).to_string();
            let reason = format!("{key} is gone or truncated");
            damaged.push((key, reason));
        }
        damaged.extend(self.damage_of_list()?.map(|reason| (Key::damage().to_string(), reason)));
        match self.read_scrub_ledger() {
            Err(error) if error.is_damage() => {
                damaged.push((Key::scrub_ledger().to_string(), error.to_string()));
            }
            ledger => _ = ledger?,
        }
        Ok(damaged)
    }

    /// Whether something that the newest revision of a stream reaches is in no table. All of it was when it was committed.
    fn lacks_tables(&self) -> Result<bool> {
        let streams = self.streams()?;
        let places = (SAMPLED_IN_ALL / streams.len().max(1)).clamp(SAMPLED_MIN, SAMPLED_MAX);
        let mut published = Vec::new();
        for stream in streams {
            match self.latest(&stream) {
                Ok(Some(newest)) => {
                    published.push(newest.root());
                    published.extend(self.sample(&newest, places)?);
                }
                Ok(None) => {}
                // Told elsewhere, or forgotten meanwhile.
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        self.store().index().lacks_tables(&published)
    }

    /// Some objects that a revision reaches, as far as they can be told: what can't be read is told elsewhere.
    fn sample(&self, record: &Record, places: usize) -> Result<Vec<ObjectId>> {
        let (store, root) = (self.store(), record.root());
        let sampled = match record.kind() {
            Kind::Image => MapReader::open(store, &root).and_then(|map| map.random_objects(places)),
            Kind::Tree => {
                TreeReader::open_unpinned(store, &root).and_then(|tree| tree.random_objects(places))
            }
        };
        match sampled {
            Err(error) if error.is_loss() => Ok(Vec::new()),
            sampled => sampled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::format::{Content, EntryContent, FileData, ImageContent};
    use crate::revision::test_maps::{CHUNK, canonical_root};
    use crate::revision::test_trees::{Trees, commit, entry};

    fn files(trees: &Trees, area: &str) -> Vec<PathBuf> {
        let root = PathBuf::from(trees.repository.backend().location());
        let listed = std::fs::read_dir(root.join(area)).unwrap();
        listed.map(|file| file.unwrap().path()).collect()
    }

    fn count(bytes: &[u64]) -> FileCount {
        FileCount { files: bytes.len() as u64, bytes: bytes.iter().sum() }
    }

    fn damaged(trees: &Trees) -> Vec<String> {
        let damaged = trees.reopened().damaged_tables(u64::MAX).unwrap();
        damaged.into_iter().map(|(file, _)| file).collect()
    }

    /// Stores chunks, the first half of them named by the first table, the rest by the second.
    fn two_tables(trees: &Trees) -> (Vec<ObjectId>, Vec<PathBuf>) {
        let store =
            |from: u8| trees.chunks(&(from..from + 100).map(|byte| vec![byte; 9]).collect::<Vec<_>>());
        let first = store(0);
        let table = files(trees, "index");
        let second = store(100);
        let other = files(trees, "index").into_iter().find(|file| !table.contains(file));
        ([first, second].concat(), table.into_iter().chain(other).collect())
    }

    /// Puts each of the tables away, and looks what is told.
    fn assert_each_is_missed(trees: &Trees, tables: &[PathBuf]) {
        assert_eq!(damaged(trees), Vec::<String>::new());
        for table in tables {
            let away = table.with_extension("away");
            std::fs::rename(table, &away).unwrap();
            assert_eq!(damaged(trees), ["index/"]);
            let packs = trees.reopened().packs_without_table().unwrap();
            assert_eq!(packs.files, 1);
            std::fs::rename(away, table).unwrap();
        }
        assert_eq!(damaged(trees), Vec::<String>::new());
    }

    /// Only the first objects of a tree were asked for, and of each revision sixteen.
    #[test]
    fn a_lost_table_is_missed_whatever_part_of_a_tree_it_named() {
        let trees = Trees::new();
        let (chunks, tables) = two_tables(&trees);
        let slice = |&chunk| EntryContent::File(FileData::Slice { chunk, offset: 0, length: 9 });
        let entries: Vec<_> = (0..)
            .zip(&chunks)
            .map(|(number, chunk): (u32, _)| entry(format!("{number:03}"), slice(chunk)))
            .collect();
        let root = trees.root(trees.directory(&entries));
        trees.commit(&trees.stream(), 1, &root);
        assert_each_is_missed(&trees, &tables);
    }

    #[test]
    fn a_lost_table_is_missed_whatever_part_of_an_image_it_named() {
        let trees = Trees::new();
        let (chunks, tables) = two_tables(&trees);
        let slots: Vec<_> = chunks.into_iter().map(crate::format::Slot::Chunk).collect();
        let size = slots.len() as u64 * u64::from(CHUNK);
        let root = trees.write(|writer| {
            let root = canonical_root(size, &slots, writer);
            writer.add_node(&root.encode()).unwrap()
        });
        let stream = trees.repository.stream_for_backup("vm", Kind::Image, "vm.img", false).unwrap();
        commit(&trees.repository, &stream, 1, Content::Image(ImageContent { root, size, data_bytes: size }));
        assert_each_is_missed(&trees, &tables);
    }

    #[test]
    fn what_killed_runs_have_left_is_counted_and_what_a_living_one_holds_is_not() {
        let trees = Trees::new();
        trees.chunk(b"chunk");
        let pack = std::fs::metadata(&files(&trees, "packs/data")[0]).unwrap().len();
        std::fs::remove_file(&files(&trees, "index")[0]).unwrap();
        let repository = trees.reopened();
        assert_eq!(repository.packs_without_table().unwrap(), count(&[pack]));
        let session = repository.begin_session("test", trees.stream().id).unwrap();
        assert_eq!(repository.packs_without_table().unwrap(), count(&[]), "it may get its table");
        assert_eq!(repository.leftovers().unwrap(), count(&[]));
        drop(session);
        let root = PathBuf::from(repository.backend().location());
        std::fs::write(root.join("incoming/left"), b"1234567").unwrap();
        let uuid = "018f2f6e-7b5c-4c3a-9d1e-0123456789ab";
        std::fs::write(root.join("sessions").join(uuid), b"123").unwrap();
        assert_eq!(repository.leftovers().unwrap(), count(&[7, 3]));
        assert_eq!(repository.packs_without_table().unwrap(), count(&[pack]));
    }
}
