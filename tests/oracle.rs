//! The oracle that trees are compared by tells them apart where they differ, and finds a faithful copy to be the same.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::World;
use support::oracle::{Leniency, RESTORED, assert_same, differences, make_nasty_tree, set_mtime};
use support::system::{Requirement, can_use, system};

#[test]
fn a_faithful_copy_is_the_same_and_every_change_of_it_is_told() {
    if !can_use(&[Requirement::Root, Requirement::Program("cp")]) {
        return;
    }
    let world = World::without_repository();
    let (original, copy) = (world.path("original"), world.path("copy"));
    fs::create_dir(&original).unwrap();
    make_nasty_tree(&original);
    let to = copy.to_str().unwrap();
    system("cp", &["--archive", "--sparse=auto", original.to_str().unwrap(), to]);
    let lenient = Leniency { holes: true, ..RESTORED };
    assert_same(&original, &copy, lenient);
    assert_same(&original, &original, Leniency::default());
    let changes: [(&str, &dyn Fn()); 7] = [
        ("content", &|| fs::write(copy.join("files/of-100"), [7; 100]).unwrap()),
        ("mtime", &|| set_mtime(&copy.join("files/of-1"), 5, 5)),
        ("mode", &|| fs::set_permissions(copy.join("empty"), fs::Permissions::from_mode(0o711)).unwrap()),
        ("attributes", &|| {
            rustix::fs::removexattr(copy.join("attributes/file"), "user.short").unwrap();
        }),
        ("names", &|| fs::write(copy.join("new"), b"").unwrap()),
        ("inode", &|| {
            fs::remove_file(copy.join("links/second")).unwrap();
            fs::write(copy.join("links/second"), b"has three names").unwrap();
        }),
        ("target", &|| {
            fs::remove_file(copy.join("links/up")).unwrap();
            std::os::unix::fs::symlink("elsewhere", copy.join("links/up")).unwrap();
        }),
    ];
    for (word, change) in changes {
        change();
        let found = differences(&original, &copy, lenient);
        assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
    }
}
