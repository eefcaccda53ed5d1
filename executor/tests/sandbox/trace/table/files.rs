//! Commands that look at files, and commands that change them.

use super::edit::Edit::{Directory, File, Gone, Link, Mode, Name, Note, Owner, Program, Sparse, Touched};
use super::{Row, row};

const OTHER: &[super::Edit] = &[
    File("b.txt", "other"),
    File("new", "new"),
    File("docs/guide.md", "other"),
    Gone("docs/deep"),
    Mode("b.txt", 0o600),
    Gone("bin/tool"),
];

pub const LOOKING: &[Row] = &[
    row("cat a.txt")
        .reruns(&[
            File("a.txt", "one\ntwo!\n"),
            Gone("a.txt"),
            Mode("a.txt", 0o600),
            Owner("a.txt", 7),
            Link("a.txt", "b.txt"),
            Directory("a.txt"),
        ])
        .cached(&[Touched("a.txt"), File("b.txt", "other"), File("new", "new"), Gone("docs"), Mode("bin/tool", 0o700)]),
    row("head -c 1 a.txt").reruns(&[File("a.txt", "one\n"), Gone("a.txt")]).cached(OTHER),
    row("wc -l a.txt").reruns(&[File("a.txt", "one\n")]).cached(OTHER),
    row("sha256sum < a.txt").reruns(&[File("a.txt", "one\n")]).cached(OTHER),
    row("cat docs/deep/../guide.md")
        .reruns(&[File("docs/guide.md", "2"), Gone("docs/deep"), Mode("docs/deep", 0o700), Link("docs/deep", "/tmp")])
        .cached(&[Gone("docs/deep/er"), File("docs/new", "new"), File("a.txt", "2")]),
    row("cat guide")
        .reruns(&[Link("guide", "b.txt"), File("guide", "guide\n"), File("docs/guide.md", "2"), Gone("docs/guide.md")])
        .cached(&[File("a.txt", "2"), File("docs/new", "new"), Gone("docs/deep")]),
    row("cat one")
        .tree(&[
            Link("one", "two"),
            Link("two", "/app/way/../three"),
            Directory("way"),
            Link("three", "end"),
            File("end", "end"),
            File("a.txt", "a"),
        ])
        .reruns(&[
            Link("two", "/app/three"),
            Link("three", "a.txt"),
            File("end", "2"),
            Gone("way"),
            Link("way", "/tmp"),
            Link("end", "a.txt"),
        ])
        .cached(&[File("a.txt", "2"), File("way/more", "new"), File("four", "new")]),
    row("readlink guide").reruns(&[Link("guide", "b.txt"), Gone("guide")]).cached(&[Gone("docs"), File("a.txt", "2")]),
    row("test -e none || test -e a.txt")
        .reruns(&[File("none", ""), Link("none", "a.txt"), Directory("none"), Gone("a.txt")])
        .cached(&[File("nun", ""), File("b.txt", "2"), Touched("a.txt")]),
    row("test -e none/of/it || true")
        .reruns(&[File("none/of/it", ""), Directory("none")])
        .cached(&[File("of/it", ""), File("a.txt", "2")]),
    row("[ a.txt -nt b.txt ] || true")
        .reruns(&[File("a.txt", "one\ntwO\n"), File("b.txt", "2"), Gone("b.txt")])
        .cached(&[File("new", "new"), Gone("docs")]),
    row("stat -c '%A %u %g %s %F' a.txt docs")
        .reruns(&[
            Mode("a.txt", 0o600),
            Owner("a.txt", 3),
            File("a.txt", "longer"),
            Mode("docs", 0o700),
            Owner("docs", 3),
            Link("docs", "src"),
        ])
        .cached(&[File("docs/new", "new"), Gone("docs/deep"), File("b.txt", "2"), Touched("a.txt")]),
    row("ls docs").reruns(&[File("docs/new", "new"), Gone("docs/guide.md"), Directory("docs/guide.md")]).cached(&[
        File("docs/guide.md", "2"),
        File("docs/deep/new", "new"),
        Mode("docs/guide.md", 0o600),
        File("new", ""),
    ]),
    row("ls -lA --time-style=+")
        .reruns(&[File("new", "new"), Gone("empty"), Mode("a.txt", 0o600), File("a.txt", "2"), Owner("src", 4)])
        .cached(&[File("docs/guide.md", "2"), File("src/new", "new"), Gone("docs/deep")]),
    row("echo src/*.c").reruns(&[File("src/new.c", ""), Gone("src/lib.c")]).cached(&[
        File("src/lib.c", "other"),
        File("src/lib.h", "other"),
        File("docs/new.c", ""),
    ]),
    row("echo */guide.md").reruns(&[File("src/guide.md", ""), Gone("docs/guide.md"), Directory("more")]).cached(&[
        File("src/other.md", ""),
        Gone("docs/deep"),
        File("src/main.c", "2"),
    ]),
    row("find . -name '*.c'")
        .reruns(&[File("docs/deep/er/x.c", ""), Gone("src/lib.c"), Directory("empty/more")])
        .cached(&[File("src/lib.c", "other"), Mode("a.txt", 0o600), Touched("src/main.c")]),
    row("find . -path ./docs -prune -o -type f -print").reruns(&[File("src/new", ""), Gone("docs")]).cached(&[
        File("docs/new", ""),
        Gone("docs/deep"),
        File("a.txt", "2"),
    ]),
    row("find . -type f -size +1k")
        .reruns(&[File("src/lib.c", "other"), File("empty/new", "")])
        .cached(&[File("/srv/elsewhere", "new"), Touched("src/lib.c")]),
    row("find src -newer a.txt")
        .script("find src -newer a.txt >/dev/null")
        .reruns(&[File("src/lib.c", "other"), File("a.txt", "2"), File("src/new", "")])
        .cached(&[File("b.txt", "other"), File("docs/new", ""), File("new", "")]),
    row("grep -r ANSWER src")
        .reruns(&[File("src/lib.h", "#define ANSWER 3\n"), File("src/new", ""), Gone("src/main.c")])
        .cached(OTHER),
    row("grep -rl --include='*.h' ANSWER .")
        .reruns(&[File("src/lib.h", "other"), File("empty/new.h", ""), File("a.h", "")])
        .cached(&[File("src/main.c", "other"), File("a.txt", "ANSWER"), Mode("docs/guide.md", 0o600)]),
    row("du -a --apparent-size docs")
        .reruns(&[File("docs/guide.md", "longer than it was"), File("docs/deep/new", ""), Gone("docs/deep/er")])
        .cached(&[File("a.txt", "2"), File("src/new", "")]),
    row("du -b a.txt c.txt")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), Link("c.txt", "a.txt"), File("a.txt", "one\n")])
        .cached(&[File("d.txt", "2"), File("new", "")]),
    row("diff -r one two || true")
        .tree(&[
            File("one/a", "1\n"),
            File("one/sub/b", "1\n"),
            File("two/a", "2\n"),
            File("two/c", "2\n"),
            File("three/a", "3\n"),
        ])
        .reruns(&[File("one/a", "2\n"), File("two/sub/b", ""), Gone("two/c"), File("two/new", "")])
        .cached(&[File("three/a", "2\n"), File("new", "")]),
    row("cmp a.txt b.txt || true")
        .reruns(&[File("a.txt", "three\n"), Gone("b.txt")])
        .cached(&[File("docs/guide.md", "2"), File("new", "")]),
    row("ls src | xargs -I{} wc -c src/{}").reruns(&[File("src/new", ""), File("src/lib.h", "2")]).cached(OTHER),
    row("sort a.txt b.txt | uniq -c").reruns(&[File("b.txt", "one\n"), File("a.txt", "")]).cached(&[
        File("new", ""),
        Gone("docs"),
        Touched("b.txt"),
    ]),
    row("awk '{ print $1 }' a.txt").reruns(&[File("a.txt", "1\n")]).cached(OTHER),
    row("sed -n 1p a.txt").reruns(&[File("a.txt", "1\n")]).cached(OTHER),
    row("perl -ne 'print if /o/' a.txt").reruns(&[File("a.txt", "1\n")]).cached(OTHER),
    row("cut -c 1 a.txt | tr a-z A-Z | tee /tmp/cut").reruns(&[File("a.txt", "1\n")]).cached(OTHER),
    row("getfattr -d a.txt")
        .tree(&[File("a.txt", "1"), File("b.txt", "1"), Note("a.txt", "hello"), Note("b.txt", "hello")])
        .reruns(&[Note("a.txt", "bye"), File("a.txt", "1")])
        .cached(&[Note("b.txt", "bye"), File("new", "")]),
    row("PATH=/app/first:/app/bin:/bin tool")
        .reruns(&[
            Program("first/tool", "#!/bin/sh\n"),
            Program("bin/tool", "#!/bin/sh\n"),
            Mode("bin/tool", 0o644),
            Gone("bin/tool"),
        ])
        .cached(&[Program("bin/other", "#!/bin/sh\n"), File("a.txt", "2"), File("second/tool", "")]),
    row("PATH=/app/bin:/bin sh -c 'id -u'")
        .reruns(&[Program("bin/id", "#!/bin/sh\n"), Program("bin/sh", "#!/bin/cat\n")])
        .cached(&[Program("bin/other", "#!/bin/sh\n"), Gone("bin/tool")]),
    row("cat /etc/hostname")
        .tree(&[File("/etc/mine", "mine\n"), File("a.txt", "1")])
        .reruns(&[
            File("/etc/hostname", "mine\n"),
            super::Edit::Hidden("/etc/hostname"),
            Link("/etc/hostname", "/app/a.txt"),
            Mode("/etc", 0o700),
        ])
        .cached(&[File("/etc/mine", "2"), File("/etc/other", "mine\n"), File("a.txt", "2")]),
];

pub const CHANGING: &[Row] = &[
    row("cp -a src /srv/copy")
        .reruns(&[
            File("src/lib.h", "2"),
            File("src/new", ""),
            Mode("src/lib.h", 0o600),
            Owner("src", 3),
            Mode("src", 0o700),
            Note("src/lib.h", "hello"),
        ])
        .cached(OTHER),
    row("cp -a a.txt c.txt /srv")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), File("c.txt", "2")])
        .cached(&[File("d.txt", "2"), File("new", "")]),
    row("cp --sparse=auto disk.img /srv")
        .tree(&[Sparse("disk.img", 1 << 20), File("b.txt", "1")])
        .reruns(&[Sparse("disk.img", 2 << 20), File("disk.img", "full")])
        .cached(&[File("b.txt", "2")]),
    row("rm -rf docs").reruns(&[File("docs/new", ""), Gone("docs/deep"), Gone("docs"), Link("docs", "src")]).cached(&[
        File("a.txt", "2"),
        File("src/new", ""),
        Mode("bin/tool", 0o700),
    ]),
    row("mv a.txt c.txt").reruns(&[File("a.txt", "2"), File("c.txt", ""), Directory("c.txt")]).cached(OTHER),
    row("mv src lib").reruns(&[File("src/lib.h", "2"), File("src/new", ""), Directory("lib")]).cached(OTHER),
    row("ln a.txt c.txt").reruns(&[File("a.txt", "2"), File("c.txt", "")]).cached(OTHER),
    row("ln -s a.txt c.txt").reruns(&[File("c.txt", "")]).cached(&[
        File("a.txt", "2"),
        Gone("a.txt"),
        File("b.txt", ""),
    ]),
    row("sed -i s/one/1/ a.txt").reruns(&[File("a.txt", "2"), Mode("a.txt", 0o600), Owner("a.txt", 3)]).cached(OTHER),
    row("perl -pi -e s/one/1/ a.txt").reruns(&[File("a.txt", "2"), Mode("a.txt", 0o600)]).cached(OTHER),
    row("echo more >> a.txt").reruns(&[File("a.txt", "2"), Mode("a.txt", 0o600)]).cached(OTHER),
    row("echo all > a.txt").reruns(&[Gone("a.txt"), Mode("a.txt", 0o600), Directory("a.txt")]).cached(OTHER),
    row("dd if=a.txt of=c.txt bs=2 count=1 status=none").reruns(&[File("a.txt", "2"), File("c.txt", "")]).cached(OTHER),
    row("touch a.txt").reruns(&[File("a.txt", "2"), Gone("a.txt")]).cached(OTHER),
    row("chmod -R u+x docs")
        .reruns(&[File("docs/new", ""), Mode("docs/guide.md", 0o600), File("docs/guide.md", "2")])
        .cached(&[File("a.txt", "2"), File("src/new", "")]),
    row("chown -R 7:7 docs")
        .reruns(&[File("docs/new", ""), Owner("docs/guide.md", 3), File("docs/guide.md", "2")])
        .cached(&[File("a.txt", "2"), Owner("src/lib.c", 3)]),
    row("mkdir -p docs/deep/new/er")
        .reruns(&[File("docs/deep/new", ""), Gone("docs"), Mode("docs/deep", 0o700)])
        .cached(&[File("docs/guide.md", "2"), File("docs/deep/er/new", ""), File("a.txt", "2")]),
    row("rmdir empty").reruns(&[File("empty/new", ""), Gone("empty")]).cached(OTHER),
    row("install -D -m 755 bin/tool /usr/local/bin/tool")
        .reruns(&[Program("bin/tool", "#!/bin/sh\n"), File("/usr/local/bin/tool", "mine")])
        .cached(&[File("a.txt", "2"), Program("bin/other", ""), Gone("docs")]),
    row("rsync -a src/ /srv/src")
        .reruns(&[File("src/lib.h", "2"), File("src/new", ""), Mode("src/lib.h", 0o600), Owner("src/lib.h", 3)])
        .cached(OTHER),
    row("rsync -aH a.txt c.txt /srv")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), File("a.txt", "2")])
        .cached(&[File("d.txt", "2"), File("new", "")]),
    row("patch -p1 < fix.patch")
        .tree(&[
            File("a.txt", "one\ntwo\n"),
            File("b.txt", "three\n"),
            File("fix.patch", "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"),
        ])
        .reruns(&[File("a.txt", "zero\none\ntwo\n"), File("fix.patch", "")])
        .cached(&[File("b.txt", "2"), File("new", "")]),
    row("tar cf - docs | tar xf - -C /srv")
        .reruns(&[File("docs/guide.md", "2"), File("docs/new", ""), Mode("docs/guide.md", 0o600)])
        .cached(&[File("a.txt", "2"), File("src/new", "")]),
    row("tar cf - a.txt c.txt | tar tv | cut -c 1-10")
        .tree(&[File("a.txt", "one\n"), Name("c.txt", "a.txt"), File("d.txt", "one\n")])
        .reruns(&[File("c.txt", "one\n"), Gone("c.txt")])
        .cached(&[File("d.txt", "2"), File("new", "")]),
    row("tar xf a.tar -C /srv")
        .setup("tar cf a.tar src")
        .reruns(&[super::Edit::Made("`a.tar` packed anew", "echo 2 > src/lib.h; tar cf a.tar src"), Gone("a.tar")])
        .cached(OTHER),
    row("unzip -q a.zip -d /srv")
        .setup("zip -q a.zip src/lib.c src/lib.h")
        .reruns(&[super::Edit::Made("`a.zip` packed anew", "rm a.zip; zip -q a.zip src/lib.c")])
        .cached(OTHER),
    row("gzip -nk a.txt && gunzip -c a.txt.gz").reruns(&[File("a.txt", "2"), File("a.txt.gz", "")]).cached(OTHER),
    row("xz -k a.txt && bzip2 -k b.txt")
        .reruns(&[File("a.txt", "2"), File("b.txt", "2"), File("a.txt.xz", "")])
        .cached(&[File("new", ""), File("docs/guide.md", "2")]),
    row("find src -type f | sort | cpio -o --reproducible --quiet | wc -c")
        .reruns(&[File("src/lib.h", "2"), File("src/new", "")])
        .cached(OTHER),
    row("sqlite3 new.db < schema.sql")
        .tree(&[File("schema.sql", "create table t (x); insert into t values (1);\n"), File("b.txt", "1")])
        .reruns(&[File("schema.sql", "create table u (x);\n"), File("new.db", "")])
        .cached(&[File("b.txt", "2"), File("other.db", "")]),
    row("sqlite3 app.db 'select * from t; insert into t values (2)'")
        .setup("sqlite3 app.db 'create table t (x); insert into t values (1)'")
        .reruns(&[
            super::Edit::Made("a row more in `app.db`", "sqlite3 app.db 'insert into t values (3)'"),
            File("app.db-journal", ""),
        ])
        .cached(OTHER),
];
