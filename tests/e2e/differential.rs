//! What kiln builds against what buildah builds from the same Dockerfile: same files, owners, modes and config.
//!
//! A directory of `differential/` is a case: a Dockerfile and its context, and beside them, if needed,
//! `arguments` (one to a line, for both), `prepare.sh` (run in the context first: what git does not keep), and
//! `expect` (the differences that are accepted: `PLACE | REASON`; one that is no more fails the test too).
//!
//! What buildah 1.28 lacks has no case here: heredocs, the flags `--link`, `--exclude`, `--parents` and `--checksum`,
//! `ADD` of git repositories, symbolic modes, `--start-interval`, `RUN --network`, expansion without a colon or with
//! `#`, `%` and `/`, stage names in another case, and wildcards that are escaped.

use kiln_tests::buildah::Buildah;
use kiln_tests::{World, command, compare};
use std::path::{Path, PathBuf};
use std::process::Command;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/differential")
}

fn check(name: &str) {
    let case = directory().join(name);
    let world = if name.starts_with("debian") { World::with_debian() } else { World::new() };
    let project = world.project(&[]);
    command::run(Command::new("cp").arg("-a").arg(case.join(".")).arg(project.path()));
    let (arguments, expect) = (take(&project.join("arguments")), take(&project.join("expect")));
    if let Some(script) = take(&project.join("prepare.sh")) {
        command::run(Command::new("sh").args(["-ec", &script]).current_dir(project.path()));
    }
    let arguments: Vec<&str> = arguments.as_deref().unwrap_or_default().lines().collect();

    let theirs = Buildah::new().build(project.path(), &arguments);
    let ours = world.image(&project, &arguments);
    compare::assert_same(&ours, &theirs, &compare::Accepted::parse(&expect.unwrap_or_default()));
}

/// The text of a file that is no part of the context.
fn take(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    std::fs::remove_file(path).unwrap();
    Some(text)
}

macro_rules! cases {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { check($name); })*

        #[test]
        fn every_case_has_a_test() {
            let mut found: Vec<_> = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            found.sort();
            let mut listed = vec![$($name),*];
            listed.sort_unstable();
            assert_eq!(found, listed);
        }
    };
}

cases! {
    add_archive "add-archive"
    add_archive_chown "add-archive-chown"
    add_archive_forms "add-archive-forms"
    add_files "add-files"
    arg_before_from "arg-before-from"
    arg_default "arg-default"
    arg_empty_given "arg-empty-given"
    arg_env_precedence "arg-env-precedence"
    arg_in_from "arg-in-from"
    arg_names_and_env "arg-names-and-env"
    arg_override "arg-override"
    arg_platform "arg-platform"
    arg_scopes "arg-scopes"
    cmd_almost_exec "cmd-almost-exec"
    cmd_inherited "cmd-inherited"
    cmd_shell "cmd-shell"
    comments_and_case "comments-and-case"
    continuations "continuations"
    copy_chmod "copy-chmod"
    copy_chmod_directory "copy-chmod-directory"
    copy_chmod_forms "copy-chmod-forms"
    copy_chown_forms "copy-chown-forms"
    copy_chown_names "copy-chown-names"
    copy_chown_numbers "copy-chown-numbers"
    copy_classes "copy-classes"
    copy_destinations "copy-destinations"
    copy_directory "copy-directory"
    copy_directory_trailing_slash "copy-directory-trailing-slash"
    copy_dot "copy-dot"
    copy_dot_to_workdir "copy-dot-to-workdir"
    copy_empty "copy-empty"
    copy_from_image "copy-from-image"
    copy_from_stage_metadata "copy-from-stage-metadata"
    copy_hard_links "copy-hard-links"
    copy_json_form "copy-json-form"
    copy_links "copy-links"
    copy_modes "copy-modes"
    copy_over_files "copy-over-files"
    copy_owners "copy-owners"
    copy_rename "copy-rename"
    copy_sources "copy-sources"
    copy_through_link "copy-through-link"
    copy_wildcard "copy-wildcard"
    copy_wildcard_forms "copy-wildcard-forms"
    copy_xattrs "copy-xattrs"
    debian_perl "debian-perl"
    debian_removal "debian-removal"
    debian_user "debian-user"
    dockerfile_elsewhere "dockerfile-elsewhere"
    entrypoint_cmd "entrypoint-cmd"
    entrypoint_resets_cmd "entrypoint-resets-cmd"
    env "env"
    env_escapes "env-escapes"
    env_forms "env-forms"
    env_in_instructions "env-in-instructions"
    env_same_line "env-same-line"
    escape_directive "escape-directive"
    exec_forms "exec-forms"
    expansion_everywhere "expansion-everywhere"
    expansion_forms "expansion-forms"
    expose_forms "expose-forms"
    expose_volume "expose-volume"
    healthcheck "healthcheck"
    healthcheck_exec "healthcheck-exec"
    healthcheck_none "healthcheck-none"
    healthcheck_options "healthcheck-options"
    healthcheck_replaced "healthcheck-replaced"
    hello "hello"
    ignore_all_but "ignore-all-but"
    ignore_beside_dockerfile "ignore-beside-dockerfile"
    ignore_dockerfile "ignore-dockerfile"
    ignore_exceptions "ignore-exceptions"
    ignore_forms "ignore-forms"
    ignore_last_wins "ignore-last-wins"
    ignore_patterns "ignore-patterns"
    inherit_config "inherit-config"
    label_forms "label-forms"
    labels "labels"
    mount_bind "mount-bind"
    mount_cache "mount-cache"
    mount_secret "mount-secret"
    mount_tmpfs "mount-tmpfs"
    no_expansion_in_commands "no-expansion-in-commands"
    onbuild_cleared "onbuild-cleared"
    onbuild_kept "onbuild-kept"
    onbuild_stage "onbuild-stage"
    run_deletes "run-deletes"
    run_environment "run-environment"
    run_etc_files "run-etc-files"
    run_exec_form "run-exec-form"
    run_hard_links "run-hard-links"
    run_keeps_files "run-keeps-files"
    run_large_tree "run-large-tree"
    run_modes "run-modes"
    run_replaces_directory "run-replaces-directory"
    scratch_copy "scratch-copy"
    shell "shell"
    shell_forms "shell-forms"
    shell_inherited "shell-inherited"
    stage_by_index "stage-by-index"
    stage_by_name "stage-by-name"
    stage_from_stage "stage-from-stage"
    stages_many "stages-many"
    stopsignal "stopsignal"
    target_stage "target-stage"
    user "user"
    user_copy_is_root "user-copy-is-root"
    user_forms "user-forms"
    volume_forms "volume-forms"
    volume_then_run "volume-then-run"
    workdir "workdir"
    workdir_after_user "workdir-after-user"
    workdir_existing "workdir-existing"
    workdir_forms "workdir-forms"
}
