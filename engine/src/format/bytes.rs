//! Reads little-endian fields from a slice, in order and within its bounds.

use crate::id::ObjectId;

/// A place in a slice of bytes; every read fails at the end instead of going past it.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    /// The next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn id(&mut self) -> Option<ObjectId> {
        self.array().map(ObjectId::from_bytes)
    }

    /// The next bytes, after a byte that says how many they are.
    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether the next `N` bytes are exactly these.
    pub(crate) fn expect<const N: usize>(&mut self, expected: [u8; N]) -> Option<()> {
        (self.array()? == expected).then_some(())
    }

    /// Whether nothing is left.
    pub(crate) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// Whether all that is left is zero.
    pub(crate) fn zeros_to_end(&self) -> Option<()> {
        self.rest.iter().all(|&byte| byte == 0).then_some(())
    }
}
