//! Which names exist, and what they lead to. Pure: knows nothing of inodes, requests or stored bytes.
//!
//! Invariant: no name comes from a stored object unchecked, so none holds a slash or is `.` or `..`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use treering_engine::{Kind, Labels, RecordKey, RevisionId, Stream, StreamId, validate_label};

/// What the name of an image file ends with, and of links to it.
const SUFFIX: &str = ".img";
/// The link to the newest revision, without that.
const LATEST: &str = "latest";
/// The directory of links named by revision ids.
const BY_ID: &str = "by-id";
/// The directory of directories named by tags.
const BY_TAG: &str = "by-tag";

/// Something in the mount that has an inode number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// The mount point's directory, which lists the streams.
    Root,
    /// The directory of a stream.
    Stream(StreamId),
    /// The link to a stream's newest image.
    Latest(StreamId),
    /// An image.
    Image(StreamId, RevisionId),
    /// The directory of a tree.
    Tree(StreamId, RevisionId),
    /// `by-id` of a stream.
    ById(StreamId),
    /// A link in `by-id`.
    IdLink(StreamId, RevisionId),
    /// `by-tag` of a stream.
    ByTag(StreamId),
    /// The directory of a tag.
    Tag(StreamId, Arc<str>),
    /// A link in the directory of a tag.
    TagLink(StreamId, Arc<str>, RevisionId),
}

/// What kind of file a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

impl Node {
    pub(crate) fn kind(&self) -> FileKind {
        match self {
            Self::Root
            | Self::Stream(_)
            | Self::ById(_)
            | Self::ByTag(_)
            | Self::Tag(..)
            | Self::Tree(..) => FileKind::Directory,
            Self::Latest(_) | Self::IdLink(..) | Self::TagLink(..) => FileKind::Symlink,
            Self::Image(..) => FileKind::File,
        }
    }

    /// The directory that it is in; the root is in itself.
    pub(crate) fn parent(&self) -> Self {
        match self {
            Self::Root | Self::Stream(_) => Self::Root,
            Self::Latest(stream)
            | Self::Image(stream, _)
            | Self::Tree(stream, _)
            | Self::ById(stream)
            | Self::ByTag(stream) => Self::Stream(*stream),
            Self::IdLink(stream, _) => Self::ById(*stream),
            Self::Tag(stream, _) => Self::ByTag(*stream),
            Self::TagLink(stream, tag, _) => Self::Tag(*stream, Arc::clone(tag)),
        }
    }

    /// Whether it is a revision, of which nothing is told without its record.
    pub(crate) fn is_revision(&self) -> bool {
        matches!(self, Self::Image(..) | Self::Tree(..))
    }

    /// The stream that it belongs to; the root belongs to none.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Root => None,
            Self::Stream(stream)
            | Self::Latest(stream)
            | Self::Image(stream, _)
            | Self::Tree(stream, _)
            | Self::ById(stream)
            | Self::IdLink(stream, _)
            | Self::ByTag(stream)
            | Self::Tag(stream, _)
            | Self::TagLink(stream, _, _) => Some(*stream),
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) node: Node,
}

impl Child {
    fn new(name: impl Into<String>, node: Node) -> Self {
        Self { name: name.into(), node }
    }
}

/// The streams of the root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Streams(Vec<Stream>);

impl Streams {
    /// Of two streams with one name, which only a broken repository has, always the same counts: the one with the
    /// lesser id.
    pub(crate) fn new(mut streams: Vec<Stream>) -> Self {
        streams.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        streams.dedup_by(|later, earlier| later.name == earlier.name);
        Self(streams)
    }

    pub(crate) fn find(&self, id: StreamId) -> Option<&Stream> {
        self.0.iter().find(|stream| stream.id == id)
    }

    pub(crate) fn lookup(&self, name: &str) -> Option<Node> {
        self.0.iter().find(|stream| stream.name == name).map(|stream| Node::Stream(stream.id))
    }

    pub(crate) fn list(&self) -> Vec<Child> {
        self.0.iter().map(|stream| Child::new(&stream.name, Node::Stream(stream.id))).collect()
    }
}

/// The revisions of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Revisions {
    stream: StreamId,
    kind: Kind,
    /// The oldest first.
    keys: Vec<RecordKey>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<RevisionId, usize>,
}

impl PartialEq for Revisions {
    fn eq(&self, other: &Self) -> bool {
        self.stream == other.stream && self.keys == other.keys
    }
}

impl Revisions {
    /// Takes revisions, the oldest first; of two with one name, which only a broken repository has, the newer counts.
    pub(crate) fn new(stream: StreamId, kind: Kind, keys: Vec<RecordKey>) -> Self {
        let by_name = keys.iter().enumerate().map(|(index, key)| (key.name.clone(), index)).collect();
        let by_id = keys.iter().enumerate().map(|(index, key)| (key.id, index)).collect();
        Self { stream, kind, keys, by_name, by_id }
    }

    pub(crate) fn find(&self, id: RevisionId) -> Option<&RecordKey> {
        self.keys.get(*self.by_id.get(&id)?)
    }

    fn find_by_file_name(&self, name: &str) -> Option<&RecordKey> {
        self.keys.get(*self.by_name.get(name.strip_suffix(self.suffix())?)?)
    }

    /// What names of revisions, and of links to them, end with.
    fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Image => SUFFIX,
            Kind::Tree => "",
        }
    }

    fn file_name(&self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    fn node(&self, key: &RecordKey) -> Node {
        match self.kind {
            Kind::Image => Node::Image(self.stream, key.id),
            Kind::Tree => Node::Tree(self.stream, key.id),
        }
    }

    /// Those whose name leads to them.
    fn named(&self) -> impl Iterator<Item = &RecordKey> {
        let counts = |(index, key): &(usize, &RecordKey)| self.by_name.get(&key.name) == Some(index);
        self.keys.iter().enumerate().filter(counts).map(|(_, key)| key)
    }

    pub(crate) fn lookup(&self, name: &str) -> Option<Node> {
        match name {
            name if name.strip_suffix(self.suffix()) == Some(LATEST) => {
                self.keys.last().map(|_| Node::Latest(self.stream))
            }
            BY_ID => Some(Node::ById(self.stream)),
            BY_TAG => Some(Node::ByTag(self.stream)),
            name => self.find_by_file_name(name).map(|key| self.node(key)),
        }
    }

    /// What needs no record comes first, so that it can be told with all attributes at once.
    pub(crate) fn list(&self) -> Vec<Child> {
        let mut children = Vec::with_capacity(self.keys.len() + 3);
        let latest = |_| Child::new(self.file_name(LATEST), Node::Latest(self.stream));
        children.extend(self.keys.last().map(latest));
        children.push(Child::new(BY_ID, Node::ById(self.stream)));
        children.push(Child::new(BY_TAG, Node::ByTag(self.stream)));
        let revision = |key: &RecordKey| Child::new(self.file_name(&key.name), self.node(key));
        children.extend(self.named().map(revision));
        children
    }

    pub(crate) fn lookup_id(&self, name: &str) -> Option<Node> {
        let id = RevisionId::parse(name.strip_suffix(self.suffix())?)?;
        self.find(id).map(|key| Node::IdLink(self.stream, key.id))
    }

    pub(crate) fn list_ids(&self) -> Vec<Child> {
        let link = |key: &RecordKey| {
            Child::new(self.file_name(&key.id.to_string()), Node::IdLink(self.stream, key.id))
        };
        self.named().map(link).collect()
    }

    /// Where a link leads, relative to the directory that it is in; `None` if it leads nowhere any more.
    pub(crate) fn target(&self, link: &Node) -> Option<String> {
        match link {
            Node::Latest(_) => self.keys.last().map(|key| self.file_name(&key.name)),
            Node::IdLink(_, id) => self.find(*id).map(|key| format!("../{}", self.file_name(&key.name))),
            Node::TagLink(_, _, id) => {
                self.find(*id).map(|key| format!("../../{}", self.file_name(&key.name)))
            }
            _ => None,
        }
    }
}

/// The tags of a stream's revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    stream: StreamId,
    tagged: BTreeMap<Arc<str>, Vec<RevisionId>>,
}

impl Tags {
    /// Takes the labels of all revisions; tags that can't be names of files are left out.
    pub(crate) fn new(stream: StreamId, labels: impl IntoIterator<Item = Labels>) -> Self {
        let mut tagged: BTreeMap<Arc<str>, Vec<RevisionId>> = BTreeMap::new();
        for labels in labels {
            for tag in labels.tags.iter().filter(|tag| validate_label(tag).is_ok()) {
                tagged.entry(tag.as_str().into()).or_default().push(labels.revision);
            }
        }
        Self { stream, tagged }
    }

    /// The revisions with a tag that are still there.
    fn revisions<'a>(
        &'a self,
        tag: &str,
        revisions: &'a Revisions,
    ) -> impl Iterator<Item = &'a RecordKey> + 'a {
        let ids = self.tagged.get(tag).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| revisions.find(*id))
    }

    pub(crate) fn lookup(&self, name: &str, revisions: &Revisions) -> Option<Node> {
        let (tag, _) = self.tagged.get_key_value(name)?;
        self.revisions(tag, revisions).next().map(|_| Node::Tag(self.stream, Arc::clone(tag)))
    }

    pub(crate) fn list(&self, revisions: &Revisions) -> Vec<Child> {
        let used = self.tagged.keys().filter(|tag| self.revisions(tag, revisions).next().is_some());
        used.map(|tag| Child::new(tag.as_ref(), Node::Tag(self.stream, Arc::clone(tag)))).collect()
    }

    pub(crate) fn lookup_link(&self, tag: &Arc<str>, name: &str, revisions: &Revisions) -> Option<Node> {
        let key = revisions.find_by_file_name(name)?;
        let tagged = self.revisions(tag, revisions).any(|tagged| tagged.id == key.id);
        tagged.then(|| Node::TagLink(self.stream, Arc::clone(tag), key.id))
    }

    pub(crate) fn list_links(&self, tag: &Arc<str>, revisions: &Revisions) -> Vec<Child> {
        let mut keys: Vec<&RecordKey> = self.revisions(tag, revisions).collect();
        keys.sort();
        let link = |key: &RecordKey| {
            Child::new(revisions.file_name(&key.name), Node::TagLink(self.stream, Arc::clone(tag), key.id))
        };
        keys.into_iter().map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sequence: u64, name: &str) -> RecordKey {
        RecordKey { sequence, id: RevisionId::random(), name: name.to_owned() }
    }

    fn names(children: &[Child]) -> Vec<&str> {
        children.iter().map(|child| child.name.as_str()).collect()
    }

    fn two() -> (StreamId, Vec<RecordKey>, Revisions) {
        let stream = StreamId::random();
        // The clock went back in between: the order of commits counts.
        let keys = vec![key(1, "2026-11-20T10-13-20Z"), key(2, "2026-11-20T10-07-51Z")];
        (stream, keys.clone(), Revisions::new(stream, Kind::Image, keys))
    }

    #[test]
    fn a_stream_lists_links_and_images_and_each_is_found_again() {
        let (stream, keys, revisions) = two();
        let list = revisions.list();
        let expected =
            ["latest.img", "by-id", "by-tag", "2026-11-20T10-13-20Z.img", "2026-11-20T10-07-51Z.img"];
        assert_eq!(names(&list), expected);
        for child in &list {
            assert_eq!(revisions.lookup(&child.name).as_ref(), Some(&child.node), "{}", child.name);
            assert_eq!(child.node.parent(), Node::Stream(stream));
        }
        for name in ["", ".img", "2026-11-20T10-13-20Z", "latest", "by-id/", &keys[0].id.to_string()] {
            assert_eq!(revisions.lookup(name), None, "{name}");
        }
    }

    #[test]
    fn trees_have_names_without_a_suffix() {
        let (stream, keys, _) = two();
        let revisions = Revisions::new(stream, Kind::Tree, keys.clone());
        let list = revisions.list();
        assert_eq!(
            names(&list),
            ["latest", "by-id", "by-tag", "2026-11-20T10-13-20Z", "2026-11-20T10-07-51Z"]
        );
        for child in &list {
            assert_eq!(revisions.lookup(&child.name).as_ref(), Some(&child.node), "{}", child.name);
        }
        assert_eq!(list[3].node, Node::Tree(stream, keys[0].id));
        assert_eq!(revisions.target(&Node::Latest(stream)).as_deref(), Some("2026-11-20T10-07-51Z"));
        assert_eq!(revisions.list_ids()[0].name, keys[0].id.to_string());
        assert_eq!(revisions.lookup("latest.img"), None);
    }

    #[test]
    fn latest_follows_the_order_of_commits_and_not_the_clock() {
        let (stream, _, revisions) = two();
        assert_eq!(revisions.target(&Node::Latest(stream)).as_deref(), Some("2026-11-20T10-07-51Z.img"));
    }

    #[test]
    fn an_empty_stream_has_no_latest() {
        let revisions = Revisions::new(StreamId::random(), Kind::Image, Vec::new());
        assert_eq!(names(&revisions.list()), ["by-id", "by-tag"]);
        assert_eq!(revisions.lookup("latest.img"), None);
    }

    #[test]
    fn links_by_id_lead_to_the_image() {
        let (_, keys, revisions) = two();
        let list = revisions.list_ids();
        assert_eq!(list[0].name, format!("{}.img", keys[0].id));
        assert_eq!(revisions.lookup_id(&list[1].name).as_ref(), Some(&list[1].node));
        assert_eq!(revisions.target(&list[0].node).as_deref(), Some("../2026-11-20T10-13-20Z.img"));
        assert_eq!(revisions.lookup_id(&format!("{}.img", RevisionId::random())), None);
    }

    #[test]
    fn tags_show_what_is_still_there_and_bad_tags_are_left_out() {
        let (stream, keys, revisions) = two();
        let labels = |revision, tags: &[&str]| Labels {
            revision,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            protected: false,
        };
        let tags = Tags::new(
            stream,
            [
                labels(keys[1].id, &["daily", "..", "a/b"]),
                labels(keys[0].id, &["daily"]),
                labels(RevisionId::random(), &["gone"]),
            ],
        );
        assert_eq!(names(&tags.list(&revisions)), ["daily"]);
        assert_eq!(tags.lookup("..", &revisions), None);
        assert_eq!(tags.lookup("gone", &revisions), None);
        let Some(Node::Tag(_, daily)) = tags.lookup("daily", &revisions) else { panic!("no tag") };
        let links = tags.list_links(&daily, &revisions);
        assert_eq!(names(&links), ["2026-11-20T10-13-20Z.img", "2026-11-20T10-07-51Z.img"]);
        let found = tags.lookup_link(&daily, &links[1].name, &revisions);
        assert_eq!(found.as_ref(), Some(&links[1].node));
        assert_eq!(revisions.target(&links[1].node).as_deref(), Some("../../2026-11-20T10-07-51Z.img"));
    }

    #[test]
    fn of_two_streams_with_one_name_the_same_is_shown_in_whatever_order_they_are_listed() {
        let stream = || Stream { id: StreamId::random(), name: "a".to_owned(), kind: Kind::Image };
        let mut streams = vec![Stream { name: "b".to_owned(), ..stream() }, stream(), stream()];
        let shown = Streams::new(streams.clone());
        assert_eq!(names(&shown.list()), ["a", "b"]);
        streams.reverse();
        assert_eq!(Streams::new(streams), shown);
    }

    #[test]
    fn of_two_revisions_with_one_name_the_newer_is_shown_once() {
        let keys = vec![key(1, "2026-11-20T10-13-20Z"), key(2, "2026-11-20T10-13-20Z")];
        let stream = StreamId::random();
        let revisions = Revisions::new(stream, Kind::Image, keys.clone());
        assert_eq!(revisions.list().len(), 4);
        assert_eq!(revisions.lookup("2026-11-20T10-13-20Z.img"), Some(Node::Image(stream, keys[1].id)));
    }
}
