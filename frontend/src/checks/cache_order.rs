//! `CacheBusterOrder`: the whole context copied before dependencies are installed.

use kiln_parser::{Diagnostic, Kind, Span};

use super::Subject;
use super::apt::script;
use super::copies::is_remote;
use super::file::{File, Stage};
use super::reporter::Reporter;
use super::rules::CACHE_BUSTER_ORDER;

/// A program that installs dependencies.
struct Manager {
    /// The commands, as beginnings of sequences of words; an empty second word means the program alone.
    commands: &'static [&'static [&'static str]],
    /// What it reads, to be copied first; empty where it reads nothing of the context.
    manifest: &'static str,
    /// What to run then; empty for the command as it is.
    install: &'static str,
}

const MANAGERS: &[Manager] = &[
    Manager {
        commands: &[&["apt-get", "install"], &["apt", "install"], &["apk", "add"], &["dnf", "install"]],
        manifest: "",
        install: "",
    },
    Manager {
        commands: &[&["npm", "ci"], &["npm", "install"], &["npm", "i"]],
        manifest: "package.json package-lock.json",
        install: "",
    },
    Manager { commands: &[&["yarn", "install"], &["yarn"]], manifest: "package.json yarn.lock", install: "" },
    Manager { commands: &[&["pnpm", "install"], &["pnpm", "i"]], manifest: "package.json pnpm-lock.yaml", install: "" },
    Manager {
        commands: &[&["pip", "install", "-r"], &["pip3", "install", "-r"], &["-m", "pip", "install", "-r"]],
        manifest: "requirements.txt",
        install: "",
    },
    Manager { commands: &[&["poetry", "install"]], manifest: "pyproject.toml poetry.lock", install: "" },
    Manager {
        commands: &[&["cargo", "fetch"], &["cargo", "build"], &["cargo", "install"]],
        manifest: "Cargo.toml Cargo.lock",
        install: "cargo fetch",
    },
    Manager {
        commands: &[&["go", "mod", "download"], &["go", "build"], &["go", "install"]],
        manifest: "go.mod go.sum",
        install: "go mod download",
    },
    Manager { commands: &[&["bundle", "install"], &["bundle"]], manifest: "Gemfile Gemfile.lock", install: "" },
    Manager { commands: &[&["composer", "install"]], manifest: "composer.json composer.lock", install: "" },
];

/// Flags of `pip install` and others between the words that matter are skipped.
fn runs(words: &[&str], command: &[&str]) -> bool {
    let Some((first, rest)) = command.split_first() else { return false };
    (0..words.len()).filter(|&at| words.get(at) == Some(first)).any(|at| {
        let mut following = words.get(at + 1..).unwrap_or_default().iter();
        if rest.is_empty() {
            return following.next().is_none_or(|word| is_separator(word));
        }
        rest.iter().all(|wanted| {
            following
                .by_ref()
                .take_while(|word| !is_separator(word))
                .find(|word| !word.starts_with('-') || *word == wanted)
                == Some(wanted)
        })
    })
}

fn is_separator(word: &str) -> bool {
    matches!(word, "&&" | "||" | ";" | "|" | "&")
}

impl Manager {
    fn is_run_by(&self, script: &str) -> bool {
        let spaced = script.replace("&&", " && ").replace(';', " ; ").replace("||", " || ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        self.commands.iter().any(|command| runs(&words, command))
    }
}

pub(crate) fn check(subject: &Subject<'_>, file: &File<'_>, stage: &Stage<'_>, reporter: &mut Reporter) {
    let mut whole: Option<(usize, Span)> = None;
    let mut installed: Vec<bool> = vec![false; MANAGERS.len()];
    for (number, instruction) in file.body(stage) {
        match &instruction.kind {
            Kind::Copy(copy) | Kind::Add(copy) if copy.from.is_none() && whole.is_none() => {
                let is_whole = |source: &str| !is_remote(source) && matches!(source, "." | "./" | "/" | "./.");
                if copy.sources.iter().any(|source| is_whole(&source.value)) {
                    whole = Some((number, instruction.span));
                }
            }
            Kind::Run(run) => {
                let script = script(run);
                for (manager, installed) in MANAGERS.iter().zip(&mut installed) {
                    if !manager.is_run_by(&script) || std::mem::replace(installed, true) {
                        continue;
                    }
                    if let Some((copy, span)) = whole {
                        let copied = subject.text.get(span.range()).unwrap_or_default();
                        reporter.add(CACHE_BUSTER_ORDER, copy, finding(manager, span, copied, &script));
                    }
                }
            }
            _ => {}
        }
    }
}

fn finding(manager: &Manager, span: Span, copied: &str, script: &str) -> Diagnostic {
    /// A longer script is not repeated.
    const LONGEST: usize = 100;
    let whole = script.trim();
    let is_short = whole.len() <= LONGEST && !whole.contains('\n');
    let mut commands = script.split(['\n', ';', '&', '|']).map(str::trim);
    let command = commands.find(|command| manager.is_run_by(command)).unwrap_or(whole);
    let copied = copied.lines().next().unwrap_or_default();
    let hint = match (manager.manifest, manager.install) {
        ("", _) if is_short => format!("move `RUN {whole}` before `{copied}`"),
        ("", _) => format!("move the `RUN` with `{command}` before `{copied}`"),
        (manifest, "") => format!("put `COPY {manifest} ./` and `RUN {command}` before `{copied}`"),
        (manifest, install) => format!("put `COPY {manifest} ./` and `RUN {install}` before `{copied}`"),
    };
    Diagnostic::warning(format!("`{command}` installs everything again after any change in the context"))
        .at(span)
        .label("copies all of the context")
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_are_recognised() {
        let runs = |script: &str| MANAGERS.iter().position(|manager| manager.is_run_by(script));
        assert_eq!(runs("apt-get update && apt-get -y install x"), Some(0));
        assert_eq!(runs("npm ci --omit=dev"), Some(1));
        assert_eq!(runs("yarn"), Some(2));
        assert_eq!(runs("yarn; true"), Some(2));
        assert_eq!(runs("python3 -m pip install --no-cache-dir -r requirements.txt"), Some(4));
        assert_eq!(runs("cargo build --release"), Some(6));
        assert_eq!(runs("CGO_ENABLED=0 go build ./..."), Some(7));
        for other in ["npm run build", "yarn build", "pip install flask", "go vet", "echo apt-get", "cargo && build"] {
            assert_eq!(runs(other), None, "{other}");
        }
    }
}
