//! `WORKDIR`, which makes its directory.

use kiln_parser::{Diagnostic, Word};
use kiln_solver::{FileAction, FileActionKind, MkdirAction, Operation};

use crate::naming;
use crate::owner;
use crate::paths;
use crate::stage::{Current, StageLowering};
use crate::state::Tree;

impl StageLowering<'_, '_> {
    pub(crate) fn workdir(&mut self, word: &Word, current: &Current<'_>) -> Result<(), Diagnostic> {
        let path = self.expand(word)?;
        let directory = paths::join(&self.state.directory, &path);
        self.state.directory.clone_from(&directory);
        // The config has an absolute path as it is written.
        let written = if path.starts_with('/') { path } else { directory.clone() };
        self.state.image.config.working_dir.clone_from(&written);
        if directory == "/" {
            self.naming.skip();
            self.state.note(format!("WORKDIR {written}"));
            return Ok(());
        }
        self.make_directory(&directory, current);
        self.state.note_layer(format!("WORKDIR {written}"));
        Ok(())
    }

    fn make_directory(&mut self, path: &str, current: &Current<'_>) {
        let shown = naming::displayed(&current.instruction.text, &self.state.environment, self.planner.escape);
        let name = self.next_name(&shown, current.is_trigger);
        let owner = owner::parse(&self.state.image.config.user);
        let kind = FileActionKind::Mkdir(MkdirAction { path: path.to_owned(), mode: 0o755, owner });
        let tree = self.state.tree.clone();
        let base = self.input(&tree);
        let action = FileAction { base: base.map(|_| 0), from: None, output: Some(0), kind };
        let made = self.add_step(Operation::File(vec![action]), base.into_iter().collect(), name, current.span);
        self.state.tree = Tree::Step(made);
    }
}
