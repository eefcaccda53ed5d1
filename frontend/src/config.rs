//! The instructions that change the config and nothing else, but for commands (`command.rs`).

use kiln_parser::{ArgDeclaration, Diagnostic, Word};

use crate::findings::error_at;
use crate::go_format::list;
use crate::stage::StageLowering;
use crate::{ports, signals};

/// Arguments that say how the build is done and are no variables of a `RUN`.
const NO_VARIABLES: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl StageLowering<'_, '_> {
    /// Names and values, expanded with the variables from before the instruction.
    fn pairs(&self, pairs: &[(Word, Word)]) -> Result<Vec<(String, String)>, Diagnostic> {
        pairs.iter().map(|(name, value)| Ok((self.pair_name(name)?, self.expand(value)?))).collect()
    }

    fn pair_name(&self, name: &Word) -> Result<String, Diagnostic> {
        let expanded = self.expand(name)?;
        if expanded.is_empty() {
            return Err(error_at(name, "empty-name", "the name is empty").label("empty"));
        }
        Ok(expanded)
    }

    pub(crate) fn env(&mut self, pairs: &[(Word, Word)]) -> Result<(), Diagnostic> {
        let pairs = self.pairs(pairs)?;
        for (name, value) in &pairs {
            self.state.set_env(name, value);
        }
        self.state.note(format!("ENV {}", joined(&pairs)));
        Ok(())
    }

    pub(crate) fn label(&mut self, pairs: &[(Word, Word)]) -> Result<(), Diagnostic> {
        let pairs = self.pairs(pairs)?;
        self.state.image.config.labels.extend(pairs.iter().cloned());
        self.state.note(format!("LABEL {}", joined(&pairs)));
        Ok(())
    }

    /// Declares arguments, each seeing the ones before it.
    pub(crate) fn arg(&mut self, declarations: &[ArgDeclaration]) -> Result<(), Diagnostic> {
        let mut shown = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            let name = &self.pair_name(&declaration.name)?;
            let value = self.argument_value(name, declaration)?;
            if let Some(value) = &value
                && !NO_VARIABLES.contains(&name.as_str())
            {
                self.state.environment.set(name, value);
            }
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            self.state.arguments.push((name.clone(), value.unwrap_or_default()));
        }
        self.state.note(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    /// `--build-arg` comes first, then the default, then the global argument of the name.
    fn argument_value(&self, name: &str, declaration: &ArgDeclaration) -> Result<Option<String>, Diagnostic> {
        if let Some(value) = self.planner.options.build_args.get(name) {
            return Ok(Some(value.clone()));
        }
        match &declaration.default {
            Some(default) => self.expand(default).map(Some),
            None => Ok(self.globals().get(name).map(str::to_owned)),
        }
    }

    pub(crate) fn user(&mut self, user: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(user)?;
        self.state.note(format!("USER {user}"));
        self.state.image.config.user = user;
        Ok(())
    }

    pub(crate) fn expose(&mut self, specifications: &[Word]) -> Result<(), Diagnostic> {
        // BuildKit's order, in the history: that of the words as they are written.
        let mut specifications: Vec<&Word> = specifications.iter().collect();
        specifications.sort_by(|one, other| one.value.cmp(&other.value));
        let mut ports = Vec::new();
        for specification in specifications {
            ports.extend(self.ports(specification)?);
        }
        self.state.image.config.exposed_ports.extend(ports.iter().cloned());
        self.state.note(format!("EXPOSE {}", list(&ports)));
        Ok(())
    }

    fn ports(&self, word: &Word) -> Result<Vec<String>, Diagnostic> {
        let expanded = self.state.environment.expand_words(&word.value, self.planner.escape);
        let texts = expanded.map_err(|error| error_at(word, "expansion", error.to_string()))?;
        let mut all = Vec::new();
        for text in texts {
            all.extend(ports::parse(&text).map_err(|problem| {
                error_at(word, "port", format!("`{text}` is not a port to expose: {problem}"))
                    .label("not a port")
                    .hint("write `80`, `53/udp` or `7000-7010`")
            })?);
        }
        Ok(all)
    }

    pub(crate) fn volume(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        let mut volumes = Vec::with_capacity(words.len());
        for word in words {
            let path = self.expand(word)?;
            if path.is_empty() {
                return Err(error_at(word, "empty-volume", "the path of a volume is empty").label("empty"));
            }
            volumes.push(path);
        }
        self.state.image.config.volumes.extend(volumes.iter().cloned());
        self.state.note(format!("VOLUME {}", list(&volumes)));
        Ok(())
    }

    pub(crate) fn stop_signal(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let signal = self.expand(word)?;
        if !signals::is_signal(&signal) {
            return Err(error_at(word, "signal", format!("`{signal}` is not a signal"))
                .label("unknown signal")
                .hint("write a name such as `SIGTERM`, or a number"));
        }
        self.state.note(format!("STOPSIGNAL {signal}"));
        self.state.image.config.stop_signal = signal;
        Ok(())
    }

    pub(crate) fn maintainer(&mut self, name: &Word) -> Result<(), Diagnostic> {
        self.state.image.author.clone_from(&name.value);
        self.state.note(format!("MAINTAINER {}", name.value));
        Ok(())
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
