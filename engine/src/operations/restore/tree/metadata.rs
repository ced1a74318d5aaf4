//! Owner, mode, times and extended attributes: what an entry is to have, what of it is missing, and setting it.
//!
//! The order is the kernel's: a change of owner clears setuid bits and capabilities, and an ACL changes the mode, so the
//! owner comes first and the mode behind the attributes; the time is last.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod, fchown,
    fgetxattr, fremovexattr, fsetxattr, futimens, removexattr, setxattr, utimensat,
};
use rustix::io::{self, Errno};

use super::owners::{ACL_ACCESS, ACL_DEFAULT, group_bits, is_acl_alias};
use super::problems::{Attempt, Trouble};
use crate::format::Timestamp;
use crate::source::tree::{Attribute, EntryStat, EntryType, of_held, of_open};

/// Setuid and setgid.
const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
/// Both.
pub(super) const PRIVILEGED: u16 = SETUID | SETGID;

const OWNER_WRITES: u16 = 0o200;

/// What the group may do; where there is an ACL, its mask.
pub(super) const GROUP: u16 = 0o070;

const CAPABILITY: &[u8] = b"security.capability";

/// What an entry is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u16,
    pub(super) mtime: Timestamp,
    /// `None` if they are not known.
    pub(super) attributes: Option<Vec<Attribute>>,
    /// Why they are not.
    pub(super) lost: Option<String>,
}

/// An entry whose metadata can be set, whatever has its name by now.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// Anything, opened by `O_PATH`.
    Held(BorrowedFd<'a>),
}

/// What was there before.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    /// It was just made, with nothing of its own.
    New,
    /// It is our own, but may have attributes that its directory passed on, or that an earlier run gave it.
    Touched,
    /// It was there, and looks like this.
    There(&'a EntryStat),
}

/// What is to be set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    owner: bool,
    mode: Option<u16>,
    mtime: bool,
    set: Vec<Attribute>,
    removed: Vec<Vec<u8>>,
    /// What a change of the owner takes away.
    after_owner: Option<Attribute>,
    /// A mode in which its owner may set attributes, to be set before.
    unlocked: Option<u16>,
}

/// What could not be set.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// This user may not give it its owner.
    pub(super) owner: bool,
    /// This user may not set some of its attributes.
    pub(super) attributes: bool,
    /// The file system does not have such attributes.
    pub(super) unsupported: bool,
    /// It does not have its ACL, so the group's bits of its mode are no mask.
    acl: bool,
    /// The first thing that failed for another reason.
    pub(super) trouble: Option<Trouble>,
}

impl Wanted {
    /// What the owning group may do, whatever an ACL lets others do.
    fn own_group_bits(&self) -> u16 {
        let acl = self.acl();
        acl.map_or(GROUP, group_bits) & self.mode
    }

    fn acl(&self) -> Option<&[u8]> {
        let mut attributes = self.attributes.iter().flatten();
        attributes.find(|attribute| attribute.name == ACL_ACCESS).map(|attribute| &*attribute.value)
    }

    /// The mode to be set. Where it is not known whether there was an ACL, the group's bits may have been its mask, and
    /// the group gets none that it did not have.
    fn mode_there(&self, before: Before<'_>) -> u16 {
        let group_before = match before {
            Before::There(stat) => stat.mode & GROUP,
            Before::New | Before::Touched => 0,
        };
        match self.attributes {
            Some(_) => self.mode,
            None => self.mode & (!GROUP | group_before),
        }
    }

    /// The mode that keeps out of a directory, while it is worked in, whom the revision keeps out of it.
    pub(super) fn mode_meanwhile(&self, descriptor: BorrowedFd<'_>) -> u16 {
        if self.attributes.is_none() {
            return self.mode;
        }
        let mut there = vec![0; self.acl().map_or(0, <[u8]>::len) + 1];
        let found = fgetxattr(descriptor, ACL_ACCESS, &mut there[..]);
        match found.map(|length| there.get(..length)) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => self.mode & !GROUP | self.own_group_bits(),
            Ok(found) if found == self.acl() => self.mode,
            // The mask of another ACL.
            _ => self.mode & !GROUP,
        }
    }
}

impl Changes {
    /// What is to be set so that an entry has what is wanted.
    pub(super) fn plan(handle: Handle<'_>, wanted: &Wanted, before: Before<'_>) -> Attempt<Self> {
        let (set, removed) = match (&wanted.attributes, before) {
            (None, Before::There(_)) => Default::default(),
            (None, _) => difference(handle, &[], before)?,
            (Some(attributes), _) => difference(handle, attributes, before)?,
        };
        let mode = Some(wanted.mode_there(before));
        let all = Self { owner: true, mode, mtime: true, set, removed, ..Self::default() };
        let changes = match before {
            Before::There(stat) => all.unless_there(stat, wanted),
            Before::New | Before::Touched => all,
        };
        Ok(changes.with_capability(wanted))
    }

    /// Leaves out what is there already.
    fn unless_there(self, stat: &EntryStat, wanted: &Wanted) -> Self {
        let owner = (stat.uid, stat.gid) != (wanted.uid, wanted.gid);
        let unlocked = self.unlocked_mode(stat);
        let differs = owner || self.has_acl() || unlocked.is_some() || Some(stat.mode) != self.mode;
        let mode = self.mode.filter(|_| stat.kind != EntryType::Symlink && differs);
        Self { owner, mode, mtime: stat.mtime != wanted.mtime, unlocked, ..self }
    }

    /// The mode in which a user may set the attributes of a file that may not be written: the system asks for that.
    fn unlocked_mode(&self, stat: &EntryStat) -> Option<u16> {
        let sets_any = !self.set.is_empty() || !self.removed.is_empty();
        let is_locked = stat.kind == EntryType::File && stat.mode & OWNER_WRITES == 0;
        let is_needed = sets_any && is_locked && !rustix::process::geteuid().is_root();
        is_needed.then_some(stat.mode | OWNER_WRITES)
    }

    /// The kernel takes the capabilities of a file whose owner changes, also those that it is to have.
    fn with_capability(self, wanted: &Wanted) -> Self {
        let is_set = self.set.iter().any(|attribute| attribute.name == CAPABILITY);
        let mut attributes = wanted.attributes.iter().flatten();
        let capability = attributes.find(|attribute| attribute.name == CAPABILITY);
        let after_owner = capability.filter(|_| self.owner && !is_set).cloned();
        Self { after_owner, ..self }
    }

    /// Whether who may do something by name, or by a mask, changes.
    pub(super) fn has_acl(&self) -> bool {
        self.set.iter().any(|attribute| attribute.name == ACL_ACCESS)
            || self.removed.iter().any(|name| name == ACL_ACCESS)
    }

    /// Whether nothing is to be set.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets what differs, and all that can be set though something can't.
    pub(super) fn apply(&self, handle: Handle<'_>, kind: EntryType, wanted: &Wanted) -> LeftOut {
        let mut left_out = LeftOut::default();
        let mode = self.mode.filter(|_| kind != EntryType::Symlink);
        let mut withheld = 0;
        if let Some(unlocked) = self.unlocked {
            // Where that is forbidden, the attributes say so.
            let _ = handle.set_mode(unlocked);
        }
        if self.owner {
            withheld |= left_out.set_owner(handle, wanted);
        }
        if let Some(capability) = self.after_owner.as_ref().filter(|attribute| !handle.has(attribute)) {
            left_out.set_attribute(handle, capability);
        }
        if let Some(mode) = mode.filter(|_| self.removed.iter().any(|name| name == ACL_ACCESS)) {
            // Its mask would become what the group may do.
            left_out.note(
                "set the mode of",
                handle.stat_errno().and_then(|stat| handle.set_mode(stat.mode & (mode | !GROUP))),
            );
        }
        for name in &self.removed {
            left_out.note("remove extended attributes of", handle.remove(name).or_else(unless_gone));
        }
        for attribute in &self.set {
            left_out.set_attribute(handle, attribute);
        }
        if let Some(mode) = mode {
            if left_out.acl {
                withheld |= GROUP & !wanted.own_group_bits();
            }
            left_out.note("set the mode of", handle.set_mode(mode & !withheld));
        }
        if self.mtime {
            left_out.note("set the time of", handle.set_mtime(wanted.mtime));
        }
        left_out
    }
}

/// Attributes to be set and those to be removed.
fn difference(
    handle: Handle<'_>,
    wanted: &[Attribute],
    before: Before<'_>,
) -> Attempt<(Vec<Attribute>, Vec<Vec<u8>>)> {
    if matches!(before, Before::New) {
        return Ok((wanted.to_vec(), Vec::new()));
    }
    let there = handle.attributes()?;
    let set = wanted.iter().filter(|attribute| !there.contains(attribute)).cloned().collect();
    let is_wanted = |name: &[u8]| wanted.iter().any(|attribute| attribute.name == name);
    let removed = there.into_iter().map(|attribute| attribute.name);
    let removed = removed.filter(|name| is_ours(name) && !is_wanted(name)).collect();
    Ok((set, removed))
}

/// Whether an attribute that the revision does not have is to go. Others, such as the labels of a security module, belong
/// to the system that the target lies in.
fn is_ours(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted."].iter().any(|space| name.starts_with(space)) && !is_acl_alias(name)
        || [ACL_ACCESS, ACL_DEFAULT, CAPABILITY].contains(&name)
}

impl LeftOut {
    fn note(&mut self, action: &'static str, outcome: io::Result<()>) {
        if let Err(errno) = outcome {
            self.trouble.get_or_insert(Trouble::of(action)(errno));
        }
    }

    /// Sets the owner; where that is not allowed, the group alone. Returns the bits of the mode that mean something else
    /// with the owner that it has then.
    fn set_owner(&mut self, handle: Handle<'_>, wanted: &Wanted) -> u16 {
        match handle.set_owner(Some(wanted.uid), Some(wanted.gid)) {
            Ok(()) => return 0,
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {
                // A user may at least choose among the own groups.
                let _ = handle.set_owner(None, Some(wanted.gid));
            }
            failed => self.note("set the owner of", failed),
        }
        let stat = handle.stat().ok();
        let has = |is_wanted: &dyn Fn(&EntryStat) -> bool| stat.as_ref().is_some_and(is_wanted);
        let has_user = has(&|stat| stat.uid == wanted.uid);
        let has_group = has(&|stat| stat.gid == wanted.gid);
        self.owner = !(has_user && has_group);
        (if has_user { 0 } else { SETUID }) | (if has_group { 0 } else { SETGID })
    }

    fn set_attribute(&mut self, handle: Handle<'_>, attribute: &Attribute) {
        let is_privileged =
            [&b"trusted."[..], b"security."].iter().any(|space| attribute.name.starts_with(space));
        let outcome = handle.set(&attribute.name, &attribute.value);
        self.acl |= outcome.is_err() && attribute.name == ACL_ACCESS;
        match outcome {
            Err(Errno::PERM | Errno::ACCESS) if is_privileged => self.attributes = true,
            Err(Errno::OPNOTSUPP) => self.unsupported = true,
            // That there is no room is said of the room for attributes, and not of the disk.
            Err(Errno::NOSPC) => {
                self.trouble.get_or_insert(Trouble::Refused("there is no room for its extended attributes"));
            }
            outcome => self.note("set extended attributes of", outcome),
        }
    }
}

fn unless_gone(errno: Errno) -> io::Result<()> {
    if errno == Errno::NODATA { Ok(()) } else { Err(errno) }
}

impl Handle<'_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(descriptor) | Self::Held(descriptor) => *descriptor,
        }
    }

    /// A path that leads to what is held and no further.
    pub(super) fn path(self) -> String {
        format!("/proc/self/fd/{}", self.descriptor().as_raw_fd())
    }

    pub(super) fn stat(&self) -> Attempt<EntryStat> {
        self.stat_errno().map_err(Trouble::of("look at"))
    }

    fn stat_errno(&self) -> io::Result<EntryStat> {
        EntryStat::of(self.descriptor())
    }

    fn attributes(&self) -> Attempt<Vec<Attribute>> {
        let attributes = match self {
            Self::Open(descriptor) => of_open(descriptor),
            Self::Held(descriptor) => of_held(descriptor),
        };
        attributes.map_err(|_| Trouble::Refused("its extended attributes can't be read"))
    }

    fn has(&self, attribute: &Attribute) -> bool {
        self.attributes().is_ok_and(|there| there.contains(attribute))
    }

    fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(descriptor) => fchown(descriptor, uid, gid),
            Self::Held(descriptor) => chownat(descriptor, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(&self, mode: u16) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode.into());
        match self {
            Self::Open(descriptor) => fchmod(descriptor, mode),
            Self::Held(_) => chmod(self.path(), mode),
        }
    }

    fn set_mtime(&self, mtime: Timestamp) -> io::Result<()> {
        let nothing = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
        let times = Timestamps { last_access: nothing, last_modification };
        match self {
            Self::Open(descriptor) => futimens(descriptor, &times),
            Self::Held(descriptor) => utimensat(descriptor, "", &times, AtFlags::EMPTY_PATH),
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(descriptor) => fsetxattr(descriptor, name, value, XattrFlags::empty()),
            Self::Held(_) => setxattr(self.path(), name, value, XattrFlags::empty()),
        }
    }

    fn remove(&self, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(descriptor) => fremovexattr(descriptor, name),
            Self::Held(_) => removexattr(self.path(), name),
        }
    }
}

/// Takes from a file what makes it a privileged program, as half of one is none, and gives it its group.
pub(super) fn disarm(file: BorrowedFd<'_>, mode: u16, group: Option<u32>) -> io::Result<()> {
    // Of what is written by who may not do this, the kernel takes it.
    let unless_forbidden = |outcome: io::Result<()>| match outcome {
        Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        outcome => outcome,
    };
    if group.is_some() {
        // Where that can't be, it is tried again and told at the end.
        let _ = fchown(file, None, group.map(Gid::from_raw));
    }
    if mode & PRIVILEGED != 0 {
        unless_forbidden(fchmod(file, Mode::from_raw_mode((mode & !PRIVILEGED).into())))?;
    }
    match unless_forbidden(fremovexattr(file, CAPABILITY)) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    fn attribute(name: &str, value: &str) -> Attribute {
        Attribute { name: name.into(), value: value.into() }
    }

    /// What a new file of ours has, but for an attribute.
    fn wanted(file: &File) -> Wanted {
        let stat = EntryStat::of(file).unwrap();
        let attributes = Some(vec![attribute("user.a", "1")]);
        let mtime = Timestamp { seconds: -5, nanoseconds: 7 };
        Wanted { uid: stat.uid, gid: stat.gid, mode: 0o640, mtime, attributes, lost: None }
    }

    #[test]
    fn what_was_set_needs_no_further_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create_new(directory.path().join("file")).unwrap();
        let (handle, wanted) = (Handle::Open(file.as_fd()), wanted(&file));
        let changes = Changes::plan(handle, &wanted, Before::New).unwrap();
        let left_out = changes.apply(handle, EntryType::File, &wanted);
        assert!(!left_out.owner && !left_out.attributes && left_out.trouble.is_none());
        let stat = EntryStat::of(&file).unwrap();
        assert_eq!((stat.mode, stat.mtime), (wanted.mode, wanted.mtime));
        assert!(Changes::plan(handle, &wanted, Before::There(&stat)).unwrap().is_empty());
    }

    #[test]
    fn only_what_differs_is_set_and_what_is_not_wanted_goes() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create_new(directory.path().join("file")).unwrap();
        let (handle, wanted) = (Handle::Open(file.as_fd()), wanted(&file));
        let changes = Changes::plan(handle, &wanted, Before::New).unwrap();
        changes.apply(handle, EntryType::File, &wanted);
        fsetxattr(&file, "user.b", b"2", XattrFlags::empty()).unwrap();
        fsetxattr(&file, "user.a", b"other", XattrFlags::empty()).unwrap();
        let stat = EntryStat::of(&file).unwrap();
        let changes = Changes::plan(handle, &wanted, Before::There(&stat)).unwrap();
        let expected = Changes {
            set: vec![attribute("user.a", "1")],
            removed: vec![b"user.b".to_vec()],
            ..Changes::default()
        };
        assert_eq!(changes, expected);
        changes.apply(handle, EntryType::File, &wanted);
        assert_eq!(of_open(&file).unwrap(), wanted.attributes.clone().unwrap());
    }

    #[test]
    fn labels_of_the_target_s_own_system_stay() {
        for name in ["user.x", "trusted.x", "security.capability", "system.posix_acl_default"] {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in ["security.selinux", "security.ima", "system.nfs4_acl", "trusted.SGI_ACL_FILE"] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn attributes_that_are_not_known_are_left_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create_new(directory.path().join("file")).unwrap();
        fsetxattr(&file, "user.b", b"2", XattrFlags::empty()).unwrap();
        let stat = EntryStat::of(&file).unwrap();
        let wanted = Wanted { attributes: None, ..wanted(&file) };
        let changes = Changes::plan(Handle::Open(file.as_fd()), &wanted, Before::There(&stat)).unwrap();
        assert!(changes.set.is_empty() && changes.removed.is_empty());
    }
}
