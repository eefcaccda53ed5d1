//! Images with odd properties, made by the tools of others or byte by byte: kiln makes of them what umoci or buildah
//! make of them, and what kiln writes of them is read again by GNU tar and umoci.

mod images;

use images::{Case, Judge};
use kiln_tests::buildah::Buildah;
use kiln_tests::layout::{self, Layout};
use kiln_tests::{Disk, World, command};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layout of an image, tagged `latest`, in the world's directory.
fn layout(world: &World, case: &Case) -> PathBuf {
    let layout = Layout::create(world.path().join(case.name));
    let layers: Vec<_> = case.layers.iter().map(|archive| layout.layer(archive)).collect();
    let manifest = layout.image(layout::config(json!({ "Cmd": ["/nothing"] })), &layers);
    layout.tag(&[("latest", &manifest)]);
    layout.path().to_owned()
}

/// What umoci unpacks of a layout.
fn unpacked_by_umoci(layout: &Path, bundle: &Path) -> Result<Disk, String> {
    let mut umoci = Command::new("umoci");
    let output =
        command::output(umoci.args(["unpack", "--image"]).arg(format!("{}:latest", layout.display())).arg(bundle));
    match output.status.success() {
        true => Ok(Disk::read(&bundle.join("rootfs"))),
        false => Err(command::describe(&umoci, &output)),
    }
}

/// What buildah mounts of a layout.
fn mounted_by_buildah(buildah: &Buildah, layout: &Path) -> Result<Disk, String> {
    let mut from = buildah.command(&["from", "--quiet", "--signature-policy"]);
    // The path becomes a part of the image's name, where not every letter may stand.
    from.current_dir(layout.parent().unwrap()).arg(buildah.path().join("policy.json"));
    from.arg(format!("oci:{}:latest", layout.file_name().unwrap().to_string_lossy()));
    let output = command::output(&mut from);
    if !output.status.success() {
        return Err(command::describe(&from, &output));
    }
    let container = String::from_utf8(output.stdout).unwrap();
    let mount = command::run(&mut buildah.command(&["mount", container.trim()]));
    let disk = Disk::read(Path::new(mount.trim()));
    command::run(&mut buildah.command(&["umount", container.trim()]));
    Ok(disk)
}

/// What GNU tar unpacks of an archive.
fn unpacked_by_tar(archive: &Path, directory: &Path) -> Disk {
    std::fs::create_dir_all(directory).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp", "-xpf"]);
    command::run(tar.arg(archive).arg("-C").arg(directory));
    Disk::read(directory)
}

fn check(cases: Vec<Case>) {
    let world = World::new();
    let buildah = Buildah::new();
    let failed: Vec<_> = cases
        .iter()
        .filter(|case| std::panic::catch_unwind(|| check_one(&world, &buildah, case)).is_err())
        .map(|case| case.name)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn check_one(world: &World, buildah: &Buildah, case: &Case) {
    let name = case.name;
    let layout = layout(world, case);
    let place = |what: &str| world.path().join(format!("{name}-{what}"));
    let theirs = match case.judge {
        Judge::Umoci => unpacked_by_umoci(&layout, &place("umoci")),
        Judge::Nobody => unpacked_by_umoci(&layout, &place("umoci")).and_then(|_| mounted_by_buildah(buildah, &layout)),
        Judge::Buildah => mounted_by_buildah(buildah, &layout),
        Judge::Tar => {
            for layer in &case.layers {
                std::fs::write(place("layer.tar"), layer).unwrap();
                unpacked_by_tar(&place("layer.tar"), &place("tar"));
            }
            Ok(Disk::read(&place("tar")))
        }
    };
    let context = format!("odd=oci-layout://{}", layout.display());
    let archive = place("flat.tar");
    let flat = world.project(&[("Dockerfile", "FROM odd\n")]);
    let build =
        world.build(&flat).args(["--build-context", &context, "-o", &format!("type=tar,dest={}", archive.display())]);
    if let Judge::Nobody = case.judge {
        assert!(theirs.is_err(), "{name}: others read it");
        build.fails().does_not_say("panicked");
        return;
    }
    let theirs = theirs.unwrap();
    let outcome = build.run();
    assert!(outcome.status.success(), "{name}: kiln refuses what others read\n{outcome}");
    unpacked_by_tar(&archive, &place("flat")).assert_same(&theirs, &format!("{name}: kiln, and who else unpacks it"));
    // All of it in a layer of kiln's own.
    let copy = world.project(&[("Dockerfile", "FROM scratch\nCOPY --from=odd / /\n")]);
    let written = place("copy");
    let output = format!("type=oci,tar=false,dest={}", written.display());
    world.build(&copy).args(["--build-context", &context, "-o", &output, "-t", "copy:latest"]).succeeds();
    let tagged = place("tagged");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("oci:{}", written.display()));
    command::run(skopeo.arg(format!("oci:{}:latest", tagged.display())));
    let read = unpacked_by_umoci(&tagged, &place("copy-umoci")).unwrap();
    read.timeless().assert_same(&theirs.timeless(), &format!("{name}: written by kiln, and as it was"));
}

#[test]
fn names_as_tools_write_them() {
    check(images::names());
}

#[test]
fn files_as_tools_write_them() {
    check(images::files());
}

#[test]
fn layers_over_layers() {
    check(images::layers());
}

#[test]
fn archives_as_nobody_should_write_them() {
    check(images::strange());
}
