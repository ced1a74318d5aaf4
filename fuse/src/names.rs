//! What the directories above images and trees hold: streams, revisions, and the links to these.

use treering_engine::StreamId;

use crate::catalogue::Catalogue;
use crate::errno::Errno;
use crate::namespace::{Child, Node};

impl Catalogue {
    /// What a name in a directory leads to.
    pub(crate) fn find(&self, directory: &Node, name: &str) -> Result<Option<Node>, Errno> {
        let Some(stream) = directory.stream() else { return Ok(self.streams()?.lookup(name)) };
        let revisions = self.revisions(stream)?;
        match directory {
            Node::Stream(_) => Ok(revisions.lookup(name)),
            Node::ById(_) => Ok(revisions.lookup_id(name)),
            Node::ByTag(_) => Ok(self.tags(stream)?.lookup(name, &revisions)),
            Node::Tag(_, tag) => Ok(self.tags(stream)?.lookup_link(tag, name, &revisions)),
            _ => Err(Errno::NotADirectory),
        }
    }

    /// What a directory holds, with `.` and `..`.
    pub(crate) fn list(&self, directory: &Node) -> Result<Vec<Child>, Errno> {
        let mut list = vec![
            Child { name: ".".to_owned(), node: directory.clone() },
            Child { name: "..".to_owned(), node: directory.parent() },
        ];
        let Some(stream) = directory.stream() else {
            list.extend(self.streams()?.list());
            return Ok(list);
        };
        let revisions = self.revisions(stream)?;
        list.extend(match directory {
            Node::Stream(_) => revisions.list(),
            Node::ById(_) => revisions.list_ids(),
            Node::ByTag(_) => self.tags(stream)?.list(&revisions),
            Node::Tag(_, tag) => self.tags(stream)?.list_links(tag, &revisions),
            _ => return Err(Errno::NotADirectory),
        });
        Ok(list)
    }

    /// Where a link of a stream leads.
    pub(crate) fn link_target(&self, stream: StreamId, link: &Node) -> Result<String, Errno> {
        self.revisions(stream)?.target(link).ok_or(Errno::NotFound)
    }
}
