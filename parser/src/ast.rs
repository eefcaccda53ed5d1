//! What a Dockerfile says: its directives and instructions, each with the place where it was written.

use crate::{Diagnostic, Span, Word};

/// What [`crate::parse`] understood, and what it had to say about the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Every instruction that could be understood.
    pub dockerfile: Dockerfile,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether a diagnostic is an error: what was left out must not be built without.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == crate::Severity::Error)
    }
}

/// A whole Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The `# name=value` lines at its top.
    pub directives: Directives,
    /// The instructions in order.
    pub instructions: Vec<Instruction>,
}

/// The parser directives, `# name=value` lines before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the frontend image that should read this file.
    pub syntax: Option<Word>,
    /// `escape`: the character that continues lines and escapes others, `\` or `` ` ``.
    pub escape: char,
    /// `check`: what the linter is to skip.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From its keyword to its last character, heredoc bodies included.
    pub span: Span,
    /// The keyword as typed, so in any case.
    pub keyword: Word,
    /// What it says.
    pub kind: Kind,
    /// The line as Docker prints it: continuations joined, comments dropped, heredoc bodies left out.
    pub text: String,
    /// What the comments right above it ask of the cache.
    pub annotations: Annotations,
}

/// What comments `# kiln: …` right above an instruction ask of the cache. To other builders they are comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `always`: the step runs even where a cache entry fits.
    pub always: bool,
    /// `untraced` (`RUN` only): it is not observed what the command looks at.
    pub untraced: bool,
    /// `ignore-arg=NAME,…` (`RUN` only): build arguments whose values the step does not depend on.
    pub ignored_arguments: Vec<Word>,
}

/// What an instruction says. Words are raw: it is up to the reader to expand those that Docker expands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `FROM` begins a stage.
    From(From),
    /// `RUN` runs a command.
    Run(Run),
    /// `COPY` copies from the context or a stage.
    Copy(Copy),
    /// `ADD` also fetches and unpacks.
    Add(Copy),
    /// `ENV name=value …`, both raw.
    Env(Vec<(Word, Word)>),
    /// `ARG name[=default] …`
    Arg(Vec<ArgDeclaration>),
    /// `WORKDIR path`
    Workdir(Word),
    /// `USER user[:group]`
    User(Word),
    /// `LABEL name=value …`, both raw.
    Label(Vec<(Word, Word)>),
    /// `EXPOSE port[/protocol] …`
    Expose(Vec<Word>),
    /// `VOLUME path …` in either form.
    Volume(Vec<Word>),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `CMD`
    Cmd(Command),
    /// `SHELL ["executable", …]`
    Shell(Vec<String>),
    /// `STOPSIGNAL signal`
    Stopsignal(Word),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `MAINTAINER name`, deprecated.
    Maintainer(Word),
    /// `ONBUILD instruction`
    Onbuild(Onbuild),
}

/// `FROM [--platform=platform] image [AS name]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// `--platform`
    pub platform: Option<Word>,
    /// A reference, `scratch` or the name of an earlier stage.
    pub image: Word,
    /// The stage's name as typed; Docker compares them in lower case.
    pub name: Option<Word>,
}

/// `RUN [flags] command`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run. With heredocs always the shell form, the `<<NAME` still in it.
    pub command: Command,
    /// `--network`
    pub network: Option<Word>,
    /// `--security`
    pub security: Option<Word>,
    /// Each `--mount`, as written.
    pub mounts: Vec<Word>,
    /// Each `--device`, as written.
    pub devices: Vec<Word>,
    /// The bodies behind the line, in order.
    pub heredocs: Vec<Heredoc>,
}

impl Run {
    /// The heredoc that is all there is to run (`RUN <<EOF`): its content is the script, or a program of its own
    /// if it starts with `#!`.
    pub fn script(&self) -> Option<&Heredoc> {
        match &self.command {
            Command::Shell(word) if crate::heredoc::is_heredoc(&word.value) => self.heredocs.first(),
            _ => None,
        }
    }
}

/// `COPY` or `ADD [flags] source … destination`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// `--from` (`COPY` only)
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents` (`COPY` only)
    pub parents: bool,
    /// Each `--exclude`
    pub exclude: Vec<Word>,
    /// `--checksum` (`ADD` only)
    pub checksum: Option<Word>,
    /// `--keep-git-dir` (`ADD` only), if it is given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack` (`ADD` only); absent means Docker's rule: local archives are, fetched ones are not.
    pub unpack: Option<bool>,
    /// The sources without the heredocs; at least one, or at least one heredoc.
    pub sources: Vec<Word>,
    /// The destination.
    pub destination: Word,
    /// Files written in the Dockerfile itself, in order.
    pub heredocs: Vec<Heredoc>,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(Word),
    /// The JSON array form, decoded, and where the array was written. May be empty, as in `CMD []`.
    Exec(Vec<String>, Span),
}

/// One declaration of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, raw.
    pub name: Word,
    /// What stands behind `=`, raw; may be empty.
    pub default: Option<Word>,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a Dockerfile has one or two of them")]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE` turns off what the base image has.
    None,
    /// `HEALTHCHECK [options] CMD command`
    Cmd {
        /// The test.
        command: Command,
        /// `--interval`
        interval: Option<Word>,
        /// `--timeout`
        timeout: Option<Word>,
        /// `--start-period`
        start_period: Option<Word>,
        /// `--start-interval`
        start_interval: Option<Word>,
        /// `--retries`
        retries: Option<Word>,
    },
}

/// `ONBUILD instruction`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Onbuild {
    /// The inner instruction as the image config keeps it, heredoc bodies included: a Dockerfile of one
    /// instruction for [`crate::parse`].
    pub text: Word,
}

/// A body behind a line with `<<NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, without quotes: for `COPY` also the name of the file.
    pub name: String,
    /// The body as written, line ends included, the line with the name not.
    pub content: String,
    /// Whether variables are expanded in it: the name was not quoted.
    pub expand: bool,
    /// `<<-NAME`: leading tabs are to be dropped, see [`Heredoc::chomped`].
    pub chomp: bool,
    /// Where `content` stands.
    pub span: Span,
}

impl Heredoc {
    /// The content, without the leading tabs of its lines if it was written `<<-`.
    pub fn chomped(&self) -> String {
        if self.chomp { crate::heredoc::without_leading_tabs(&self.content) } else { self.content.clone() }
    }
}
