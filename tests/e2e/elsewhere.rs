//! Caches elsewhere: `--cache-to` of one machine, `--cache-from` of another.

use std::path::{Path, PathBuf};

use kiln_tests::proxy::Proxy;
use kiln_tests::registry::{Registry, free_port};
use kiln_tests::users::{self, User};
use kiln_tests::{Kiln, Project, World, actions, bucket, run};
use serde_json::Value;

const DOCKERFILE: &str = "FROM busybox AS build
WORKDIR /src
COPY list.txt .
RUN cat list.txt > listed && rm -rf /var/www
COPY . .
RUN cat list.txt listed > /made
FROM busybox
COPY --from=build /made /made
RUN wc -c /made > /count
";

fn project(world: &World) -> Project {
    world.project(&[("Dockerfile", DOCKERFILE), ("list.txt", "list\n"), ("other.txt", "other\n")])
}

/// A directory that all worlds can read and write.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let directory = run::directory("elsewhere");
        open_to_all(directory.path());
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn from(&self) -> String {
        format!("--cache-from=type=local,src={}", self.path().display())
    }

    fn to(&self, more: &str) -> String {
        format!("--cache-to=type=local,dest={}{more}", self.path().display())
    }

    /// The paths below it and what they hold.
    fn listing(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut open = vec![self.path()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => open.push(entry.path()),
                    false => files.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap())),
                }
            }
        }
        files.sort();
        files
    }

    /// The manifest of the cache, and where its blobs are.
    fn manifest(&self) -> Value {
        let index: Value = serde_json::from_slice(&std::fs::read(self.path().join("index.json")).unwrap()).unwrap();
        self.json(index["manifests"][0]["digest"].as_str().unwrap())
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.path().join("blobs").join(digest.replace(':', "/"))
    }

    fn json(&self, digest: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.blob(digest)).unwrap()).unwrap()
    }

    /// The digests of the layers in it.
    fn layers(&self) -> Vec<String> {
        let manifest = self.manifest();
        let layers = manifest["layers"].as_array().unwrap().iter();
        let is_layer = |layer: &&Value| layer["mediaType"].as_str().unwrap().contains("layer");
        layers.filter(is_layer).map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn another_machine_runs_nothing() {
    let shared = Shared::new();
    let here = World::new();
    let made = here.image(&project(&here), &[&shared.to(",mode=max")]);
    let there = World::new();
    let project = project(&there);
    let outcome = there.build(&project).args([&shared.from(), "--explain"]).succeeds();
    outcome.all_cached().says("by definition, in the cache `").says("importing cache manifest from");
    assert_eq!(there.image(&project, &[&shared.from()]).id, made.id);
    // What came from elsewhere is known here from now on.
    let outcome = there.build(&project).arg("--explain").succeeds();
    outcome.all_cached().does_not_say("in the cache `");
}

#[test]
fn no_layer_is_fetched_that_nobody_needs() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).args([&shared.to(",mode=max"), "--output=type=cacheonly"]).succeeds();
    for layer in shared.layers() {
        std::fs::remove_file(shared.blob(&layer)).unwrap();
    }
    let there = World::new();
    let outcome = there.build(&project(&there)).args([&shared.from(), "--output=type=cacheonly"]).succeeds();
    outcome.all_cached().does_not_say("warning");
    assert!(!there.root().join("layers").read_dir().unwrap().any(|_| true), "a layer was unpacked");
}

#[test]
fn an_edit_that_no_step_looked_at_is_a_hit_all_the_same() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).arg(shared.to(",mode=max")).succeeds();
    let there = World::new();
    let project = project(&there);
    project.write("other.txt", "edited\n");
    let outcome = there.build(&project).args([&shared.from(), "--explain"]).succeeds();
    outcome.ran("COPY . .").cached("RUN cat list.txt listed").cached("RUN wc -c").says("in the cache `");
    assert_eq!(there.tree(&project).text("made"), "list\nlist\n");
    project.write("list.txt", "edited\n");
    let outcome = there.build(&project).arg(shared.from()).succeeds();
    outcome.cached("WORKDIR").ran("RUN cat list.txt > listed").ran("RUN wc -c");
    assert_eq!(there.tree(&project).text("made"), "edited\nedited\n");
}

#[test]
fn without_mode_it_is_the_final_stage_alone() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).arg(shared.to("")).succeeds();
    // Those of the base image among them, which BuildKit takes from here.
    assert_eq!(shared.layers().len(), 3);
    let there = World::new();
    let project = project(&there);
    there.build(&project).arg(shared.from()).succeeds().all_cached();
    let other = World::new();
    project.write("list.txt", "edited\n");
    other.build(&project).arg(shared.from()).succeeds().ran("WORKDIR").ran("RUN cat list.txt");
}

#[test]
fn the_same_state_gives_the_same_bytes() {
    let (first, second, third) = (Shared::new(), Shared::new(), Shared::new());
    let here = World::new();
    let files = project(&here);
    here.build(&files).arg(first.to(",mode=max")).succeeds();
    here.build(&files).arg(second.to(",mode=max")).succeeds().all_cached();
    let contents = |shared: &Shared| -> Vec<Vec<u8>> { shared.listing().into_iter().map(|(_, bytes)| bytes).collect() };
    assert_eq!(contents(&second), contents(&first));
    // And what was only read elsewhere is passed on whole.
    let there = World::new();
    let project = project(&there);
    let flags = [&first.from(), &third.to(",mode=max"), "--output=type=cacheonly"];
    there.build(&project).args(flags).succeeds().all_cached();
    assert_eq!(contents(&third), contents(&first));
}

#[test]
fn buildkit_reads_its_documents() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).arg(shared.to(",mode=max")).succeeds();
    let manifest = shared.manifest();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.buildkit.cacheconfig.v0");
    let config = shared.json(manifest["config"]["digest"].as_str().unwrap());
    let (layers, records) = (config["layers"].as_array().unwrap(), config["records"].as_array().unwrap());
    let known = shared.layers();
    for (number, layer) in layers.iter().enumerate() {
        assert!(known.contains(&layer["blob"].as_str().unwrap().to_owned()));
        assert!(layer["parent"].as_i64().unwrap() < number as i64, "a parent comes first");
        let described = manifest["layers"].as_array().unwrap().iter().find(|known| known["digest"] == layer["blob"]);
        assert_eq!(described.unwrap()["annotations"]["containerd.io/uncompressed"], layer["annotations"]["diffID"]);
        assert_ne!(layer["annotations"]["createdAt"], "", "BuildKit refuses a config with a time that is none");
    }
    assert!(records.len() >= 6);
    for record in records {
        assert!(record["digest"].as_str().unwrap().starts_with("sha256:"));
        let results = record["layers"].as_array().into_iter().flatten();
        results.for_each(|result| assert!((result["layer"].as_u64().unwrap() as usize) < layers.len()));
    }
    let index = Shared::new();
    let flags = ",mode=max,image-manifest=false,compression=zstd";
    here.build(&project(&here)).arg(index.to(flags)).succeeds();
    let manifests = index.manifest();
    assert_eq!(manifests["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(manifests["manifests"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let there = World::new();
    there.build(&project(&there)).arg(index.from()).succeeds().all_cached();
}

#[test]
fn a_registry_keeps_it_and_is_asked_for_what_is_needed() {
    let registry = Registry::start();
    let here = World::new();
    let name = format!("{}/team/app:cache", registry.address);
    let to = format!("--cache-to=type=registry,ref={name},mode=max");
    here.build(&project(&here)).arg(&to).succeeds();
    let there = World::new();
    let proxy = Proxy::before(&registry.address, |_| None);
    let from = format!("--cache-from={}/team/app:cache", proxy.host());
    let files = project(&there);
    there.build(&files).args([&from, "--output=type=cacheonly"]).succeeds().all_cached();
    let blobs = || proxy.count("GET", "/blobs/");
    assert_eq!(blobs(), 1, "more than the ledger was fetched");
    // Of the stage that is not in the image nothing is needed.
    there.build(&files).args([&from, "-t", "app"]).succeeds().all_cached();
    assert_eq!(blobs(), 2 + 2);
}

/// What a registry has is not fetched to be sent back to it.
#[test]
fn what_is_pushed_to_where_the_cache_is_stays_there() {
    let registry = Registry::start();
    let here = World::new();
    let to = format!("--cache-to=type=registry,ref={}/team/cache,mode=max", registry.address);
    here.build(&project(&here)).arg(&to).succeeds();
    let there = World::new();
    let proxy = Proxy::before(&registry.address, |_| None);
    let from = format!("--cache-from={}/team/cache", proxy.host());
    let output = format!("--output=type=registry,name={}/team/app:1", proxy.host());
    there.build(&project(&there)).args([&from, &output]).succeeds().all_cached().says("mounted from team/cache");
    assert_eq!(proxy.count("GET", "/blobs/"), 1, "more than the ledger was fetched");
    let last = World::new();
    let on_top = format!("FROM {}/team/app:1\nRUN cat /count\n", registry.address);
    last.build(&last.project(&[("Dockerfile", &on_top)])).succeeds().says("10 /made");
}

#[test]
fn an_image_carries_its_own() {
    let registry = Registry::start();
    let here = World::new();
    let name = format!("{}/team/app", registry.address);
    here.build(&project(&here)).args(["--cache-to=type=inline", "--push", "-t", &name]).succeeds();
    let there = World::new();
    let project = project(&there);
    there.build(&project).arg(format!("--cache-from={name}")).succeeds().all_cached();
    // What is built on the image does not inherit it.
    let on_top = there.project(&[("Dockerfile", &format!("FROM {name}\nLABEL a=b\n"))]);
    let config = there.image(&on_top, &[]).config;
    assert!(config.get("moby.buildkit.cache.v0").is_none(), "{config}");
}

#[test]
fn a_cache_that_is_away_costs_a_warning() {
    let world = World::new();
    let gone = format!("127.0.0.1:{}/app", free_port());
    let project = project(&world);
    let outcome =
        world.build(&project).args([format!("--cache-from={gone}"), "--cache-from=app:none".to_owned()]).succeeds();
    outcome.says("warning: cannot read the cache").says(&gone);
    let to = format!("--cache-to=type=registry,ref={gone}");
    world.build(&project).arg(&to).fails().says("cannot write the cache").says_one_error();
    let outcome = world.build(&project).arg(format!("{to},ignore-error=true")).succeeds();
    outcome.says("warning: cannot write the cache");
}

#[test]
fn layers_that_are_gone_or_wrong_are_made_again() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).arg(shared.to(",mode=max")).succeeds();
    for (number, damage) in [None, Some(&b"damaged"[..])].into_iter().enumerate() {
        for layer in shared.layers() {
            let path = shared.blob(&layer);
            let _ = std::fs::remove_file(&path);
            if let Some(bytes) = damage {
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let there = World::new();
        let project = project(&there);
        let outcome = there.build(&project).args([&shared.from(), "-t", "app"]).succeeds();
        outcome.says("warning: a cache did not keep its word");
        assert_eq!(there.tree(&project).text("count"), "10 /made\n", "{number}");
        there.build(&project).succeeds().all_cached();
    }
}

#[test]
fn damaged_documents_are_refused() {
    let shared = Shared::new();
    let here = World::new();
    here.build(&project(&here)).arg(shared.to(",mode=max")).succeeds();
    let manifest = shared.manifest();
    let ledger = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    let bytes = std::fs::read(shared.blob(&ledger)).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damaged in [Vec::new(), flipped, vec![b'['; 100 << 20]] {
        std::fs::write(shared.blob(&ledger), damaged).unwrap();
        let there = World::new();
        let outcome = there.build(&project(&there)).arg(shared.from()).succeeds();
        outcome.says("warning: cannot read the cache").ran("WORKDIR");
    }
}

#[test]
fn users_and_root_share_it() {
    let users: [fn() -> User; 1] = [users::with_ranges];
    for user in users {
        let shared = Shared::new();
        let root = World::new();
        let made = root.image(&project(&root), &[&shared.to(",mode=max")]);
        let other = World::of(user());
        let files = project(&other);
        other.build(&files).arg(shared.from()).succeeds().all_cached();
        assert_eq!(other.image(&files, &[&shared.from()]).id, made.id);
        let back = Shared::new();
        let fresh = World::of(user());
        let files = project(&fresh);
        fresh.build(&files).arg(back.to(",mode=max")).succeeds().ran("WORKDIR");
        let root = World::new();
        root.build(&project(&root)).arg(back.from()).succeeds().all_cached();
    }
}

#[test]
fn a_bucket_keeps_it() {
    let store = bucket::Bucket::new("caches");
    let endpoint = format!("endpoint_url=http://{},use_path_style=true,region=us-east-1", store.address);
    let spec = format!("type=s3,bucket=caches,name=main;other,{endpoint}");
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hidden")];
    let with_keys = |kiln: Kiln| keys.iter().fold(kiln, |kiln, (name, value)| kiln.env(name, value));
    let here = World::new();
    let files = project(&here);
    let to = format!("--cache-to={spec},mode=max,upload_parallelism=2");
    with_keys(here.build(&files)).arg(&to).succeeds().says("exporting cache to Amazon S3").does_not_say("hidden");
    let objects = store.objects();
    let count = |prefix: &str| objects.iter().filter(|name| name.starts_with(prefix)).count();
    // The ledger, the layer of the base image, and six more: `COPY --from` makes the one that its RUN has made.
    assert_eq!((count("manifests/"), count("blobs/sha256:")), (2, 8), "{objects:?}");
    // What is there is not sent again, but made to count as new.
    with_keys(here.build(&files)).arg(format!("{to},touch_refresh=0s")).succeeds();
    assert_eq!(store.objects(), objects);
    let there = World::new();
    let project = project(&there);
    let from = format!("--cache-from={spec}");
    let outcome = with_keys(there.build(&project)).args([&from, "-t", "app", "--explain"]).succeeds();
    outcome.all_cached().says("in the cache `s3://caches/manifests/main`");
    assert_eq!(there.tree(&project).text("count"), "10 /made\n");
    let missing = format!("--cache-from={},name=none", spec.replace(",name=main;other", ""));
    with_keys(there.build(&project)).arg(missing).succeeds().says("warning: cannot read the cache");
    for name in objects.iter().filter(|name| name.starts_with("blobs/")) {
        store.replace(name, b"damaged");
    }
    let last = World::new();
    with_keys(last.build(&self::project(&last))).arg(&from).succeeds().says("warning: cannot read the cache");
}

/// What Amazon's tools would find is found: a profile, and the role that an identity provider's token stands for. A layer
/// of noise is sent in parts.
#[test]
fn a_bucket_is_asked_with_the_keys_of_the_machine() {
    let store = bucket::Bucket::new("noise");
    let endpoint = format!("http://{}", store.address);
    let spec = "type=s3,bucket=noise,region=us-east-1,use_path_style=true";
    let dockerfile = "FROM busybox\nRUN head -c 18000000 /dev/urandom > /noise\n";
    let here = World::new();
    let files = here.project(&[("Dockerfile", dockerfile)]);
    std::fs::create_dir(here.home().join(".aws")).unwrap();
    let keys = "[ci]\naws_access_key_id = id\naws_secret_access_key = hidden\n";
    std::fs::write(here.home().join(".aws/credentials"), keys).unwrap();
    let build = |profile: &str| {
        let build = here.build(&files).arg(format!("--cache-to={spec}")).env("AWS_PROFILE", profile);
        build.env("AWS_ENDPOINT_URL", &endpoint)
    };
    build("none").fails().says("there is no profile `none`");
    build("ci").succeeds();
    let tags: Vec<String> = store.objects().iter().map(|object| store.tag(object)).collect();
    assert!(tags.iter().any(|tag| tag.ends_with("-3")), "{tags:?}");
    let there = World::new();
    let files = there.project(&[("Dockerfile", dockerfile)]);
    let token = there.home().join("token");
    std::fs::write(&token, "a.b.c").unwrap();
    let build = there.build(&files).args([&format!("--cache-from={spec}"), "-t", "app"]);
    let build = build.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ENDPOINT_URL", &endpoint);
    build.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ci").succeeds().all_cached().does_not_say("warning");
}

/// A branch finds what the branch has that it comes from, and writes what is its own.
#[test]
fn jobs_of_github_keep_it() {
    let service = actions::Service::start();
    let job = |world: &World, project: &Project, token: &str, more: &[&str]| {
        let build = world.build(project).args(["--cache-from=type=gha,scope=app", "--explain"]).args(more);
        build.env("ACTIONS_RESULTS_URL", service.url()).env("ACTIONS_RUNTIME_TOKEN", token)
    };
    let [branch, main] = actions::TOKENS;
    let to = ["--cache-to=type=gha,scope=app,mode=max"];
    let here = World::new();
    let outcome = job(&here, &project(&here), main, &to).succeeds();
    outcome.says("warning: cannot read the cache `gha:app`").says("exporting cache to GitHub Actions Cache");
    let keys = service.keys();
    let count = |beginning: &str| keys.iter().filter(|key| key.starts_with(beginning)).count();
    assert_eq!((count("buildkit-blob-1-sha256:"), count("index-app-1-")), (8, 1), "{keys:?}");
    let there = World::new();
    let files = project(&there);
    let outcome = job(&there, &files, branch, &to).args(["-t", "app"]).succeeds();
    outcome.all_cached().says("in the cache `gha:app`").does_not_say("warning").does_not_say("hidden");
    assert_eq!(there.tree(&files).text("count"), "10 /made\n");
    // The same layers and records are the same entries, and the branch has an index of its own.
    assert_eq!(service.keys().len(), keys.len() + 1);
    job(&there, &files, branch, &to).succeeds().all_cached();
    assert_eq!(service.keys().len(), keys.len() + 2);
    assert!(service.keys().last().unwrap().ends_with("#2"), "{:?}", service.keys());
    // What GitHub has thrown out is made again.
    service.evict("buildkit-blob-1-");
    let last = World::new();
    let outcome = job(&last, &project(&last), branch, &[]).succeeds();
    outcome.ran("WORKDIR").says("warning: cannot read the cache `gha:app`");
    // Outside of a job there is none.
    let outcome = last.build(&project(&last)).args(["--cache-from=type=gha", to[0]]).succeeds();
    outcome.says("warning: `--cache-from` does nothing").says("warning: `--cache-to` does nothing");
}

#[test]
fn what_cannot_be_read_yet_is_said() {
    let world = World::new();
    let outcome = world.build(&project(&world)).arg("--cache-from=type=azblob,name=a").fails_with(2);
    outcome.says("not supported in this version").says("hint:");
}
