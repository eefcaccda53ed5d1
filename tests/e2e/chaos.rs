//! Builds of random Dockerfiles, several at once over one store, while others prune, untag and repair, and any of them
//! may be killed. What a build says that it has made must be what its Dockerfile means, always; whatever was killed,
//! the store is sound, and nothing is left of it.
//!
//! The seed decides what is built and edited, and after which event something is killed; how the processes interleave
//! nobody decides. `KILN_CHAOS_CASES` asks for more cases, `KILN_CHAOS_SEED` for those from a certain one on.

mod killer;
mod model;
mod random;
mod recipe;

use killer::{Ended, Sentence, Trigger, Victim, Watch};
use kiln_tests::{Image, Project, World, users};
use model::Model;
use random::Random;
use recipe::Recipe;
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many stores are worn out, unless more are asked for.
const CASES: u64 = 2;
/// How many rounds each of them sees.
const ROUNDS: usize = 4;

#[test]
fn random_builds_at_once_with_kills_are_right_and_leave_nothing() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    let (cases, first) = (number("KILN_CHAOS_CASES").unwrap_or(CASES), number("KILN_CHAOS_SEED").unwrap_or(1));
    for seed in first..first + cases {
        let case = std::panic::AssertUnwindSafe(|| Case::new(seed).run());
        if let Err(panic) = std::panic::catch_unwind(case) {
            eprintln!("this was the case of KILN_CHAOS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// One store and what is done to it.
struct Case {
    seed: u64,
    random: Random,
    world: World,
    projects: Vec<(Recipe, Project)>,
    groups: String,
}

/// What a process is for.
#[derive(Clone, Debug)]
enum Work {
    Build { project: usize, archive: PathBuf },
    Prune,
    Untag,
    Repair,
    Usage,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = if random.once_in(4) { World::of(users::with_ranges()) } else { World::new() };
        let mut recipe = Recipe::random(&mut random);
        let mut projects = Vec::new();
        for _ in 0..3 {
            projects.push((recipe.clone(), world.project(&[])));
            recipe.edit(&mut random);
        }
        let groups = format!("kiln-chaos-{}-{seed}", std::process::id());
        Self { seed, random, world, projects, groups }
    }

    fn run(&mut self) {
        for round in 0..ROUNDS {
            if round > 0 {
                for (recipe, _) in &mut self.projects {
                    if self.random.once_in(2) {
                        recipe.edit(&mut self.random);
                    }
                }
            }
            self.lay_out();
            self.round(round);
            self.must_be_sound();
        }
        self.all_is_right_and_found_again();
        self.must_be_sound();
        if !self.is_rootless() {
            self.no_control_group_must_be_left();
        }
    }

    /// Writes the contexts, whole: what has gone is gone.
    fn lay_out(&self) {
        for (recipe, project) in &self.projects {
            for top in ["a", "b"] {
                let _ = std::fs::remove_dir_all(project.join(top));
            }
            project.write("Dockerfile", &recipe.dockerfile());
            for (path, source) in &recipe.context {
                project.write(path, &source.text);
                let mode = if source.executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(project.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
            }
            self.world.give(project.path());
        }
    }

    /// Some at once, some of which are killed.
    fn round(&mut self, round: usize) {
        let watch = Watch::begin(self.world.root());
        let mut victims = Vec::new();
        for number in 0..2 + self.random.below(3) {
            let work = self.work(round, number);
            let sentence = self.sentence();
            let command = self.kiln(&work).into_command();
            victims.push((work, sentence, Victim::start(command, sentence, &watch)));
        }
        let deadline = Instant::now() + Duration::from_secs(300);
        while !victims.iter().all(|(_, _, victim)| victim.is_over()) {
            assert!(Instant::now() < deadline, "somebody does not end: {:?}", self.describe(&victims));
            std::thread::sleep(Duration::from_millis(5));
        }
        watch.end();
        for (work, sentence, victim) in victims {
            self.judge(&work, sentence, &victim.finish());
        }
    }

    fn describe(&self, victims: &[(Work, Sentence, Victim)]) -> Vec<String> {
        let describe = |(work, sentence, victim): &(Work, Sentence, Victim)| {
            format!("{work:?} {sentence:?} over: {}", victim.is_over())
        };
        victims.iter().map(describe).collect()
    }

    fn work(&mut self, round: usize, number: usize) -> Work {
        // The first is always a build.
        match if number == 0 { 0 } else { self.random.below(10) } {
            0..6 => {
                let archive = self.world.home().join(format!("image-{round}-{number}.tar"));
                Work::Build { project: self.random.below(self.projects.len()), archive }
            }
            6 | 7 => Work::Prune,
            8 if self.random.once_in(2) => Work::Usage,
            8 => Work::Untag,
            _ => Work::Repair,
        }
    }

    fn sentence(&mut self) -> Sentence {
        let trigger = match self.random.below(5) {
            0 | 1 => Trigger::Events(self.random.of_any_size(11)),
            2 => Trigger::Lines(1 + self.random.below(60)),
            _ => Trigger::Never,
        };
        let signal = if self.random.once_in(6) { Signal::INT } else { Signal::KILL };
        Sentence { trigger, signal }
    }

    fn kiln(&mut self, work: &Work) -> kiln_tests::Kiln {
        match work {
            Work::Build { project, archive } => {
                let compression = self.random.pick(&["uncompressed", "gzip", "zstd"]);
                let output = format!("type=oci,dest={},compression={compression}", archive.display());
                let kiln = self.world.build(&self.projects[*project].1).args(["-o", &output]);
                let kiln = kiln.args(["-t", &format!("app:{}", self.random.below(3))]);
                // Control groups of their own, which only root may make.
                if self.random.once_in(3) && !self.is_rootless() {
                    kiln.args(["--cgroup-parent", &self.groups])
                } else {
                    kiln
                }
            }
            Work::Prune if self.random.once_in(2) => self.world.kiln(["prune", "-f", "--all"]),
            Work::Prune => self.world.kiln(["prune", "-f"]),
            Work::Untag => self.world.kiln(["rmi", "-f", &format!("app:{}", self.random.below(3))]),
            Work::Repair if self.random.once_in(2) => self.world.kiln(["fsck", "--deep", "--repair"]),
            Work::Repair => self.world.kiln(["fsck", "--repair"]),
            Work::Usage => self.world.kiln(["du"]),
        }
    }

    fn is_rootless(&self) -> bool {
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(self.world.home()).unwrap()) != 0
    }

    /// What was not killed has done its work, and what was has done it or not.
    fn judge(&self, work: &Work, sentence: Sentence, ended: &Ended) {
        let told = || format!("{work:?}, {sentence:?}: {}\n{}\n{}", ended.status, ended.stdout, ended.stderr);
        let was_stopped = matches!(ended.status.signal(), Some(2 | 9)) || ended.status.code() == Some(130);
        assert!(ended.status.success() || ended.struck && was_stopped, "{}", told());
        assert!(!ended.stderr.contains("panicked"), "{}", told());
        match work {
            Work::Build { project, archive } if ended.status.success() => self.must_be_right(*project, archive),
            Work::Build { project, archive } if archive.exists() => self.must_be_right(*project, archive),
            Work::Repair => assert!(!ended.stdout.contains("problem:"), "{}", told()),
            _ => {}
        }
    }

    fn must_be_right(&self, project: usize, archive: &Path) {
        let tree = Image::from_oci_archive(archive).tree();
        let recipe = &self.projects[project].0;
        let differences = Model::of(recipe).differences(&tree);
        assert!(differences.is_empty(), "{}\nof {}", differences.join("\n"), recipe.dockerfile());
        std::fs::remove_file(archive).unwrap();
    }

    /// Nothing is wrong with the store and nothing left of what was killed, once kiln has started again.
    fn must_be_sound(&self) {
        let checked = self.world.kiln(["fsck", "--deep"]).run();
        assert!(checked.status.success(), "{checked}");
        assert!(!checked.stdout_text().contains("left behind"), "{checked}");
        let root = self.world.root();
        let names = |folder: &str| -> Vec<String> {
            let entries = std::fs::read_dir(root.join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names("tmp"), [""; 0], "temporary files are left");
        let strange: Vec<String> =
            names("generations").into_iter().filter(|name| name != "current" && name.parse::<u64>().is_err()).collect();
        assert_eq!(strange, [""; 0], "parts of generations are left");
        let strange: Vec<String> = names("contexts").into_iter().filter(|name| name.contains('.')).collect();
        assert_eq!(strange, [""; 0], "parts of stat caches are left");
        self.nobody_must_be_left();
    }

    /// No process that has anything of this world open or mounted.
    fn nobody_must_be_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = processes_of(self.world.path());
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "processes are left: {left:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let root = format!("{}/", self.world.root().display());
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(&root)).collect();
        assert_eq!(left, [""; 0], "mounts are left");
    }

    /// A kiln that was killed may leave some for the next that makes any in the same place.
    fn no_control_group_must_be_left(&self) {
        self.world.build(&self.projects[0].1).args(["--cgroup-parent", &self.groups]).succeeds();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let hierarchies =
            text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        for hierarchy in hierarchies {
            let parent = Path::new(hierarchy).join(&self.groups);
            let Ok(entries) = std::fs::read_dir(&parent) else { continue };
            let left: Vec<_> =
                entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "control groups are left: {left:?}");
        }
    }

    /// Whatever the store remembers now is right; and what was built is found again.
    fn all_is_right_and_found_again(&mut self) {
        for project in 0..self.projects.len() {
            let archive = self.world.home().join("image-last.tar");
            let work = Work::Build { project, archive: archive.clone() };
            let built = self.kiln(&work).succeeds();
            self.must_be_right(project, &archive);
            let again = self.kiln(&work).succeeds();
            let ran = again.progress();
            assert_eq!(
                ran.ran_instructions(),
                [""; 0],
                "seed {}: it was built a moment ago\n{built}\n{again}",
                self.seed
            );
            self.must_be_right(project, &archive);
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let hierarchies =
            text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        for hierarchy in hierarchies {
            let _ = std::fs::remove_dir(Path::new(hierarchy).join(&self.groups));
        }
    }
}

/// The processes that have to do with files below a directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let prefix = format!("{}/", directory.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process || entry.file_name().to_str() == Some(&std::process::id().to_string()) {
            continue;
        }
        let read =
            |name: &str| String::from_utf8_lossy(&std::fs::read(path.join(name)).unwrap_or_default()).into_owned();
        let links = std::fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|fd| fd.path().read_link().ok());
        let has_open = links.into_iter().any(|link| link.starts_with(directory));
        if has_open || read("environ").contains(&prefix) || read("mountinfo").contains(&prefix) {
            found.push(format!("{} {}", path.display(), read("cmdline").replace('\0', " ")));
        }
    }
    found
}
