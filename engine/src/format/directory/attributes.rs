//! Extended attributes, ACLs among them: short lists in the entry, longer ones as the content of a chunk.

use std::fmt;

use super::chunk_list::{ChunkIds, ChunkNumbers};
use crate::format::MAX_CHUNK_SIZE;
use crate::format::bytes::Fields;
use crate::id::ObjectId;

/// The longest encoded list that an entry holds.
const MAX_INLINE_LEN: usize = 2048;

/// The extended attributes of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// There are none.
    None,
    /// They stand in the entry: [`AttributeList::fits_inline`].
    Inline(AttributeList),
    /// They are the content of a chunk.
    Chunk(ObjectId),
}

impl Attributes {
    pub(super) const INLINE_FLAG: u8 = 4;
    pub(super) const CHUNK_FLAG: u8 = 8;

    pub(super) fn flag(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Inline(_) => Self::INLINE_FLAG,
            Self::Chunk(_) => Self::CHUNK_FLAG,
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Inline(list) => list.encoded().len(),
            Self::Chunk(_) => 4,
        }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>, chunks: &mut ChunkNumbers) {
        match self {
            Self::None => {}
            Self::Inline(list) => bytes.extend_from_slice(list.encoded()),
            Self::Chunk(id) => bytes.extend_from_slice(&chunks.number(*id).to_le_bytes()),
        }
    }

    /// Decodes what the flag says that there is.
    pub(super) fn decode(flag: u8, fields: &mut Fields<'_>, chunks: &mut ChunkIds<'_>) -> Option<Self> {
        match flag {
            0 => Some(Self::None),
            Self::INLINE_FLAG => {
                AttributeList::decode(fields).filter(AttributeList::fits_inline).map(Self::Inline)
            }
            Self::CHUNK_FLAG => fields.u32().and_then(|number| chunks.id(number)).map(Self::Chunk),
            _ => None,
        }
    }
}

/// A list of extended attributes as it is stored: not empty, sorted by name, each name once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AttributeList(Box<[u8]>);

impl AttributeList {
    /// Makes a list of names and values, given in any order. `None` if there are none or more than 65,535, if a name
    /// comes twice, is empty, longer than 255 bytes or has a byte 0, or if all together are too long for a chunk.
    pub fn new(mut attributes: Vec<(&[u8], &[u8])>) -> Option<Self> {
        attributes.sort_unstable();
        let mut bytes = u16::try_from(attributes.len()).ok()?.to_le_bytes().to_vec();
        for (name, value) in attributes {
            bytes.push(u8::try_from(name.len()).ok()?);
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(value);
        }
        Self::decode(&mut Fields::new(&bytes))
    }

    /// Takes the content of a chunk; `None` if that is no list, or one that would stand in its entry.
    pub fn from_chunk(content: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(content);
        let list = Self::decode(&mut fields).filter(|list| !list.fits_inline())?;
        fields.end().map(|()| list)
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let all = fields.rest();
        let mut last: &[u8] = b"";
        for _ in 0..fields.u16().filter(|&count| count > 0)? {
            let (name, _) = decode_attribute(fields)?;
            // Above the last one, so not empty either.
            (name > last && !name.contains(&0)).then_some(())?;
            last = name;
        }
        let list = all.get(..all.len() - fields.rest().len())?;
        (list.len() <= MAX_CHUNK_SIZE as usize).then(|| Self(list.into()))
    }

    /// Whether the list stands in its entry. One that does not is the content of a chunk.
    pub fn fits_inline(&self) -> bool {
        self.0.len() <= MAX_INLINE_LEN
    }

    /// The list as it stands in an entry, and as the content of a chunk.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut fields = Fields::new(self.0.get(2..).unwrap_or_default());
        std::iter::from_fn(move || decode_attribute(&mut fields))
    }

    /// The value of the attribute of this name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find_map(|(other, value)| (other == name).then_some(value))
    }
}

fn decode_attribute<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let name = fields.short_bytes()?;
    let length = usize::try_from(fields.u32()?).ok()?;
    Some((name, fields.bytes(length)?))
}

impl fmt::Debug for AttributeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(name, value): (&[u8], &[u8])| {
            (name.escape_ascii().to_string(), value.escape_ascii().to_string())
        };
        f.debug_map().entries(self.iter().map(text)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::canonical::assert_canonical;

    #[test]
    fn attributes_are_sorted_and_found_by_name() {
        let list =
            AttributeList::new(vec![(b"user.b", b""), (b"user.a", b"value"), (b"user", b"\0")]).unwrap();
        let names: Vec<&[u8]> = list.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"user"[..], b"user.a", b"user.b"]);
        assert_eq!(list.get(b"user.a"), Some(&b"value"[..]));
        assert_eq!(list.get(b"user.c"), None);
    }

    #[test]
    fn lists_that_no_inode_has_are_refused() {
        assert_eq!(AttributeList::new(vec![]), None);
        assert_eq!(AttributeList::new(vec![(b"", b"x")]), None);
        assert_eq!(AttributeList::new(vec![(b"a\0", b"x")]), None);
        assert_eq!(AttributeList::new(vec![(&[b'x'; 256], b"x")]), None);
        assert_eq!(AttributeList::new(vec![(b"a", b"x"), (b"a", b"y")]), None);
        assert_eq!(AttributeList::new(vec![(b"a", &vec![0; 8 << 20])]), None);
    }

    #[test]
    fn a_list_is_the_content_of_a_chunk_if_and_only_if_it_is_too_long_for_an_entry() {
        let overhead = 2 + 1 + 1 + 4;
        for (length, is_inline) in [(MAX_INLINE_LEN - overhead, true), (MAX_INLINE_LEN - overhead + 1, false)]
        {
            let list = AttributeList::new(vec![(b"a", &vec![7; length])]).unwrap();
            assert_eq!(list.fits_inline(), is_inline);
            assert_eq!(AttributeList::from_chunk(list.encoded()).is_none(), is_inline);
        }
    }

    #[test]
    fn long_lists_have_one_encoding() {
        let values = [vec![1; 1500], vec![2; 700]];
        let list = AttributeList::new(vec![(b"user.one", &values[0]), (b"user.two", &values[1])]).unwrap();
        assert_canonical(&list, |list| list.encoded().to_vec(), AttributeList::from_chunk);
    }
}
