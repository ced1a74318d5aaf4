//! Nodes above the leaves.

use super::{FileSubtree, add_up, decode_head, ends_early};
use crate::format::bytes::Fields;
use crate::format::node_head::NodeHead;
use crate::id::ObjectId;

const INNER: u8 = 5;

/// A node of level 1 or higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileInner {
    pub(crate) level: u8,
    pub(crate) children: Vec<FileSubtree>,
}

impl FileInner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.children.len() * 56);
        NodeHead::encode(&mut bytes, INNER, self.level, self.children.len());
        for child in &self.children {
            bytes.extend_from_slice(child.id.as_bytes());
            for sum in child.sums() {
                bytes.extend_from_slice(&sum.to_le_bytes());
            }
        }
        bytes
    }

    /// `None` if the bytes are not a canonical inner node.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = decode_head(&mut fields, INNER).filter(|head| head.level > 0)?;
        let children: Vec<FileSubtree> =
            (0..head.count).map(|_| decode_child(&mut fields)).collect::<Option<_>>()?;
        fields.end()?;
        let early = ends_early(children.iter().map(|child| Some(&child.id)));
        let inner = Self { level: head.level, children };
        (!early && inner.subtree(ObjectId::from_bytes([0; 32])).is_some()).then_some(inner)
    }

    /// The node, stored as `id`, as what stands above names it; `None` if a file can't be so long.
    pub(crate) fn subtree(&self, id: ObjectId) -> Option<FileSubtree> {
        add_up(id, self.children.iter().map(FileSubtree::sums))
    }
}

fn decode_child(fields: &mut Fields<'_>) -> Option<FileSubtree> {
    let id = fields.id()?;
    let (bytes, data_bytes, chunk_count) = (fields.u64()?, fields.u64()?, fields.u64()?);
    FileSubtree { id, bytes, data_bytes, chunk_count }.validated()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::canonical::assert_canonical;
    use crate::format::file_node::{MAX_FILE_LEVEL, MAX_FILE_SIZE};

    fn child(first: u8, bytes: u64) -> FileSubtree {
        let id = ObjectId::from_bytes([first; 32]);
        FileSubtree { id, bytes, data_bytes: bytes / 2, chunk_count: bytes / 4 }
    }

    fn is_refused(level: u8, children: &[FileSubtree]) -> bool {
        FileInner::decode(&FileInner { level, children: children.to_vec() }.encode()).is_none()
    }

    #[test]
    fn inner_nodes_have_one_encoding() {
        for (level, children) in [(1, vec![child(1, 1000), child(2, 1)]), (MAX_FILE_LEVEL, vec![child(0, 7)])]
        {
            assert_canonical(&FileInner { level, children }, FileInner::encode, FileInner::decode);
        }
    }

    #[test]
    fn levels_that_no_inner_node_has_are_refused() {
        assert!(is_refused(0, &[child(1, 1)]));
        assert!(is_refused(MAX_FILE_LEVEL + 1, &[child(1, 1)]));
    }

    #[test]
    fn sums_that_contradict_each_other_or_overflow_are_refused() {
        let good = child(1, 1000);
        assert!(is_refused(1, &[FileSubtree { bytes: 0, data_bytes: 0, chunk_count: 0, ..good }]));
        assert!(is_refused(1, &[FileSubtree { data_bytes: 1001, ..good }]));
        assert!(is_refused(1, &[FileSubtree { chunk_count: 501, ..good }]));
        assert!(is_refused(1, &[FileSubtree { bytes: MAX_FILE_SIZE + 1, ..good }]));
        assert!(is_refused(1, &[FileSubtree { bytes: MAX_FILE_SIZE, ..good }, good]));
        assert!(is_refused(1, &[child(1, MAX_FILE_SIZE); 3]));
    }

    #[test]
    fn a_node_without_children_or_behind_its_end_is_refused() {
        assert!(is_refused(1, &[]));
        assert!(!is_refused(1, &[child(0, 1); 64]));
        assert!(is_refused(1, &[child(0, 1); 65]));
        assert!(!is_refused(1, &[child(1, 1); 512]));
        assert!(is_refused(1, &[child(1, 1); 513]));
    }
}
