//! Tests of the index as a whole: lists of tables, damage, salvage.

use std::cell::Cell;

use super::*;
use crate::backend::{Key, LocalBackend};
use crate::error::Error;
use crate::format::{Compression, Header, ObjectType, Timestamp};
use crate::store::{Store, StoreWriter};

struct World {
    _directory: tempfile::TempDir,
    backend: Arc<LocalBackend>,
    store: Store,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Arc::new(LocalBackend::new(directory.path().to_owned()));
        backend.create_areas(&Area::fixed()).unwrap();
        let header = Header {
            id: RepositoryId::random(),
            created: Timestamp::now(),
            chunk_size: 65536,
            compression: Compression::None,
            features: Vec::new(),
        };
        let store = Store::new(Arc::<LocalBackend>::clone(&backend), header, 1 << 20);
        Self { _directory: directory, backend, store }
    }

    /// Stores a chunk in a pack of its own, and returns its id, its pack and the table that names it.
    fn add(&self, byte: u8) -> (ObjectId, Key, Key) {
        let names = |area: &Area| self.backend.names(area).unwrap();
        let areas = [Area::packs(PackKind::Data), Area::index()];
        let before = areas.each_ref().map(names);
        let content = [byte; 100];
        let id = self.store.hasher().id(ObjectType::Chunk, &content);
        let mut writer = StoreWriter::new(&self.store, HashSet::new(), false).unwrap();
        writer.add(ObjectType::Chunk, id, 100, &[&[0], &content[..]].concat()).unwrap();
        writer.finish().unwrap();
        let [pack, table] = [0, 1].map(|place: usize| {
            let new = names(&areas[place]).into_iter().find(|name| !before[place].contains(name));
            areas[place].key(new.unwrap())
        });
        (id, pack, table)
    }

    /// The index of a process that begins now.
    fn index(&self) -> Index {
        let backend = || Arc::<LocalBackend>::clone(&self.backend);
        Index::new(backend(), Arc::new(Locks::new(backend())), self.store.header().id)
    }

    /// Changes a byte from the start of a file, or with a negative offset from its end; returns what it was.
    fn flip(&self, key: &Key, offset: isize) -> Vec<u8> {
        let kept = self.backend.read(key, 1 << 20).unwrap();
        let mut bytes = kept.clone();
        let place = if offset < 0 { bytes.len() - offset.unsigned_abs() } else { offset.unsigned_abs() };
        bytes[place] ^= 1;
        self.backend.put(key, &bytes).unwrap();
        kept
    }
}

fn is_salvaged(index: &Index) -> bool {
    index.read_set().unwrap().salvaged.get().is_some()
}

/// A merge between listing and opening once hid what it had made.
#[test]
fn the_list_is_made_again_when_a_table_is_gone_before_it_is_opened() {
    let [old, merged, other] = [1, 2, 3].map(|number: u128| TableId::from_bytes(number.to_le_bytes()));
    let listings = Cell::new(0);
    let list = || {
        listings.set(listings.get() + 1);
        Ok(if listings.get() == 1 { vec![other, old] } else { vec![other, merged] })
    };
    let open_unless = |gone: TableId| {
        move |id: TableId| match id == gone {
            true => Err(Error::io("open", "a table")(std::io::ErrorKind::NotFound.into())),
            false => Ok(id),
        }
    };
    assert_eq!(open_listed(list, open_unless(old)).unwrap(), [other, merged]);
    assert_eq!(listings.get(), 2);
    // Not for ever.
    assert_eq!(open_listed(list, open_unless(merged)).unwrap(), [other]);
    assert_eq!(listings.get(), 2 + LISTINGS_MAX);
}

#[test]
fn packs_are_read_in_the_place_of_a_table_only_when_something_is_to_be_read() {
    let world = World::new();
    let (id, _, table) = world.add(1);
    world.flip(&table, 0);
    let index = world.index();
    assert!(!index.contains(&id).unwrap(), "nothing new may rely on it");
    assert!(!is_salvaged(&index));
    assert_eq!(index.locate_in_tables(&id).unwrap().len(), 1);
    assert!(is_salvaged(&index) && !index.contains(&id).unwrap());
}

/// A long backup lists the tables with every one that it publishes.
#[test]
fn a_damaged_table_is_opened_again_by_a_reload_and_not_by_a_refresh() {
    let world = World::new();
    let (id, _, table) = world.add(1);
    let kept = world.flip(&table, 0);
    let index = world.index();
    index.locate_in_tables(&id).unwrap();
    world.backend.put(&table, &kept).unwrap();
    let (new, _, _) = world.add(2);
    index.refresh().unwrap();
    assert!(!index.contains(&id).unwrap() && index.contains(&new).unwrap());
    assert!(is_salvaged(&index), "what was salvaged serves on");
    index.reload().unwrap();
    assert!(index.contains(&id).unwrap());
}

#[test]
fn each_pack_is_salvaged_once() {
    let world = World::new();
    let (id, pack, table) = world.add(1);
    world.flip(&table, 0);
    let index = world.index();
    assert_eq!(index.locate_in_tables(&id).unwrap().len(), 1);
    world.flip(&pack, -1);
    let (other, other_pack, other_table) = world.add(2);
    world.flip(&other_table, 0);
    index.reload().unwrap();
    for id in [id, other] {
        assert_eq!(index.locate_in_tables(&id).unwrap().len(), 1);
    }
    world.backend.remove(&other_pack).unwrap();
    index.reload().unwrap();
    assert_eq!(
        index.locate_in_tables(&other).unwrap().len(),
        1,
        "while no table comes or goes nothing is listed"
    );
    world.add(3);
    index.reload().unwrap();
    assert_eq!(index.locate_in_tables(&other).unwrap(), []);
    assert_eq!(index.locate_in_tables(&id).unwrap().len(), 1);
}

#[test]
fn tables_that_are_merged_away_while_others_are_verified_are_no_damage() {
    let world = World::new();
    let mut tables: Vec<Key> = (0..6).map(|byte| world.add(byte).2).collect();
    let verified = world
        .index()
        .verify_tables(u64::MAX, |_| tables.pop().map_or(Ok(()), |table| world.backend.remove(&table)));
    assert_eq!(verified.unwrap(), []);
}

#[test]
fn tables_are_missing_where_what_was_published_is_in_none() {
    let world = World::new();
    let (first, _, table) = world.add(1);
    let (second, _, _) = world.add(2);
    let lacks = || world.index().lacks_tables(&[second, first]).unwrap();
    assert!(!lacks());
    let kept = world.flip(&table, 0);
    assert!(!lacks(), "what is damaged is not missing");
    world.backend.put(&table, &kept).unwrap();
    world.flip(&table, 2 * 4096);
    assert!(!lacks(), "nor where only an entry is damaged");
    world.backend.remove(&table).unwrap();
    assert!(lacks());
    assert!(!world.index().lacks_tables(&[second]).unwrap());
}

/// Publishes a table of so many objects in one pack, which is written as well.
fn add_many(world: &World, count: u64) -> (Vec<ObjectId>, Key) {
    let before = world.backend.names(&Area::index()).unwrap();
    let mut writer = StoreWriter::new(&world.store, HashSet::new(), false).unwrap();
    let mut ids = Vec::new();
    for number in 0..count {
        let content = number.to_le_bytes();
        let id = world.store.hasher().id(ObjectType::Chunk, &content);
        writer.add(ObjectType::Chunk, id, 8, &[&[0], &content[..]].concat()).unwrap();
        ids.push(id);
    }
    writer.finish().unwrap();
    let names = world.backend.names(&Area::index()).unwrap();
    let new = names.into_iter().find(|name| !before.contains(name));
    ids.sort();
    (ids, Area::index().key(new.unwrap()))
}

/// One flipped bit once cost memory and time for all that the table named.
#[test]
fn of_a_damaged_block_only_what_it_may_have_named_is_asked_of_the_packs() {
    const OBJECTS: u64 = 3000;
    const PER_BLOCK: usize = 85;
    for damaged in [&[0][..], &[7], &[7, 8, 9], &[34, 35], &[0, 1, 20, 35]] {
        let world = World::new();
        let (ids, table) = add_many(&world, OBJECTS);
        for block in damaged {
            // Header, list of packs, then the entries.
            world.flip(&table, (2 + block) * 4096 + 100);
        }
        let index = world.index();
        let hash =
            |number: u64| world.store.hasher().id(ObjectType::Chunk, &(OBJECTS + number).to_le_bytes());
        for id in &ids {
            assert_eq!(index.locate_in_tables(id).unwrap().len(), 1, "{damaged:?}");
        }
        for absent in (0..500).map(hash) {
            assert_eq!(index.locate_in_tables(&absent).unwrap(), []);
            assert!(!index.contains(&absent).unwrap());
        }
        let in_block = |place: usize| damaged.contains(&((place / PER_BLOCK) as isize));
        for (place, id) in ids.iter().enumerate() {
            // After two hits the pack's directory tells, which is published.
            assert!(index.contains(id).unwrap() || in_block(place), "{damaged:?} {place}");
        }
        let salvaged: usize = lock(&index.salvaged_blocks).values().map(|salvaged| salvaged.len()).sum();
        assert!(salvaged <= damaged.len() * (PER_BLOCK + 2), "{salvaged}");
        assert!(!is_salvaged(&index));
    }
}

#[test]
fn a_damaged_filter_excludes_nothing() {
    let world = World::new();
    let (ids, table) = add_many(&world, 200);
    world.flip(&table, -100);
    let index = world.index();
    for id in &ids {
        assert!(index.contains(id).unwrap() && index.stands(id).unwrap());
    }
}

/// A list that was begun before a table was published, and was put in place after one that had it, hid it again.
#[test]
fn tables_are_listed_by_one_thread_at_a_time() {
    let world = World::new();
    let (id, _, _) = world.add(1);
    let ways: [&(dyn Fn(&Index) + Sync); 3] =
        [&|index| index.reload().unwrap(), &|index| index.refresh().unwrap(), &|index| {
            assert!(index.contains(&id).unwrap())
        }];
    for list in ways {
        let (index, is_done) = (world.index(), AtomicBool::new(false));
        let listing = lock(&index.listing);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                list(&index);
                is_done.store(true, Ordering::Relaxed);
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!is_done.load(Ordering::Relaxed) && index.read_set().is_none());
            drop(listing);
        });
        assert!(index.read_set().is_some());
    }
}

#[test]
fn a_lost_table_is_noted_when_what_it_named_is_asked_for() {
    let world = World::new();
    let (there, _, _) = world.add(1);
    let (lost, _, table) = world.add(2);
    let index = world.index();
    assert!(index.stands(&lost).unwrap() && index.still_contains(&lost).unwrap());
    // What came after the tables were listed is no loss.
    let (new, _, _) = world.add(3);
    assert!(index.stands(&new).unwrap() && !index.has_losses());
    world.backend.remove(&table).unwrap();
    let index = world.index();
    assert!(index.stands(&there).unwrap() && !index.has_losses());
    assert!(!index.stands(&lost).unwrap() && index.has_lost_tables() && index.has_losses());
    index.begin_reliance().unwrap();
    assert!(!index.has_losses(), "the next run looks anew");
    assert!(!index.still_contains(&lost).unwrap() && index.has_lost_tables());
}

/// A filter that is not intact excludes nothing, and so hid that another table was lost.
#[test]
fn a_damaged_filter_hides_no_lost_table() {
    let world = World::new();
    let (_, damaged) = add_many(&world, 200);
    let (lost, _, table) = world.add(2);
    world.flip(&damaged, -100);
    world.backend.remove(&table).unwrap();
    let index = world.index();
    assert!(!index.stands(&lost).unwrap() && index.has_lost_tables());
}

#[test]
fn what_lies_in_a_missing_pack_or_stands_in_a_damaged_block_tells_of_no_lost_table() {
    let world = World::new();
    let (gone, pack, _) = world.add(1);
    let (doubtful, _, table) = world.add(2);
    world.backend.remove(&pack).unwrap();
    world.flip(&table, 2 * 4096);
    let index = world.index();
    index.begin_reliance().unwrap();
    for id in [gone, doubtful] {
        assert!(!index.still_contains(&id).unwrap());
    }
    assert!(index.has_missing_packs() && !index.has_lost_tables());
}

#[test]
fn packs_without_a_table_are_told_unless_a_table_is_damaged() {
    let world = World::new();
    world.add(1);
    let (_, pack, table) = world.add(2);
    assert!(world.index().unnamed_packs().unwrap().is_empty());
    let kept = world.backend.read(&table, 1 << 20).unwrap();
    world.backend.remove(&table).unwrap();
    let size = world.backend.read(&pack, 1 << 20).unwrap().len() as u64;
    assert_eq!(world.index().unnamed_packs().unwrap(), [size]);
    world.backend.put(&table, &kept).unwrap();
    world.flip(&table, 0);
    assert!(world.index().unnamed_packs().unwrap().is_empty(), "it may have named any");
}

#[test]
fn nothing_relies_on_packs_that_are_gone() {
    let world = World::new();
    let (id, pack, _) = world.add(1);
    let (other, _, _) = world.add(2);
    world.backend.remove(&pack).unwrap();
    let index = world.index();
    assert_eq!(index.begin_reliance().unwrap(), 1);
    assert!(!index.contains(&id).unwrap() && index.contains(&other).unwrap());
    let (again, _, _) = world.add(1);
    assert_eq!(again, id);
    index.reload().unwrap();
    assert!(index.contains(&id).unwrap(), "it has another copy now");
}
