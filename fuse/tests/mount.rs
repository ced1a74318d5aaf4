//! A real mount against the files that were backed up: content, holes, names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::Errno;
use support::{
    CHUNK, Fixture, Numbers, SIZE, can_mount, data_ranges, eventually, make_image, names, run, seek_map,
};
use treering_fuse::{MountOptions, Owner};

#[test]
fn an_image_is_the_same_byte_for_byte() {
    if !can_mount("an_image_is_the_same_byte_for_byte") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    run("cmp", &[mounted.path("vm1/latest.img").as_os_str(), fixture.image().as_os_str()]);
    let mut bytes = Vec::new();
    File::open(mounted.path("vm1/latest.img")).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == fixture.bytes());
}

#[test]
fn every_revision_is_its_original_byte_for_byte() {
    if !can_mount("every_revision_is_its_original_byte_for_byte") {
        return;
    }
    let fixture = Fixture::new();
    let mut originals = Vec::new();
    // Changed in a few places, grown, shrunk into the middle of a chunk, and back.
    for (number, size) in [SIZE, SIZE, 40 << 20, 7 * CHUNK + 1, SIZE].into_iter().enumerate() {
        if number == 0 {
            make_image(&fixture.image(), 1);
        }
        let image = File::options().write(true).open(fixture.image()).unwrap();
        image.set_len(size).unwrap();
        let mut numbers = Numbers::new(number as u64);
        for _ in 0..3 {
            image.write_all_at(&numbers.bytes(5000), numbers.below(size - 5000)).unwrap();
        }
        let original = fixture.path(&format!("original-{number}"));
        std::fs::copy(fixture.image(), &original).unwrap();
        originals.push((fixture.back_up("vm1", &[]).name, original));
    }
    let mounted = fixture.mount();
    for (name, original) in &originals {
        run("cmp", &[mounted.path(&format!("vm1/{name}.img")).as_os_str(), original.as_os_str()]);
    }
}

/// Ranges that come in order, those that touch or overlap joined.
fn joined(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Chunks of an image that have a byte that is not zero, neighbours joined.
fn chunks_with_data(bytes: &[u8]) -> Vec<Range<u64>> {
    let chunks = (0..).step_by(CHUNK as usize).zip(bytes.chunks(CHUNK as usize));
    let with_data = chunks.filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0));
    joined(with_data.map(|(start, chunk)| start..start + chunk.len() as u64))
}

#[test]
fn a_copy_has_data_where_a_chunk_has_a_byte_that_is_not_zero_and_holes_elsewhere() {
    if !can_mount("a_copy_has_data_where_a_chunk_has_a_byte_that_is_not_zero_and_holes_elsewhere") {
        return;
    }
    let fixture = Fixture::new();
    let mut bytes = vec![0; 40 * CHUNK as usize + 4097];
    let size = bytes.len();
    // First and last bytes of chunks, both sides of a border, a piece, the last byte of all.
    let chunk = CHUNK as usize;
    for place in [0, 3 * chunk - 1, 5 * chunk, 8 * chunk - 1, 8 * chunk, 20 * chunk + 77, size - 1] {
        bytes[place] = 1;
    }
    bytes[25 * chunk + 100..27 * chunk].copy_from_slice(&Numbers::new(3).bytes(2 * chunk - 100));
    // The zeros are allocated, as after `dd`.
    std::fs::write(fixture.image(), &bytes).unwrap();
    fixture.back_up("vm1", &[]);
    let expected = chunks_with_data(&bytes);
    assert_eq!(expected.len(), 7);

    let mounted = fixture.mount();
    let image = mounted.path("vm1/latest.img");
    let (served, copy) = (File::open(&image).unwrap(), fixture.path("copy.raw"));
    assert_eq!(seek_map(&served), expected);
    let data_bytes: u64 = expected.iter().map(|range| range.end - range.start).sum();
    assert_eq!(served.metadata().unwrap().blocks(), data_bytes.div_ceil(512));
    run("cp", &["--sparse=auto".as_ref(), image.as_os_str(), copy.as_os_str()]);
    assert!(std::fs::read(&copy).unwrap() == bytes);
    let copy = File::open(copy).unwrap();
    copy.sync_all().unwrap();
    // GNU cp makes holes of zeros within a chunk, too: what is compared is whole chunks.
    let widened = seek_map(&copy).into_iter().map(|range| range.start / CHUNK..range.end.div_ceil(CHUNK));
    let copied = joined(widened.map(|chunks| chunks.start * CHUNK..(chunks.end * CHUNK).min(size as u64)));
    assert_eq!(copied, expected);
    let allocated = copy.metadata().unwrap().blocks() * 512;
    assert!(allocated <= data_bytes + (16 << 10), "{allocated} for {data_bytes} bytes");
}

#[test]
fn holes_and_blocks_are_told_exactly() {
    if !can_mount("holes_and_blocks_are_told_exactly") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    let map = seek_map(&file);
    assert_eq!(map, data_ranges());
    let data_bytes: u64 = map.iter().map(|range| range.end - range.start).sum();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.blocks(), data_bytes.div_ceil(512));
    assert_eq!(metadata.len(), SIZE);
    for beyond in [SIZE, SIZE + 1, 1 << 60] {
        assert_eq!(seek(&file, SeekFrom::Data(beyond)), Err(Errno::NXIO), "{beyond}");
        assert_eq!(seek(&file, SeekFrom::Hole(beyond)), Err(Errno::NXIO), "{beyond}");
    }
    // From within data and within a hole.
    assert_eq!(seek(&file, SeekFrom::Data(5 * CHUNK + 7)), Ok(5 * CHUNK + 7));
    assert_eq!(seek(&file, SeekFrom::Hole(5 * CHUNK + 7)), Ok(40 * CHUNK));
    assert_eq!(seek(&file, SeekFrom::Hole(50 * CHUNK + 7)), Ok(50 * CHUNK + 7));
    assert_eq!(seek(&file, SeekFrom::Data(50 * CHUNK + 7)), Ok(100 * CHUNK));
    assert_eq!(seek(&file, SeekFrom::Hole(SIZE - 1)), Ok(SIZE));
    // The kernel does the other seeks itself.
    assert_eq!(seek(&file, SeekFrom::End(0)), Ok(SIZE));
}

#[test]
fn an_image_of_nothing_but_holes_and_an_empty_one_are_served() {
    if !can_mount("an_image_of_nothing_but_holes_and_an_empty_one_are_served") {
        return;
    }
    let fixture = Fixture::new();
    File::create(fixture.image()).unwrap().set_len(5 << 40).unwrap();
    fixture.back_up("holes", &[]);
    File::create(fixture.image()).unwrap();
    fixture.back_up("empty", &[]);
    let mounted = fixture.mount();
    let holes = File::open(mounted.path("holes/latest.img")).unwrap();
    assert_eq!(holes.metadata().unwrap().blocks(), 0);
    assert_eq!(seek(&holes, SeekFrom::Data(0)), Err(Errno::NXIO));
    assert_eq!(seek(&holes, SeekFrom::Hole(7)), Ok(7));
    let mut buffer = [1; 100];
    holes.read_exact_at(&mut buffer, (5 << 40) - 100).unwrap();
    assert_eq!(buffer, [0; 100]);
    let empty = File::open(mounted.path("empty/latest.img")).unwrap();
    assert_eq!(empty.metadata().unwrap().len(), 0);
    assert_eq!(empty.read_at(&mut buffer, 0).unwrap(), 0);
    assert_eq!(seek(&empty, SeekFrom::Data(0)), Err(Errno::NXIO));
}

#[test]
fn a_copy_keeps_the_holes() {
    if !can_mount("a_copy_keeps_the_holes") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let copy = fixture.path("copy.raw");
    let sparse: &std::ffi::OsStr = "--sparse=auto".as_ref();
    run("cp", &[sparse, mounted.path("vm1/latest.img").as_os_str(), copy.as_os_str()]);
    run("cmp", &[copy.as_os_str(), fixture.image().as_os_str()]);
    let copy = File::open(copy).unwrap();
    copy.sync_all().unwrap();
    let (copied, original) = (copy.metadata().unwrap(), std::fs::metadata(fixture.image()).unwrap());
    // The file system may need a block to note down the extents.
    assert!(copied.blocks().abs_diff(original.blocks()) <= 16, "{} {}", copied.blocks(), original.blocks());
    assert_eq!(seek_map(&copy), seek_map(&File::open(fixture.image()).unwrap()));
}

#[test]
fn direct_reads_are_the_same() {
    if !can_mount("direct_reads_are_the_same") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let bytes = fixture.bytes();
    let direct = OFlags::DIRECT.bits() as i32;
    let file = File::options().read(true).custom_flags(direct).open(mounted.path("vm1/latest.img")).unwrap();
    let mut numbers = Numbers::new(7);
    for length in [4096, 65536, 1 << 20, 5 << 20] {
        for _ in 0..8 {
            let offset = numbers.below(SIZE) / 4096 * 4096;
            let mut buffer = vec![0xee; length];
            let read = file.read_at(&mut buffer, offset).unwrap();
            assert_eq!(read as u64, (length as u64).min(SIZE - offset));
            assert!(buffer[..read] == bytes[offset as usize..][..read], "{length} at {offset}");
        }
    }
    assert_eq!(file.read_at(&mut [0; 4096], SIZE.next_multiple_of(4096)).unwrap(), 0);
}

#[test]
fn many_threads_read_at_random() {
    if !can_mount("many_threads_read_at_random") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let bytes = fixture.bytes();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (bytes, path) = (&bytes, mounted.path("vm1/latest.img"));
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                let mut numbers = Numbers::new(seed);
                for _ in 0..300 {
                    let offset = numbers.below(SIZE);
                    let mut buffer = vec![0xee; 1 + numbers.below(200_000) as usize];
                    let length = buffer.len().min((SIZE - offset) as usize);
                    file.read_exact_at(&mut buffer[..length], offset).unwrap();
                    assert!(buffer[..length] == bytes[offset as usize..][..length], "{length} at {offset}");
                }
            });
        }
    });
}

#[test]
fn pages_at_random_are_those_of_the_original() {
    if !can_mount("pages_at_random_are_those_of_the_original") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let bytes = fixture.bytes();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    let mut numbers = Numbers::new(11);
    for _ in 0..5000 {
        let offset = numbers.below(SIZE - 4096) / 4096 * 4096;
        let mut page = [0xee; 4096];
        file.read_exact_at(&mut page, offset).unwrap();
        assert!(page == bytes[offset as usize..][..4096], "{offset}");
    }
}

#[test]
fn statfs_tells_of_a_file_system_that_is_read_only_and_has_no_space() {
    if !can_mount("statfs_tells_of_a_file_system_that_is_read_only_and_has_no_space") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    for path in [mounted.root(), mounted.path("vm1/latest.img")] {
        let told = rustix::fs::statvfs(path).unwrap();
        assert!(told.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        assert_eq!((told.f_bsize, told.f_frsize, told.f_namemax), (4096, 4096, 255));
        assert_eq!((told.f_blocks, told.f_bfree, told.f_bavail, told.f_files), (0, 0, 0, 0));
    }
    run("df", &[mounted.root().as_os_str()]);
}

#[test]
fn a_read_past_the_end_gives_what_there_is() {
    if !can_mount("a_read_past_the_end_gives_what_there_is") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let bytes = fixture.bytes();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    let mut buffer = vec![0xee; 100_000];
    assert_eq!(file.read_at(&mut buffer, SIZE - 5).unwrap(), 5);
    assert_eq!(buffer[..5], bytes[SIZE as usize - 5..]);
    assert_eq!(file.read_at(&mut buffer, SIZE).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, SIZE + (1 << 30)).unwrap(), 0);
}

#[test]
fn names_links_and_attributes_are_those_of_the_contract() {
    if !can_mount("names_links_and_attributes_are_those_of_the_contract") {
        return;
    }
    let fixture = Fixture::with_image();
    make_image(&fixture.image(), 2);
    let record = fixture.back_up("vm1", &["daily", "before-upgrade"]);
    fixture.back_up("vm2", &[]);
    let owner = Owner { uid: 1234, gid: 5678 };
    let mounted = fixture.mount_with(&MountOptions { owner: Some(owner), ..MountOptions::default() });
    assert_eq!(names(&mounted.root()), ["vm1", "vm2"]);
    let name = format!("{}.img", record.name);
    let stream = names(&mounted.path("vm1"));
    assert_eq!(stream.len(), 5);
    assert_eq!(stream[2..], ["by-id", "by-tag", "latest.img"]);
    assert!(stream[..2].contains(&name));
    let link =
        |path: &str| std::fs::read_link(mounted.path(path)).unwrap().into_os_string().into_string().unwrap();
    assert_eq!(link("vm1/latest.img"), name);
    assert_eq!(link(&format!("vm1/by-id/{}.img", record.id)), format!("../{name}"));
    assert_eq!(names(&mounted.path("vm1/by-id")).len(), 2);
    assert_eq!(names(&mounted.path("vm1/by-tag")), ["before-upgrade", "daily"]);
    assert_eq!(link(&format!("vm1/by-tag/daily/{name}")), format!("../../{name}"));
    assert_eq!(names(&mounted.path("vm2/by-tag")), [""; 0]);

    let image = std::fs::metadata(mounted.path(&format!("vm1/by-tag/daily/{name}"))).unwrap();
    assert_eq!(image.mode(), 0o100_440);
    assert_eq!((image.uid(), image.gid()), (1234, 5678));
    assert_eq!(image.modified().unwrap(), record.time().to_system_time());
    assert_eq!(image.ino(), std::fs::metadata(mounted.path(&format!("vm1/{name}"))).unwrap().ino());
    for directory in ["", "vm1", "vm1/by-id", "vm1/by-tag", "vm1/by-tag/daily"] {
        assert_eq!(std::fs::metadata(mounted.path(directory)).unwrap().mode(), 0o40_555, "{directory}");
    }
    for absent in ["vm3", "vm1/by-id/x", "vm1/by-tag/weekly", "vm1/2000-01-01T00-00-00Z.img"] {
        let error = std::fs::symlink_metadata(mounted.path(absent)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{absent}");
    }
    let error = File::create(mounted.path("vm1/new")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    run("ls", &["-lR".as_ref(), mounted.root().as_os_str()]);
}

#[test]
fn only_the_chosen_streams_are_shown() {
    if !can_mount("only_the_chosen_streams_are_shown") {
        return;
    }
    let fixture = Fixture::with_image();
    fixture.back_up("vm2", &[]);
    let options = MountOptions { streams: vec!["vm2".to_owned()], ..MountOptions::default() };
    let mounted = fixture.mount_with(&options);
    assert_eq!(names(&mounted.root()), ["vm2"]);
    assert!(std::fs::metadata(mounted.path("vm1")).is_err());
    run("cmp", &[mounted.path("vm2/latest.img").as_os_str(), fixture.image().as_os_str()]);
}

#[test]
fn a_new_revision_shows_without_a_remount() {
    if !can_mount("a_new_revision_shows_without_a_remount") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let latest = mounted.path("vm1/latest.img");
    let old = std::fs::read_link(&latest).unwrap();
    assert_eq!(names(&mounted.path("vm1")).len(), 4);
    // Asked before there is one: the answer may not be kept.
    assert!(std::fs::metadata(mounted.path("vm2")).is_err());
    make_image(&fixture.image(), 2);
    let record = fixture.back_up("vm1", &["new"]);
    fixture.back_up("vm2", &[]);
    let start = Instant::now();
    eventually("latest leads to the new revision", || std::fs::read_link(&latest).unwrap() != old);
    eventually("the new revision is listed", || names(&mounted.path("vm1")).len() == 5);
    eventually("the new tag is listed", || names(&mounted.path("vm1/by-tag")) == ["new"]);
    eventually("the new stream is there", || mounted.path("vm2/latest.img").exists());
    if start.elapsed() > Duration::from_secs(2) {
        support::note(&format!("it took {:?} for a new revision to show", start.elapsed()));
    }
    assert_eq!(std::fs::read_link(&latest).unwrap().to_str(), Some(format!("{}.img", record.name).as_str()));
    run("cmp", &[latest.as_os_str(), fixture.image().as_os_str()]);
}

#[test]
fn an_open_file_stays_readable_when_its_revision_is_forgotten() {
    if !can_mount("an_open_file_stays_readable_when_its_revision_is_forgotten") {
        return;
    }
    let fixture = Fixture::with_image();
    let mounted = fixture.mount();
    let file = File::open(mounted.path("vm1/latest.img")).unwrap();
    for record in fixture.stored("revisions") {
        std::fs::remove_file(record).unwrap();
    }
    eventually("the stream is gone with its last revision", || names(&mounted.path("")).is_empty());
    eventually("the link is gone", || std::fs::metadata(mounted.path("vm1/latest.img")).is_err());
    let mut bytes = vec![0; SIZE as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == fixture.bytes());
    assert_eq!(file.metadata().unwrap().len(), SIZE);
}

#[test]
fn two_mounts_of_one_repository_show_the_same() {
    if !can_mount("two_mounts_of_one_repository_show_the_same") {
        return;
    }
    let fixture = Fixture::with_image();
    let (first, second) = (fixture.mount(), fixture.mount());
    let (a, b) = (first.path("vm1/latest.img"), second.path("vm1/latest.img"));
    run("cmp", &[a.as_os_str(), b.as_os_str()]);
    let ino = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&a), ino(&b));
}

#[test]
fn ten_thousand_names_come_without_opening_a_record() {
    if !can_mount("ten_thousand_names_come_without_opening_a_record") {
        return;
    }
    let fixture = Fixture::with_image();
    let real = fixture.stored("revisions");
    let directory = real[0].parent().unwrap();
    // Whoever opened one of these would find nothing in it.
    for index in 0..10_000 {
        let id = treering_engine::RevisionId::random();
        let (minute, second) = (index / 60 % 60, index % 60);
        let name = format!("{:016x}_{id}_2020-01-01T{:02}-{minute:02}-{second:02}Z", index + 2, index / 3600);
        std::fs::write(directory.join(name), "").unwrap();
    }
    let mounted = fixture.mount();
    assert_eq!(names(&mounted.path("vm1")).len(), 10_004);
    assert_eq!(names(&mounted.path("vm1/by-id")).len(), 10_001);
    // With attributes the damaged ones fail one by one, and the good one is there.
    let attributes = std::fs::read_dir(mounted.path("vm1")).unwrap().map(|entry| entry.unwrap().metadata());
    let (good, bad): (Vec<_>, Vec<_>) = attributes.partition(|metadata| metadata.is_ok());
    assert_eq!((good.len(), bad.len()), (4, 10_000));
}
