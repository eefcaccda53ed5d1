//! Users and libraries of a system, and unusual ways to read a file.

use super::edit::Edit::{Directory, File, Gone, Link, Made, Mode, Name, Program, Sparse, Touched};
use super::{Row, row};

const OTHER: &[super::Edit] = &[
    File("b.txt", "other"),
    File("new", "new"),
    File("docs/guide.md", "other"),
    Gone("docs/deep"),
    File("/srv/new", ""),
];

const WITH_USERS: &[super::Edit] = &[
    File("a.txt", "one\n"),
    File("b.txt", "two\n"),
    File("/etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:7:7::/:/bin/sh\n"),
    File("/etc/group", "root:x:0:\nada:x:7:\n"),
];

pub const ROWS: &[Row] = &[
    row("useradd -m ada")
        .unlike(&["etc/shadow", "var/log"])
        .reruns(&[
            File("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            File("/etc/group", "root:x:0:\n"),
            File("/etc/login.defs", ""),
            File("/etc/default/useradd", ""),
            File("/etc/skel/.profile", ""),
            File("/home/ada/mine", ""),
        ])
        .cached(OTHER),
    row("groupadd -r staff2")
        .reruns(&[File("/etc/group", "root:x:0:\n"), File("/etc/gshadow", "")])
        .cached(OTHER)
        .unlike(&["var/log"]),
    row("chown ada a.txt")
        .tree(WITH_USERS)
        .reruns(&[
            File("/etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:8:8::/:/bin/sh\n"),
            File("a.txt", "2"),
            File("/etc/nsswitch.conf", "passwd: files\n"),
        ])
        .cached(&[File("b.txt", "2"), File("new", ""), File("/etc/other", "")]),
    row("id ada; getent passwd 7")
        .tree(WITH_USERS)
        .reruns(&[
            File("/etc/passwd", "ada:x:8:8::/:/bin/sh\n"),
            File("/etc/group", "root:x:0:\nada:x:7:\nmore:x:9:ada\n"),
        ])
        .cached(&[File("a.txt", "2"), File("new", "")]),
    row("su -s /bin/sh nobody -c 'cat a.txt'")
        .reruns(&[
            File("a.txt", "2"),
            Mode("a.txt", 0o600),
            File("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            File("/etc/pam.d/su", ""),
        ])
        .cached(OTHER)
        .unlike(&["var/log"]),
    row("ldconfig && ldconfig -p | grep libfirst")
        .tree(&[File("/etc/ld.so.conf.d/app.conf", "/app/lib\n"), File("a.txt", "1")])
        .setup(
            "mkdir lib; echo 'int first;' > x.c; \
             cc -shared -fPIC -Wl,-soname,libfirst.so.1 x.c -o lib/libfirst.so.1.0; rm x.c",
        )
        .unlike(&["var/cache/ldconfig"])
        .reruns(&[
            Made(
                "`lib/libfirst.so.1.0` made anew",
                "echo 'int more;' > x.c; \
 cc -shared -fPIC x.c -o lib/libfirst.so.1.0; rm x.c",
            ),
            Made("another library in `lib`", "cp lib/libfirst.so.1.0 lib/libmore.so.1"),
            File("/etc/ld.so.conf.d/more.conf", ""),
            File("/etc/ld.so.conf.d/app.conf", ""),
        ])
        .cached(&[File("a.txt", "2"), File("new", "")]),
    row("LD_LIBRARY_PATH=first:second ./prog")
        .tree(&[Directory("first"), File("a.txt", "1")])
        .setup(
            "mkdir second; echo 'int part(void) { return 0; }' > p.c; cc -shared -fPIC p.c -o second/libpart.so; \
             echo 'int part(void); int main(void) { return part(); }' > m.c; \
             cc m.c -o prog -Lsecond -lpart; rm p.c m.c",
        )
        .reruns(&[
            Made("`first/libpart.so` added", "cp second/libpart.so first"),
            Made(
                "`second/libpart.so` made anew",
                "echo 'int part(void) { return 1; }' > p.c; \
 cc -shared -fPIC p.c -o second/libpart.so",
            ),
            File("/etc/ld.so.preload", ""),
        ])
        .cached(&[File("a.txt", "2"), File("first/libother.so", ""), File("new", "")]),
    row("update-alternatives --install /usr/bin/tool tool /app/bin/tool 1")
        .script("update-alternatives --quiet --install /usr/bin/tool tool /app/bin/tool 1 && tool")
        .unlike(&["var/log"])
        .reruns(&[Program("bin/tool", "#!/bin/sh\n"), File("/usr/bin/tool", ""), File("/etc/alternatives/tool", "")])
        .cached(OTHER),
    row("cat /usr/share/zoneinfo/Etc/UTC | wc -c; date -d @0")
        .script("wc -c < /usr/share/zoneinfo/Etc/UTC; date -d @0")
        .reruns(&[File("/etc/localtime", ""), Directory("/usr/share/zoneinfo/Etc/UTC")])
        .cached(OTHER),
];

const WAYS: &str = "cc -O1 \"$SOURCES/ways.c\" -o ways";

/// Rows of the program in `programs/ways.c`.
const fn way(command: &'static str) -> Row {
    row(command).setup(WAYS).cached(OTHER)
}

pub const UNUSUAL: &[Row] = &[
    way("./ways map a.txt # mmap").reruns(&[File("a.txt", "2"), Gone("a.txt"), Made("`ways` made anew", "strip ways")]),
    way("./ways at docs guide.md # openat below an O_PATH directory")
        .reruns(&[File("docs/guide.md", "2"), Gone("docs/guide.md"), Link("docs", "src")])
        .cached(&[File("a.txt", "2"), File("docs/new", ""), File("new", "")]),
    way("./ways inherited a.txt # read by a child").reruns(&[File("a.txt", "2")]),
    way("./ways again a.txt # by /proc/self/fd").reruns(&[File("a.txt", "2")]),
    way("./ways send a.txt # sendfile").reruns(&[File("a.txt", "2")]),
    way("./ways range a.txt # copy_file_range").reruns(&[File("a.txt", "2"), File("/srv/copy", "")]).cached(&[
        File("b.txt", "2"),
        File("new", ""),
        Gone("docs"),
    ]),
    way("./ways size a.txt # lseek").reruns(&[File("a.txt", "2")]),
    way("./ways holes disk.img # SEEK_HOLE")
        .tree(&[Sparse("disk.img", 1 << 20), File("a.txt", "1")])
        .reruns(&[Sparse("disk.img", 2 << 20)])
        .cached(&[File("a.txt", "2"), File("new", "")]),
    row("./uring a.txt # io_uring")
        .setup("cc -O1 \"$SOURCES/uring.c\" -o uring")
        .reruns(&[File("a.txt", "2"), Gone("a.txt"), Mode("a.txt", 0o600)])
        .cached(OTHER),
    row("./static map a.txt # a static program")
        .setup("cc -O1 -static \"$SOURCES/ways.c\" -o static")
        .reruns(&[File("a.txt", "2"), Made("`static` made anew", "strip static")])
        .cached(OTHER),
    row("su -s /bin/sh nobody -c './setuid user secret' # a setuid program")
        .tree(&[File("secret", "1"), Mode("secret", 0o600), File("a.txt", "1")])
        .setup("cc -O1 -static \"$SOURCES/ways.c\" -o setuid; chmod 4755 setuid")
        .reruns(&[File("secret", "2"), Mode("setuid", 0o755), Gone("secret")])
        .cached(&[File("a.txt", "2"), File("new", "")])
        .unlike(&["var/log"]),
    row("python3 -c 'import os; print(sorted(e.name for e in os.scandir(\"docs\") if e.is_dir()))'")
        .reruns(&[Directory("docs/more"), Gone("docs/deep"), Directory("docs/guide.md")])
        .cached(&[File("docs/guide.md", "2"), File("docs/deep/new", ""), File("a.txt", "2")]),
    row("python3 -c 'import os; os.rename(\"a.txt\", \"b.txt\"); print(os.stat(\"b.txt\").st_size)'")
        .reruns(&[File("a.txt", "2"), File("b.txt", "2"), Gone("a.txt")])
        .cached(&[File("new", ""), File("docs/guide.md", "2"), Touched("a.txt")]),
    row("[ a.txt -ef c.txt ] || true")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), Link("c.txt", "d.txt")])
        .cached(&[File("d.txt", "2"), File("new", "")]),
    row("find . -links +1")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("sub/d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), Name("e.txt", "a.txt"), Name("sub/d.txt", "a.txt")])
        .cached(&[File("/srv/new", ""), Touched("a.txt")]),
    row("flock a.txt cat b.txt")
        .reruns(&[File("b.txt", "2"), File("a.txt", "2")])
        .cached(&[File("new", ""), File("docs/guide.md", "2")]),
    row("busybox cat a.txt").reruns(&[File("a.txt", "2")]).cached(OTHER),
];
