//! What a file step observes of its base: where all of it holds for another base, doing the step there gives the
//! very same layer.

use kiln_solver::{CopyAction, Digest, Layer, Mismatch};
use proptest::prelude::*;

use super::{World, from_to};
use crate::files::{Facts, FileError, copy};
use kiln_solver::{Cancel, Owner, UserRef};

impl World {
    /// The content of the layer that a copy makes, and what it asked of its base.
    fn observe(&self, base: &[Layer], action: &CopyAction) -> Result<(Digest, Facts), FileError> {
        let mut plan = self.plan(base);
        copy::copy(&mut plan, &self.context(), action, &self.store, &Cancel::new())?;
        let (layers, facts) = super::commit(&self.store, plan, super::now(), &Cancel::new())?;
        let layer = self.store.layer(&layers[base.len()].diff_id).unwrap().unwrap();
        let encoded = facts.unwrap().encode().unwrap();
        Ok((layer.content(), Facts::decode(&encoded).unwrap()))
    }

    fn recheck(&self, facts: &Facts, base: &[Layer]) -> Option<Mismatch> {
        facts.recheck(self.view(base))
    }
}

fn owned_by(name: &str, action: CopyAction) -> CopyAction {
    CopyAction { owner: Some(Owner { user: UserRef::Name(name.into()), group: None }), ..action }
}

#[test]
fn what_a_copy_does_not_touch_does_not_count() {
    let world = World::new(&["src/a", "src/sub/b"]);
    let base = world.layer(&["app/", "etc/passwd=ada:x:7:7::/:", "usr/lib/x"]);
    let same: [&[&str]; 3] = [
        &["app/", "etc/passwd=ada:x:7:7::/:", "usr/lib/y", "new/"],
        &["app/other", "etc/passwd=ada:x:7:7::/:"],
        &["app/", "etc/passwd=ada:x:7:7::/:", "etc/group=staff:x:50:"],
    ];
    let (_, facts) = world.observe(&base, &owned_by("ada", from_to("src", "/app/src/"))).unwrap();
    for files in same {
        assert_eq!(world.recheck(&facts, &world.layer(files)), None, "{files:?}");
    }
    let other: [(&[&str], &str); 6] = [
        (&["etc/passwd=ada:x:7:7::/:"], "/app"),
        (&["app", "etc/passwd=ada:x:7:7::/:"], "/app"),
        (&["app->elsewhere", "etc/passwd=ada:x:7:7::/:"], "/app"),
        (&["app/src/", "etc/passwd=ada:x:7:7::/:"], "/app/src"),
        (&["app/", "etc/passwd=ada:x:8:7::/:"], "/etc/passwd"),
        (&["app/", "etc->/elsewhere", "elsewhere/passwd=ada:x:7:7::/:"], "/etc"),
    ];
    for (files, subject) in other {
        let mismatch = world.recheck(&facts, &world.layer(files)).unwrap();
        assert_eq!(mismatch.subject, subject, "{files:?}: {mismatch}");
    }
}

#[test]
fn mismatches_are_told_to_people() {
    let world = World::new(&["a"]);
    let (_, facts) = world.observe(&world.layer(&["to->/x"]), &from_to("a", "/to/")).unwrap();
    let mismatch = world.recheck(&facts, &world.layer(&["to/"])).unwrap();
    assert_eq!(mismatch.to_string(), "`/to`: a link to `/x` → a directory");
}

#[test]
fn the_owner_and_mode_of_directories_that_are_carried_along_count() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(&["a"]);
    let with_mode = |mode| {
        world.layer_of(|root| {
            super::fill(root, &["to/"]);
            std::fs::set_permissions(root.join("to"), PermissionsExt::from_mode(mode)).unwrap();
        })
    };
    let (content, facts) = world.observe(&with_mode(0o755), &from_to("a", "/to/")).unwrap();
    assert_eq!(world.recheck(&facts, &with_mode(0o755)), None);
    assert!(world.recheck(&facts, &with_mode(0o700)).unwrap().was.contains("mode 0755"));
    assert_ne!(world.observe(&with_mode(0o700), &from_to("a", "/to/")).unwrap().0, content);
}

#[test]
fn other_bytes_are_no_facts() {
    for bytes in [&b""[..], &[0], &[1], &[1, 200, 200, 200], b"\x02\x00"] {
        assert_eq!(Facts::decode(bytes), None, "{bytes:?}");
    }
    assert_eq!(Facts::decode(&[1, 0]), Some(Facts::default()));
}

/// Few names, so that they meet.
fn base() -> impl Strategy<Value = Vec<String>> {
    let name = prop::sample::select(vec!["a", "b", "c", "a/b", "a/b/c", "b/a", "etc/passwd"]);
    let entry = (name, 0..6_u8).prop_map(|(name, kind)| match kind {
        0 => format!("{name}->/b"),
        1 => format!("{name}->c"),
        2 => format!("{name}=ada:x:5:5::/:"),
        3 => format!("{name}=ada:x:6:6::/:"),
        _ => format!("{name}/"),
    });
    prop::collection::vec(entry, 0..6)
}

/// Fills in what can be filled in: what is in the way of something else stays.
fn layer(world: &World, entries: &[String]) -> Vec<Layer> {
    world.layer_of(|root| {
        for entry in entries {
            let path = entry.split(['-', '=']).next().unwrap().trim_end_matches('/');
            let above = std::path::Path::new(path).ancestors().skip(1);
            let free = above
                .into_iter()
                .all(|above| root.join(above).symlink_metadata().map_or(true, |metadata| metadata.is_dir()));
            if free && root.join(path).symlink_metadata().is_err() {
                super::fill(root, &[entry]);
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_the_facts_hold_the_step_would_do_the_same(
        bases in prop::collection::vec(base(), 2..5),
        source in prop::sample::select(vec!["file", "dir", "tree"]),
        destination in prop::sample::select(vec!["/a", "/a/", "/a/b", "/b/", "/c/b/a", "/a/b/c/", "/"]),
        owned in any::<bool>(),
    ) {
        let world = World::new(&["file", "dir/b", "tree/b/c", "tree/c->x"]);
        let action = from_to(source, destination);
        let action = if owned { owned_by("ada", action) } else { action };
        let layers: Vec<Vec<Layer>> = bases.iter().map(|entries| layer(&world, entries)).collect();
        for base in &layers {
            let Ok((content, facts)) = world.observe(base, &action) else { continue };
            prop_assert_eq!(world.recheck(&facts, base), None);
            for other in &layers {
                if world.recheck(&facts, other).is_none() {
                    prop_assert_eq!(world.observe(other, &action).unwrap().0, content);
                }
            }
        }
    }
}
