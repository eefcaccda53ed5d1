//! `COPY` and `ADD`: files of a context or a stage, heredocs, and what is fetched from elsewhere.

use kiln_parser::{Copy, Diagnostic, Heredoc, Span, Word, expand};
use kiln_solver::{
    CopyAction, Digest, FileAction, FileActionKind, FileMode, Git, Http, Input, MkfileAction, Operation, Owner, Source,
};

use crate::findings::error_at;
use crate::owner;
use crate::paths;
use crate::remote::{self, GitReference, Remote};
use crate::stage::{Current, MAIN_CONTEXT, StageLowering};
use crate::state::Tree;
use crate::{modes, naming};

/// What all sources of a `COPY` or `ADD` share, variables replaced.
#[derive(Default)]
struct Shared {
    destination: String,
    chown: String,
    chmod: String,
    owner: Option<Owner>,
    mode: Option<FileMode>,
    exclude: Vec<String>,
    checksum: Option<Word>,
    parents: bool,
    keep_git_dir: Option<bool>,
    unpack: Option<bool>,
    link: bool,
    is_add: bool,
}

/// One source, variables replaced.
enum Item {
    /// A path in the context or in what `--from` names.
    Path(String),
    Http(Http),
    Git(Git),
}

/// A heredoc as a file.
struct Inline {
    name: String,
    content: String,
}

/// One action to come, and the tree that it reads from.
struct Part {
    from: Option<Input>,
    action: CopyAction,
}

impl StageLowering<'_, '_> {
    pub(crate) fn copy(&mut self, copy: &Copy, is_add: bool, current: &Current<'_>) -> Result<(), Diagnostic> {
        let shared = self.shared(copy, is_add)?;
        let sources = copy.sources.iter().map(|word| self.expand(word)).collect::<Result<Vec<_>, _>>()?;
        shared.check_checksum(&sources)?;
        let items = copy.sources.iter().zip(&sources).map(|(word, source)| shared.item(word, source, current));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let inlines = copy.heredocs.iter().map(|heredoc| self.inline(heredoc)).collect::<Result<Vec<_>, _>>()?;
        let history = shared.history(&sources, &inlines);
        let shown = naming::displayed(&current.instruction.text, &self.state.environment, self.planner.escape);
        let name = self.next_name(&shown, current.is_trigger);

        let tree = self.state.tree.clone();
        let base = self.input(&tree);
        let parts = self.parts(&shared, items, inlines, &name, current);
        let (operation, inputs) = chain(base, parts);
        let made = self.add_step(operation, inputs, name, current.span);
        self.state.tree = Tree::Step(made);
        self.state.note_layer(history);
        Ok(())
    }

    fn shared(&self, copy: &Copy, is_add: bool) -> Result<Shared, Diagnostic> {
        let expand = |word: &Option<Word>| word.as_ref().map_or(Ok(String::new()), |word| self.expand(word));
        let (chown, chmod) = (expand(&copy.chown)?, expand(&copy.chmod)?);
        let owner = owner::parse(&chown);
        // With a mode, BuildKit looks at the image all the same.
        let is_linked = copy.link && chmod.is_empty();
        if let (true, Some(word), true) = (is_linked, &copy.chown, owner.as_ref().is_some_and(owner::has_names)) {
            return Err(error_at(word, "linked-owner", format!("`{chown}` cannot be looked up with `--link`"))
                .label("a name")
                .hint("write numbers: with `--link` nothing of the image is read, so neither is its `/etc/passwd`"));
        }
        let mode = match &copy.chmod {
            Some(word) => modes::parse(word, &chmod)?,
            None => None,
        };
        let checksum = match &copy.checksum {
            Some(word) => Some(Word { value: self.expand(word)?, span: word.span }),
            None => None,
        };
        Ok(Shared {
            destination: self.expand(&copy.destination)?,
            owner,
            mode,
            chown,
            chmod,
            // Patterns are taken as they are written.
            exclude: copy.exclude.iter().map(|word| word.value.clone()).collect(),
            checksum: checksum.filter(|word| !word.value.is_empty()),
            parents: copy.parents,
            keep_git_dir: copy.keep_git_dir,
            unpack: copy.unpack,
            link: is_linked,
            is_add,
        })
    }

    /// The file that a heredoc makes. Quotes are characters like any other in it.
    fn inline(&self, heredoc: &Heredoc) -> Result<Inline, Diagnostic> {
        let mut content = heredoc.chomped();
        if heredoc.expand {
            let environment = &self.state.environment;
            let expanded = expand::expand_heredoc(&content, &|name| environment.get(name).map(str::to_owned));
            let error = |error: expand::ExpandError| {
                Diagnostic::error(error.to_string().replace('\n', "\\n"))
                    .at(heredoc.span)
                    .label("in this heredoc")
                    .hint(format!("quote its name where variables are not to be replaced: `<<'{}'`", heredoc.name))
                    .code("expansion")
            };
            content = expanded.map_err(error)?.value;
        }
        Ok(Inline { name: heredoc.name.clone(), content })
    }

    /// The actions in their order, with the steps that they read from.
    fn parts(
        &mut self,
        shared: &Shared,
        items: Vec<Item>,
        inlines: Vec<Inline>,
        name: &str,
        current: &Current<'_>,
    ) -> Vec<Part> {
        let directory = paths::destination(&self.state.directory, &shared.destination);
        // Several sources need a directory: where the destination is none yet, they make it one, instead of the
        // last of them taking the place of the others.
        let destination = paths::with_slash(directory, items.len() + inlines.len() > 1);
        let mut parts = Vec::with_capacity(items.len() + inlines.len());
        for item in items {
            parts.push(match item {
                Item::Path(source) => {
                    let main = Tree::Local(MAIN_CONTEXT.to_owned());
                    let from = self.input(current.source().unwrap_or(&main));
                    Part { from, action: shared.of_path(&source, &destination) }
                }
                Item::Http(http) => {
                    let action = shared.of_file(&http.filename, &destination, shared.unpack == Some(true));
                    self.fetched(Source::Http(http), action, name, current.span)
                }
                Item::Git(git) => {
                    let action = CopyAction { contents_only: true, ..shared.action("/".to_owned(), &destination) };
                    self.fetched(Source::Git(git), action, name, current.span)
                }
            });
        }
        for inline in inlines {
            let action = shared.of_file(&inline.name, &destination, false);
            parts.push(Part { from: Some(self.add_inline(&inline.name, inline.content, 0o644)), action });
        }
        parts
    }

    fn fetched(&mut self, source: Source, action: CopyAction, name: &str, span: Span) -> Part {
        let from = self.add_step(Operation::Source(source), Vec::new(), name.to_owned(), span);
        Part { from: Some(from), action }
    }

    /// The step that makes a file of text in an empty tree.
    pub(crate) fn add_inline(&mut self, name: &str, content: String, mode: u32) -> Input {
        let mkfile = MkfileAction { path: paths::join("/", name), mode, content, owner: None };
        let kind = FileActionKind::Mkfile(mkfile);
        let operation = Operation::File(vec![FileAction { base: None, from: None, output: Some(0), kind }]);
        let step = kiln_solver::Step::new(operation, "[internal] preparing inline document");
        Input { step: self.graph.add(step), output: 0 }
    }

    /// The files of a directory as the files of a stage: all of them, copied into an empty tree.
    pub(crate) fn copy_of_local(&mut self, context: &str, name: String, span: Span) -> Tree {
        let from = Some(self.add_local(context));
        let action = CopyAction { contents_only: true, ..Shared::default().action("/".to_owned(), "/") };
        let (operation, inputs) = chain(None, vec![Part { from, action }]);
        Tree::Step(self.add_step(operation, inputs, name, span))
    }
}

impl Shared {
    /// A checksum is for one thing that is fetched.
    fn check_checksum(&self, sources: &[String]) -> Result<(), Diagnostic> {
        let Some(word) = &self.checksum else { return Ok(()) };
        let problem = match sources {
            [source] if remote::parse(source).is_some() => return Ok(()),
            [_] => "`--checksum` is for a URL or a git repository",
            _ => "`--checksum` is for a single source",
        };
        Err(error_at(word, "checksum", problem).label("nothing to check with it"))
    }

    fn item(&self, word: &Word, source: &str, current: &Current<'_>) -> Result<Item, Diagnostic> {
        let Some(remote) = remote::parse(source) else {
            check_path(word, source, current.source().is_none())?;
            return Ok(Item::Path(source.to_owned()));
        };
        let remote = remote.map_err(|problem| {
            error_at(word, "git-url", format!("`{source}` is not a git URL: {problem}")).label("not valid")
        })?;
        if !self.is_add {
            let kind = if matches!(remote, Remote::Git(_)) { "a git repository" } else { "a URL" };
            return Err(error_at(word, "remote-source", format!("`COPY` cannot copy {kind}"))
                .label("not a path")
                .hint("`ADD` can"));
        }
        match remote {
            Remote::Http { filename } => {
                Ok(Item::Http(Http { url: source.to_owned(), checksum: self.http_checksum()?, filename }))
            }
            Remote::Git(reference) => self.git(word, reference).map(Item::Git),
        }
    }

    fn http_checksum(&self) -> Result<Option<Digest>, Diagnostic> {
        let parse = |word: &Word| {
            word.value.parse().map_err(|error: kiln_solver::ParseDigestError| {
                error_at(word, "checksum", format!("`--checksum` of a URL is no digest: {error}"))
                    .label("not a digest")
                    .hint("write `sha256:` and its 64 digits")
            })
        };
        self.checksum.as_ref().map(parse).transpose()
    }

    fn git(&self, word: &Word, mut reference: GitReference) -> Result<Git, Diagnostic> {
        let clash = |what: &str| {
            error_at(word, "git-url", format!("`--{what}` and the URL do not agree about `{what}`"))
                .label("says something else")
        };
        match (self.keep_git_dir, reference.keep_git_dir) {
            (Some(flag), Some(query)) if flag != query => return Err(clash("keep-git-dir")),
            _ => {}
        }
        if let Some(flag) = &self.checksum {
            if !flag.value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let problem = format!("`{}` in `--checksum` is not a commit", flag.value);
                return Err(error_at(flag, "checksum", problem)
                    .label("not a commit")
                    .hint("the checksum of a git repository is the hash of the commit"));
            }
            match &reference.checksum {
                Some(query) if *query != flag.value => return Err(clash("checksum")),
                _ => reference.checksum = Some(flag.value.clone()),
            }
        }
        Ok(Git {
            remote: reference.remote,
            reference: reference.reference,
            subdirectory: reference.subdirectory,
            checksum: reference.checksum,
            keep_git_dir: reference.keep_git_dir.or(self.keep_git_dir) == Some(true),
            submodules: reference.submodules != Some(false),
        })
    }

    /// What is the same for all kinds of sources; the source is taken literally.
    fn action(&self, source: String, destination: &str) -> CopyAction {
        CopyAction {
            source,
            destination: destination.to_owned(),
            owner: self.owner.clone(),
            mode: self.mode.clone(),
            wildcard: false,
            allow_empty_wildcard: true,
            unpack: false,
            contents_only: false,
            parents: false,
            exclude: self.exclude.clone(),
            linked: self.link,
        }
    }

    fn of_path(&self, source: &str, destination: &str) -> CopyAction {
        let source = match source.split_once("/./").filter(|_| self.parents) {
            Some((pivot, rest)) => format!("{}/.{}", paths::clean(pivot).trim_end_matches('/'), paths::clean(rest)),
            None => paths::clean(source),
        };
        CopyAction {
            wildcard: true,
            unpack: self.unpack.unwrap_or(self.is_add),
            contents_only: true,
            parents: self.parents,
            ..self.action(source, destination)
        }
    }

    /// A file of this name in the root of its tree.
    fn of_file(&self, name: &str, destination: &str, unpack: bool) -> CopyAction {
        CopyAction { unpack, ..self.action(paths::join("/", name), destination) }
    }

    fn history(&self, sources: &[String], inlines: &[Inline]) -> String {
        let mut words = vec![if self.is_add { "ADD" } else { "COPY" }.to_owned()];
        if self.parents {
            words.push("--parents".to_owned());
        }
        if !self.chown.is_empty() {
            words.push(format!("--chown={}", self.chown));
        }
        if !self.chmod.is_empty() {
            words.push(format!("--chmod={}", self.chmod));
        }
        words.extend_from_slice(sources);
        words.extend(inlines.iter().map(|inline| format!("<<{}", inline.name)));
        words.push(self.destination.clone());
        words.push("# buildkit".to_owned());
        words.join(" ")
    }
}

/// The parts as actions one after the other: each changes what the one before it made, and the last one's result
/// goes out. Yields the inputs, too.
fn chain(base: Option<Input>, parts: Vec<Part>) -> (Operation, Vec<Input>) {
    let mut inputs: Vec<Input> = base.into_iter().collect();
    let mut positions = Vec::with_capacity(parts.len());
    for part in &parts {
        positions.push(part.from.map(|from| {
            // The base is what is changed, even where a stage copies from what it is based on.
            let known = inputs.iter().position(|input| *input == from);
            known.unwrap_or_else(|| {
                inputs.push(from);
                inputs.len() - 1
            })
        }));
    }
    let last = parts.len().saturating_sub(1);
    let first = inputs.len();
    let action = |(index, (part, from)): (usize, (Part, Option<usize>))| FileAction {
        base: if index == 0 { base.map(|_| 0) } else { Some(first + index - 1) },
        from,
        output: (index == last).then_some(0),
        kind: FileActionKind::Copy(part.action),
    };
    let actions = parts.into_iter().zip(positions).enumerate().map(action).collect();
    (Operation::File(actions), inputs)
}

fn check_path(word: &Word, source: &str, is_context: bool) -> Result<(), Diagnostic> {
    if is_context && paths::leaves_root(source) {
        return Err(error_at(word, "outside-context", format!("`{source}` leaves the build context"))
            .label("outside of the context")
            .hint("only files below the context can be copied; build with a parent directory as the context, or name the other directory with `--build-context`"));
    }
    Ok(())
}
