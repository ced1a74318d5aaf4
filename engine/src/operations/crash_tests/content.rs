//! What is backed up, generation by generation, and what is read back.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::error::Result;
use crate::format::{Content as RecordContent, DirectoryTop, EntryContent, FileEvidence, Record, Timestamp};
use crate::repository::Repository;
use crate::revision::TreeReader;
use crate::source::{ImageSource, Source, TreeOptions, TreeSource};

pub(super) const CHUNK_BYTES: usize = 4096;
const CHUNKS: u64 = 24;

/// What a revision holds: the bytes of an image, or the files of a tree by their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Image(Vec<u8>),
    Tree(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// Bytes that are like no others.
fn bytes(name: &str, number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// An image of which each generation changes one chunk, in turn. One chunk is a hole.
pub(super) fn image(generation: u64) -> Vec<u8> {
    let chunk = |index: u64| match index {
        5 => vec![0; CHUNK_BYTES],
        _ => bytes("chunk", (generation + CHUNKS - index) / CHUNKS * CHUNKS + index, CHUNK_BYTES),
    };
    (0..CHUNKS).flat_map(chunk).collect()
}

/// A tree of which each generation changes some files and adds one.
pub(super) fn tree(generation: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let file =
        |path: &str, number: u64, length: usize| (path.as_bytes().to_vec(), bytes(path, number, length));
    BTreeMap::from([
        file("large", 0, 100_000),
        file("small", 0, 300),
        file("changed", generation, 2_000),
        file("sub/deep/changed", generation, 30_000),
        file("sub/same", 0, 5_000),
        file(&format!("sub/new-{generation}"), generation, 100),
    ])
}

/// An image in memory, which is taken for unchanged if its generation is.
pub(super) struct MemoryImage {
    bytes: Vec<u8>,
    generation: u64,
}

impl MemoryImage {
    pub(super) fn source(generation: u64) -> Source {
        Source::Image(Box::new(Self { bytes: image(generation), generation }))
    }
}

impl ImageSource for MemoryImage {
    fn name(&self) -> String {
        "vm.img".to_owned()
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let begin = offset as usize;
        buffer.copy_from_slice(&self.bytes[begin..begin + buffer.len()]);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }

    fn will_read(&self, _range: Range<u64>) {}

    fn write_back(&self) -> bool {
        true
    }

    fn evidence(&self) -> Result<Option<FileEvidence>> {
        let time = Timestamp { seconds: self.generation as i64, nanoseconds: 0 };
        Ok(Some(FileEvidence { size: self.size(), mtime: time, ctime: time, inode: 1, unsettled: false }))
    }
}

/// Lays the files of a tree into a directory, and opens it.
pub(super) fn tree_source(directory: &Path, files: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Source> {
    if directory.exists() {
        fs::remove_dir_all(directory).unwrap();
    }
    for (path, bytes) in files {
        let path = directory.join(std::str::from_utf8(path).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Ok(Source::Tree(Box::new(TreeSource::open(directory, TreeOptions::default())?)))
}

/// What a revision holds, byte by byte.
pub(super) fn read(repository: &Repository, record: &Record) -> Result<Content> {
    match record.content {
        RecordContent::Image(_) => {
            let image = repository.open_image(record)?;
            let mut bytes = vec![0; image.size() as usize];
            image.read_at(0, &mut bytes)?;
            Ok(Content::Image(bytes))
        }
        RecordContent::Tree(_) => {
            let tree = repository.open_tree(record)?;
            let EntryContent::Directory(top) = tree.root().content else { panic!("the root is a directory") };
            let mut files = BTreeMap::new();
            read_directory(&tree, top.as_ref(), b"", &mut files)?;
            Ok(Content::Tree(files))
        }
    }
}

fn read_directory(
    tree: &TreeReader,
    top: Option<&DirectoryTop>,
    path: &[u8],
    files: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<()> {
    for entry in tree.entries(top, None) {
        let entry = entry?;
        let path = [path, entry.name.as_bytes()].concat();
        match &entry.content {
            EntryContent::Directory(top) => {
                read_directory(tree, top.as_ref(), &[&path[..], b"/"].concat(), files)?;
            }
            EntryContent::File(data) => {
                let file = tree.open_file(data);
                let mut bytes = vec![0; file.size() as usize];
                file.read_at(0, &mut bytes)?;
                files.insert(path, bytes);
            }
            other => panic!("nobody made {other:?}"),
        }
    }
    Ok(())
}
