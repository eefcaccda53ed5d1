//! What `RUN` and the flags of `kiln build` give to commands: mounts, secrets, agents, networks and limits.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kiln_tests::{Project, World};

/// What the step of a Dockerfile left in the file `/out`.
fn out(world: &World, project: &Project, args: &[&str]) -> String {
    world.image(project, args).tree().text("out").to_owned()
}

#[test]
fn a_stage_an_image_and_the_context_are_mounted() {
    let world = World::new();
    let dockerfile = "FROM busybox AS tool
RUN echo tool > /tool
FROM busybox AS unneeded
RUN false
FROM busybox
WORKDIR /app
RUN --mount=target=ctx --mount=from=tool,source=/tool,target=/tool --mount=from=busybox,target=/image,rw \\
    cat ctx/dir/a.txt /tool > /out && ls ctx >> /out && touch /image/new && ! touch ctx/new
";
    let files = [
        ("Dockerfile", dockerfile),
        ("dir/a.txt", "of the context\n"),
        (".dockerignore", "ignored\n"),
        ("ignored", "x"),
    ];
    let project = world.project(&files);
    let tree = world.tree(&project);
    assert_eq!(tree.text("out"), "of the context\ntool\nDockerfile\ndir\n");
    for path in ["tool", "image", "app/ctx"] {
        assert!(!tree.has(path), "{path} is no part of the image");
    }
    world.build(&project).succeeds().all_cached();
    project.write("ignored", "y");
    world.build(&project).succeeds().all_cached();
    project.write("dir/a.txt", "changed\n");
    let outcome = world.build(&project).succeeds();
    outcome.ran("RUN --mount=target=ctx").cached("RUN echo tool");
}

#[test]
fn what_an_earlier_step_removed_is_not_listed() {
    let world = World::new();
    let dockerfile = "FROM busybox AS base
RUN mkdir -p /d/e && touch /d/e/f /d/g /h
RUN rm /d/g /h && rm -r /d/e
FROM base
RUN --mount=from=base,source=/d,target=/m ls -A / /d /m | grep -xe h -e e -e g > /out; rm -r /d && mkdir /d
";
    assert_eq!(out(&world, &world.project(&[("Dockerfile", dockerfile)]), &[]), "");
}

#[test]
fn only_what_is_mounted_of_the_context_counts() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN --mount=source=one,target=/one cat /one > /out\n";
    let project = world.project(&[("Dockerfile", dockerfile), ("one", "1"), ("two", "2")]);
    assert_eq!(out(&world, &project, &[]), "1");
    project.write("two", "changed");
    world.build(&project).succeeds().all_cached();
    project.write("one", "3");
    assert_eq!(out(&world, &project, &[]), "3");
}

#[test]
fn a_cache_outlives_the_build_and_is_no_part_of_the_image() {
    let world = World::new();
    let dockerfile = "FROM busybox
ARG N
RUN --mount=type=cache,target=/c,uid=5,mode=0750 echo $N >> /c/log && cp /c/log /out && stat -c '%a %u' /c >> /out
";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    assert_eq!(out(&world, &project, &["--build-arg=N=1"]), "1\n750 5\n");
    let tree = world.image(&project, &["--build-arg=N=2"]).tree();
    assert_eq!(tree.text("out"), "1\n2\n750 5\n");
    assert!(!tree.has("c"));
    let other = ["--build-arg=N=3", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=other"];
    assert_eq!(out(&world, &project, &other), "3\n750 5\n");
}

#[test]
fn memory_has_a_size() {
    let world = World::new();
    let dockerfile = "FROM busybox
RUN --mount=type=tmpfs,target=/t,size=64k df -k /t /dev/shm | awk 'NR > 1 { print $2, $6 }' > /out
";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    assert_eq!(out(&world, &project, &["--shm-size=128k"]), "64 /t\n128 /dev/shm\n");
}

#[test]
fn secrets_are_files_and_variables() {
    let world = World::new();
    let dockerfile = "FROM busybox
RUN --mount=type=secret,id=token,mode=0440,uid=7 --mount=type=secret,id=other,env=OTHER --mount=type=secret,id=none \\
    stat -c '%a %u' /run/secrets/token > /out && wc -c < /run/secrets/token >> /out && echo ${#OTHER} >> /out \\
    && test ! -e /run/secrets/none
";
    let project = world.project(&[("Dockerfile", dockerfile), ("secret.txt", "hunter2hunter2")]);
    let path = project.join("secret.txt");
    let file = format!("--secret=id=token,src={}", path.display());
    let args = [file.as_str(), "--secret=id=other,env=OTHER_TOKEN", "--secret=id=unused,env=HOME"];
    let run = || world.build(&project).args(args).env("OTHER_TOKEN", "12345");
    run().succeeds().ran("RUN --mount=type=secret,id=token").does_not_say("hunter2");
    project.write("secret.txt", "another");
    run().succeeds().all_cached();
    project.write("secret.txt", "hunter2hunter2");
    let image = world.build(&project).args(args).env("OTHER_TOKEN", "12345").args(["--no-cache", "-o", "out"]);
    image.succeeds();
    assert_eq!(std::fs::read_to_string(project.join("out/out")).unwrap(), "440 7\n14\n5\n");
    assert!(!project.join("out/run/secrets").exists());
    assert_eq!(holding(world.root(), b"hunter2"), Vec::<PathBuf>::new(), "nothing of a secret is on disk");
}

/// The files below a directory that have this text in them.
fn holding(directory: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file() {
            let content = std::fs::read(entry.path()).unwrap();
            found.extend(content.windows(text.len()).any(|part| part == text).then(|| entry.path()));
        }
    }
    found
}

#[test]
fn what_is_on_disk_is_found() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo hunter2 > /x\n")]);
    world.build(&project).succeeds();
    assert!(!holding(world.root(), b"hunter2").is_empty(), "else the search above would prove nothing");
}

#[test]
fn a_secret_that_is_needed_is_asked_for() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    world.build(&project).fails_with(1).says_one_error().says("Dockerfile:2").says("--secret id=token");
    let outcome = world.build(&project).args(["--secret", "id=token,src=/no/such/file"]).fails_with(1);
    outcome.says("`--secret id=token,src=/no/such/file`").says("no such file");
    world.build(&project).args(["--secret", "token"]).fails_with(2).says("id=ID,src=FILE");
}

#[test]
fn an_ssh_agent_is_passed_on() {
    let world = World::new();
    let dockerfile = "FROM busybox
RUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /out
";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let socket = project.join("agent.sock");
    let _agent = UnixListener::bind(&socket).unwrap();
    let given = format!("default={}", socket.display());
    world.build(&project).fails_with(1).says_one_error().says("Dockerfile:2").says("--ssh default");
    assert_eq!(out(&world, &project, &["--ssh", &given]), "/run/buildkit/ssh_agent.0\n");
    let key = format!("default={}", project.join("Dockerfile").display());
    world.build(&project).args(["--ssh", &key]).fails_with(1).says("does not read keys").says("ssh-add");
}

#[test]
fn a_heredoc_may_name_its_interpreter() {
    let world = World::new();
    let dockerfile = "FROM busybox
RUN --mount=type=tmpfs,target=/t <<'EOF'
#!/bin/awk -f
BEGIN { print \"awk \" ENVIRON[\"NAME\"] > \"/out\" }
EOF
";
    let tree = world.tree(&world.project(&[("Dockerfile", dockerfile)]));
    assert_eq!(tree.text("out"), "awk \n");
    assert!(!tree.has("dev/pipes"));
}

#[test]
fn what_is_asked_for_has_to_be_allowed() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN --security=insecure mkdir /m && mount -t tmpfs x /m && echo mounted > /out\n";
    let project = world.project(&[("Dockerfile", dockerfile)]);
    let refused = world.build(&project).fails_with(1);
    refused.says_one_error().says("Dockerfile:2").says("--allow security.insecure").never_mentions("mkdir");
    assert_eq!(out(&world, &project, &["--allow", "security.insecure"]), "mounted\n");
    let host = world.project(&[("Dockerfile", "FROM busybox\nRUN ls /sys/class/net > /out\n")]);
    world.build(&host).arg("--network=host").fails_with(1).says("--allow network.host");
    let machine: Vec<String> = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let seen = out(&world, &host, &["--network=host", "--allow=network.host"]);
    assert!(machine.iter().all(|name| seen.lines().any(|line| line == name)), "{seen}");
    assert_eq!(out(&world, &host, &["--network=none"]), "lo\n");
}

#[test]
fn limits_reach_the_commands() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN ulimit -Sn > /out; ulimit -Hn >> /out\n")]);
    assert_eq!(out(&world, &project, &["--ulimit", "nofile=100:200"]), "100\n200\n");
    world.build(&project).args(["--ulimit", "files=1"]).fails_with(2).says("there is no resource `files`");
    let slow = world.project(&[("Dockerfile", "FROM busybox\nRUN sleep 3600\n")]);
    world.build(&slow).args(["--step-timeout", "100ms"]).fails_with(1).says("longer than 100ms").says("Dockerfile:2");
}
