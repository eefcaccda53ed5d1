//! Files as projects and images have them.

use crate::Ecosystem;
use crate::testing::{Tree, names};

/// The packages that a file is found to name.
fn found(path: &str, text: &str) -> Vec<String> {
    let inventory = Tree::new(&[(path, text)]).inventory();
    assert_eq!(inventory.problems, []);
    names(&inventory.packages)
}

#[test]
fn cargo() {
    let lock = "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\nsource = \"registry\"\n\
                dependencies = [\"a\"]\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n";
    assert_eq!(found("app/Cargo.lock", lock), ["app 0.1.0", "serde 1.0.2"]);
}

#[test]
fn golang() {
    let module = "module example.org/app\n\ngo 1.22\n\nrequire golang.org/x/sys v0.1.0 // indirect\n\nrequire (\n\t\
                  github.com/pkg/errors v0.9.1\n\t\"rsc.io/quote/v3\" v3.1.0\n)\n\nexclude (\n\ta.b/c v1.0.0\n)\n";
    let expected = ["github.com/pkg/errors v0.9.1", "golang.org/x/sys v0.1.0", "rsc.io/quote/v3 v3.1.0"];
    assert_eq!(found("go.mod", module), expected);
}

#[test]
fn java() {
    let lock = "# comment\ncom.google.guava:guava:32.1=runtimeClasspath\nempty=annotationProcessor\n";
    assert_eq!(found("gradle.lockfile", lock), ["com.google.guava:guava 32.1"]);
    let properties = "#Generated\nversion=2.0\ngroupId=org.slf4j\nartifactId=slf4j-api\n";
    let path = "app/META-INF/maven/org.slf4j/slf4j-api/pom.properties";
    assert_eq!(found(path, properties), ["org.slf4j:slf4j-api 2.0"]);
}

#[test]
fn npm_lock_files_of_all_versions() {
    let lock = r#"{"name": "app", "lockfileVersion": 3, "packages": {
        "": {"name": "app", "version": "1.0.0"},
        "node_modules/@types/node": {"version": "20.1.0", "license": "MIT", "dev": true},
        "node_modules/a/node_modules/b": {"version": "2.0.0"},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/part": {"resolved": "part", "link": true},
        "part": {"version": "0.0.1"}}}"#;
    assert_eq!(found("package-lock.json", lock), ["b 2.0.0", "real 3.0.0", "@types/node 20.1.0"]);
    let old = r#"{"lockfileVersion": 1, "dependencies": {
        "a": {"version": "1.0.0", "requires": {"b": "1"}, "dependencies": {"b": {"version": "1.2.3"}}}}}"#;
    assert_eq!(found("npm-shrinkwrap.json", old), ["a 1.0.0", "b 1.2.3"]);
}

#[test]
fn npm_packages_that_are_installed() {
    let package = |name: &str| format!(r#"{{"name": "{name}", "version": "1.0.0", "license": {{"type": "ISC"}}}}"#);
    let (a, b, scoped, part) = (package("a"), package("b"), package("@x/y"), package("no package"));
    let tree = Tree::new(&[
        ("srv/package.json", &package("app")),
        ("srv/node_modules/a/package.json", &a),
        ("srv/node_modules/a/node_modules/b/package.json", &b),
        ("srv/node_modules/@x/y/package.json", &scoped),
        ("srv/node_modules/a/lib/package.json", &part),
        ("srv/node_modules/c/package.json", r#"{"type": "module"}"#),
    ]);
    let packages = tree.inventory().packages;
    assert_eq!(names(&packages), ["a 1.0.0", "b 1.0.0", "@x/y 1.0.0"]);
    assert_eq!(packages[0].license.as_deref(), Some("ISC"));
    assert_eq!(packages[2].purl(None).unwrap(), "pkg:npm/%40x/y@1.0.0");
}

#[test]
fn yarn() {
    let classic = "# yarn lockfile v1\n\n\"@babel/core@^7.0.0\", \"@babel/core@^7.1.0\":\n  version \"7.24.0\"\n  \
                   resolved \"https://example.org\"\n  dependencies:\n    version \"1\"\n\nlodash@^4:\n  version \"4.17.21\"\n";
    assert_eq!(found("yarn.lock", classic), ["lodash 4.17.21", "@babel/core 7.24.0"]);
    let berry = "__metadata:\n  version: 8\n  cacheKey: 10\n\n\"lodash@npm:^4\":\n  version: 4.17.21\n  resolution: \
                 \"lodash@npm:4.17.21\"\n\n\"app@workspace:.\":\n  version: 0.0.0-use.local\n";
    assert_eq!(found("yarn.lock", berry), ["lodash 4.17.21"]);
}

#[test]
fn pnpm() {
    let lock = "lockfileVersion: '9.0'\n\nimporters:\n  .:\n    dependencies:\n\npackages:\n\n  '@vue/core@3.4.0':\n    \
                resolution: {integrity: x}\n\n  vue@3.4.0(typescript@5.0.0):\n    engines: {}\n\nsnapshots:\n\n  x@1.0.0: {}\n";
    assert_eq!(found("pnpm-lock.yaml", lock), ["vue 3.4.0", "@vue/core 3.4.0"]);
    let old = "packages:\n\n  /lodash/4.17.21:\n    dev: true\n  /@vue/core/3.0.0_typescript@5.0.0:\n    dev: true\n  \
               /is-odd@3.0.1:\n    dev: true\n";
    assert_eq!(found("pnpm-lock.yaml", old), ["is-odd 3.0.1", "lodash 4.17.21", "@vue/core 3.0.0"]);
}

#[test]
fn php() {
    let lock = r#"{"packages": [{"name": "monolog/monolog", "version": "v3.5.0", "license": ["MIT"]}],
                   "packages-dev": [{"name": "phpunit/phpunit", "version": "11.0.0", "license": ["A", "B"]}]}"#;
    assert_eq!(found("composer.lock", lock), ["monolog/monolog 3.5.0", "phpunit/phpunit 11.0.0"]);
    let list = r#"[{"name": "a/b", "version": "1.0"}]"#;
    assert_eq!(found("vendor/composer/installed.json", list), ["a/b 1.0"]);
    assert_eq!(found("vendor/composer/installed.json", &format!(r#"{{"packages": {list}}}"#)), ["a/b 1.0"]);
}

#[test]
fn python() {
    let metadata = "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0.0\nLicense: BSD-3-Clause\nAuthor: UNKNOWN\n\
                    Author-email: Somebody <a@example.org>\n\nName: in the text\n";
    let tree = Tree::new(&[("usr/lib/python3/site-packages/flask-3.0.0.dist-info/METADATA", metadata)]);
    let packages = tree.inventory().packages;
    assert_eq!((names(&packages), packages[0].ecosystem), (vec!["Flask 3.0.0".to_owned()], Ecosystem::PyPi));
    assert_eq!(packages[0].supplier.as_deref(), Some("Somebody <a@example.org>"));
    assert_eq!(packages[0].purl(Some("debian-12")).unwrap(), "pkg:pypi/flask@3.0.0");
    assert_eq!(found("x/six.egg-info", metadata), ["Flask 3.0.0"]);
    let lock = "version = 1\n[[package]]\nname = \"app\"\nsource = { virtual = \".\" }\n[[package]]\nname = \"idna\"\n\
                version = \"3.6\"\n";
    assert_eq!(found("uv.lock", lock), ["idna 3.6"]);
    let pipfile = r#"{"_meta": {"version": 1}, "default": {"idna": {"version": "==3.6"}, "x": {"git": "y"}}}"#;
    assert_eq!(found("Pipfile.lock", pipfile), ["idna 3.6"]);
}

#[test]
fn ruby() {
    let lock = "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.0.8)\n    nokogiri (1.16.0-x86_64-linux)\n      \
                racc (~> 1.4)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  rack\n";
    assert_eq!(found("Gemfile.lock", lock), ["nokogiri 1.16.0-x86_64-linux", "rack 3.0.8"]);
    let installed = "# -*- encoding: utf-8 -*-\nGem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  \
                     s.version = \"13.1.0\"\n  s.licenses = [\"MIT\".freeze]\nend\n";
    let path = "usr/lib/ruby/gems/3.1.0/specifications/rake-13.1.0.gemspec";
    assert_eq!(found(path, installed), ["rake 13.1.0"]);
}

#[test]
fn what_is_not_understood_is_a_problem() {
    let tree = Tree::new(&[
        ("a/package-lock.json", "{"),
        ("b/Cargo.lock", "package = 1"),
        ("c/composer.lock", r#"{"packages": [{}]}"#),
        ("d/x.dist-info/METADATA", "Name: x\n"),
        ("e/yarn.lock", "\u{feff}\0 ???\n  version\n"),
    ]);
    let inventory = tree.inventory();
    assert_eq!(inventory.packages, []);
    let paths: Vec<&str> = inventory.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["a/package-lock.json", "b/Cargo.lock", "c/composer.lock", "d/x.dist-info/METADATA"]);
    assert!(inventory.problems[0].to_string().starts_with("`/a/package-lock.json`: not understood: EOF"));
}
