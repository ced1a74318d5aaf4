//! Names of areas and objects: what `docs/format.md` section 1 draws.

use std::fmt;

use crate::format::{PackKind, RecordKey};
use crate::id::{ClaimId, PackId, RevisionId, StreamId, TableId};

/// A group of objects that can be listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Area(String);

impl Area {
    /// The repository itself: header, damage list, scrub ledger and the target of copies.
    pub(crate) fn root() -> Self {
        Self(String::new())
    }

    pub(crate) fn streams() -> Self {
        Self("streams".into())
    }

    /// Holds an area for each stream.
    pub(crate) fn all_revisions() -> Self {
        Self("revisions".into())
    }

    pub(crate) fn revisions(stream: StreamId) -> Self {
        Self(format!("revisions/{stream}"))
    }

    pub(crate) fn labels(stream: StreamId) -> Self {
        Self(format!("labels/{stream}"))
    }

    /// The records of a stream that were forgotten, until gc takes them.
    pub(crate) fn trash(stream: StreamId) -> Self {
        Self(format!("trash/{stream}"))
    }

    /// Holds an area for each stream of which something was forgotten.
    pub(crate) fn all_trash() -> Self {
        Self("trash".into())
    }

    pub(crate) fn packs(kind: PackKind) -> Self {
        Self(match kind {
            PackKind::Data => "packs/data".into(),
            PackKind::Metadata => "packs/metadata".into(),
        })
    }

    /// What gc has under way.
    pub(crate) fn gc() -> Self {
        Self("gc".into())
    }

    pub(crate) fn index() -> Self {
        Self("index".into())
    }

    pub(crate) fn sessions() -> Self {
        Self("sessions".into())
    }

    pub(crate) fn pins() -> Self {
        Self("pins".into())
    }

    pub(crate) fn locks() -> Self {
        Self("locks".into())
    }

    /// Holds an area for each stream.
    pub(crate) fn all_labels() -> Self {
        Self("labels".into())
    }

    /// What repairs have set aside. Nothing in it is ever read.
    pub(crate) fn quarantine() -> Self {
        Self("quarantine".into())
    }

    /// Where one repair puts what lay in this area.
    pub(crate) fn quarantined(&self, repair: ClaimId) -> Self {
        match self.path() {
            "" => Self(format!("quarantine/{repair}")),
            path => Self(format!("quarantine/{repair}/{path}")),
        }
    }

    /// The area of this name below.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// The area at the top that this one is or lies in, and the stream that it is of, if it is of one.
    pub(crate) fn place(&self) -> (&str, Option<StreamId>) {
        let mut parts = self.path().split('/');
        (parts.next().unwrap_or_default(), parts.next().and_then(StreamId::parse))
    }

    /// Where objects are written before they become visible.
    pub(crate) fn incoming() -> Self {
        Self("incoming".into())
    }

    /// The areas that every repository has.
    pub(crate) fn fixed() -> Vec<Self> {
        let packs = PackKind::ALL.map(Self::packs);
        let others =
            [Self::streams(), Self::index(), Self::sessions(), Self::pins(), Self::locks(), Self::incoming()];
        let nested = ["revisions", "labels"].map(|name| Self(name.to_owned()));
        others.into_iter().chain(packs).chain(nested).collect()
    }

    /// The areas without which there is no repository.
    pub(crate) fn required() -> Vec<Self> {
        Self::fixed().into_iter().filter(|area| !area.may_be_absent()).collect()
    }

    /// The areas that a repository may have.
    pub(crate) fn known() -> Vec<Self> {
        Self::fixed().into_iter().chain([Self::all_trash(), Self::gc(), Self::quarantine()]).collect()
    }

    /// Whether a repository is whole without this area: a stream may have no revisions or labels yet, and nothing is
    /// lost with tables, claims, what waits for gc, and what was set aside. Any other area that is missing is lost, or
    /// its medium is.
    pub(crate) fn may_be_absent(&self) -> bool {
        let is_of_stream =
            self.parent().is_some_and(|parent| ["revisions", "labels", "trash"].contains(&parent.path()));
        let is_set_aside = self.0.split('/').next() == Some("quarantine");
        let is_left_out = [Self::index(), Self::all_trash(), Self::gc()].contains(self) || is_set_aside;
        is_of_stream || is_left_out || self.is_passing()
    }

    /// Whether what lies here is of no use after its process: then its directory need not be durable.
    pub(crate) fn is_passing(&self) -> bool {
        [Self::sessions(), Self::pins(), Self::locks(), Self::incoming()].contains(self)
    }

    /// This area and those that it lies in, the outermost first, but for the root.
    pub(crate) fn with_parents(&self) -> Vec<Self> {
        let upwards = std::iter::successors(Some(self.clone()), Self::parent);
        let mut areas: Vec<Self> = upwards.filter(|area| *area != Self::root()).collect();
        areas.reverse();
        areas
    }

    /// The area that this one lies in; the root lies in none.
    pub(crate) fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((parent, _)) => Some(Self(parent.to_owned())),
            None => (!self.0.is_empty()).then(Self::root),
        }
    }

    /// The path below the repository.
    pub(crate) fn path(&self) -> &str {
        &self.0
    }

    /// An object in this area.
    pub(crate) fn key(&self, name: impl fmt::Display) -> Key {
        Key { area: self.clone(), name: name.to_string() }
    }
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) area: Area,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn header() -> Self {
        Area::root().key("treering-repository")
    }

    pub(crate) fn damage() -> Self {
        Area::root().key("damage")
    }

    pub(crate) fn copy_target() -> Self {
        Area::root().key("copy-target")
    }

    pub(crate) fn scrub_ledger() -> Self {
        Area::root().key("scrub")
    }

    pub(crate) fn stream(id: StreamId) -> Self {
        Area::streams().key(id)
    }

    pub(crate) fn record(stream: StreamId, key: &RecordKey) -> Self {
        Area::revisions(stream).key(key)
    }

    pub(crate) fn condemned() -> Self {
        Area::gc().key("condemned")
    }

    pub(crate) fn dropped() -> Self {
        Area::gc().key("dropped")
    }

    /// The object of a stream that was deleted.
    pub(crate) fn deleted_stream(id: StreamId) -> Self {
        Area::trash(id).key("stream")
    }

    pub(crate) fn labels(stream: StreamId, revision: RevisionId) -> Self {
        Area::labels(stream).key(revision)
    }

    pub(crate) fn pack(kind: PackKind, id: PackId) -> Self {
        Area::packs(kind).key(id)
    }

    pub(crate) fn table(id: TableId) -> Self {
        Area::index().key(id)
    }

    pub(crate) fn session(id: ClaimId) -> Self {
        Area::sessions().key(id)
    }

    pub(crate) fn pin(id: ClaimId) -> Self {
        Area::pins().key(id)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.area.path() {
            "" => f.write_str(&self.name),
            area => write!(f, "{area}/{}", self.name),
        }
    }
}
