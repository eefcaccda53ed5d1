//! Compilers and interpreters, and what starts them.

use super::edit::Edit::{Directory, File, Gone, Link, Made, Mode, Touched};
use super::{Row, row};

const MAKEFILE: &str =
    "prog: main.o lib.o\n\tcc -o $@ $^\nmain.o: main.c lib.h\n\tcc -c main.c\nlib.o: lib.c lib.h\n\tcc -c lib.c\n";

const C: &[super::Edit] = &[
    File("main.c", "#include \"lib.h\"\nint main(void) { return answer(); }\n"),
    File("lib.c", "#include \"lib.h\"\nint answer(void) { return ANSWER; }\n"),
    File("lib.h", "#define ANSWER 0\nint answer(void);\n"),
    File("Makefile", MAKEFILE),
    File(
        "build.ninja",
        "rule cc\n  command = cc -c $in -o $out\n\
         build out/lib.o: cc lib.c | lib.h\nbuild out/main.o: cc main.c | lib.h\n",
    ),
    File(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(prog C)\nadd_executable(prog main.c lib.c)\n",
    ),
    File("README", "read me\n"),
];

const OTHER: &[super::Edit] = &[File("README", "2"), Touched("lib.h"), Touched("Makefile")];

const PYTHON: &[super::Edit] = &[
    File("app.py", "import tools.one\nprint(tools.one.NAME)\n"),
    File("tools/__init__.py", ""),
    File("tools/one.py", "NAME = 1\n"),
    File("tools/two.py", "NAME = 2\n"),
    File("data/table.csv", "1\n"),
];

const NODE: &[super::Edit] = &[
    File("app.js", "const one = require('one'); console.log(one, require('./lib/two'))\n"),
    File("node_modules/one/package.json", "{\"name\": \"one\", \"main\": \"main.js\"}"),
    File("node_modules/one/main.js", "module.exports = 1\n"),
    File("node_modules/one/other.js", "module.exports = 2\n"),
    File("lib/two.js", "module.exports = 2\n"),
    File("lib/three.js", "module.exports = 3\n"),
];

const CARGO: &[super::Edit] = &[
    File(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\nlib = { path = \"lib\" }\n[workspace]\n",
    ),
    File(
        "Cargo.lock",
        "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\
         dependencies = [\"lib\"]\n\n[[package]]\nname = \"lib\"\nversion = \"0.1.0\"\n",
    ),
    File("src/main.rs", "fn main() { println!(\"{}\", lib::answer()); }\n"),
    File("lib/Cargo.toml", "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    File("lib/src/lib.rs", "pub fn answer() -> u32 { 42 }\n"),
    File("README.md", "read me\n"),
    File("docs/guide.md", "guide\n"),
];

pub const ROWS: &[Row] = &[
    row("cc main.c lib.c -o /usr/local/bin/prog")
        .tree(C)
        .reruns(&[
            File("lib.h", "#define ANSWER 1\nint answer(void);\n"),
            File("main.c", "int main(void) { return 7; }\n"),
            Gone("lib.h"),
            Mode("lib.c", 0o600),
        ])
        .cached(&[
            File("Makefile", "2"),
            File("other.c", "x"),
            File("other.h", "x"),
            File("README", "2"),
            Touched("lib.h"),
        ]),
    row("cc -Ifirst -Isecond -c main.c")
        .tree(&[
            File("main.c", "#include <part.h>\nint x = PART;\n"),
            Directory("first"),
            File("second/part.h", "#define PART 2\n"),
            File("second/other.h", "#define OTHER 2\n"),
        ])
        .reruns(&[
            File("first/part.h", "#define PART 1\n"),
            File("second/part.h", "#define PART 3\n"),
            Link("first", "second"),
        ])
        .cached(&[File("first/other.h", "x"), File("second/other.h", "x"), File("third/part.h", "x"), File("new", "")]),
    row("ar rcs libx.a lib.o && ranlib libx.a")
        .tree(C)
        .setup("cc -c lib.c main.c")
        .reruns(&[Made("`lib.o` made anew", "echo 'int more;' >> lib.c; cc -c lib.c"), File("libx.a", "")])
        .cached(&[File("lib.c", "2"), File("main.o", "2"), File("README", "2")]),
    row("ld -r -o both.o main.o lib.o")
        .tree(C)
        .setup("cc -c lib.c main.c")
        .reruns(&[File("both.o", ""), Made("`lib.o` made anew", "echo 'int more;' >> lib.c; cc -c lib.c")])
        .cached(&[File("lib.c", "2"), File("README", "2"), File("other.o", "2")]),
    row("strip prog && ldd ./prog | wc -l")
        .tree(C)
        .setup("cc -o prog main.c lib.c")
        .reruns(&[Made("`prog` made anew", "cc -o prog -DX=1 -g main.c lib.c")])
        .cached(&[File("lib.c", "2"), File("README", "2")]),
    row("make")
        .tree(C)
        .reruns(&[
            File("lib.h", "#define ANSWER 1\nint answer(void);\n"),
            File("Makefile", "prog:\n\ttrue\n"),
            File("GNUmakefile", "prog:\n\ttrue\n"),
            File("main.o", ""),
            File("prog", ""),
            Gone("lib.c"),
        ])
        .cached(&[File("README", "2"), Touched("lib.h"), File("/srv/new", "")]),
    row("make lib.o").tree(C).reruns(&[File("lib.h", "#define ANSWER 1\n"), File("lib.c", "int x;\n")]).cached(&[
        File("main.c", "2"),
        File("README", "2"),
        Touched("Makefile"),
    ]),
    row("make # when all is made")
        .tree(C)
        .setup("make -s")
        .reruns(&[File("lib.c", "int x;\n"), Gone("prog"), Gone("main.o")])
        .cached(&[File("README", "2"), File("/srv/new", "")]),
    row("ninja out/lib.o")
        .tree(C)
        .unlike(&[".ninja_"])
        .reruns(&[File("lib.h", "#define ANSWER 1\n"), File("build.ninja", ""), File("out/lib.o", "")])
        .cached(&[File("main.c", "2"), File("README", "2"), File("docs/new", "")]),
    row("cmake -S . -B /tmp/out && make -C /tmp/out")
        .script(
            "cmake -S . -B /tmp/out >/dev/null && make -C /tmp/out >/dev/null && \
             mv /tmp/out/prog /srv && rm -r /tmp/out",
        )
        .tree(C)
        .reruns(&[File("lib.h", "#define ANSWER 1\nint answer(void);\n"), File("CMakeLists.txt", "project(prog C)\n")])
        .cached(OTHER),
    row("rustc --edition 2021 app.rs -o /srv/app")
        .tree(&[
            File("app.rs", "mod part;\nfn main() { println!(\"{}{}\", part::ONE, include_str!(\"text\")); }\n"),
            File("part.rs", "pub const ONE: u8 = 1;\n"),
            File("text", "text"),
            File("other.rs", "x"),
        ])
        .reruns(&[File("part.rs", "pub const ONE: u8 = 2;\n"), File("text", "2"), File("part/mod.rs", "")])
        .cached(&[File("other.rs", "y"), File("new.rs", "y"), Touched("part.rs")]),
    row("cargo build --offline")
        .script(
            "CARGO_HOME=/tmp/cargo cargo build --offline --quiet --target-dir /tmp/target && \
             /tmp/target/debug/app && rm -r /tmp/target",
        )
        .tree(CARGO)
        .unlike(&["./tmp/cargo"])
        .reruns(&[
            File("lib/src/lib.rs", "pub fn answer() -> u32 { 43 }\n"),
            File("src/main.rs", "fn main() {}\n"),
            File("Cargo.toml", "[package]\nname = \"app\"\n"),
            File("build.rs", "fn main() {}\n"),
            File(".cargo/config.toml", ""),
            File("src/lib.rs", ""),
            File("README.md", "2"),
        ])
        .cached(&[File("docs/guide.md", "2"), File("lib/src/unused.rs", "x"), Touched("src/main.rs")]),
    row("python3 app.py")
        .tree(PYTHON)
        .script("PYTHONDONTWRITEBYTECODE=1 python3 app.py")
        .reruns(&[
            File("tools/one.py", "NAME = 3\n"),
            File("tools/one/__init__.py", ""),
            File("tools.py", ""),
            Gone("tools/__init__.py"),
            File("sys.py", ""),
        ])
        .cached(&[File("tools/two.py", "x"), File("data/table.csv", "2"), File("data/new", ""), Touched("app.py")]),
    row("python3 -m compileall -q tools")
        .tree(PYTHON)
        .script("python3 -m compileall -q --invalidation-mode unchecked-hash tools")
        .reruns(&[File("tools/two.py", "x = 1\n"), File("tools/new.py", "")])
        .cached(&[File("data/table.csv", "2"), File("data/new.py", "")]),
    row("node app.js")
        .tree(NODE)
        .reruns(&[
            File("node_modules/one/main.js", "module.exports = 3\n"),
            File("node_modules/one/package.json", "{\"main\": \"other.js\"}"),
            File("lib/two.js", "module.exports = 3\n"),
            File("lib/two", "module.exports = 3\n"),
            File("package.json", "{\"type\": \"module\"}"),
        ])
        .cached(&[
            File("node_modules/one/other.js", "x"),
            File("lib/three.js", "x"),
            File("node_modules/two/main.js", ""),
            Touched("app.js"),
        ]),
    row("perl -Ifirst -Isecond -MPart -e 'print Part::one()'")
        .tree(&[
            Directory("first"),
            File("second/Part.pm", "package Part; sub one { 1 } 1;\n"),
            File("second/Other.pm", "1;\n"),
        ])
        .reruns(&[
            File("first/Part.pm", "package Part; sub one { 2 } 1;\n"),
            File("second/Part.pm", "package Part; sub one { 3 } 1;\n"),
        ])
        .cached(&[File("second/Other.pm", "2;\n"), File("first/Other.pm", "1;\n"), File("new", "")]),
    row(". ./env.sh && ./run.sh")
        .tree(&[
            File("env.sh", "export A=1\n"),
            super::Edit::Program("run.sh", "#!/app/sh\n. ./lib.sh\necho $A $B\n"),
            File("lib.sh", "B=2\n"),
            Link("sh", "/bin/sh"),
            File("other.sh", "x"),
        ])
        .reruns(&[
            File("env.sh", "export A=2\n"),
            File("lib.sh", "B=3\n"),
            Link("sh", "/bin/cat"),
            Mode("run.sh", 0o644),
        ])
        .cached(&[File("other.sh", "y"), File("new.sh", "y")]),
];
