//! Files of the machine, and the program that starts commands.

use std::os::unix::fs::{PermissionsExt, symlink};

use kiln_executor::sandbox::SandboxError;
use libc::{EBUSY, ENOENT, EPERM, EROFS, EXDEV};

use super::{Attempt, Ground, compile, program, special};

pub const ALL: &[Attempt] = &[
    program("by_name", &["open-read", "{file}"], &[ENOENT]),
    program("up", &["open-read", "/../../../../../../{file}"], &[ENOENT]),
    program("through_the_own_root", &["open-read", "/proc/self/root/..{file}"], &[ENOENT]),
    program("through_the_first_process", &["open-read", "/proc/1/root{file}"], &[ENOENT]),
    program("through_the_first_directory", &["open-read", "/proc/1/cwd/../..{file}"], &[ENOENT]),
    program("through_a_thread", &["open-read", "/proc/thread-self/root{file}"], &[ENOENT]),
    program("by_handle", &["open-by-handle", "/etc/hosts"], &[EPERM]),
    program("by_handle_of_the_root", &["open-by-handle", "/"], &[EPERM]),
    program("hosts", &["write", "/etc/hosts", "x"], &[EROFS]),
    program("resolver", &["write", "/etc/resolv.conf", "x"], &[EROFS]),
    program("hosts_by_link", &["link", "/etc/hosts", "/etc/linked"], &[EXDEV, EPERM]),
    program("hosts_moved", &["rename", "/etc/hosts", "/etc/moved"], &[EBUSY]),
    program("hosts_deleted", &["delete", "/etc/hosts"], &[EBUSY]),
    program("hosts_mode", &["chmod", "/etc/hosts", "777"], &[EROFS]),
    program("hosts_owner", &["chown", "/etc/hosts", "1", "1"], &[EROFS]),
    program("hosts_attributes", &["setxattr", "/etc/hosts", "user.kiln-escape", "x"], &[EROFS]),
    program("frozen_file_system", &["freeze", "/"], &[EPERM, libc::EOPNOTSUPP, libc::ENOTTY]),
    program("discarded_blocks", &["trim", "/"], &[EPERM, libc::ENOTTY]),
    program("frozen_through_hosts", &["freeze", "/etc/hosts"], &[EPERM]),
    program("discarded_through_hosts", &["trim", "/etc/hosts"], &[EPERM]),
    special("the_program_that_starts_commands", the_program_that_starts_commands),
    special("the_program_after_it_has_gone", the_program_after_it_has_gone),
    special("working_directories_behind_descriptors", working_directories_behind_descriptors),
    special("programs_behind_descriptors", programs_behind_descriptors),
    special("links_out", links_out),
];

/// A layer whose dynamic linker is a program that overwrites what it was started for.
fn with_linker(ground: &Ground<'_>, more: impl FnOnce(&std::path::Path)) -> std::path::PathBuf {
    ground.world.layer(|root| {
        let linkers = ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", "lib/ld-musl-x86_64.so.1"];
        for linker in linkers {
            let path = root.join(linker);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let source = ("interpreter.c", include_str!("program/interpreter.c"));
            compile(&[source], &["-nostdlib", "-fno-stack-protector", "-fno-builtin"], &path);
        }
        more(root);
    })
}

/// CVE-2019-5736: an image says that its program is `/proc/self/exe`, and brings the linker for it.
fn the_program_that_starts_commands(ground: &Ground<'_>) {
    let layer = with_linker(ground, |root| symlink("/proc/self/exe", root.join("entry")).unwrap());
    for entry in ["/proc/self/exe", "/entry", "/proc/1/exe", "/proc/thread-self/exe"] {
        let mut spec = ground.world.command(&[entry]);
        spec.root.lowers.push(layer.clone());
        assert_eq!(ground.world.run(&spec).code(), EROFS, "{entry}");
    }
}

/// The same as a script, whose interpreter the kernel looks for, and which is then started over.
fn the_program_after_it_has_gone(ground: &Ground<'_>) {
    let layer = with_linker(ground, |root| {
        std::fs::write(root.join("script"), "#!/proc/self/exe\n").unwrap();
        std::fs::set_permissions(root.join("script"), PermissionsExt::from_mode(0o755)).unwrap();
    });
    let mut spec = ground.world.command(&["/script"]);
    spec.root.lowers.push(layer);
    assert_eq!(ground.world.run(&spec).code(), EROFS);
    ground.world.sh("true").assert_ok();
}

/// CVE-2024-21626: a working directory that is still open from before.
fn working_directories_behind_descriptors(ground: &Ground<'_>) {
    let layer = ground.world.layer(|root| {
        for number in 0..24 {
            symlink(format!("/proc/self/fd/{number}"), root.join(format!("w{number}"))).unwrap();
        }
        symlink("/proc/self/cwd", root.join("here")).unwrap();
        symlink("/proc/self/root", root.join("root")).unwrap();
    });
    let mut ways: Vec<String> = vec!["/here".into(), "/root".into(), "/proc/self/cwd".into(), "/proc/1/cwd".into()];
    for number in 0..24 {
        ways.push(format!("/w{number}"));
        ways.push(format!("/proc/1/fd/{number}"));
        ways.push(format!("/proc/self/fd/{number}/.."));
        ways.push(format!("/proc/thread-self/fd/{number}"));
    }
    for way in ways {
        let mut spec = ground.world.spec("echo ESCAPED");
        spec.root.lowers.push(layer.clone());
        spec.cwd = way;
        let outcome = ground.world.run(&spec);
        assert!(matches!(outcome.result, Err(SandboxError::Setup { .. })), "{}: {outcome:?}", spec.cwd);
    }
}

/// The program is looked up while what is closed by its start is still open.
fn programs_behind_descriptors(ground: &Ground<'_>) {
    let up = "../".repeat(20);
    for number in 0..24 {
        let program = format!("/proc/self/fd/{number}/{up}bin/sh");
        let spec = ground.world.command(&[&program, "-c", "echo ESCAPED"]);
        let outcome = ground.world.run(&spec);
        let stopped = matches!(outcome.result, Err(SandboxError::NotFound { .. } | SandboxError::NotExecutable { .. }));
        assert!(stopped, "{program}: {outcome:?}");
    }
}

/// Links of an image lead to places in the image.
fn links_out(ground: &Ground<'_>) {
    let file = ground.machine.file().to_owned();
    let layer = ground.world.layer(|root| {
        symlink(&file, root.join("absolute")).unwrap();
        symlink(format!("{}{}", "../".repeat(40), file.display()), root.join("relative")).unwrap();
        symlink(file.parent().unwrap(), root.join("directory")).unwrap();
    });
    for name in ["absolute", "relative", "directory/victim"] {
        let mut spec = ground.spec(&["write", &format!("/{name}"), "ESCAPED"]);
        spec.root.lowers.push(layer.clone());
        ground.is_stopped(&spec, &[ENOENT]);
    }
}
