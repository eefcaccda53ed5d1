//! The images: a name, the archives of the layers, and who knows what they mean.

use crate::hostile_tar::Tar;
use kiln_tests::{command, run};
use std::process::Command;

/// Whose reading counts where tools differ.
#[derive(Clone, Copy)]
pub(super) enum Judge {
    /// umoci, which unpacks all layers into one directory.
    Umoci,
    /// buildah, which stacks them with overlayfs.
    Buildah,
    /// GNU tar, for layers that hide nothing; where umoci lacks what Docker has, or Go drops what tar writes.
    Tar,
    /// Nobody's: umoci or buildah refuses it, and so must kiln.
    Nobody,
}
use Judge::{Buildah, Nobody, Tar as GnuTar, Umoci};

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) judge: Judge,
    pub(super) layers: Vec<Vec<u8>>,
}

fn case(name: &'static str, judge: Judge, layers: Vec<Vec<u8>>) -> Case {
    Case { name, judge, layers }
}

/// What a script writes to its standard output, run in an empty directory `files`.
fn script(script: &str) -> Vec<u8> {
    let directory = run::directory("odd");
    let files = directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(&files).env("LC_ALL", "C").env("HOME", directory.path());
    let output = command::output(&mut shell);
    assert!(output.status.success(), "{}", command::describe(&shell, &output));
    output.stdout
}

/// An archive of GNU tar's, of what a script makes, with these options.
fn gnu(options: &str, make: &str) -> Vec<u8> {
    script(&format!(
        "{make}\nfind . -exec touch -h -d @1234567890 {{}} +\ntar {options} --numeric-owner --sort=name -c -- *"
    ))
}

/// An archive that Python's tarfile writes: `add(name, …fields)` adds a member to `t`.
fn python(format: &str, code: &str) -> Vec<u8> {
    let head = "import io, sys, tarfile
t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.FORMAT, errors='surrogateescape')
def add(name, type=tarfile.REGTYPE, content=b'', **fields):
    m = tarfile.TarInfo(name)
    m.type, m.size, m.mtime, m.mode = type, len(content), 1234567890, 0o755 if type == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(m, key, value)
    t.addfile(m, io.BytesIO(content))
";
    script(&format!("python3 - <<'EOF'\n{}\n{code}\nt.close()\nEOF", head.replace("FORMAT", format)))
}

/// Names of each length that matters, and deep directories.
const LONG_NAMES: &str = "
for length in 99 100 101 155 156 254 255; do n=$(printf %${length}s | tr ' ' n); echo $length > $n; mkdir -p d/$n.d 2> /dev/null || true; done
deep=$(printf 'directory/%.0s' $(seq 300)); mkdir -p $deep; echo deep > $deep/file; ln -s $deep link; ln $deep/file hard";

pub(super) fn names() -> Vec<Case> {
    let bytes = r"printf a > $'not-\xff-\xfe-utf8'; mkdir $'d\xe9'; printf b > $'d\xe9/f'; ln -s $'to\xff' link
        printf c > $'line\nfeed'; printf d > $'tab\tback\\slash'; printf e > ' space '; printf f > ./-dash; printf g > 'é'; printf h > '*'";
    let ustar_names =
        "n=$(printf %99s | tr ' ' n); d=$(printf %77s | tr ' ' d); mkdir -p $d/$d; echo x > $d/$d/$n; echo y > $n";
    vec![
        case("gnu-long-names", Umoci, vec![gnu("-H gnu", LONG_NAMES)]),
        case("pax-long-names", Umoci, vec![gnu("-H pax", LONG_NAMES)]),
        case("gnu-bytes", Umoci, vec![gnu("-H gnu", bytes)]),
        case("pax-bytes", Umoci, vec![gnu("-H pax", bytes)]),
        case("ustar-prefixes", Umoci, vec![gnu("-H ustar", ustar_names)]),
        case("v7-of-gnu", Umoci, vec![gnu("-H v7", "mkdir d; echo x > d/f; ln -s d/f l; ln d/f h")]),
        case("oldgnu", Umoci, vec![gnu("-H oldgnu", LONG_NAMES)]),
        case(
            "links-to-far-away",
            Umoci,
            vec![
                gnu("-H gnu", "ln -s $(printf '/%4000s' | tr ' ' t) gnu"),
                gnu("-H pax", "ln -s $(printf '/%4000s' | tr ' ' t) pax"),
            ],
        ),
        case(
            "pythons-surrogates",
            Umoci,
            vec![python(
                "PAX_FORMAT",
                r"add('d\udcff', tarfile.DIRTYPE); add('d\udcff/f\udc80', content=b'x'); add('é')",
            )],
        ),
        case(
            "prefixed",
            Umoci,
            vec![
                Tar::default()
                    .file("./a", "1")
                    .file("/b", "2")
                    .file("c//d/./e", "3")
                    .directory("./")
                    .directory("./f/")
                    .finish(),
            ],
        ),
        case(
            "parents-that-nobody-names",
            Umoci,
            vec![Tar::default().file("a/b/c/d", "1").hard_link("e/f", "a/b/c/d").symlink("g/h/i", "x").finish()],
        ),
    ]
}

pub(super) fn files() -> Vec<Case> {
    let sparse = "truncate -s 5M holes; printf begin | dd of=holes conv=notrunc status=none; printf middle | dd of=holes bs=1 seek=2000000 conv=notrunc status=none
        truncate -s 3M empty; for i in $(seq 60); do printf $i | dd of=many bs=1 seek=$((i * 100000)) conv=notrunc status=none; done; truncate -s 7M many; echo after > z";
    let xattrs = r"echo x > f; mkdir d; ln -s f l; setfattr -n user.bytes -v 0x000aff3d3d f; setfattr -n user.on-dir -v x d
        setfattr -n user.long -v 0x$(printf '%02000d' 0) f; cp /bin/true ping; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 ping";
    let modes = "for m in 0000 0001 0111 0222 0444 0777 1777 2755 4755 6755 7777; do echo $m > f$m; chmod $m f$m; mkdir d$m; echo x > d$m/in; chmod $m d$m; done";
    let nodes = "mknod c c 1 3; mknod b b 259 1048575; mknod big c 4095 1000000; mkfifo p; chmod 666 c; chown 3:4 b; ln c same-c; ln p same-p";
    let hard = "mkdir z a; echo x > z/one; ln z/one a/two; ln z/one m; ln -s nowhere s; ln -P s s2; chown -h 5:6 s; echo y > alone; setfattr -n user.x -v y z/one";
    vec![
        case("sparse-gnu", GnuTar, vec![gnu("-H gnu -S", sparse)]),
        case("sparse-pax-0.0", Umoci, vec![gnu("-H pax -S --sparse-version=0.0", sparse)]),
        case("sparse-pax-0.1", Umoci, vec![gnu("-H pax -S --sparse-version=0.1", sparse)]),
        case("sparse-pax-1.0", Umoci, vec![gnu("-H pax -S --sparse-version=1.0", sparse)]),
        case("attributes-and-capabilities", GnuTar, vec![gnu("-H pax --xattrs --xattrs-include=*", xattrs)]),
        case("modes", Umoci, vec![gnu("-H gnu", modes)]),
        case("nodes", Umoci, vec![gnu("-H gnu", nodes), gnu("-H ustar", "mknod other c 7 7; mkfifo pipe")]),
        case("hard-links", Umoci, vec![gnu("-H pax --xattrs", hard)]),
        case(
            "owners-beyond-31-bits",
            Umoci,
            vec![
                python(
                    "PAX_FORMAT",
                    "add('pax', uid=2**31, gid=2**32 - 2); add('d', tarfile.DIRTYPE, uid=4000000, gid=1)",
                ),
                python("GNU_FORMAT", "add('gnu', uid=2**31, gid=2**32 - 2); add('old', uid=2097151)"),
            ],
        ),
        case(
            "times",
            Umoci,
            vec![
                python(
                    "PAX_FORMAT",
                    "add('before', mtime=-12.5); add('fraction', mtime=1.999999999); add('far', mtime=4294967296 + 7); add('zero', mtime=0)",
                ),
                python("GNU_FORMAT", "add('gnu-before', mtime=-12); add('gnu-far', mtime=9000000000)"),
            ],
        ),
        case(
            "sizes-around-blocks",
            Umoci,
            vec![gnu(
                "-H ustar",
                "for s in 0 1 511 512 513 1023 1024 1025 1048575 1048576 1048577; do head -c $s /dev/urandom > $s; done",
            )],
        ),
        case(
            "five-thousand-files",
            Umoci,
            vec![gnu("-H gnu", "mkdir d; for i in $(seq 5000); do echo $i > d/$i; done")],
        ),
        case(
            "cpio",
            Umoci,
            vec![
                script("mkdir d; echo x > d/f; ln d/f h; ln -s d l; mkfifo p; find d h l p | cpio --quiet -o -H ustar"),
                script("mkdir e; echo y > e/g; find e | cpio --quiet -o -H tar"),
            ],
        ),
        case(
            "git-archive",
            GnuTar,
            vec![script(
                "git init -q .; mkdir d; echo x > d/f; echo y > g; chmod 755 g; ln -s g l; git add .; git -c user.name=n -c user.email=e commit -qm m; git archive --format=tar HEAD",
            )],
        ),
        case(
            "busybox-tar",
            Umoci,
            vec![script(
                "mkdir d; echo x > d/f; ln d/f h; ln -s d l; echo y > $(printf %120s | tr ' ' n); busybox tar cf - *",
            )],
        ),
    ]
}

pub(super) fn layers() -> Vec<Case> {
    let file = |path: &str, text: &str| Tar::default().file(path, text).finish();
    let t = Tar::default;
    vec![
        case(
            "whiteouts-of-whiteouts",
            Umoci,
            vec![
                file("a/f", "1"),
                file("a/.wh.f", ""),
                file("a/f", "2"),
                file(".wh.a", ""),
                file("a/g", "3"),
                file("a/.wh.g", ""),
                t().directory("a/g").finish(),
            ],
        ),
        case(
            "whiteouts-of-nothing",
            Umoci,
            vec![file("a/f", "1"), t().file(".wh.never", "").file("a/.wh.never", "").finish()],
        ),
        case(
            "opaque-directories",
            Umoci,
            vec![
                t().file("d/a", "1").file("d/sub/b", "2").file("e/c", "3").finish(),
                t().directory("d").file("d/.wh..wh..opq", "").file("d/new", "4").file("e/sub/new", "5").finish(),
                t().directory("e/sub").file("e/sub/.wh..wh..opq", "").file("d/sub/b", "6").finish(),
            ],
        ),
        case(
            "opaque-marks-come-last",
            Umoci,
            vec![file("d/a", "1"), t().directory("d").file("d/new", "2").file("d/.wh..wh..opq", "").finish()],
        ),
        case(
            "files-replace-directories",
            Umoci,
            vec![t().file("d/sub/a", "1").file("e/x", "2").finish(), t().file("d", "file").symlink("e", "d").finish()],
        ),
        case(
            "directories-replace-files",
            Umoci,
            vec![
                t().file("f", "1").symlink("l", "f").finish(),
                t().directory("f").file("f/in", "2").directory("l").file("l/in", "3").finish(),
            ],
        ),
        case(
            "links-replace-and-are-replaced",
            Umoci,
            vec![
                t().symlink("a", "b").file("b", "1").finish(),
                t().file("a", "2").symlink("b", "a").finish(),
                t().symlink("a", "c").directory("b").finish(),
            ],
        ),
        case(
            "below-a-link-of-a-lower-layer",
            Buildah,
            vec![t().directory("real").symlink("link", "real").finish(), file("link/f", "x")],
        ),
        case(
            "one-of-several-names-is-written-again",
            Umoci,
            vec![
                t().file("a", "old").hard_link("b", "a").hard_link("c", "a").finish(),
                file("b", "new"),
                t().file(".wh.a", "").finish(),
            ],
        ),
        case(
            "names-move-between-layers",
            Umoci,
            vec![
                t().file("a", "1").hard_link("b", "a").finish(),
                t().file("b", "2").hard_link("c", "b").finish(),
                t().file(".wh.b", "").finish(),
            ],
        ),
        case("a-link-to-a-file-of-a-lower-layer", Nobody, vec![file("a", "1"), t().hard_link("b", "a").finish()]),
        case(
            "empty-layers",
            Umoci,
            vec![t().finish(), file("a", "1"), t().finish(), Vec::new(), vec![0; 512], vec![0; 10_240], file("b", "2")],
        ),
        case(
            "the-same-layer-again",
            Umoci,
            vec![file("a", "1"), file(".wh.a", ""), file("a", "1"), file("b", "2"), file("a", "1")],
        ),
        case(
            "directories-change-their-modes",
            Umoci,
            vec![
                t().directory("d").file("d/a", "1").finish(),
                gnu("-H gnu", "mkdir d; chmod 3700 d; chown 7:8 d"),
                gnu("-H pax --xattrs", "mkdir d; chmod 755 d; setfattr -n user.late -v x d"),
            ],
        ),
        case(
            "nothing-is-left",
            Umoci,
            vec![t().file("a/b", "1").file("c", "2").finish(), t().file(".wh.a", "").file(".wh.c", "").finish()],
        ),
        case(
            "device-0-0-hides",
            Buildah,
            vec![
                t().file("a", "1").file("b/c", "2").finish(),
                t().device("a", b'3', 0, 0).device("b/c", b'3', 0, 0).device("never", b'3', 0, 0).finish(),
            ],
        ),
        case(
            "sixty-layers",
            Umoci,
            (0..60)
                .map(|n| {
                    t().file(&format!("f{n}"), "x")
                        .file("same", &n.to_string())
                        .file(&format!(".wh.f{}", n - 7), "")
                        .finish()
                })
                .collect(),
        ),
    ]
}

pub(super) fn strange() -> Vec<Case> {
    let t = Tar::default;
    let unended = |archive: Vec<u8>| archive[..archive.len() - 1024].to_vec();
    let long = "n".repeat(200);
    vec![
        case(
            "the-same-name-again",
            Umoci,
            vec![
                t().file("a", "1")
                    .file("a", "2")
                    .directory("d")
                    .file("d/x", "3")
                    .directory("d")
                    .symlink("a", "d")
                    .file("a", "4")
                    .finish(),
            ],
        ),
        case(
            "kinds-change-within-a-layer",
            Umoci,
            vec![
                t().file("a", "1").directory("a").file("a/b", "2").finish(),
                t().file("c/d", "3").file("c", "4").finish(),
            ],
        ),
        case(
            "links-to-what-is-replaced",
            Umoci,
            vec![
                t().file("a", "1").hard_link("b", "a").file("a", "2").hard_link("c", "b").hard_link("b", "a").finish(),
            ],
        ),
        case("no-end", Umoci, vec![unended(t().file("a", "1").finish())]),
        case("more-behind-the-end", Umoci, vec![[t().file("a", "1").finish(), b"garbage ".repeat(1000)].concat()]),
        case(
            "global-headers",
            GnuTar,
            vec![
                python("PAX_FORMAT", "t.pax_headers = {'comment': 'x'}; add('a')"),
                script(
                    "python3 -c \"import tarfile, sys; t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.PAX_FORMAT, pax_headers={'comment': 'y'}); t.addfile(tarfile.TarInfo('b')); t.close()\"",
                ),
            ],
        ),
        case(
            "continuous-files-and-old-directories",
            GnuTar,
            vec![python(
                "USTAR_FORMAT",
                "add('contiguous', tarfile.CONTTYPE, b'abc'); add('old', tarfile.AREGTYPE, b'x'); add('dir/', tarfile.AREGTYPE); add('dir/in', content=b'y')",
            )],
        ),
        case("slashes-behind-names", Umoci, vec![t().directory("d//").symlink("l", "d/").directory("e/./").finish()]),
        case(
            "records-for-everything",
            Umoci,
            vec![
                t().record("path", b"real")
                    .record("uid", b"1")
                    .record("uid", b"70000000")
                    .record("mtime", b"5.5")
                    .record("atime", b"6")
                    .record("ctime", b"7")
                    .record("uname", b"nobody")
                    .record("LIBARCHIVE.creationtime", b"8")
                    .record("comment", b"x=y")
                    .file("short", "1")
                    .finish(),
            ],
        ),
        case("a-name-of-ten-thousand-letters", Nobody, vec![t().file(&"n".repeat(10_000), "1").finish()]),
        case(
            "a-path-of-ten-thousand-letters",
            Nobody,
            vec![t().file(&format!("{}f", format!("{long}/").repeat(50)), "1").finish()],
        ),
        case("a-target-of-ten-thousand-letters", Nobody, vec![t().symlink("l", &"t/".repeat(5_000)).finish()]),
        case(
            "an-attribute-of-100-kB",
            Nobody,
            vec![t().record("SCHILY.xattr.user.big", &vec![b'x'; 100_000]).file("a", "1").finish()],
        ),
        case("an-unknown-kind", Nobody, vec![t().device("a", b'Z', 0, 0).finish()]),
    ]
}
