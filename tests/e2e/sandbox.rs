//! What a RUN sees, and what it cannot do.

use kiln_tests::layout::{self, Layout};
use kiln_tests::{Kind, World, command};
use serde_json::json;
use std::process::Command;

/// Runs a line of shell in a RUN on busybox and returns what it wrote to stdout.
fn output_of(script: &str) -> String {
    let world = World::new();
    let project = world.project(&[("Dockerfile", &format!("FROM busybox\nRUN {{ {script}; }} > /out\n"))]);
    world.tree(&project).text("out")
}

/// A layout with busybox in it and no directory but `/bin`.
fn bare(world: &World) -> Layout {
    let layout = Layout::create(world.path().join("bare"));
    let mut builder = tar::Builder::new(Vec::new());
    let program = std::fs::read("/bin/busybox").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(program.len() as u64);
    builder.append_data(&mut header, "bin/busybox", program.as_slice()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "bin/sh", "busybox").unwrap();
    let layer = layout.layer(&builder.into_inner().unwrap());
    let manifest = layout.image(layout::config(json!({})), &[layer]);
    layout.tag(&[("latest", &manifest)]);
    layout
}

#[test]
fn what_it_needs_is_there_and_not_left_in_the_layer() {
    let world = World::new();
    let context = format!("bare=oci-layout://{}", bare(&world).path().display());
    let project = world.project(&[(
        "Dockerfile",
        "FROM bare\nRUN test -s /etc/resolv.conf && test -s /etc/hosts && test -c /dev/null && test -d /proc/self \
         && test -d /sys/kernel && test -d /dev/shm && echo x > /dev/null && busybox touch /done\n",
    )]);
    let image = world.image(&project, &["--build-context", &context]);
    assert_eq!(image.last_layer().paths(), ["done"], "mount points and files of the sandbox are not the step's");
}

#[test]
fn the_images_own_hosts_file_is_hidden_and_stays_as_it_was() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN cp /etc/hosts /seen && ! grep -q of-the-image /etc/hosts && ! grep -q 'of the image' /etc/resolv.conf\n",
    )]);
    let image = world.image(&project, &[]);
    assert_eq!(image.last_layer().paths(), ["seen"]);
    assert!(image.tree().text("seen").contains("localhost"));
    assert_eq!(image.tree().text("etc/hosts"), "192.0.2.1 of-the-image\n");
}

#[test]
fn a_change_beside_them_is_kept() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo x > /etc/new && rm /etc/group\n")]);
    let tree = world.tree(&project);
    assert!(tree.has("etc/new") && !tree.has("etc/group"));
    assert_eq!(tree.text("etc/resolv.conf"), "# of the image\n");
}

#[test]
fn it_has_a_process_tree_of_its_own() {
    let processes = output_of("ps -o pid,args | grep -v PID | wc -l");
    assert!(processes.trim().parse::<u32>().unwrap() <= 8, "{processes}");
    assert_eq!(output_of("test $$ -lt 10 && echo low"), "low\n");
}

#[test]
fn it_has_the_default_capabilities() {
    let status = output_of("cat /proc/self/status");
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    assert_eq!(field("CapEff:"), "00000000a80425fb", "the set of Docker's default");
    assert_eq!(field("CapBnd:"), "00000000a80425fb");
    assert_eq!(field("CapInh:"), "0000000000000000");
}

#[test]
fn it_cannot_reach_the_machine() {
    let script = "mount -t tmpfs x /mnt 2>/dev/null && echo mounted; echo 1 2>/dev/null > /proc/sys/kernel/panic && echo sysctl; \
                  mknod /sda b 8 0 2>/dev/null && dd if=/sda of=/dev/null count=1 2>/dev/null && echo disk; \
                  touch /sys/x 2>/dev/null && echo sys; hostname other 2>/dev/null && echo hostname; \
                  test -s /proc/kcore && dd if=/proc/kcore of=/dev/null count=1 2>/dev/null && echo kcore; echo end";
    // A hostname is the sandbox's own: setting it takes a capability that a step does not have.
    assert_eq!(output_of(script), "end\n");
}

#[test]
fn no_process_outlives_its_step() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN sleep 91827364 > /dev/null 2>&1 & echo started\nRUN ! ps | grep 91827364 | grep -v grep\n",
    )]);
    world.build(&project).succeeds();
    let all = command::run(Command::new("ps").args(["-eo", "args"]));
    assert!(!all.contains("sleep 91827364"), "{all}");
}

#[test]
fn its_stdin_is_empty() {
    assert_eq!(output_of("wc -c"), "0\n");
}

#[test]
fn umask_and_working_directory_are_dockers() {
    assert_eq!(output_of("umask; pwd"), "0022\n/\n");
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nWORKDIR /made/here\nRUN pwd > where\n")]);
    assert_eq!(world.tree(&project).text("made/here/where"), "/made/here\n");
}

#[test]
fn links_in_an_image_never_lead_out() {
    let world = World::new();
    let outside = world.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("/{}", "../".repeat(30));
    let project = world.project(&[
        (
            "Dockerfile",
            &format!(
                "FROM busybox\nRUN ln -s {0} /absolute && ln -s {up}{0} /relative\nCOPY file /absolute/\nCOPY file /relative/two\n",
                outside.display()
            ),
        ),
        ("file", "text"),
    ]);
    let tree = world.tree(&project);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "a file was written outside the image");
    assert!(tree.has(&format!("{}/file", outside.display().to_string().trim_start_matches('/'))));
}

#[test]
fn removing_and_making_again_hides_what_was_below() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/one\nRUN rm -r /d && mkdir /d && echo 2 > /d/two\nRUN ls /d > /list && rm /d/two\n",
    )]);
    let tree = world.tree(&project);
    assert_eq!(tree.text("list"), "two\n");
    assert_eq!(tree.node("d").kind, Kind::Directory);
    assert!(tree.below("d").is_empty());
}

#[test]
fn debian_installs_its_own_packages_offline() {
    let world = World::with_debian();
    let project = world.project(&[(
        "Dockerfile",
        "FROM debian\nRUN mkdir -p /p/DEBIAN /p/opt && echo hello > /p/opt/hello \
         && printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' > /p/DEBIAN/control \
         && dpkg-deb -b /p /p.deb && dpkg -i /p.deb && useradd -m someone && su someone -c 'id -un > ~/name'\n",
    )]);
    let tree = world.tree(&project);
    assert_eq!(tree.text("opt/hello"), "hello\n");
    assert_eq!(tree.text("home/someone/name"), "someone\n");
}
