//! Entries of trees as people and scripts see them.

use serde_json::{Map, Value, json};
use treering_engine::{Attributes, Entry, EntryContent, EntryType, Timestamp, TreeReader};

use crate::exit::{Code, damage_hint};
use crate::ui::{escaped, size};

/// A path for people; the root is `/`.
pub(super) fn path_text(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { escaped(path) }
}

/// Adds bytes as text to a JSON object; those that are no UTF-8 also in hexadecimal digits, as `KEY_bytes`.
pub(super) fn insert_bytes(object: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    object.insert(key.to_owned(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        object.insert(format!("{key}_bytes"), json!(hex(bytes)));
    }
}

/// Adds a path, that of the root as `/`.
pub(super) fn insert_path(object: &mut Map<String, Value>, key: &str, path: &[u8]) {
    insert_bytes(object, key, if path.is_empty() { b"/" } else { path });
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `find` and `history` say of an entry.
pub(super) fn insert_summary(object: &mut Map<String, Value>, entry: &Entry) {
    object.insert("type".to_owned(), json!(EntryType::from(&entry.content).as_str()));
    object.insert("size".to_owned(), json!(size_of(entry)));
    insert_time(object, "mtime", entry.metadata.mtime);
}

/// Adds a time; one that RFC 3339 can't write is null, and comes as seconds since 1970, as `KEY_seconds`.
fn insert_time(object: &mut Map<String, Value>, key: &str, time: Timestamp) {
    let text = time.to_rfc3339();
    if text.is_none() {
        object.insert(format!("{key}_seconds"), json!(time.seconds));
    }
    object.insert(key.to_owned(), json!(text));
}

/// Mode and owners by number.
pub(super) fn insert_access(object: &mut Map<String, Value>, entry: &Entry) {
    object.insert("mode".to_owned(), json!(format!("{:04o}", entry.metadata.mode)));
    object.insert("uid".to_owned(), json!(entry.metadata.uid));
    object.insert("gid".to_owned(), json!(entry.metadata.gid));
}

/// All that a listing says of an entry.
pub(super) fn to_json(path: &[u8], entry: &Entry, tree: &TreeReader) -> Map<String, Value> {
    let mut object = Map::new();
    insert_path(&mut object, "path", path);
    insert_bytes(&mut object, "name", entry.name.as_bytes());
    insert_summary(&mut object, entry);
    insert_access(&mut object, entry);
    let name = |name: Option<&[u8]>| json!(name.map(String::from_utf8_lossy));
    let metadata = &entry.metadata;
    object.insert("user".to_owned(), name(tree.user_name(metadata.uid)));
    object.insert("group".to_owned(), name(tree.group_name(metadata.gid)));
    insert_time(&mut object, "ctime", metadata.ctime);
    object.insert("inode".to_owned(), json!(metadata.inode));
    object.insert("links".to_owned(), json!(metadata.links));
    object.insert("attributes".to_owned(), json!(entry.attributes != Attributes::None));
    match &entry.content {
        EntryContent::Symlink(target) => insert_bytes(&mut object, "target", target.as_bytes()),
        EntryContent::Directory(top) => {
            object.insert("entries".to_owned(), json!(top.map_or(0, |top| top.entry_count)));
        }
        EntryContent::BlockDevice { major, minor } | EntryContent::CharacterDevice { major, minor } => {
            object.insert("major".to_owned(), json!(major));
            object.insert("minor".to_owned(), json!(minor));
        }
        _ => {}
    }
    object
}

/// The size of a file, the length of a link's target; other entries have none.
pub(super) fn size_of(entry: &Entry) -> Option<u64> {
    match &entry.content {
        EntryContent::File(data) => Some(data.size()),
        EntryContent::Symlink(target) => Some(target.as_bytes().len() as u64),
        _ => None,
    }
}

/// The size for people, the numbers of a device in its place.
pub(super) fn size_text(entry: &Entry) -> String {
    match &entry.content {
        EntryContent::BlockDevice { major, minor } | EntryContent::CharacterDevice { major, minor } => {
            format!("{major}, {minor}")
        }
        _ => size_of(entry).map_or_else(|| "-".to_owned(), size),
    }
}

/// A time to the second, in UTC; one that has no date as its seconds since 1970.
pub(super) fn time_text(time: Timestamp) -> String {
    Timestamp { nanoseconds: 0, ..time }.to_string()
}

/// Type and mode as `ls -l` writes them, with `+` behind them where there are extended attributes.
pub(super) fn mode_text(entry: &Entry) -> String {
    let mode = entry.metadata.mode;
    let bit = |bit: u16, letter: char| if mode & bit != 0 { letter } else { '-' };
    let executable = |bit: u16, special: u16, letter: char| match (mode & bit != 0, mode & special != 0) {
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    let attributes = if entry.attributes == Attributes::None { ' ' } else { '+' };
    [
        type_letter(&entry.content),
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        executable(0o100, 0o4000, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        executable(0o010, 0o2000, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        executable(0o001, 0o1000, 't'),
        attributes,
    ]
    .iter()
    .collect()
}

fn type_letter(content: &EntryContent) -> char {
    match EntryType::from(content) {
        EntryType::File => '-',
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::BlockDevice => 'b',
        EntryType::CharacterDevice => 'c',
        EntryType::Fifo => 'p',
        EntryType::Socket => 's',
    }
}

/// So many parts that can't be read are kept for the JSON document; all are said on stderr.
const MAX_LISTED: usize = 1000;

/// What could not be read of trees that were looked into.
#[derive(Debug, Default)]
pub(super) struct DamagedParts {
    listed: Vec<Value>,
    count: u64,
}

impl DamagedParts {
    /// Names a part on stderr, and keeps it.
    pub(super) fn add(&mut self, path: &[u8], revisions: &str, reason: &str) {
        log::error!("cannot read {} in {revisions}: {reason}", path_text(path));
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            let mut object = Map::new();
            insert_path(&mut object, "path", path);
            object.insert("revisions".to_owned(), json!(revisions));
            object.insert("reason".to_owned(), json!(reason));
            self.listed.push(object.into());
        }
    }

    /// Adds what was kept to the JSON document.
    pub(super) fn insert_into(&self, document: &mut Map<String, Value>) {
        document.insert("damaged".to_owned(), json!(self.listed));
    }

    /// How the command ends; says what to do if anything was damaged.
    pub(super) fn code(&self) -> Code {
        match self.count {
            0 => Code::Done,
            _ => {
                log::error!("all else is shown; {}", damage_hint("packs/"));
                Code::Damage
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use treering_engine::{AttributeList, EntryName, FileData, Metadata};

    use super::*;

    fn entry(content: EntryContent, mode: u16) -> Entry {
        let time = Timestamp { seconds: 1_795_169_600, nanoseconds: 5 };
        Entry {
            name: EntryName::new(b"x").unwrap(),
            metadata: Metadata {
                mode,
                uid: 0,
                gid: 0,
                links: 1,
                mount: 0,
                inode: 7,
                mtime: time,
                ctime: time,
            },
            content,
            attributes: Attributes::None,
            has_other_names: false,
            unsettled: false,
            left_out: false,
        }
    }

    #[test]
    fn modes_are_those_of_ls() {
        for (content, mode, text) in [
            (EntryContent::File(FileData::Empty), 0o644, "-rw-r--r-- "),
            (EntryContent::File(FileData::Empty), 0o7777, "-rwsrwsrwt "),
            (EntryContent::File(FileData::Empty), 0o7000, "---S--S--T "),
            (EntryContent::Directory(None), 0o1755, "drwxr-xr-t "),
            (EntryContent::Fifo, 0o111, "p--x--x--x "),
            (EntryContent::Socket, 0, "s--------- "),
            (EntryContent::BlockDevice { major: 1, minor: 2 }, 0o660, "brw-rw---- "),
        ] {
            assert_eq!(mode_text(&entry(content, mode)), text);
        }
        let list = AttributeList::new(vec![(b"user.a", b"")]).unwrap();
        let with = Entry { attributes: Attributes::Inline(list), ..entry(EntryContent::Fifo, 0o600) };
        assert_eq!(mode_text(&with), "prw-------+");
    }

    #[test]
    fn bytes_that_are_no_text_come_in_digits_as_well() {
        let mut object = Map::new();
        insert_path(&mut object, "path", b"a/\xff");
        insert_path(&mut object, "root", b"");
        let expected = json!({ "path": "a/\u{fffd}", "path_bytes": "612fff", "root": "/" });
        assert_eq!(Value::from(object), expected);
    }

    #[test]
    fn times_that_have_no_date_are_told_in_seconds() {
        let mut object = Map::new();
        insert_time(&mut object, "mtime", Timestamp { seconds: 1_795_169_600, nanoseconds: 5 });
        insert_time(&mut object, "ctime", Timestamp { seconds: 1 << 40, nanoseconds: 5 });
        let expected = json!({
            "mtime": "2026-11-20T10:13:20.000000005Z",
            "ctime": null,
            "ctime_seconds": 1_099_511_627_776_u64,
        });
        assert_eq!(Value::from(object), expected);
        assert_eq!(time_text(Timestamp { seconds: 1 << 40, nanoseconds: 5 }), "@1099511627776");
    }

    #[test]
    fn times_are_shown_to_the_second_and_sizes_where_there_are_any() {
        let device = entry(EntryContent::CharacterDevice { major: 1, minor: 3 }, 0);
        assert_eq!(time_text(device.metadata.mtime), "2026-11-20T10:13:20Z");
        assert_eq!(size_text(&device), "1, 3");
        assert_eq!(size_text(&entry(EntryContent::Directory(None), 0)), "-");
        assert_eq!(size_text(&entry(EntryContent::File(FileData::Empty), 0)), "0 B");
    }
}
