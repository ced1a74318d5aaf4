//! Which small files share a chunk.
//!
//! A tree of a million tiny files would need a million chunks, each with its place in the index. So small files are
//! laid one behind the other, in the order of the walk, into *bundles*: chunks in which each file has a slice. Names
//! and sizes of files say where a bundle ends, not where the walk began, so that a moved directory gives the bundles
//! that are stored already, but for those at its ends.

/// Smaller files are bundled, in bytes.
const LIMIT: u64 = 16 << 10;

/// A bundle with fewer bytes does not end but with the walk.
const SHORTEST: u32 = 16 << 10;

/// A bundle never has more bytes.
const LONGEST: u32 = 256 << 10;

/// How many bytes on average lie between two files that end a bundle.
const STRIDE: u32 = 64 << 10;

/// Where a small file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Ordinal of the bundle. All bundles with a lower one are complete.
    pub(crate) bundle: u64,
    /// Offset of the file's bytes in it.
    pub(crate) offset: u32,
}

/// Says for one small file after the other into which bundle it goes.
#[derive(Debug, Default)]
pub(crate) struct Bundler {
    bundle: u64,
    /// Bytes of the bundle so far.
    len: u32,
}

impl Bundler {
    /// Whether a file of this size is bundled. A file without bytes needs no chunk at all.
    pub(crate) fn takes(size_bytes: u64) -> bool {
        (1..LIMIT).contains(&size_bytes)
    }

    /// Places the next file: its name without the directories, and how many bytes were read of it (1 at least).
    ///
    /// No bundle is empty, and none has more than 256 KiB, but for a single file that is larger: who reads a file that
    /// grew meanwhile should stop at what the bundler [`takes`](Self::takes).
    pub(crate) fn place(&mut self, name: &[u8], size_bytes: u32) -> Place {
        if self.len > 0 && self.len.saturating_add(size_bytes) > LONGEST {
            self.end();
        }
        let place = Place { bundle: self.bundle, offset: self.len };
        self.len = self.len.saturating_add(size_bytes);
        if self.len >= SHORTEST && ends_bundle(name, size_bytes) {
            self.end();
        }
        place
    }

    fn end(&mut self) {
        self.bundle += 1;
        self.len = 0;
    }
}

/// Whether a bundle ends behind this file, if it is long enough.
///
/// The more bytes a file has, the more likely it does: so bundles have one average length, whatever the files have.
fn ends_bundle(name: &[u8], size_bytes: u32) -> bool {
    let [a, b, c, d, ..] = *blake3::hash(name).as_bytes();
    let place = u64::from(u32::from_le_bytes([a, b, c, d])) * u64::from(STRIDE);
    (place >> 32) < u64::from(size_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    type File = (String, u32);

    /// Files of 100 to 2,000 bytes, or so, in a directory.
    fn directory(name: &str, count: usize) -> Vec<File> {
        let file = |number: usize| {
            let name = format!("{name}-{number:05}");
            let hash = blake3::hash(name.as_bytes());
            (name, 100 + 8 * u32::from(hash.as_bytes()[31]))
        };
        (0..count).map(file).collect()
    }

    /// The files of each bundle.
    fn bundles(files: &[File]) -> Vec<Vec<File>> {
        let mut bundler = Bundler::default();
        let mut bundles: Vec<Vec<File>> = Vec::new();
        for (name, size) in files {
            let place = bundler.place(name.as_bytes(), *size);
            bundles.resize_with(place.bundle as usize + 1, Vec::new);
            let bundle = bundles.last_mut().unwrap();
            assert_eq!(place.offset, bundle.iter().map(|(_, size)| size).sum::<u32>());
            bundle.push((name.clone(), *size));
        }
        bundles
    }

    fn length(bundle: &[File]) -> u32 {
        bundle.iter().map(|(_, size)| size).sum()
    }

    /// How many bundles of `files` are not those of `stored`.
    fn new_bundles(stored: &[File], files: &[File]) -> usize {
        let stored: HashSet<Vec<File>> = bundles(stored).into_iter().collect();
        bundles(files).iter().filter(|bundle| !stored.contains(*bundle)).count()
    }

    #[test]
    fn bundles_are_neither_too_short_nor_too_long_and_average_out() {
        for mut bundles in
            [bundles(&directory("a", 20_000)), bundles(&vec![("same".to_owned(), 15_000); 1000])]
        {
            bundles.pop();
            assert!(bundles.iter().all(|bundle| (SHORTEST..=LONGEST).contains(&length(bundle))));
        }
        let bundles = bundles(&directory("a", 20_000));
        let average = bundles.iter().map(|bundle| length(bundle)).sum::<u32>() / bundles.len() as u32;
        assert!((60 << 10..100 << 10).contains(&average), "the average is {average}");
    }

    #[test]
    fn the_size_of_files_hardly_changes_the_length_of_bundles() {
        for size in [100, 1_000, 10_000] {
            let files: Vec<File> = directory("a", 20_000).into_iter().map(|(name, _)| (name, size)).collect();
            let bundles = bundles(&files[..(20_000_000 / size as usize).min(20_000)]);
            let average = bundles.iter().map(|bundle| length(bundle)).sum::<u32>() / bundles.len() as u32;
            assert!((48 << 10..112 << 10).contains(&average), "files of {size}: the average is {average}");
        }
    }

    #[test]
    fn a_moved_directory_gives_the_same_bundles() {
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let moved = directory(name, 2_000);
            let before = [directory("before", 50), moved.clone(), directory("behind", 300)].concat();
            let after = [directory("elsewhere", 130), moved, directory("next", 10)].concat();
            let new = new_bundles(&before, &after);
            assert!(bundles(&after).len() > 20 && new <= 6, "{new} are new");
        }
    }

    #[test]
    fn a_changed_file_changes_its_bundle_and_hardly_another() {
        let before = directory("a", 2_000);
        let mut total = 0;
        for changed in (0..2_000).step_by(20) {
            let mut after = before.clone();
            after[changed].1 += 500;
            let new = new_bundles(&before, &after);
            assert!((1..=6).contains(&new), "file {changed}: {new} are new");
            total += new;
        }
        assert!(total < 130, "{total} are new, of 100 that had to be");
    }

    #[test]
    fn no_bundle_is_empty_whatever_comes() {
        let mut bundler = Bundler::default();
        let places = [LONGEST + 1, 1, u32::MAX, u32::MAX, LONGEST].map(|size| bundler.place(b"name", size));
        let numbers: Vec<u64> = places.iter().map(|place| place.bundle).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(places.iter().all(|place| place.offset == 0));
    }

    #[test]
    fn only_files_with_some_bytes_and_few_are_bundled() {
        let taken: Vec<u64> =
            [0, 1, LIMIT - 1, LIMIT, u64::MAX].into_iter().filter(|&size| Bundler::takes(size)).collect();
        assert_eq!(taken, [1, LIMIT - 1]);
    }
}
