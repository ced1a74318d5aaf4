//! Two trees side by side.

use super::numbers::TreeNumbers;
use super::sweep::Variant;
use super::walk::{SharedDirectory, directories_of};
use crate::format::Entry;

/// How many trees are compared.
const SIDES: u32 = 2;

/// Both trees.
pub(crate) fn both_sides() -> TreeNumbers {
    TreeNumbers::first(SIDES)
}

/// The entry on each side.
pub(crate) fn on_each_side<'a>(variants: &[Variant<'a>]) -> [Option<&'a Entry>; 2] {
    let of = |side: u32| variants.iter().find(|variant| variant.trees.contains(side));
    [of(0), of(1)].map(|variant| variant.map(|variant| variant.entry))
}

/// The directories among the entries on both sides, unless they are the same one.
pub(crate) fn differing_directories(on_sides: [Option<&Entry>; 2]) -> Vec<SharedDirectory> {
    let sets = [TreeNumbers::one(0), TreeNumbers::one(1)];
    let variants: Vec<Variant<'_>> = on_sides
        .iter()
        .zip(&sets)
        .filter_map(|(entry, trees)| entry.map(|entry| Variant { entry, trees }))
        .collect();
    let mut directories = directories_of(&variants);
    directories.retain(|directory| directory.trees != both_sides());
    directories
}
