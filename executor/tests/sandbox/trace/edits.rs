//! Edits of what a command looked at miss, edits of anything else hit, and a hit is never wrong.

use std::collections::BTreeMap;

use kiln_executor::trace::Observations;

use super::Place;
use crate::world::World;

/// A script, edits that must make it run again, and edits that must not. `!name` takes something away, anything else
/// is added or takes the place of what has its name.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const TREE: &[&str] = &[
    "traced/a: 1",
    "traced/b: 1",
    "traced/bin/tool: #!/bin/sh\necho tool\n",
    "traced/src/main.c: int main(void){return 0;}\n",
    "traced/src/lib.h: #define LIB 1\n",
    "traced/deep/er/file: 1",
    "traced/link -> deep/er",
    "requirements.txt: one==1\n",
];

const ROWS: &[Row] = &[
    (
        "cat requirements.txt",
        &["requirements.txt: two==2\n", "!requirements.txt"],
        &["traced/a: 2", "new", "!traced/link"],
    ),
    (
        "cat /traced/link/file",
        &["traced/link -> bin", "traced/deep/er/file: 2", "!traced/deep/er/file", "traced/deep: file"],
        &["traced/a: 2", "traced/deep/er/more", "traced/deep/more", "!traced/src/lib.h"],
    ),
    (
        "PATH=/traced/first:/traced/bin:/bin tool",
        &["traced/bin/tool: #!/bin/sh\necho other\n", "traced/first/tool: x"],
        &["traced/bin/other", "traced/a: 2"],
    ),
    (
        "echo traced/src/*",
        &["traced/src/new.c", "!traced/src/lib.h"],
        &["traced/src/lib.h: #define LIB 2\n", "traced/new"],
    ),
    ("stat -c %s traced/a", &["traced/a: 12", "traced/a: 2", "!traced/a", "traced/a/"], &["traced/b: 2"]),
    ("cat traced/a", &["traced/a: 2", "!traced/a"], &["traced/b: 2", "traced/c: 2", "!traced/b"]),
    ("! cat traced/none", &["traced/none", "traced/none -> a", "traced/none/"], &["traced/nun", "traced/a: 2"]),
    (
        "rm -rf traced/src",
        &["traced/src/new", "!traced/src/main.c", "!traced/src/lib.h"],
        &["traced/a: 2", "traced/new"],
    ),
    (
        "cp -a traced/src /tmp/src",
        &["traced/src/lib.h: #define LIB 2\n", "traced/src/new"],
        &["traced/a: 2", "requirements.txt: "],
    ),
    (
        "cc traced/src/main.c -o /tmp/main",
        &["traced/src/main.c: int main(void){return 1;}\n"],
        &["traced/src/lib.h: x", "traced/a: 2", "traced/src/other.c"],
    ),
    ("echo traced/* >/dev/null", &["traced/new", "!traced/a", "traced/a/"], &["traced/a: 2", "traced/src/new"]),
    ("find traced -type f >/dev/null", &["traced/deep/er/new", "!traced/a"], &["traced/a: 2222"]),
    ("tar c traced | wc -c", &["traced/a: 2", "traced/deep/er/file: 2"], &["requirements.txt: "]),
    ("cd traced && sed -i s/1/2/ a", &["traced/a: 3"], &["traced/b: 3"]),
    ("cat /etc/hostname", &["etc/hostname: mine", "-etc/hostname"], &["traced/a: 2"]),
];

pub fn edits_miss_or_hit(world: &World) {
    let place = Place::new(world);
    // busybox's `find` looks at each file that it names.
    let is_possible = |script: &str| place.is_machine() || !(script.starts_with("cc ") || script.starts_with("find "));
    for (script, misses, hits) in ROWS.iter().filter(|row| is_possible(row.0)) {
        let traced = place.traced(&place.union(&[TREE]), script, false);
        assert!(traced.output.status.success(), "{script}: {:?}", traced.output);
        let check = |edit: &str| traced.observations.check(&place.union(&[&edited(TREE, edit)]));
        for edit in *misses {
            assert!(check(edit).is_some(), "`{script}` must miss after {edit:?}");
        }
        for edit in *hits {
            assert_eq!(check(edit), None, "`{script}` must hit after {edit:?}");
        }
    }
}

fn name_of(thing: &str) -> &str {
    let name = thing.split([':', '=']).next().unwrap_or(thing);
    name.split(" ->").next().unwrap_or(name).trim_end_matches('/').trim_start_matches('-')
}

fn edited<'t>(tree: &[&'t str], edit: &'t str) -> Vec<&'t str> {
    let name = name_of(edit.trim_start_matches('!'));
    let inside = format!("{name}/");
    let mut things: Vec<&str> = tree.to_vec();
    things.retain(|thing| name_of(thing) != name && !name_of(thing).starts_with(&inside));
    if !edit.starts_with('!') {
        things.push(edit);
    }
    things
}

/// A pseudo-random sequence that is the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const NAMES: &[&str] = &["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "f/g/a"];
const VALUES: &[&str] = &["1", "2", "33"];
const ACTIONS: &[&str] = &[
    "cat X",
    "cat X Y",
    "ls X",
    "ls -A .",
    "test -e X",
    "test -d X",
    "test -s X && cat X",
    "echo X/*",
    "echo */a",
    "grep -rs 1 X",
    "find X",
    "cp -a X new",
    "rm -rf X",
    "mv X Y",
    "echo 4 > X",
    "echo 5 >> X",
    "mkdir -p X",
    "ln -s X new",
    "ln X new",
    "readlink X",
    "[ X -ef Y ]",
    "cat X > new",
    "cd X && ls",
    "touch X",
    "chmod 700 X",
    "rmdir X",
    "mv X new",
    "wc -c X",
    "tar c X 2>/dev/null | wc -c",
    "find . -name a | sort",
];

fn random_tree(dice: &mut Dice) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for _ in 0..3 + dice.below(6) {
        change(&mut tree, dice);
    }
    tree
}

/// Puts something somewhere, in the place of all that is in its way.
fn change(tree: &mut BTreeMap<String, String>, dice: &mut Dice) {
    let name = dice.pick(NAMES).to_owned();
    let inside = format!("{name}/");
    tree.retain(|other, _| *other != name && !other.starts_with(&inside) && !name.starts_with(&format!("{other}/")));
    let thing = match dice.below(8) {
        0 => return,
        1 => format!("traced/{name}/"),
        2 => format!("traced/{name} -> {}", dice.pick(NAMES)),
        3 => format!("traced/{name} -> /traced/{}", dice.pick(NAMES)),
        _ => format!("traced/{name}: {}", dice.pick(VALUES)),
    };
    tree.insert(name, thing);
}

pub fn random_edits_are_never_a_wrong_hit(world: &World) {
    let place = Place::new(world);
    let seed = std::env::var("TRACE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let rounds = std::env::var("TRACE_ROUNDS").map_or(25, |rounds| rounds.parse().unwrap());
    let (mut hits, mut checks) = (0, 0);
    for round in 0..rounds {
        let mut dice = Dice(seed * 1_000_003 + round);
        let mut tree = random_tree(&mut dice);
        let layer = |tree: &BTreeMap<String, String>| {
            let things: Vec<&str> = ["traced/"].into_iter().chain(tree.values().map(String::as_str)).collect();
            place.union(&[&things])
        };
        let script: Vec<String> = (0..1 + dice.below(3))
            .map(|_| dice.pick(ACTIONS).replace('X', dice.pick(NAMES)).replace('Y', dice.pick(NAMES)))
            .collect();
        let script = format!("cd /traced; ({}) 2>&1", script.join("; "));
        let before = tree.clone();
        let first = place.traced(&layer(&tree), &script, true);
        let observations = Observations::decode(first.observations.encode().to_vec()).unwrap();
        assert_eq!(observations.check(&layer(&tree)), None, "{script} over {before:?}");
        for _ in 0..4 {
            change(&mut tree, &mut dice);
            checks += 1;
            if observations.check(&layer(&tree)).is_none() {
                hits += 1;
                let again = place.traced(&layer(&tree), &script, true);
                assert_eq!(again.stdout(), first.stdout(), "round {round}: {script}\nbefore {before:?}\nnow {tree:?}");
            }
        }
    }
    assert!(hits * 8 > checks, "{hits} hits of {checks} are too few to show anything");
}
