//! `RUN --mount`: what commands see beside their root, and what stays of it.

use kiln_tests::users::{self, User};
use kiln_tests::{Project, World, command};
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SECRET: &str = "correct-horse-battery-staple";

fn project(world: &World, dockerfile: &str) -> Project {
    world.project(&[
        ("Dockerfile", dockerfile),
        ("src/main.c", "int main;\n"),
        ("src/deep/x.h", "x\n"),
        ("other", "1\n"),
        ("token", SECRET),
    ])
}

#[test]
fn trees_from_everywhere() {
    let world = World::new();
    let project = project(
        &world,
        "FROM busybox AS made\nRUN mkdir -p /out/lib && echo made > /out/lib/one && ln -s lib /out/link\n\
         FROM busybox\nWORKDIR /work\n\
         RUN --mount=type=bind,target=/context --mount=from=made,source=/out/link,target=/m \
             --mount=type=bind,from=busybox,source=/etc,target=/image --mount=from=named,target=there/named \
             cat /context/src/main.c /m/one there/named/file > seen && ls /image | grep '^[gp]' > image && stat -c %u /context/other > owner\n\
         RUN --mount=target=/context,rw echo x > /context/new && ls /context > listing\n",
    );
    let named = world.project(&[("file", "named\n")]);
    let context = format!("named={}", named.path().display());
    let image = world.image(&project, &["--build-context", &context]);
    let tree = image.tree();
    assert_eq!(tree.text("work/seen"), "int main;\nmade\nnamed\n");
    assert_eq!((tree.text("work/image"), tree.text("work/owner")), ("group\npasswd\n".to_owned(), "0\n".to_owned()));
    assert_eq!(tree.text("work/listing"), "Dockerfile\nnew\nother\nsrc\ntoken\n");
    assert_eq!(image.last_layer().paths(), ["work", "work/listing"], "no mount point is left");
    assert!(!project.join("new").exists(), "the context is not written to");
}

#[test]
fn what_is_not_mounted_does_not_count() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN --mount=source=src,target=/src cat /src/main.c > /copy\n";
    let project = project(&world, dockerfile);
    world.build(&project).succeeds().ran("RUN --mount");
    project.write("other", "2\n");
    project.touch("src/main.c");
    world.build(&project).succeeds().all_cached();
    project.write("src/deep/x.h", "changed\n");
    world.build(&project).succeeds().cached("RUN --mount");
    project.write("src/deep/x.h", "changed again\n");
    world.build(&project).arg("--trace=off").succeeds().ran("RUN --mount");
    project.write("src/main.c", "changed\n");
    world.build(&project).succeeds().ran("RUN --mount");
}

#[test]
fn a_path_that_is_not_there_is_one_error_at_its_line() {
    let world = World::new();
    let project = project(&world, "FROM busybox\nRUN --mount=source=srv,target=/m true\n");
    let outcome = world.build(&project).fails();
    outcome
        .says_one_error()
        .says("Dockerfile:2")
        .says("cannot mount at `/m`")
        .says("`/srv`")
        .says("hint: there is `/src`");
    project.write("Dockerfile", "FROM busybox\nRUN --mount=from=busybox,source=/nothing,target=/m true\n");
    world.build(&project).fails().says_one_error().says("Dockerfile:2").says("`/nothing`");
}

/// Writes the number of earlier runs, and counts this one.
const COUNT: &str = "ls /c | wc -l > /count && touch /c/$(ls /c | wc -l)";

#[test]
fn a_cache_survives() {
    let world = World::new();
    let counting = |more: &str| format!("FROM busybox\nRUN --mount=type=cache,target=/c{more} {COUNT}\n");
    let project = project(&world, &counting(""));
    let count = |more: &[&str]| world.image(&project, more).tree().text("count").trim().to_owned();
    assert_eq!(count(&[]), "0");
    world.build(&project).succeeds().all_cached();
    assert_eq!(count(&["--no-cache"]), "1", "`--no-cache` is about steps");
    project.write("Dockerfile", &counting(",id=/c,sharing=locked"));
    assert_eq!(count(&[]), "2", "the id is the target by itself");
    project.write("Dockerfile", &counting(",id=other"));
    assert_eq!(count(&[]), "0");
    project.write("Dockerfile", &counting(",uid=33,mode=0750"));
    assert_eq!(count(&[]), "0", "made otherwise, it is another one");
    let metadata = "FROM busybox\nRUN --mount=type=cache,target=/c,uid=33,mode=0750 stat -c '%u %a' /c > /count\n";
    project.write("Dockerfile", metadata);
    assert_eq!(count(&[]), "33 750");
}

/// A build that has the cache `locked` for itself until there is a file `go` in it.
fn holder(world: &World, step: &str) -> Project {
    let command =
        format!("echo {step}-$((1+1)); touch /c/{step}; while [ ! -e /c/go ]; do sleep 0.02; done; ls /c > /seen");
    world.project(&[(
        "Dockerfile",
        &format!("FROM busybox\nRUN --mount=type=cache,id=locked,target=/c,sharing=locked {command}\n"),
    )])
}

#[test]
fn a_locked_cache_is_for_one_process_at_a_time() {
    let world = World::new();
    let (one, two) = (holder(&world, "one"), holder(&world, "two"));
    let mut first = world.build(&one).start();
    first.wait_for(" one-2");
    let mut second = world.build(&two).start();
    second.wait_for("waiting for the cache mount `/locked`");
    assert!(!world.cache_mount().join("two").exists());
    std::fs::write(world.cache_mount().join("go"), "").unwrap();
    assert!(first.finish().status.success());
    assert!(second.finish().status.success());
    assert!(world.cache_mount().join("two").exists());
}

#[test]
fn a_killed_process_lets_go_of_its_cache() {
    let world = World::new();
    let (one, two, three) = (holder(&world, "one"), holder(&world, "two"), holder(&world, "three"));
    let mut first = world.build(&one).start();
    first.wait_for(" one-2");
    let mut second = world.build(&two).start();
    second.wait_for("waiting for the cache mount");
    // One that waits can be stopped.
    let mut third = world.build(&three).start();
    third.wait_for("waiting for the cache mount");
    third.signal(Signal::INT);
    assert_eq!(third.finish().status.code(), Some(130));
    first.signal(Signal::KILL);
    first.finish();
    second.wait_for(" two-2");
    std::fs::write(world.cache_mount().join("go"), "").unwrap();
    assert!(second.finish().status.success());
}

#[test]
fn memory_has_a_size_and_leaves_nothing() {
    let world = World::new();
    let project = project(
        &world,
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t/deep,size=1m df -k /t/deep | tail -1 | cut -c 1-40 > /size; touch /t/deep/x\n",
    );
    let image = world.image(&project, &[]);
    assert!(image.tree().text("size").contains(" 1024 "), "{}", image.tree().text("size"));
    assert_eq!(image.last_layer().paths(), ["size"]);
}

fn with_secret(world: &World, dockerfile: &str) -> Project {
    let project = project(world, dockerfile);
    project.write(".dockerignore", "token\n");
    project
}

#[test]
fn a_secret_is_nowhere_but_in_its_step() {
    let world = World::new();
    let project = with_secret(
        &world,
        "FROM busybox\nRUN --mount=type=secret,id=token,required wc -c < /run/secrets/token > /length && stat -c %a /run/secrets/token >> /length\n\
         RUN --mount=type=secret,id=token,env=TOKEN test $TOKEN = $(echo correct-horse)-battery-staple && touch /same\n\
         COPY . /all\nRUN --mount=type=secret,id=token echo reading-$((1+1)); while [ ! -e /context/never ]; do sleep 0.02; done\n",
    );
    let mut running = world.build(&project).args(["--secret", "id=token,src=token"]).start();
    running.wait_for(" reading-2");
    let mut found = Vec::new();
    search(&world.root().join(""), &mut found);
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for name in ["cmdline", "environ", "mountinfo"] {
            let path = process.path().join(name);
            if std::fs::read(&path).is_ok_and(|bytes| has_secret(&bytes)) {
                found.push(path);
            }
        }
    }
    running.signal(Signal::INT);
    assert_eq!(running.finish().status.code(), Some(130));
    search(&world.root().join(""), &mut found);
    assert!(found.is_empty(), "{found:?}");
    let dockerfile = std::fs::read_to_string(project.join("Dockerfile")).unwrap();
    project.write("Dockerfile", dockerfile.split("COPY").next().unwrap());
    let tree = world.image(&project, &["--secret", "id=token,src=token"]).tree();
    assert_eq!(tree.text("length"), format!("{}\n400\n", SECRET.len()));
    search(&world.root().join(""), &mut found);
    assert!(found.is_empty(), "{found:?}");
    // Another value is no other step.
    project.write("token", "changed");
    world.build(&project).args(["--secret", "id=token,src=token"]).succeeds().all_cached();
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// Finds the secret in files and in names.
fn search(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        let is_there = match () {
            () if kind.is_dir() => {
                search(&path, found);
                false
            }
            () if kind.is_file() => std::fs::read(&path).is_ok_and(|bytes| has_secret(&bytes)),
            () => std::fs::read_link(&path).is_ok_and(|target| has_secret(target.as_os_str().as_encoded_bytes())),
        };
        if is_there || has_secret(entry.file_name().as_encoded_bytes()) {
            found.push(path);
        }
    }
}

#[test]
fn secrets_that_are_not_given() {
    let world = World::new();
    let project = with_secret(&world, "FROM busybox\nRUN --mount=type=secret,id=token test ! -e /run/secrets/token\n");
    world.build(&project).succeeds();
    project.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=token,required true\n");
    let outcome = world.build(&project).fails();
    outcome
        .says_one_error()
        .says("Dockerfile:2")
        .says("`token`")
        .says("hint: give it with `--secret id=token,src=FILE`");
    project.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=token,env=T,required true\n");
    world.build(&project).fails().says_one_error().says("Dockerfile:2").says("variable `T`");
    // A command that fails shows what it printed, and kiln adds nothing of its own.
    project.write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=token,env=T exit 3\n");
    let failing = world.build(&project).args(["--secret", "id=token,env=TOKEN"]).env("TOKEN", SECRET);
    failing.fails().does_not_say(SECRET);
}

/// An ssh agent with one key in it.
struct Agent {
    process: Child,
    socket: PathBuf,
    fingerprint: String,
}

impl Agent {
    /// Starts it as this user: an agent talks to nobody else, and to root.
    fn start(directory: &Path, user: Option<User>) -> Self {
        let (socket, key) = (directory.join("agent"), directory.join("key"));
        let program = |name: &str| {
            let mut program = Command::new(name);
            if let Some(user) = user {
                program.uid(user.uid).gid(user.gid);
            }
            program
        };
        let process = program("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let process = process.expect("`ssh-agent` (Debian package openssh-client; `make deps`)");
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let key_flags = ["-q", "-t", "ed25519", "-N", "", "-C", "of-the-test", "-f"];
        command::run(program("ssh-keygen").args(key_flags).arg(&key));
        command::run(program("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));
        let listed = command::run(program("ssh-keygen").arg("-lf").arg(&key));
        Self { process, socket, fingerprint: listed.split_whitespace().nth(1).unwrap().to_owned() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Puts ssh-add and all that it is linked with into a context.
fn add_ssh_add(project: &Project) {
    let linked = command::run(Command::new("ldd").arg("/usr/bin/ssh-add"));
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/usr/bin/ssh-add"]) {
        let target = project.join("ssh").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

fn lists_keys(world: &World, user: Option<User>) {
    let project = project(
        world,
        "FROM busybox\nCOPY ssh /\nRUN ssh-add -l > /before 2>&1; true\n\
         RUN --mount=type=ssh,required ssh-add -l > /keys && echo $SSH_AUTH_SOCK >> /keys && stat -c '%a %u' $SSH_AUTH_SOCK >> /keys\n\
         RUN --mount=type=ssh,id=other,target=/run/other,mode=0666 SSH_AUTH_SOCK=/run/other ssh-add -l > /other\n",
    );
    add_ssh_add(&project);
    let agent = Agent::start(&world.home(), user);
    world.give(project.path());
    let socket = agent.socket.to_str().unwrap();
    let flags = ["--ssh", "default", "--ssh", &format!("other={socket}")];
    world.build(&project).args(flags).env("SSH_AUTH_SOCK", socket).args(["-t", "app", "-o", "out"]).succeeds();
    let text = |name: &str| std::fs::read_to_string(project.join("out").join(name)).unwrap();
    assert!(text("keys").contains(&agent.fingerprint), "{}", text("keys"));
    assert!(text("keys").ends_with("/run/buildkit/ssh_agent.0\n600 0\n"), "{}", text("keys"));
    assert!(text("other").contains("of-the-test"));
    assert!(!text("before").contains("of-the-test"));
    assert!(!project.join("out/run/other").exists() && !project.join("out/run/buildkit").exists());
}

#[test]
fn an_ssh_agent_answers_in_a_step() {
    let world = World::new();
    lists_keys(&world, None);
    let project = project(&world, "FROM busybox\nRUN --mount=type=ssh,required true\n");
    world.build(&project).fails().says_one_error().says("Dockerfile:2").says("hint: give it with `--ssh default`");
    project.write("Dockerfile", "FROM busybox\nRUN --mount=type=ssh test ! -e /run/buildkit/ssh_agent.0\n");
    world.build(&project).succeeds();
}

fn all_at_once(user: User) {
    let world = World::of(user);
    let project = with_secret(
        &world,
        "FROM busybox AS made\nRUN mkdir /out && echo made > /out/file && rm /etc/group\n\
         FROM busybox\nRUN --mount=from=made,target=/made --mount=target=/context --mount=type=cache,target=/c \
             --mount=type=tmpfs,target=/t --mount=type=secret,id=token --mount=type=tmpfs,target=/c/below \
             cat /made/out/file /context/other > /seen && ls /made/etc | grep -E '^(group|passwd)$' >> /seen && touch /c/x /t/x /c/below/x && \
             wc -c < /run/secrets/token >> /seen\n",
    );
    let file = world.home().join("token");
    std::fs::write(&file, SECRET).unwrap();
    world.give(&file);
    let secret = format!("id=token,src={}", file.display());
    let image = world.image(&project, &["--secret", &secret]);
    assert_eq!(image.tree().text("seen"), format!("made\n1\npasswd\n{}\n", SECRET.len()));
    assert_eq!(image.last_layer().paths(), ["seen"]);
    world.build(&project).args(["--secret", &secret]).succeeds().all_cached();
}

#[test]
fn an_ordinary_user_with_ranges_of_ids() {
    all_at_once(users::with_ranges());
    let user = users::with_ranges();
    lists_keys(&World::of(user), Some(user));
}

#[test]
fn an_ordinary_user_without_ranges_of_ids() {
    all_at_once(users::without_ranges());
}
