//! The workloads, each made ready for kiln and for buildah.

use crate::large_store;
use kiln_tests::buildah::Buildah;
use kiln_tests::{Kiln, Project, World, command, users};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// Makes the commands of one run; what it does itself is not timed.
pub(crate) type Make = Box<dyn FnMut() -> Vec<Command>>;

/// The two sides of a workload.
pub(crate) struct Pair {
    pub(crate) kiln: Make,
    pub(crate) buildah: Make,
}

/// Some work that both can do.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What kiln means to need on two cores.
    pub(crate) goal: Duration,
    /// It writes so much that few runs must do, and nothing of it can stay.
    pub(crate) is_large: bool,
    /// How many steps of `true` there are, where that is what it is about.
    pub(crate) steps: u32,
    pub(crate) prepare: fn() -> Pair,
}

pub(crate) fn all() -> Vec<Workload> {
    let workload = |name, what, goal, prepare| Workload {
        name,
        what,
        goal: Duration::from_millis(goal),
        is_large: false,
        steps: 0,
        prepare,
    };
    let mut all = vec![
        workload("a", "all cached, ten instructions", 5, all_cached_small),
        workload("a50k", "the same in a store of 50,000 records", 5, all_cached_large_store),
        workload("b", "all cached, 20,000 files of 4 KiB", 30, || all_cached(|world| many_files(world, 20_000))),
        workload("b100k", "all cached, 100,000 of them", 120, || all_cached(|world| many_files(world, 100_000))),
        workload("c", "COPY of those, nothing known of them", 500, cold_copy),
        workload("cw", "COPY of those again, the context known", 500, warm_copy),
        workload("d", "thirty RUN true", 150, thirty_runs),
        workload("d60", "thirty RUN true, 60 layers deep", 180, thirty_runs_deep),
        workload("dr", "thirty RUN true, as an ordinary user", 210, thirty_runs_rootless),
        workload("e", "four stages of RUN sleep 1", 1040, four_stages),
        workload("fg", "RUN writing 1 GiB, exported as gzip", 8500, || large_export("gzip")),
        workload("fz", "RUN writing 1 GiB, exported as zstd", 5500, || large_export("zstd")),
        workload("pp", "push of an image that the registry has", 50, unchanged_push),
        workload("pl", "pull of Debian, to its files (skopeo copy, umoci unpack)", 1500, pull),
        workload("pr", "the same, to the end of a first RUN", 1500, pull_and_run),
    ];
    for large in all.iter_mut().filter(|workload| workload.name.starts_with('f')) {
        large.is_large = true;
    }
    for small in all.iter_mut().filter(|workload| workload.name.starts_with('d')) {
        small.steps = STEPS;
    }
    all
}

/// How many steps the workloads with `RUN true` have.
const STEPS: u32 = 30;

const TEN_INSTRUCTIONS: &str = "FROM busybox
ENV one=1
WORKDIR /app
RUN echo one > one
COPY a .
RUN cat a > two
COPY b .
RUN cat b > three
LABEL four=4
CMD [\"sh\"]
";

fn all_cached_small() -> Pair {
    all_cached(small)
}

fn small(world: &World) -> Project {
    world.project(&[("Dockerfile", TEN_INSTRUCTIONS), ("a", "a\n"), ("b", "b\n")])
}

/// kiln's store holds 50,000 records and 5,000 layers of other builds.
fn all_cached_large_store() -> Pair {
    all_cached(|world| {
        let project = small(world);
        world.build(&project).succeeds();
        large_store::fill(world.root(), 50_000, 5_000);
        project
    })
}

/// So many files of 4 KiB of noise, a hundred in each directory.
fn many_files(world: &World, files: usize) -> Project {
    let project = world.project(&[("Dockerfile", "FROM busybox\nCOPY . /files\n")]);
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = vec![0; 4096];
    for directory in 0..files / 100 {
        let path = project.join(&format!("d{directory}"));
        std::fs::create_dir(&path).unwrap();
        for file in 0..100 {
            for word in content.chunks_exact_mut(8) {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                word.copy_from_slice(&noise.to_le_bytes());
            }
            std::fs::write(path.join(format!("f{file}")), &content).unwrap();
        }
    }
    project
}

fn all_cached(make: impl FnOnce(&World) -> Project) -> Pair {
    let world = World::new();
    let project = make(&world);
    let buildah = Buildah::new();
    world.build(&project).succeeds();
    command::run(&mut buildah.bud(project.path(), &["--layers"]));
    let context = project.path().to_owned();
    Pair {
        kiln: Box::new(move || vec![world.build(&project).into_command()]),
        buildah: Box::new(move || vec![buildah.bud(&context, &["--layers"])]),
    }
}

/// Runs of the same build without a cache; the base image is there already.
fn uncached(dockerfile: &str, buildah_options: &'static [&'static str]) -> Pair {
    let world = World::new();
    let project = world.project(&[("Dockerfile", dockerfile)]);
    uncached_project(world, project, buildah_options)
}

fn uncached_project(world: World, project: Project, buildah_options: &'static [&'static str]) -> Pair {
    let buildah = with_base();
    fetch_base(&world);
    uncached_with(world, buildah, project, buildah_options)
}

fn uncached_with(world: World, buildah: Buildah, project: Project, buildah_options: &'static [&'static str]) -> Pair {
    let context = project.path().to_owned();
    Pair {
        kiln: Box::new(move || vec![world.build(&project).arg("--no-cache").into_command()]),
        buildah: Box::new(move || {
            remove_images(&buildah);
            vec![buildah.bud(&context, &[&["--no-cache"], buildah_options].concat())]
        }),
    }
}

fn fetch_base(world: &World) {
    let base = world.project(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    world.build(&base).succeeds();
}

fn with_base() -> Buildah {
    let buildah = Buildah::new();
    command::run(&mut buildah.command(&["pull", "--quiet", "--policy", "always", "busybox"]));
    buildah
}

/// So that its storage does not grow from run to run. The base stays.
fn remove_images(buildah: &Buildah) {
    let listed = command::run(&mut buildah.command(&["images", "--quiet", "--filter", "dangling=true"]));
    for id in listed.split_whitespace() {
        let _ = buildah.command(&["rmi", "--force", id]).output();
    }
}

/// Each run has a store that knows the base and nothing else. What earlier ones made stays: see `main`.
fn cold_copy() -> Pair {
    let mut world = World::new();
    let project = many_files(&world, 20_000);
    let buildah = with_base();
    let context = project.path().to_owned();
    let mut run = 0;
    Pair {
        kiln: Box::new(move || {
            run += 1;
            let root = world.path().join(format!("root-{run}"));
            world.set_root(root);
            fetch_base(&world);
            vec![world.build(&project).into_command()]
        }),
        buildah: Box::new(move || vec![buildah.bud(&context, &["--no-cache"])]),
    }
}

fn warm_copy() -> Pair {
    let world = World::new();
    let project = many_files(&world, 20_000);
    uncached_project(world, project, &[])
}

fn runs_of_true(base: &str) -> String {
    format!("FROM {base}\n{}", "RUN true\n".repeat(STEPS as usize))
}

fn thirty_runs() -> Pair {
    uncached(&runs_of_true("busybox"), &[])
}

/// Over a base of sixty layers.
fn thirty_runs_deep() -> Pair {
    let (world, buildah) = (World::new(), with_base());
    let layers: String = (1..60).map(|layer| format!("RUN echo {layer} > /{layer}\n")).collect();
    let base = world.project(&[("Dockerfile", &format!("FROM busybox\n{layers}"))]);
    world.build(&base).args(["--tag", "localhost/deep"]).succeeds();
    command::run(&mut buildah.bud(base.path(), &["--layers", "--tag", "localhost/deep"]));
    let project = world.project(&[("Dockerfile", &runs_of_true("localhost/deep"))]);
    uncached_with(world, buildah, project, &[])
}

/// buildah stays root, which is faster.
fn thirty_runs_rootless() -> Pair {
    let world = World::of(users::with_ranges());
    let project = world.project(&[("Dockerfile", &runs_of_true("busybox"))]);
    uncached_project(world, project, &[])
}

fn four_stages() -> Pair {
    let mut dockerfile = String::new();
    for stage in 0..4 {
        dockerfile += &format!("FROM busybox AS s{stage}\nRUN sleep 1; echo {stage} > /{stage}\n");
    }
    dockerfile += "FROM scratch\n";
    for stage in 0..4 {
        dockerfile += &format!("COPY --from=s{stage} /{stage} /\n");
    }
    uncached(&dockerfile, &["--jobs", "4"])
}

fn large_export(compression: &'static str) -> Pair {
    let world = Rc::new(World::new());
    let project = world
        .project(&[("Dockerfile", "FROM busybox\nRUN dd if=/dev/urandom of=/noise bs=1M count=1024 2>/dev/null\n")]);
    let buildah = with_base();
    fetch_base(&world);
    let context = project.path().to_owned();
    let (ours, theirs) = (world.path().join("kiln.tar"), world.path().join("buildah.tar"));
    let kiln_world = Rc::clone(&world);
    Pair {
        kiln: Box::new(move || {
            remove(&ours);
            vec![export(&kiln_world, &project, &ours, compression).into_command()]
        }),
        buildah: Box::new(move || {
            let _in_use = &world;
            remove(&theirs);
            remove_images(&buildah);
            let build = buildah.bud(&context, &["--no-cache", "--tag", "noise"]);
            let mut push = buildah.command(&["push", "--quiet", "--compression-format", compression]);
            push.arg("--signature-policy").arg(buildah.path().join("policy.json"));
            push.arg("noise").arg(format!("oci-archive:{}", theirs.display()));
            vec![build, push]
        }),
    }
}

fn export(world: &World, project: &Project, to: &Path, compression: &str) -> Kiln {
    let output = format!("type=oci,dest={},compression={compression}", to.display());
    world.build(project).args(["--no-cache", "-o", &output])
}

fn unchanged_push() -> Pair {
    let (world, buildah) = (World::new(), with_base());
    let project = world.project(&[("Dockerfile", TEN_INSTRUCTIONS), ("a", "a\n"), ("b", "b\n")]);
    let [ours, theirs] = ["kiln", "buildah"].map(|name| format!("{}/bench/{name}:1", world.registry().address));
    world.build(&project).args(["--push", "-t", &ours]).succeeds();
    command::run(&mut buildah.bud(project.path(), &["--layers", "--tag", &theirs]));
    let push = move || {
        let mut push = buildah.command(&["push", "--quiet", "--tls-verify=false"]);
        push.arg("--signature-policy").arg(buildah.path().join("policy.json")).arg(&theirs);
        push
    };
    command::run(&mut push());
    Pair {
        kiln: Box::new(move || vec![world.kiln(["push", &ours]).into_command()]),
        buildah: Box::new(move || vec![push()]),
    }
}

/// From nothing at all to the files of the image.
fn pull() -> Pair {
    let mut world = World::with_debian();
    let name = format!("{}/library/debian:latest", world.registry().address);
    let source = format!("docker://{name}");
    let folder = kiln_tests::run::directory("pull");
    let (mut runs, mut copies) = (0, 0);
    Pair {
        kiln: Box::new(move || {
            runs += 1;
            world.set_root(world.path().join(format!("root{runs}")));
            vec![world.kiln(["pull", &name]).into_command()]
        }),
        buildah: Box::new(move || {
            copies += 1;
            let [layout, files] = ["layout", "files"].map(|name| folder.path().join(format!("{name}{copies}")));
            let mut copy = Command::new("skopeo");
            copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &source]);
            copy.arg(format!("oci:{}:latest", layout.display()));
            let mut unpack = Command::new("umoci");
            unpack.args(["raw", "unpack", "--image"]).arg(format!("{}:latest", layout.display())).arg(&files);
            vec![copy, unpack]
        }),
    }
}

/// From nothing at all to what a first command left.
fn pull_and_run() -> Pair {
    let mut world = World::with_debian();
    let name = format!("{}/library/debian:latest", world.registry().address);
    let project = world.project(&[("Dockerfile", &format!("FROM {name}\nRUN true\n"))]);
    let context = project.path().to_owned();
    let mut runs = 0;
    let mut all = Vec::new();
    Pair {
        kiln: Box::new(move || {
            runs += 1;
            world.set_root(world.path().join(format!("root{runs}")));
            vec![world.build(&project).into_command()]
        }),
        buildah: Box::new(move || {
            let buildah = Buildah::new();
            let build = buildah.bud(&context, &[]);
            all.push(buildah);
            vec![build]
        }),
    }
}

fn remove(path: &PathBuf) {
    let _ = std::fs::remove_file(path);
}
