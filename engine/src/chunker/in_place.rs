//! Which files are changed in place: disk images and databases.
//!
//! These are cut at fixed offsets. Content-defined cuts serve where bytes are inserted; where pages are overwritten,
//! they only make the chunk that is stored again longer, and they fall where no image stream has its cuts.

/// Smaller files are a few chunks in any case, so what they are does not matter. Low, so that a database that grows
/// past it is stored anew only while it is small.
const LEAST_SIZE: u64 = 1 << 20;

/// Page size of PostgreSQL, in bytes.
const POSTGRESQL_PAGE: u64 = 8 << 10;

/// Endings of names, in lower case. A wrong guess costs no more than chunks of another length. Not here: ISO images
/// and whatever else is written once, and what is appended to (logs, sorted tables of LSM trees).
const EXTENSIONS: [&str; 38] = [
    // Disk images and encrypted volumes.
    "avhd", "avhdx", "dd", "hc", "hdd", "hds", "img", "luks", "qcow", "qcow2", "qed", "raw", "tc", "vdi",
    "vhd", "vhdx", "vmdk", // Databases.
    "accdb", "db", "db3", "dbf", "edb", "fdb", "gdb", "ibd", "ldf", "mdb", "mdf", "myd", "myi", "ndf", "nsf",
    "ost", "pst", "sdb", "sqlite", "sqlite3", "wt",
];

/// Whether a file with this name, its directories left off, and size in bytes is likely to be changed in place.
pub(crate) fn is_changed_in_place(name: &[u8], size_bytes: u64) -> bool {
    size_bytes >= LEAST_SIZE
        && (has_extension(name) || is_innodb(name) || is_postgresql_segment(name, size_bytes))
}

fn has_extension(name: &[u8]) -> bool {
    let extension = name.rsplit(|&byte| byte == b'.').next().filter(|extension| extension.len() < name.len());
    extension.is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known.as_bytes())))
}

/// The shared tablespaces of InnoDB: `ibdata1`, `undo_001`.
fn is_innodb(name: &[u8]) -> bool {
    let number = name.strip_prefix(b"ibdata").or_else(|| name.strip_prefix(b"undo_"));
    number.is_some_and(is_number)
}

/// A segment of a table or index of PostgreSQL: `16385`, `16385.1`; whole pages.
fn is_postgresql_segment(name: &[u8], size_bytes: u64) -> bool {
    let mut parts = name.splitn(2, |&byte| byte == b'.');
    size_bytes.is_multiple_of(POSTGRESQL_PAGE) && parts.all(is_number)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 1 << 30;

    #[test]
    fn disk_images_and_databases_are_changed_in_place() {
        let names = [
            "vm.img",
            "VM1.VMDK",
            "disk-flat.vmdk",
            "a.b.qcow2",
            "places.sqlite",
            "t.ibd",
            "ibdata1",
            "undo_001",
        ];
        for name in names {
            assert!(is_changed_in_place(name.as_bytes(), LARGE + 1), "{name}");
        }
    }

    #[test]
    fn other_files_are_not() {
        let names = [
            "img",
            "db",
            "film.mkv",
            "debian.iso",
            "disk.img.gz",
            "imgs",
            "vm.img.",
            "ibdata",
            "undo_x",
            "",
            ".",
        ];
        for name in names {
            assert!(!is_changed_in_place(name.as_bytes(), LARGE + 1), "{name}");
        }
        assert!(!is_changed_in_place(b"\xff\xfe", LARGE));
    }

    #[test]
    fn segments_of_postgresql_are_numbers_and_whole_pages() {
        assert!(is_changed_in_place(b"16385", LARGE));
        assert!(is_changed_in_place(b"16385.12", LARGE));
        for (name, size) in
            [("16385", LARGE + 1), ("16385.", LARGE), (".1", LARGE), ("1.2.3", LARGE), ("16385_fsm", LARGE)]
        {
            assert!(!is_changed_in_place(name.as_bytes(), size), "{name}");
        }
    }

    #[test]
    fn small_files_are_cut_by_content_whatever_their_name() {
        assert!(is_changed_in_place(b"a.db", LEAST_SIZE));
        assert!(!is_changed_in_place(b"a.db", LEAST_SIZE - 1));
    }
}
