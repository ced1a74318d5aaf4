//! A repository on a disk that may fail, and the operations that are tried on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::content::{CHUNK_BYTES, Content, MemoryImage, image, tree, tree_source};
use super::truth::{Known, KnownLabels, Pending, Truth};
use crate::backend::crash_disk::{CrashDisk, Outcome, Remains};
use crate::backend::{Key, LocalBackend};
use crate::error::Result;
use crate::id::RevisionId;
use crate::monitor::SilentMonitor;
use crate::operations::backup::{BackupOptions, backup};
use crate::operations::check::check_and_repair;
use crate::operations::copy::{CopyOptions, CopyOutcome, CopyRequest, RevisionCopy, copy};
use crate::operations::forget::{ForgetScope, forget, undo_forget};
use crate::operations::gc::{GcOptions, GcReport, gc};
use crate::operations::scrub::{ScrubOptions, ScrubScope, scrub};
use crate::repository::{CreateOptions, Repository};
use crate::source::Source;

pub(super) const IMAGE: &str = "vm";
pub(super) const TREE: &str = "home";

/// A repository, what is known of it, and when that was known.
pub(super) struct Stage {
    scratch: TempDir,
    pub(super) disk: CrashDisk,
    pub(super) truth: Truth,
    /// What was known from a number of changes on.
    moments: Vec<(usize, Truth)>,
    generation: u64,
}

/// A repository as it is before something happens to it.
pub(super) struct Template {
    remains: Remains,
    truth: Truth,
    generation: u64,
}

impl Template {
    pub(super) fn after(before: fn(&mut Stage) -> Result<()>) -> Self {
        let scratch = scratch();
        let repository = scratch.path().join("repository");
        let options = CreateOptions { chunk_size: CHUNK_BYTES as u32, ..CreateOptions::default() };
        Repository::create(&repository, &options).unwrap();
        let mut stage = Stage::on(scratch, Truth::default(), 0);
        before(&mut stage).unwrap();
        // Read anew, as not all that happened went through the disk.
        let remains = CrashDisk::new(&repository).medium(0).after_power_cut(Outcome::Everything);
        Self { remains, truth: stage.truth.clone(), generation: stage.generation }
    }

    pub(super) fn stage(&self) -> Stage {
        Stage::rebooted(&self.remains, self.truth.clone(), self.generation)
    }
}

/// In memory where there is one: many small repositories are made, and nothing of them is to last.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl Stage {
    fn on(scratch: TempDir, truth: Truth, generation: u64) -> Self {
        let disk = CrashDisk::new(&scratch.path().join("repository"));
        let moments = vec![(0, truth.clone())];
        Self { scratch, disk, truth, moments, generation }
    }

    /// What is found after a power cut. All of it is durable: the medium was read to find it.
    fn rebooted(remains: &Remains, truth: Truth, generation: u64) -> Self {
        let scratch = scratch();
        let repository = scratch.path().join("repository");
        fs::create_dir(&repository).unwrap();
        remains.write_to(&repository);
        Self::on(scratch, truth, generation)
    }

    /// What a power cut after the first changes leaves.
    pub(super) fn cut(&self, change_count: usize, outcome: Outcome) -> Self {
        let remains = self.disk.medium(change_count).after_power_cut(outcome);
        Self::rebooted(&remains, self.truth_at(change_count).clone(), self.generation)
    }

    /// Which of the moments was the last one after the first changes.
    pub(super) fn moment_at(&self, change_count: usize) -> usize {
        self.moments.iter().rposition(|(from, _)| *from <= change_count).unwrap()
    }

    fn truth_at(&self, change_count: usize) -> &Truth {
        &self.moments[self.moment_at(change_count)].1
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join("repository")
    }

    /// Opened anew for each operation: each is a process of its own.
    pub(super) fn repository(&self) -> Result<Repository> {
        let backend = LocalBackend::on_disk(self.directory(), Arc::new(self.disk.clone()));
        Repository::open_backend(Arc::new(backend), 1 << 20)
    }

    fn note_moment(&mut self) {
        self.moments.push((self.disk.change_count(), self.truth.clone()));
    }

    /// From here on it is open whether something was done.
    fn begin(&mut self, pending: Pending) {
        self.truth.pending.push(pending);
        self.note_moment();
    }

    /// Backs up the next generation of the image.
    pub(super) fn back_up_image(&mut self) -> Result<()> {
        self.generation += 1;
        self.back_up_same_image()
    }

    /// Backs up the image as it is.
    pub(super) fn back_up_same_image(&mut self) -> Result<()> {
        self.back_up_image_with_tags(&[])
    }

    pub(super) fn back_up_image_with_tags(&mut self, tags: &[&str]) -> Result<()> {
        let content = Content::Image(image(self.generation));
        self.back_up(IMAGE, MemoryImage::source(self.generation), content, tags)
    }

    /// Backs up the next generation of the tree.
    pub(super) fn back_up_tree(&mut self) -> Result<()> {
        self.generation += 1;
        let files = tree(self.generation);
        let source = tree_source(&self.scratch.path().join("tree"), &files)?;
        self.back_up(TREE, source, Content::Tree(files), &[])
    }

    fn back_up(&mut self, stream: &str, source: Source, content: Content, tags: &[&str]) -> Result<()> {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let labels = KnownLabels { tags: tags.clone(), protected: false };
        let (stream, made) = (stream.to_owned(), content.clone());
        self.begin(Pending::Revision { stream: stream.clone(), content: made, labels: labels.clone() });
        let repository = self.repository()?;
        let is_rot_known = !repository.damage()?.objects.is_empty();
        let options = BackupOptions { stream: stream.clone(), tags, ..BackupOptions::default() };
        let record = backup(&repository, source, &options, &SilentMonitor)?.record;
        self.truth.pending.pop();
        self.truth.is_rotten &= !is_rot_known;
        let (id, sequence, name) = (record.id, record.sequence, record.name);
        self.truth.commit(Known { stream, id, sequence, name, content, labels });
        self.note_moment();
        Ok(())
    }

    /// Changes the labels of the image's newest revision.
    pub(super) fn label(&mut self, change: fn(&mut KnownLabels)) -> Result<()> {
        let known = self.truth.standing.iter().rposition(|known| known.stream == IMAGE).unwrap();
        let revision = self.truth.standing[known].id;
        let mut labels = self.truth.standing[known].labels.clone();
        change(&mut labels);
        self.begin(Pending::Labels { revision, labels: labels.clone() });
        self.put_labels(revision, &labels)?;
        self.truth.pending.pop();
        self.truth.standing[known].labels = labels;
        self.note_moment();
        Ok(())
    }

    fn put_labels(&self, revision: RevisionId, labels: &KnownLabels) -> Result<()> {
        let repository = self.repository()?;
        let stream = repository.stream(IMAGE)?;
        let key = repository.find_revision(&stream, &format!("id:{revision}"))?;
        repository.change_labels(&stream, &key, |found| {
            found.tags.clone_from(&labels.tags);
            found.protected = labels.protected;
        })?;
        Ok(())
    }

    /// Forgets a revision of the image, counted from the oldest.
    pub(super) fn forget(&mut self, position: usize) -> Result<()> {
        let of_image = self.truth.standing.iter().filter(|known| known.stream == IMAGE);
        let revision = of_image.map(|known| known.id).nth(position).unwrap();
        self.begin(Pending::Forget(revision));
        let repository = self.repository()?;
        let stream = repository.stream(IMAGE)?;
        let key = repository.find_revision(&stream, &format!("id:{revision}"))?;
        forget(&repository, &stream, &ForgetScope::Revisions(&[key]), false)?;
        self.truth.pending.pop();
        self.truth.forget(revision);
        self.note_moment();
        Ok(())
    }

    /// Brings back the revision that was forgotten last.
    pub(super) fn undo_forget(&mut self) -> Result<()> {
        let revision = self.truth.forgotten.last().unwrap().id;
        self.begin(Pending::Undo(revision));
        let repository = self.repository()?;
        let stream = repository.stream(IMAGE)?;
        let keys = repository.find_forgotten(&stream, &format!("id:{revision}"))?;
        undo_forget(&repository, &stream, &keys)?;
        self.truth.pending.pop();
        self.truth.undo(revision);
        self.note_moment();
        Ok(())
    }

    /// Frees what nothing needs.
    pub(super) fn gc(&mut self) -> Result<GcReport> {
        self.truth.begin_gc();
        self.note_moment();
        let report = gc(&self.repository()?, &GcOptions::default(), &SilentMonitor)?;
        self.truth.end_gc();
        self.note_moment();
        Ok(report)
    }

    /// Copies the oldest revisions of each stream of another repository, so many.
    pub(super) fn copy(&mut self, source: &Self, count: usize) -> Result<()> {
        let (from, to) = (source.repository()?, self.repository()?);
        for stream in source.truth.streams() {
            let mut wanted: Vec<Known> =
                source.truth.standing.iter().filter(|known| known.stream == stream).cloned().collect();
            wanted.sort_by_key(|known| known.sequence);
            wanted.truncate(count);
            wanted.retain(|known| self.truth.standing.iter().all(|standing| standing.id != known.id));
            let pending = self.truth.pending.len();
            self.truth.pending.extend(wanted.iter().cloned().map(Pending::Copy));
            self.note_moment();
            let stream = from.stream(&stream)?;
            let keys = from.revisions(&stream)?.into_iter();
            let named = keys.filter(|key| wanted.iter().any(|known| known.id == key.id)).collect();
            let request = CopyRequest { stream, whole: count == usize::MAX, named };
            let copied = copy(&from, &to, &[request], &CopyOptions::default(), &SilentMonitor);
            let report = copied.map_err(|unfinished| unfinished.error)?;
            for stream in report.streams {
                let is_whole = |copied: &RevisionCopy| !matches!(copied.outcome, CopyOutcome::Unreadable(_));
                assert!(stream.revisions.iter().all(is_whole), "{stream:?}");
                stream.error.map_or(Ok(()), Err)?;
            }
            self.truth.pending.truncate(pending);
            wanted.into_iter().for_each(|known| self.truth.commit(known));
            self.note_moment();
        }
        Ok(())
    }

    /// Changes so many chunks of the image.
    pub(super) fn pass_generations(&mut self, count: u64) {
        self.generation += count;
    }

    /// Flips a bit of a chunk that all generations of the image have.
    pub(super) fn rot(&mut self) {
        let packs = fs::read_dir(self.directory().join("packs/data")).unwrap();
        let mut packs: Vec<PathBuf> = packs.map(|entry| entry.unwrap().path()).collect();
        packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
        let largest = packs.pop().unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(largest, bytes).unwrap();
        self.truth.is_rotten = true;
    }

    /// Reads everything back; what is bad goes onto the damage list.
    pub(super) fn scrub(&mut self) -> Result<()> {
        let options = ScrubOptions { percent: 100.0, source: None };
        let report = scrub(&self.repository()?, &ScrubScope::Everything, &options, &SilentMonitor);
        report.map(|_| ()).map_err(|unfinished| unfinished.error)
    }

    /// Flips a bit in the filter of each table, and in the frame of a pack with chunks that all generations of the image have.
    pub(super) fn damage_frames(&mut self) {
        let flip = |file: &Path, from_end: usize| {
            let mut bytes = fs::read(file).unwrap();
            let place = bytes.len() - from_end;
            bytes[place] ^= 1;
            fs::write(file, bytes).unwrap();
        };
        let files = |area: &str| -> Vec<PathBuf> {
            let listed = fs::read_dir(self.directory().join(area)).unwrap();
            listed.map(|entry| entry.unwrap().path()).collect()
        };
        files("index").iter().for_each(|table| flip(table, 3000));
        let packs = files("packs/data");
        let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
        flip(largest, 10);
    }

    /// Overwrites small files of many kinds: the image's oldest record, labels of its newest revision, the object of the
    /// tree's stream, and what lies at the top.
    pub(super) fn spoil_small_files(&mut self) -> Result<()> {
        let repository = self.repository()?;
        let (image, tree) = (repository.stream(IMAGE)?, repository.stream(TREE)?);
        let keys = repository.revisions(&image)?;
        let spoilt = [
            Key::record(image.id, &keys[0]),
            Key::labels(image.id, keys[keys.len() - 1].id),
            Key::stream(tree.id),
            Key::damage(),
            Key::scrub_ledger(),
            Key::copy_target(),
        ];
        for key in spoilt {
            fs::write(self.directory().join(key.to_string()), "garbage").unwrap();
        }
        Ok(())
    }

    /// Repairs what can be; all of it can.
    pub(super) fn repair(&mut self) -> Result<()> {
        let repaired = check_and_repair(&self.repository()?, &SilentMonitor);
        let report = repaired.map_err(|unfinished| unfinished.error)?;
        assert!(report.is_clean(), "{report:?}");
        Ok(())
    }

    /// Fails unless the repository is what the truth says. Returns the revisions, and whether rot was found.
    pub(super) fn look(&self) -> (Vec<Known>, bool) {
        let repository = self.repository().unwrap();
        let found = self.truth.assert_stands_in(&repository);
        (found, self.truth.assert_nothing_is_missed_in(&repository))
    }

    /// After a power cut what is found is what stands from now on.
    pub(super) fn look_and_settle(&mut self) {
        let (found, is_rotten) = self.look();
        self.truth.settle(&self.repository().unwrap(), found, is_rotten);
        self.note_moment();
    }

    /// The next backups of all streams and the next gc, after which all stands that stood before.
    pub(super) fn go_on(&mut self) -> Result<()> {
        for stream in self.truth.streams() {
            if stream == IMAGE { self.back_up_image()? } else { self.back_up_tree()? }
        }
        self.gc()?;
        self.truth.assert_stands_in(&self.repository()?);
        Ok(())
    }
}
