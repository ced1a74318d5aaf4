//! One example of each stored object, byte by byte. A change here is a change of the format: `docs/format.md` must
//! change with it, and after the first release the version too.
//!
//! The expected bytes lie in `engine/testdata/golden/`. Those that are missing are written by the tests with
//! `TREERING_WRITE_GOLDEN=1`. What is there is never replaced: who changes a codec decides between a new version of that
//! object beside the old one and, if no release has written it, removing the file here.

use std::fmt::Write;
use std::path::PathBuf;

use super::sealed::SealedKind;
use super::*;
use crate::id::{ClaimId, ObjectId, PackId, RepositoryId, RevisionId, StreamId, TableId};

pub(super) fn check(name: &str, bytes: &[u8]) {
    let mut text = String::new();
    for (index, row) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{:06x}  {}", index * 16, hex.join(" ")).unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(format!("{name}.hex"));
    if std::env::var_os("TREERING_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{name} is not encoded as {}", path.display());
}

pub(super) fn check_sealed<T: SealedKind + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = seal(value).unwrap();
    check(name, &bytes);
    assert_eq!(&open::<T>(name, &bytes).unwrap(), value);
}

fn id(byte: u8) -> ObjectId {
    ObjectId::from_bytes([byte; 32])
}

pub(super) const TIME: Timestamp = Timestamp { seconds: 1_795_169_600, nanoseconds: 123_456_789 };

#[test]
fn names_of_objects_are_as_specified() {
    let hasher = ObjectHasher::new(b"");
    let names = [ObjectType::Chunk, ObjectType::Node, ObjectType::Directory]
        .map(|object_type| *hasher.id(object_type, b"treering").as_bytes());
    check("names", names.as_flattened());
}

#[test]
fn the_repository_header_is_as_specified() {
    let header = Header {
        id: RepositoryId::from_bytes([1; 16]),
        created: TIME,
        chunk_size: 65536,
        compression: Compression::Zstd(3),
        features: vec!["example".to_owned()],
    };
    check_sealed("header", &header);
}

#[test]
fn streams_labels_damage_copy_targets_and_claims_are_as_specified() {
    let stream = StreamObject {
        id: StreamId::from_bytes([2; 16]),
        name: "vm1".to_owned(),
        kind: Kind::Image,
        created: TIME,
        sequence_floor: 7,
        revisions: vec![NotedRevision {
            sequence: 5,
            id: RevisionId::from_bytes([3; 16]),
            name: "2026-11-20T10-07-51Z".to_owned(),
            has_labels: true,
        }],
        retired_names: vec!["2026-11-20T10-13-20Z".to_owned()],
    };
    check_sealed("stream", &stream);
    let revision = RevisionId::from_bytes([3; 16]);
    check_sealed("labels", &Labels { revision, tags: vec!["daily".to_owned()], protected: true });
    let bad = BadObject { id: id(4), type_code: 1, found: TIME, reason: "flipped".to_owned() };
    check_sealed("damage", &Damage { objects: vec![bad] });
    let repository = RepositoryId::from_bytes([7; 16]);
    check_sealed("copy-target", &CopyTarget { path: "/mnt/second".to_owned(), repository });
    let claim = Claim {
        id: ClaimId::from_bytes([5; 16]),
        created: TIME,
        host: "host".to_owned(),
        process: 4711,
        purpose: "backup".to_owned(),
        stream: Some(stream.id),
        revisions: vec![revision],
        roots: vec![id(6)],
    };
    check_sealed("claim", &claim);
}

#[test]
fn lists_of_gc_are_as_specified() {
    let packs =
        [(PackId::from_bytes([7; 16]), PackKind::Data), (PackId::from_bytes([8; 16]), PackKind::Metadata)];
    let packs: PackNames = packs.into_iter().collect();
    let seen = Some(vec![ClaimId::from_bytes([5; 16])]);
    check_sealed("condemned", &Condemned { packs: packs.clone(), seen });
    check_sealed("dropped", &Dropped { packs });
}

#[test]
fn the_ledger_of_scrubs_is_as_specified() {
    let last = LastScrub {
        start: TIME,
        end: Timestamp { seconds: TIME.seconds + 3600, ..TIME },
        is_complete: true,
        packs: 1,
        bytes: 2,
        bad_objects: 3,
        damaged_files: 4,
    };
    let packs = vec![VerifiedPack { pack: PackId::from_bytes([7; 16]), seconds: TIME.seconds }];
    check_sealed("scrub-ledger", &ScrubLedger { last: Some(last), packs });
}

/// The record of a revision that holds this.
pub(super) fn record(content: Content) -> Record {
    Record {
        stream: StreamId::from_bytes([2; 16]),
        sequence: 8,
        id: RevisionId::from_bytes([3; 16]),
        name: "2026-11-20T10-13-20Z".to_owned(),
        snapshot_time: None,
        start: TIME,
        end: TIME,
        host: "host".to_owned(),
        program: "treering 0.1.0".to_owned(),
        source: "/dev/vg/vm1".to_owned(),
        source_snapshot: Some("snap".to_owned()),
        evidence: Some(FileEvidence { size: 10, mtime: TIME, ctime: TIME, inode: 12, unsettled: true }),
        parent: Some(RevisionId::from_bytes([9; 16])),
        method: Method::Hints,
        hints: Some(HintEvidence {
            base: Some(RevisionId::from_bytes([9; 16])),
            range_count: 1,
            range_bytes: 2,
            sampled_chunks: 32,
            differing_offset: Some(65536),
        }),
        counters: Counters {
            bytes_read: 1,
            bytes_changed: 2,
            bytes_stored: 3,
            chunks_total: 4,
            chunks_new: 5,
            nanoseconds: 6,
        },
        warnings: vec!["a warning".to_owned()],
        content,
    }
}

#[test]
fn a_record_is_as_specified() {
    let content = Content::Image(ImageContent { root: id(7), size: 10, data_bytes: 10 });
    check_sealed("record", &record(content));
}

/// A pack with two chunks, and its directory.
fn example_pack() -> (PackId, Vec<u8>, Vec<PackEntry>) {
    let pack = PackId::from_bytes([0x10; 16]);
    let header = PackHeader { kind: PackKind::Data, pack, repository: RepositoryId::from_bytes([1; 16]) };
    let mut bytes = header.encode().to_vec();
    let hasher = ObjectHasher::new(b"");
    let mut entries = Vec::new();
    for blob in [&b"\0first chunk"[..], b"\0second chunk"] {
        let content = &blob[1..];
        entries.push(PackEntry {
            id: hasher.id(ObjectType::Chunk, content),
            object_type: ObjectType::Chunk,
            offset: bytes.len() as u32,
            stored_len: blob.len() as u32,
            plain_len: content.len() as u32,
            checksum: ChecksumContext::PackBlob.sum(blob),
        });
        bytes.extend_from_slice(blob);
    }
    let directory_offset = bytes.len() as u64;
    bytes.extend(PackDirectory::encode(pack, directory_offset, &entries).unwrap());
    assert_eq!(PackHeader::decode(&bytes[..PackHeader::SIZE]), Some(header));
    (pack, bytes, entries)
}

#[test]
fn a_pack_is_as_specified() {
    let (pack, bytes, entries) = example_pack();
    check("pack", &bytes);
    let trailer_offset = bytes.len() - PackTrailer::SIZE;
    let trailer = PackTrailer::decode(pack, bytes.len() as u64, &bytes[trailer_offset..]).unwrap();
    let directory_offset = PackHeader::SIZE + 12 + 13;
    let decoded = PackDirectory::decode(&trailer, &bytes[directory_offset..trailer_offset]).unwrap();
    assert_eq!(decoded, entries);
}

/// The table of the example pack.
#[test]
fn an_index_table_is_as_specified() {
    let (pack, bytes, in_pack) = example_pack();
    let table = TableId::from_bytes([0x20; 16]);
    let layout = TableLayout::new(2, 1).unwrap();
    let repository = RepositoryId::from_bytes([1; 16]);
    let header = TableHeader { table, repository, created: 1_795_169_600_123_456_789, layout };
    let pack = TablePack { pack, kind: PackKind::Data, size: bytes.len() as u64 };
    let place = |&PackEntry { id, offset, stored_len, plain_len, .. }: &PackEntry| TableEntry {
        id,
        pack: 0,
        offset,
        stored_len,
        plain_len,
    };
    let mut entries: Vec<TableEntry> = in_pack.iter().map(place).collect();
    entries.sort_by_key(|entry| entry.id);
    let mut filter = FilterBuilder::new(2);
    let mut payloads = vec![header.encode(), Vec::new(), Vec::new()];
    pack.encode(&mut payloads[1]);
    for entry in &entries {
        entry.encode(&mut payloads[2]);
        filter.insert(&entry.id);
    }
    payloads.push(filter.bytes().flatten().collect());
    let blocks: Vec<u8> =
        (0..).zip(&payloads).flat_map(|(n, payload)| seal_block(table, n, payload).unwrap()).collect();
    assert_eq!(blocks.len() as u64, layout.size());
    check("table", &blocks);

    let payload =
        |n: usize| verify_block(table, n as u64, &blocks[n * BLOCK_SIZE..(n + 1) * BLOCK_SIZE]).unwrap();
    assert_eq!(TableHeader::decode(payload(0)), Some(header));
    assert_eq!(decode_packs(payload(1), 1), Some(vec![pack]));
    assert_eq!(decode_entries(payload(2), 2), Some(entries.clone()));
    let mut filter = Filter::with_room_for(0);
    filter.extend(&payload(3)[..layout.filter_block_len(0)]);
    assert!(entries.iter().all(|entry| filter.may_contain(&entry.id)));
    assert!(!filter.may_contain(&id(0x30)));
}

/// A map of 517 chunks of 64 KiB: a leaf with one chunk, one of holes that is not stored, and one that is cut by the size.
#[test]
fn map_nodes_are_as_specified() {
    const CHUNK_SIZE: u32 = 65536;
    let hasher = ObjectHasher::new(b"");
    let node = |content: &[u8], data_slots: u64, chunk_count| Subtree {
        id: hasher.id(ObjectType::Node, content),
        data_bytes: data_slots * u64::from(CHUNK_SIZE),
        chunk_count,
    };
    let mut slots = vec![Slot::Hole; FAN_OUT as usize];
    slots[7] = Slot::Chunk(id(1));
    let first = Leaf { slots }.encode();
    let last =
        Leaf { slots: vec![Slot::Hole, Slot::Zeros, Slot::Chunk(id(1)), Slot::Chunk(id(2)), Slot::Hole] };
    check("leaf", &last.encode());
    assert_eq!(Leaf::decode(&last.encode()), Some(last.clone()));

    let children = vec![Some(node(&first, 1, 1)), None, Some(node(&last.encode(), 3, 2))];
    let inner = Inner { level: 1, children };
    check("inner", &inner.encode());
    assert_eq!(Inner::decode(&inner.encode()), Some(inner.clone()));

    let size = 516 * u64::from(CHUNK_SIZE) + 37_856;
    let root = Root { level: 1, size, chunk_size: CHUNK_SIZE, top: Some(node(&inner.encode(), 4, 3)) };
    check("root", &root.encode());
    assert_eq!(Root::decode(&root.encode()), Some(root));
}
