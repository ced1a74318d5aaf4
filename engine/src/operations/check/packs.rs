//! Compares what tables say of packs with what these say themselves. Reads no blob.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Check;
use crate::error::Result;
use crate::format::{PackKind, TablePack};
use crate::id::{PackId, RepositoryId, TableId};
use crate::parallel;
use crate::store::{AllContents, PackSum, TableContents, read_dropped};

/// A pack whose header, directory and trailer are intact.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: PackKind,
    size: u64,
    sum: PackSum,
}

impl Frame {
    /// Whether a table says of the pack what it says itself.
    fn agrees(&self, (pack, sum): &(TablePack, PackSum)) -> bool {
        (pack.kind, pack.size, *sum) == (self.kind, self.size, self.sum)
    }
}

/// A pack that is not what was written.
pub(super) struct DamagedPack {
    pub(super) kind: PackKind,
    pub(super) reason: String,
    /// Whether there is a file of its name.
    pub(super) is_there: bool,
    /// Whether a table that is whole says what lay in it.
    pub(super) is_named: bool,
}

/// All packs and tables.
#[derive(Default)]
pub(super) struct Packs {
    /// Packs whose frame is intact.
    pub(super) frames: HashMap<PackId, Frame>,
    /// Those of them of which no whole table says anything else.
    pub(super) sound: HashSet<PackId>,
    pub(super) damaged: BTreeMap<PackId, DamagedPack>,
    /// Tables that are not whole, or that say of an intact pack what is not so.
    pub(super) bad_tables: Vec<(TableId, String)>,
    /// Tables that are right in everything, also in that all their packs are there.
    pub(super) good_tables: Vec<TableContents>,
    /// Tables that are right, but for naming packs that are damaged or gone.
    pub(super) tables_of_lost_packs: Vec<TableId>,
    pub(super) table_count: u64,
    /// Intact packs that no whole table names, and the objects in them.
    pub(super) unnamed_packs: u64,
    pub(super) unnamed_objects: u64,
}

/// When objects are looked for in packs that no table names, these objects are all in memory, 32 bytes each.
const MAX_UNNAMED: u64 = 3_000_000;

impl Check<'_> {
    /// Reads all tables, and the header, directory and trailer of all packs.
    pub(super) fn check_packs(&self) -> Result<Packs> {
        let index = self.repository.store().index();
        self.monitor.begin("reading index tables", None);
        // Tables first: a pack that a table names is there before the table is.
        let tables = index.read_contents(|bytes| {
            self.monitor.advance(bytes);
            self.go_on()
        })?;
        let mut packs = Packs::default();
        self.read_frames(&mut packs)?;
        let named = tables.by_pack();
        // What gc has deleted is not missed, and heeded here.
        for (pack, kind) in index.missing_packs()? {
            if !packs.frames.contains_key(&pack) {
                let gone =
                    || DamagedPack { kind, reason: "it is gone".to_owned(), is_there: false, is_named: true };
                packs.damaged.entry(pack).or_insert_with(gone);
            }
        }
        packs.damaged.iter_mut().for_each(|(pack, damaged)| damaged.is_named = named.contains_key(pack));
        let agrees = |(pack, frame): &(&PackId, &Frame)| {
            named.get(*pack).is_none_or(|said| said.iter().all(|said| frame.agrees(said)))
        };
        packs.sound = packs.frames.iter().filter(agrees).map(|(pack, _)| *pack).collect();
        let dropped = self.dropped()?;
        let is_unnamed = |pack: &PackId| !named.contains_key(pack) && !dropped.contains(pack);
        let unnamed = packs.frames.iter().filter(|(pack, _)| is_unnamed(pack));
        (packs.unnamed_packs, packs.unnamed_objects) =
            unnamed.fold((0, 0), |(count, objects), (_, frame)| (count + 1, objects + frame.sum.objects));
        packs.judge_tables(tables, &dropped);
        Ok(packs)
    }

    /// The repository of which all packs are, if they are of another one than the header. Reads one pack in most cases.
    pub(super) fn foreign_owner(&self) -> Result<Option<RepositoryId>> {
        let store = self.repository.store();
        let mut owner = None;
        for (pack, (kind, _)) in store.index().list_packs()? {
            match store.repository_of_pack(kind, pack)? {
                Some(own) if own == store.header().id => return Ok(None),
                other => owner = other.or(owner),
            }
        }
        Ok(owner)
    }

    /// The packs that were deleted though tables may name them.
    pub(super) fn dropped(&self) -> Result<HashSet<PackId>> {
        Ok(read_dropped(self.repository.backend().as_ref())?.iter().map(|(pack, _)| pack).collect())
    }

    fn read_frames(&self, packs: &mut Packs) -> Result<()> {
        let listed = self.repository.store().index().list_packs()?;
        let total: usize = listed.len();
        log::debug!("{total} packs");
        self.monitor.begin("reading directories of packs", Some(listed.values().map(|(_, size)| size).sum()));
        parallel::ordered(
            listed.into_iter().map(Ok),
            || (),
            |(), (pack, (kind, size))| {
                self.go_on()?;
                Ok((pack, kind, size, self.read_frame(pack, kind)?))
            },
            |(pack, kind, size, frame)| {
                self.monitor.advance(size);
                match frame {
                    Some(Ok(frame)) => _ = packs.frames.insert(pack, frame),
                    Some(Err(reason)) => {
                        let damaged = DamagedPack { kind, reason, is_there: true, is_named: false };
                        packs.damaged.insert(pack, damaged);
                    }
                    None => {}
                }
                Ok(())
            },
        )
    }

    /// The frame of a pack, or how it is damaged; `None` if it is gone.
    pub(super) fn read_frame(&self, pack: PackId, kind: PackKind) -> Result<Option<Result<Frame, String>>> {
        match self.repository.store().check_pack(kind, pack) {
            Ok((check, entries)) => {
                let (size, sum) = (check.size()?, PackSum::of_directory(&entries));
                Ok(Some(Ok(Frame { kind, size, sum })))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_damage() => Ok(Some(Err(error.to_string()))),
            Err(error) => Err(error),
        }
    }
}

impl Packs {
    /// Whether so much is in no table that memory does not suffice to look for it in packs.
    pub(super) fn has_too_many_unnamed(&self) -> bool {
        self.unnamed_objects > MAX_UNNAMED
    }

    fn judge_tables(&mut self, tables: AllContents, dropped: &HashSet<PackId>) {
        self.table_count = (tables.whole.len() + tables.damaged.len()) as u64;
        self.bad_tables = tables.damaged;
        for table in tables.whole {
            let frame = |pack: &TablePack| self.frames.get(&pack.pack);
            let contradicted =
                table.packs.iter().find(|said| frame(&said.0).is_some_and(|frame| !frame.agrees(said)));
            if let Some((pack, _)) = contradicted {
                let reason = format!("it does not say of pack {} what that says itself", pack.pack);
                self.bad_tables.push((table.id, reason));
            } else if table
                .packs
                .iter()
                .all(|(pack, _)| frame(pack).is_some() || dropped.contains(&pack.pack))
            {
                self.good_tables.push(table);
            } else {
                self.tables_of_lost_packs.push(table.id);
            }
        }
    }

    /// The packs of which good tables tell.
    pub(super) fn well_named(&self) -> HashSet<PackId> {
        self.good_tables.iter().flat_map(|table| &table.packs).map(|(pack, _)| pack.pack).collect()
    }
}
