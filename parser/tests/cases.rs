//! Data-driven tests: each folder of `tests/cases` has a `Dockerfile` and what is to come of it, in `expected`.
//! With `UPDATE_EXPECTED=1` in the environment the tests write `expected` instead; read the difference then.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kiln_parser::{
    Command, Copy, Diagnostic, Healthcheck, Heredoc, Instruction, Kind, Parsed, Run, Severity, Span, Word, parse,
};

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 40);
    for case in names {
        let text = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let found = Report::of(&text, &parse(&text));
        let expected = case.join("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was understood, for people to read: values, and what stands at their spans where that differs.
struct Report<'t> {
    text: &'t str,
    out: String,
}

impl Report<'_> {
    fn of(text: &str, parsed: &Parsed) -> String {
        let mut report = Report { text, out: String::new() };
        let directives = &parsed.dockerfile.directives;
        report.out += &format!("escape {}\n", directives.escape);
        report.optional("syntax", &directives.syntax);
        report.optional("check", &directives.check);
        for instruction in &parsed.dockerfile.instructions {
            report.instruction(instruction);
        }
        for diagnostic in &parsed.diagnostics {
            report.diagnostic(diagnostic);
        }
        report.out
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let start = self.place(instruction.span.start);
        let end = self.place(instruction.span.end);
        writeln!(self.out, "{start}-{end} {:?}", instruction.text).unwrap();
        assert_eq!(&self.text[instruction.keyword.span.range()], instruction.keyword.value);
        let annotations = &instruction.annotations;
        for (name, on) in [("always", annotations.always), ("untraced", annotations.untraced)] {
            if on {
                writeln!(self.out, "  # {name}").unwrap();
            }
        }
        self.words("# ignored", &annotations.ignored_arguments);
        match &instruction.kind {
            Kind::From(from) => {
                self.optional("platform", &from.platform);
                self.word("image", &from.image);
                self.optional("name", &from.name);
            }
            Kind::Run(run) => self.run(run),
            Kind::Copy(copy) | Kind::Add(copy) => self.copy(copy),
            Kind::Env(pairs) | Kind::Label(pairs) => {
                for (name, value) in pairs {
                    self.word("name", name);
                    self.word("  value", value);
                }
            }
            Kind::Arg(declarations) => {
                for declaration in declarations {
                    self.word("name", &declaration.name);
                    self.optional("  default", &declaration.default);
                }
            }
            Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => {
                self.word("word", word);
            }
            Kind::Expose(words) | Kind::Volume(words) => self.words("word", words),
            Kind::Entrypoint(command) | Kind::Cmd(command) => self.command(command),
            Kind::Shell(words) => writeln!(self.out, "  shell {words:?}").unwrap(),
            Kind::Healthcheck(check) => self.healthcheck(check),
            Kind::Onbuild(onbuild) => self.word("trigger", &onbuild.text),
        }
    }

    fn run(&mut self, run: &Run) {
        self.command(&run.command);
        self.optional("network", &run.network);
        self.optional("security", &run.security);
        self.words("mount", &run.mounts);
        self.words("device", &run.devices);
        self.heredocs(&run.heredocs);
        if let Some(script) = run.script() {
            writeln!(self.out, "  script {:?}", script.chomped()).unwrap();
        }
    }

    fn copy(&mut self, copy: &Copy) {
        self.words("source", &copy.sources);
        self.word("destination", &copy.destination);
        for (name, value) in
            [("from", &copy.from), ("chown", &copy.chown), ("chmod", &copy.chmod), ("checksum", &copy.checksum)]
        {
            self.optional(name, value);
        }
        self.words("exclude", &copy.exclude);
        for (name, on) in
            [("link", copy.link), ("parents", copy.parents), ("keep-git-dir", copy.keep_git_dir == Some(true))]
        {
            if on {
                writeln!(self.out, "  {name}").unwrap();
            }
        }
        if let Some(unpack) = copy.unpack {
            writeln!(self.out, "  unpack {unpack}").unwrap();
        }
        self.heredocs(&copy.heredocs);
    }

    fn healthcheck(&mut self, check: &Healthcheck) {
        let Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } = check else {
            self.out += "  none\n";
            return;
        };
        self.command(command);
        self.optional("interval", interval);
        self.optional("timeout", timeout);
        self.optional("start-period", start_period);
        self.optional("start-interval", start_interval);
        self.optional("retries", retries);
    }

    fn heredocs(&mut self, heredocs: &[Heredoc]) {
        for heredoc in heredocs {
            let Heredoc { name, content, expand, chomp, span } = heredoc;
            assert_eq!(&self.text[span.range()], content);
            writeln!(self.out, "  heredoc {name:?} expand={expand} chomp={chomp} {content:?}").unwrap();
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Shell(word) => self.word("shell", word),
            Command::Exec(arguments, span) => {
                let slice = &self.text[span.range()];
                writeln!(self.out, "  exec {arguments:?} from {slice:?}").unwrap();
            }
        }
    }

    fn words(&mut self, name: &str, words: &[Word]) {
        for word in words {
            self.word(name, word);
        }
    }

    fn optional(&mut self, name: &str, word: &Option<Word>) {
        if let Some(word) = word {
            self.word(name, word);
        }
    }

    fn word(&mut self, name: &str, word: &Word) {
        write!(self.out, "  {name} {:?}", word.value).unwrap();
        let slice = &self.text[word.span.range()];
        if slice != word.value {
            write!(self.out, " from {slice:?}").unwrap();
        }
        self.out.push('\n');
    }

    fn diagnostic(&mut self, diagnostic: &Diagnostic) {
        let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
        let Diagnostic { message, span, label, hint, code, .. } = diagnostic;
        writeln!(self.out, "{severity} [{}] {message}", code.unwrap_or_default()).unwrap();
        if let Some(Span { start, end }) = span {
            let slice = &self.text[*start..*end];
            writeln!(self.out, "  at {} {slice:?}", self.place(*start)).unwrap();
        }
        if let Some(label) = label {
            writeln!(self.out, "  label: {label}").unwrap();
        }
        if let Some(hint) = hint {
            writeln!(self.out, "  hint: {hint}").unwrap();
        }
    }

    fn place(&self, offset: usize) -> String {
        let before = &self.text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
        format!("{line}:{column}")
    }
}
