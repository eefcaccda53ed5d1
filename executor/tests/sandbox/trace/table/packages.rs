//! Package managers, each with packages that lie in the tree: nothing is fetched.

use super::edit::Edit::{File, Gone, Made, Touched};
use super::{Row, row};

/// Files of a source tree that no package manager has any business with.
const SOURCES: &[super::Edit] =
    &[File("src/main.js", "main\n"), File("src/app.py", "app\n"), File("docs/guide.md", "guide\n")];

/// Makes the package `one`.
pub(in super::super) const DEB: &str = "
mkdir -p pool tmp/DEBIAN tmp/usr/share/one
printf 'Package: one\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: A <a@b.c>\\nDescription: one\\n' > \
    tmp/DEBIAN/control
echo one > tmp/usr/share/one/data
dpkg-deb --root-owner-group -b tmp pool/one.deb > /dev/null
rm -r tmp
";

/// Makes a repository of what is in `pool`.
pub(in super::super) const REPOSITORY: &str = "
for deb in pool/*.deb; do
    dpkg-deb -f $deb
    echo \"Filename: $deb\"
    echo \"Size: $(stat -c %s $deb)\"
    echo \"SHA256: $(sha256sum $deb | cut -d ' ' -f 1)\"
    echo
done > Packages
echo 'deb [trusted=yes] file:/app ./' > sources.list
";

/// What apt and dpkg write down about when something was done, caches, and what triggers of the machine's packages do.
const APT_NOISE: &[&str] = &["./var/log", "./var/cache", "./var/lib/apt", "Extracting", "ldconfig", "Get:", "Fetched"];

/// Installs the package `one` from there.
pub(in super::super) const APT_INSTALL: &str = "apt='apt-get -qq -o Dir::Etc::sourcelist=/app/sources.list \
             -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root'; \
             export DEBIAN_FRONTEND=noninteractive; \
             $apt update && $apt install -y one >/dev/null && cat /usr/share/one/data";

/// A wheel of the package `one`, put together by hand.
const WHEEL: &str = "
cat > make.py <<'END'
import sys, zipfile
with zipfile.ZipFile('wheels/one-1.0-py3-none-any.whl', 'w') as wheel:
    def put(name, text):
        wheel.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    put('one/__init__.py', 'NAME = %s\\n' % sys.argv[1])
    put('one-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: one\\nVersion: 1.0\\n')
    put('one-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: hand\\nRoot-Is-Purelib: true\\n'
        'Tag: py3-none-any\\n')
    put('one-1.0.dist-info/RECORD', '')
END
mkdir -p wheels; python3 make.py 1
echo one==1.0 > requirements.txt
";

/// The same with so many packages.
pub(in super::super) fn npm(count: u32) -> String {
    let more = format!(
        "for n in $(seq 2 {count}); do
            mkdir -p package/lib; echo '{{\"name\": \"p'$n'\", \"version\": \"1.0.0\"}}' > package/package.json
            for file in a b c d e f g h; do seq 1 200 > package/lib/$file.js; done
            tar czf p$n.tgz package; rm -r package
            more=\"$more, \\\"p$n\\\": \\\"file:p$n.tgz\\\"\"
         done
         sed -i \"s|}}}}|$more}}}}|\" package.json
         HOME=$PWD/home npm install --offline --silent --no-audit --no-fund --package-lock-only; rm -rf home"
    );
    [NPM, &more].concat()
}

/// A package that depends on a tarball of another.
const NPM: &str = "
export HOME=$PWD/home
mkdir -p one src; echo 'module.exports = 1' > one/index.js
echo '{\"name\": \"one\", \"version\": \"1.0.0\"}' > one/package.json
npm pack --silent ./one > /dev/null
echo '{\"name\": \"app\", \"version\": \"1.0.0\", \"dependencies\": {\"one\": \"file:one-1.0.0.tgz\"}}' > package.json
npm install --offline --silent --no-audit --no-fund --package-lock-only
rm -rf home
";

pub(in super::super) const NPM_CI: &str = "npm ci --offline --silent --no-audit --no-fund --no-update-notifier && \
    node -e 'console.log(require(\"one\"))'; rm -rf /tmp/home";

pub const ROWS: &[Row] = &[
    row("dpkg -i pool/one.deb")
        .tree(SOURCES)
        .setup(DEB)
        .unlike(APT_NOISE)
        .reruns(&[
            Made(
                "`pool/one.deb` built anew",
                "dpkg-deb -R pool/one.deb t; echo 2 > t/usr/share/one/data; \
 dpkg-deb -b t pool/one.deb; rm -r t",
            ),
            File("/usr/share/one/data", "mine"),
            File("/etc/dpkg/dpkg.cfg.d/more", ""),
            File("/var/lib/dpkg/statoverride", ""),
        ])
        .cached(&[File("src/main.js", "2"), File("new", ""), File("pool/two.deb", ""), Gone("docs")]),
    row("apt-get update && apt-get install -y one")
        .script(APT_INSTALL)
        .tree(SOURCES)
        .setup(DEB)
        .then(REPOSITORY)
        .unlike(APT_NOISE)
        .reruns(&[
            Made("`one` built anew", "sed -i 's/^Version: .*/Version: 1.1/' Packages"),
            File("Release", ""),
            File("/etc/apt/preferences", ""),
            File("/etc/apt/apt.conf", ""),
            Gone("pool/one.deb"),
        ])
        .cached(&[File("src/main.js", "2"), File("new", ""), Gone("docs"), File("pool/two.deb", "")]),
    row("pip install -r requirements.txt")
        .script(
            "pip3 install -q --no-index --find-links wheels --no-compile --no-cache-dir --root-user-action ignore \
             --disable-pip-version-check --target /srv/site -r requirements.txt && \
             PYTHONPATH=/srv/site python3 -Bc 'import one; print(one.NAME)'",
        )
        .tree(SOURCES)
        .setup(WHEEL)
        .reruns(&[
            File("requirements.txt", ""),
            Made("the wheel of `one` built anew", "python3 make.py 2"),
            File("wheels/one-1.1-py3-none-any.whl", ""),
            File("/etc/pip.conf", ""),
        ])
        .cached(&[
            File("src/app.py", "2"),
            File("docs/new", "new"),
            File("src/new.py", ""),
            Touched("requirements.txt"),
        ]),
    row("pip install ./pkg")
        .script(
            "pip3 install -q --no-index --no-build-isolation --no-deps --no-compile --no-cache-dir \
             --root-user-action ignore --disable-pip-version-check --target /srv/site ./pkg && cat /srv/site/one.py",
        )
        .tree(&[
            File("pkg/setup.py", "from setuptools import setup\nsetup(name='one', version='1', py_modules=['one'])\n"),
            File("pkg/one.py", "NAME = 1\n"),
            File("src/app.py", "app\n"),
        ])
        .unlike(&["/egg-info", ".dist-info", "/build/"])
        .reruns(&[File("pkg/one.py", "NAME = 2\n"), File("pkg/setup.cfg", ""), File("pkg/pyproject.toml", "")])
        .cached(&[File("src/app.py", "2"), File("docs/new", "new"), File("src/new.py", "")]),
    row("npm ci")
        .script(NPM_CI)
        .tree(SOURCES)
        .setup(NPM)
        .reruns(&[
            File("package.json", "{\"name\": \"app\", \"version\": \"1.0.0\"}"),
            Gone("package-lock.json"),
            File(".npmrc", "ignore-scripts=true\n"),
            File("node_modules/one/index.js", ""),
            Made("`one-1.0.0.tgz` packed anew", "gzip -d < one-1.0.0.tgz | gzip -1 > t; mv t one-1.0.0.tgz"),
        ])
        .cached(&[File("src/main.js", "2"), File("docs/new", ""), File("src/new.js", ""), Touched("package.json")]),
    row("npm install ./one")
        .script("npm install --offline --silent --no-audit --no-fund --no-update-notifier ./one; rm -rf /tmp/home")
        .tree(&[
            File("package.json", "{\"name\": \"app\", \"version\": \"1.0.0\"}"),
            File("one/package.json", "{\"name\": \"one\", \"version\": \"1.0.0\"}"),
            File("one/index.js", "module.exports = 1\n"),
            File("src/main.js", "main\n"),
        ])
        .reruns(&[
            File("package.json", "{\"name\": \"app\"}"),
            File("one/package.json", "{\"name\": \"one\", \"version\": \"2.0.0\"}"),
        ])
        .cached(&[File("src/main.js", "2"), File("docs/new", ""), File("one/lib/new.js", "")]),
    row("git log -1 && git ls-files")
        .script("git -c safe.directory=/app log -1 --format=%H; git -c safe.directory=/app ls-files")
        .tree(SOURCES)
        .setup(GIT)
        .reruns(&[
            Made("another commit", "echo 2 > src/main.js; git commit -qam two"),
            Made("`docs/new` staged", "echo 2 > docs/new; git add docs/new"),
            File(".git/config", ""),
        ])
        .cached(&[File("src/main.js", "2"), File("docs/new", ""), File(".git/hooks/pre-commit", "")]),
    row("git status --short")
        .script("GIT_OPTIONAL_LOCKS=0 git -c safe.directory=/app status --short")
        .tree(SOURCES)
        .setup(GIT)
        .reruns(&[File("src/main.js", "2"), File("docs/new", ""), Gone("src/app.py"), File(".gitignore", "*")])
        .cached(&[File("/srv/new", ""), File(".git/hooks/pre-commit", ""), Touched("/app")]),
    row("git clone /app /srv/copy")
        .script(
            "git -c safe.directory='*' clone -q --no-hardlinks --template= /app /srv/copy && \
             rm -r /srv/copy/.git && ls /srv/copy",
        )
        .tree(SOURCES)
        .setup(GIT)
        .reruns(&[Made("another commit", "echo 2 > src/main.js; git commit -qam two")])
        .cached(&[File("src/main.js", "2"), File("docs/new", "")]),
];

const GIT: &str = "
export GIT_AUTHOR_DATE='2020-01-01 00:00' GIT_COMMITTER_DATE='2020-01-01 00:00'
git init -q -b main --template= .; git config user.name nobody; git config user.email nobody@example.org
git add .; git commit -qm one
";
