//! What of a tree is left out.

use super::limits::Mount;
use super::*;

fn excluding(patterns: &[&str]) -> TreeOptions {
    let excludes = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    TreeOptions { excludes, ..TreeOptions::default() }
}

#[test]
fn what_matches_a_pattern_is_left_out() {
    let tree = Tree::new().with(&["a/x.o", "a/keep.o", "a/b/x.o", "cache/y", "a/cache/y", "tmp", "a/tmp/z"]);
    let found = with_options(&tree, excluding(&["*.o", "!keep.o", "/cache", "tmp/"]));
    assert_eq!(found, ["a/", "b/", "..", "cache/", "y", "..", "keep.o", "..", "tmp"]);
}

#[test]
fn nothing_is_taken_in_again_from_a_directory_that_is_left_out() {
    let tree = Tree::new().with(&["a/x", "a/y", "b/x", "b/y"]);
    assert_eq!(with_options(&tree, excluding(&["/a", "/b/*", "!y"])), ["b/", "y", ".."]);
}

#[test]
fn of_a_cache_only_its_tag_is_kept() {
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test";
    let tree = Tree::new().with(&["cache/deep/x", "cache/y", "false/y", "link/y", "short/y"]);
    fs::write(tree.at("cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(tree.at("false/CACHEDIR.TAG"), tag.replace("8a", "8b")).unwrap();
    fs::write(tree.at("short/CACHEDIR.TAG"), &tag[..42]).unwrap();
    std::os::unix::fs::symlink("../cache/CACHEDIR.TAG", tree.at("link/CACHEDIR.TAG")).unwrap();
    let options = TreeOptions { exclude_caches: true, ..TreeOptions::default() };
    assert_eq!(
        with_options(&tree, options.clone()).join(" "),
        "cache/ CACHEDIR.TAG .. false/ CACHEDIR.TAG y .. link/ CACHEDIR.TAG y .. short/ CACHEDIR.TAG y .."
    );
    assert_eq!(steps(&TreeSource::open(&tree.at("cache"), options).unwrap()), ["CACHEDIR.TAG"]);
    assert_eq!(steps(&tree.source())[..6], ["cache/", "CACHEDIR.TAG", "deep/", "x", "..", "y"]);
}

#[test]
fn the_repository_is_never_backed_up() {
    let tree = Tree::new().with(&["a/repository/packs/x", "a/file", "b/repository/x"]);
    let repository = tree.entry("a/repository").stat.identity;
    let options =
        TreeOptions { never: vec![(repository.device, repository.inode)], ..TreeOptions::default() };
    let found = with_options(&tree, options.clone());
    assert_eq!(found, ["a/", "file", "..", "b/", "repository/", "x", "..", ".."]);
    for path in ["a/repository", "a/repository/packs"] {
        let error = TreeSource::open(&tree.at(path), options.clone()).err().unwrap().to_string();
        assert!(error.contains("repository") && error.contains("never"), "{error}");
    }
}

#[test]
fn other_file_systems_are_kept_empty_if_so_wished() {
    if !is_root("other_file_systems_are_kept_empty_if_so_wished") {
        return;
    }
    let mount = Mount::new("ext4");
    let tree = mount.tree().with(&["a/", "mounted/", "z"]);
    let _inner = Mount::tmpfs(&tree.at("mounted"));
    fs::write(tree.at("mounted/inner"), "x").unwrap();
    let one = TreeOptions { one_file_system: true, ..TreeOptions::default() };
    assert_eq!(with_options(&tree, one.clone()), ["a/", "..", "mounted/", "..", "z"]);
    assert_eq!(steps(&tree.source()), ["a/", "..", "mounted/", "inner", "..", "z"]);
    let devices: Vec<u64> =
        ["", "mounted", "mounted/inner"].map(|path| tree.entry(path).stat.identity.device).into();
    assert!(devices[0] != devices[1] && devices[1] == devices[2]);
    // The root's own file system is the one, wherever it is mounted.
    assert_eq!(steps(&TreeSource::open(&tree.at("mounted"), one).unwrap()), ["inner"]);
}

#[test]
fn only_a_directory_can_be_a_tree_and_a_link_to_it_is_followed() {
    let tree = Tree::new().with(&["a/x", "file"]);
    std::os::unix::fs::symlink("a", tree.at("link")).unwrap();
    let open = |path: &str| TreeSource::open(&tree.at(path), TreeOptions::default());
    assert_eq!(steps(&open("link").unwrap()), ["x"]);
    for path in ["file", "missing"] {
        let error = open(path).err().unwrap().to_string();
        assert!(error.contains("cannot use") && error.contains(path), "{error}");
    }
}
