//! The instructions that change files without running anything: `COPY`, `ADD` and `WORKDIR`.

use kiln_parser::{Copy, Diagnostic, Word};
use kiln_solver::{CopyAction, FileAction, FileActionKind, Input, MkdirAction, Operation, Owner};

use crate::findings::{error_at, unsupported};
use crate::owner;
use crate::paths;
use crate::stage::{Current, MAIN_CONTEXT, StageLowering};
use crate::state::Tree;
use crate::{naming, remote};

/// What all sources of a `COPY` or `ADD` share, variables replaced.
struct Shared {
    destination: String,
    chown: String,
    chmod: String,
    owner: Option<Owner>,
    mode: Option<u32>,
    unpack: bool,
}

impl StageLowering<'_, '_> {
    pub(crate) fn copy(&mut self, copy: &Copy, is_add: bool, current: &Current<'_>) -> Result<(), Diagnostic> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        let sources = copy.sources.iter().map(|word| self.expand(word)).collect::<Result<Vec<_>, _>>()?;
        for (word, source) in copy.sources.iter().zip(&sources) {
            check_source(word, source, is_add, current.source.is_none())?;
        }
        let shared = self.shared(copy, is_add)?;
        let history = copy_history(keyword, &sources, &shared);
        let shown = naming::displayed(&current.instruction.text, &self.state.environment, self.planner.escape);
        let name = self.naming.next(&shown, current.is_trigger);

        let (inputs, base, from) = self.copy_inputs(current);
        let directory = paths::destination(&self.state.directory, &shared.destination);
        // Several sources need a directory: where the destination is none yet, they make it one, instead of the
        // last of them taking the place of the others.
        let destination = paths::with_slash(directory, sources.len() > 1);
        let copies = sources.iter().map(|source| FileActionKind::Copy(shared.action(source, &destination))).collect();
        let operation = Operation::File(chain(copies, base, from, inputs.len()));
        let made = self.add_step(operation, inputs, name, current.span);
        self.state.tree = Tree::Step(made);
        self.state.note_layer(history);
        Ok(())
    }

    fn shared(&self, copy: &Copy, is_add: bool) -> Result<Shared, Diagnostic> {
        let expand = |word: &Option<Word>| word.as_ref().map_or(Ok(String::new()), |word| self.expand(word));
        let (chown, chmod) = (expand(&copy.chown)?, expand(&copy.chmod)?);
        let mode = match &copy.chmod {
            Some(word) => parse_mode(word, &chmod)?,
            None => None,
        };
        Ok(Shared {
            destination: self.expand(&copy.destination)?,
            owner: owner::parse(&chown),
            mode,
            chown,
            chmod,
            unpack: copy.unpack.unwrap_or(is_add),
        })
    }

    /// The inputs of a copy and the positions of the tree that it changes and of the one that it reads from.
    fn copy_inputs(&mut self, current: &Current<'_>) -> (Vec<Input>, Option<usize>, Option<usize>) {
        let mut inputs = Vec::new();
        let mut place = |input: Option<Input>| {
            inputs.extend(input);
            input.map(|_| inputs.len() - 1)
        };
        let tree = self.state.tree.clone();
        let base = place(self.input(&tree));
        let main = Tree::Local(MAIN_CONTEXT.to_owned());
        let from = place(self.input(current.source.unwrap_or(&main)));
        (inputs, base, from)
    }

    pub(crate) fn workdir(&mut self, word: &Word, current: &Current<'_>) -> Result<(), Diagnostic> {
        let path = self.expand(word)?;
        let directory = paths::join(&self.state.directory, &path);
        self.state.directory.clone_from(&directory);
        self.state.image.config.working_dir.clone_from(&directory);
        if directory == "/" {
            self.naming.skip();
            self.state.note("WORKDIR /");
            return Ok(());
        }
        self.make_directory(&directory, current);
        self.state.note_layer(format!("WORKDIR {directory}"));
        Ok(())
    }

    fn make_directory(&mut self, path: &str, current: &Current<'_>) {
        let shown = naming::displayed(&current.instruction.text, &self.state.environment, self.planner.escape);
        let name = self.naming.next(&shown, current.is_trigger);
        let owner = owner::parse(&self.state.image.config.user);
        let action = FileActionKind::Mkdir(MkdirAction { path: path.to_owned(), mode: 0o755, owner });
        let tree = self.state.tree.clone();
        let base = self.input(&tree);
        let operation = Operation::File(chain(vec![action], base.map(|_| 0), None, usize::from(base.is_some())));
        let made = self.add_step(operation, base.into_iter().collect(), name, current.span);
        self.state.tree = Tree::Step(made);
    }

    /// The files of a directory as the files of a stage: all of them, copied into an empty tree.
    pub(crate) fn copy_of_local(&mut self, context: &str, name: String, span: kiln_parser::Span) -> Tree {
        let local = self.add_local(context);
        let shared = Shared {
            destination: String::new(),
            chown: String::new(),
            chmod: String::new(),
            owner: None,
            mode: None,
            unpack: false,
        };
        let mut action = shared.action("/", "/");
        action.wildcard = false;
        let operation = Operation::File(chain(vec![FileActionKind::Copy(action)], None, Some(0), 1));
        Tree::Step(self.add_step(operation, vec![local], name, span))
    }
}

impl Shared {
    fn action(&self, source: &str, destination: &str) -> CopyAction {
        CopyAction {
            source: paths::clean(source),
            destination: destination.to_owned(),
            owner: self.owner.clone(),
            mode: self.mode.map(Into::into),
            wildcard: true,
            allow_empty_wildcard: true,
            unpack: self.unpack,
            contents_only: true,
            parents: false,
            exclude: Vec::new(),
        }
    }
}

/// Actions one after the other: each changes what the one before it made, and the last one's result goes out.
fn chain(kinds: Vec<FileActionKind>, base: Option<usize>, from: Option<usize>, inputs: usize) -> Vec<FileAction> {
    let last = kinds.len().saturating_sub(1);
    let action = |(index, kind)| FileAction {
        base: if index == 0 { base } else { Some(inputs + index - 1) },
        from,
        output: (index == last).then_some(0),
        kind,
    };
    kinds.into_iter().enumerate().map(action).collect()
}

fn check_source(word: &Word, source: &str, is_add: bool, is_context: bool) -> Result<(), Diagnostic> {
    if let Some(kind) = remote::kind(source) {
        return Err(if is_add {
            unsupported(&format!("`ADD` of {kind}"), word.span).hint("fetch it in a `RUN`")
        } else {
            error_at(word, "remote-source", format!("`COPY` cannot copy {kind}"))
                .label("not a path")
                .hint("fetch it in a `RUN`")
        });
    }
    if is_context && paths::leaves_root(source) {
        return Err(error_at(word, "outside-context", format!("`{source}` leaves the build context"))
            .label("outside of the context")
            .hint("only files below the context can be copied; build with a parent directory as the context, or name the other directory with `--build-context`"));
    }
    Ok(())
}

/// Docker's octal permissions, up to `7777`.
fn parse_mode(word: &Word, text: &str) -> Result<Option<u32>, Diagnostic> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if let Some(mode) = u32::from_str_radix(text, 8).ok().filter(|&mode| is_octal && mode <= 0o7777) {
        return Ok(Some(mode));
    }
    if text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(error_at(word, "mode", format!("`{text}` in `--chmod` is not a mode"))
            .label("not a mode")
            .hint("write an octal number from `0` to `7777`"));
    }
    Err(unsupported(&format!("the symbolic mode `{text}` in `--chmod`"), word.span)
        .hint("write the mode as an octal number, such as `755`"))
}

fn copy_history(keyword: &str, sources: &[String], shared: &Shared) -> String {
    let mut words = vec![keyword.to_owned()];
    if !shared.chown.is_empty() {
        words.push(format!("--chown={}", shared.chown));
    }
    if !shared.chmod.is_empty() {
        words.push(format!("--chmod={}", shared.chmod));
    }
    words.extend_from_slice(sources);
    words.push(shared.destination.clone());
    words.push("# buildkit".to_owned());
    words.join(" ")
}
