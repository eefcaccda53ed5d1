//! What comments `# kiln: …` above an instruction ask of the cache: `always`, `untraced`, `ignore-arg=NAME,NAME`.

use crate::layout::comments_before;
use crate::{Annotations, Diagnostic, Instruction, Kind, Span, Word, suggest};

/// What begins such a comment, before a colon.
const NAME: &str = "kiln";
const ALWAYS: &str = "always";
const UNTRACED: &str = "untraced";
const IGNORE_ARGUMENT: &str = "ignore-arg";

/// The annotation that a comment is, if it is one: what stands behind the colon. The `#` is taken off.
pub(crate) fn annotation(comment: &str) -> Option<&str> {
    let (name, annotation) = comment.trim().split_once(':')?;
    name.trim().eq_ignore_ascii_case(NAME).then_some(annotation.trim())
}

/// Gives an instruction the annotations of the comments right above it, and tells what is wrong with those read since
/// the last instruction. There is none where it was told what is wrong with that itself.
pub(crate) fn attach(
    text: &str,
    annotations: Vec<Word>,
    instruction: Option<&mut Instruction>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(instruction) = instruction.filter(|_| !annotations.is_empty()) else { return };
    let above = comments_before(text, instruction.span.start);
    let is_above = |annotation: &Word| above.iter().any(|comment| comment.span.to(annotation.span) == comment.span);
    let (own, astray): (Vec<Word>, Vec<Word>) = annotations.into_iter().partition(is_above);
    refuse(&astray, diagnostics);
    let mut reader = Reader { kind: &instruction.kind, annotations: Annotations::default(), diagnostics };
    own.iter().for_each(|annotation| reader.read(annotation));
    instruction.annotations = reader.annotations;
}

/// Tells of annotations that belong to no instruction.
pub(crate) fn refuse(astray: &[Word], diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.extend(astray.iter().map(|annotation| {
        Diagnostic::error("this `# kiln:` comment belongs to no instruction")
            .at(annotation.span)
            .label("not above an instruction")
            .hint("it is for the instruction right below it, without an empty line between them")
            .code("annotation-place")
    }));
}

struct Reader<'r> {
    kind: &'r Kind,
    annotations: Annotations,
    diagnostics: &'r mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn read(&mut self, annotation: &Word) {
        if annotation.value.is_empty() {
            let problem = Diagnostic::error("this `# kiln:` comment says nothing").at(annotation.span);
            self.diagnostics.push(problem.hint(ALL).code("unknown-annotation"));
        }
        for word in annotation.value.split_whitespace() {
            let start = annotation.span.start + offset(&annotation.value, word);
            self.word(word, Span::new(start, start + word.len()));
        }
    }

    fn word(&mut self, word: &str, span: Span) {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let is_run = matches!(self.kind, Kind::Run(_));
        let makes_files = matches!(self.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_));
        match (name, value) {
            (ALWAYS, None) if makes_files => self.annotations.always = true,
            (ALWAYS, None) => self.misplaced(name, "it is for `RUN`, `COPY` and `ADD`", span),
            (UNTRACED | IGNORE_ARGUMENT, _) if !is_run => self.misplaced(name, "it is for `RUN`", span),
            (UNTRACED, None) => self.annotations.untraced = true,
            (ALWAYS | UNTRACED, Some(_)) => {
                let problem = Diagnostic::error(format!("`{name}` takes no value")).at(span);
                self.diagnostics.push(problem.hint(format!("write `# kiln: {name}`")).code("annotation-value"));
            }
            (IGNORE_ARGUMENT, value) => self.ignore(value.unwrap_or_default(), span),
            _ => {
                let problem =
                    Diagnostic::error(format!("`{name}` is nothing that a `# kiln:` comment can say")).at(span);
                let near = suggest::nearest(name, [ALWAYS, UNTRACED, IGNORE_ARGUMENT]);
                let hint = near.map_or_else(|| ALL.to_owned(), |near| format!("did you mean `{near}`?"));
                self.diagnostics.push(problem.label("unknown").hint(hint).code("unknown-annotation"));
            }
        }
    }

    fn misplaced(&mut self, name: &str, hint: &str, span: Span) {
        let problem = Diagnostic::error(format!("`{name}` has no meaning for this instruction")).at(span);
        self.diagnostics.push(problem.label("in the wrong place").hint(hint).code("annotation-place"));
    }

    /// Takes `NAME,NAME`, which ends where `span` does.
    fn ignore(&mut self, names: &str, span: Span) {
        if names.split(',').any(str::is_empty) {
            let problem = Diagnostic::error(format!("`{IGNORE_ARGUMENT}` needs the names of build arguments")).at(span);
            self.diagnostics.push(problem.hint(format!("write `{IGNORE_ARGUMENT}=NAME`")).code("annotation-value"));
            return;
        }
        let start = span.end - names.len();
        let word = |name: &str| {
            let start = start + offset(names, name);
            Word::new(name.to_owned(), Span::new(start, start + name.len()))
        };
        self.annotations.ignored_arguments.extend(names.split(',').map(word));
    }
}

const ALL: &str = "there are `always`, `untraced` and `ignore-arg=NAME,NAME`, with white space between them";

/// Where a slice of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}
