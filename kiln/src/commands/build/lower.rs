//! From the text of the Dockerfile to the steps of all platforms.

use kiln_frontend::Options;
use kiln_frontend::checks::KnownBases;
use kiln_image::{Pull, spec};
use kiln_parser::ignore::Ignore;
use kiln_parser::{Diagnostic, Parsed, Severity};
use kiln_solver::{Graph, Input, Operation, Platform, Source};

use super::attest::Scanner;
use super::request::NamedContext;
use super::{Builder, MAIN_CONTEXT, Work, glue, sources};
use crate::diagnostics::{self, SourceFile};
use crate::error::CliError;
use crate::{failure, terminal};

/// What is to be built.
pub(super) struct Lowered {
    /// The steps of every platform; those that are equal are there once.
    pub(super) graph: Graph,
    /// What they come to, for each platform in the order asked for.
    pub(super) images: Vec<LoweredImage>,
    /// Proxies for every command, `NAME=value` each.
    pub(super) proxy_env: Vec<String>,
}

/// The image for one platform.
pub(super) struct LoweredImage {
    /// What makes its files; an empty tree where absent.
    pub(super) target: Option<Input>,
    /// Its config, as the frontend leaves it.
    pub(super) image: spec::Image,
    /// What is scanned for packages beside it, by name.
    pub(super) scans: Vec<(String, Input)>,
    /// The reports of a scanner image, where one is asked for.
    pub(super) reports: Option<Input>,
}

impl Builder<'_> {
    pub(super) fn read_dockerfile(&self) -> Result<(SourceFile, Parsed), CliError> {
        let source = &self.request.dockerfile;
        let title = format!("[internal] load build definition from {}", source.name());
        let file = self.progress.during(&title, |_| sources::dockerfile(source))?;
        self.progress.dockerfile(&file.text);
        let parsed = kiln_parser::parse(&file.text);
        Ok((file, parsed))
    }

    /// Ends the build if the Dockerfile is written for another frontend: then it need not even look like one.
    pub(super) fn refuse_syntax(&self, file: &SourceFile, parsed: &Parsed) -> Result<(), CliError> {
        let syntax = kiln_frontend::check_syntax(&parsed.dockerfile.directives, &self.options());
        self.refuse(&syntax.err().into_iter().collect::<Vec<_>>(), file)
    }

    /// Ends the build if there are errors: all of them are shown.
    pub(super) fn refuse(&self, findings: &[Diagnostic], file: &SourceFile) -> Result<(), CliError> {
        let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error;
        let errors: Vec<Diagnostic> = findings.iter().filter(is_error).cloned().collect();
        let Some(first) = errors.first() else { return Ok(()) };
        self.progress.finish();
        terminal::say(&diagnostics::render(&errors, file, self.environment.colour));
        let line = first.span.map_or(1, |span| failure::line_of(&file.text, span.start));
        Err(CliError::reported(&first.message).at(&file.name, line))
    }

    /// Lists warnings, a line for each.
    pub(super) fn list_warnings(&self, warnings: &[Diagnostic], file: &SourceFile) {
        if !warnings.is_empty() && self.request.style.is_for_people() {
            self.progress.finish();
            terminal::say(&diagnostics::list(warnings, file));
        }
    }

    /// Lowers and checks the Dockerfile for each platform; yields the warnings too, each once.
    pub(super) fn lower(
        &self,
        parsed: &Parsed,
        file: &SourceFile,
        work: &Work,
    ) -> Result<(Lowered, Vec<Diagnostic>), CliError> {
        let resolver = self.base_images(work);
        let bases = KnownBases::new(&resolver);
        let (mut graph, mut images, mut proxy_env) = (Graph::new(), Vec::new(), Vec::new());
        let mut warnings = parsed.diagnostics.clone();
        let all: Vec<Options> = self.request.platforms.iter().map(|platform| self.options_for(platform)).collect();
        bases.look_up(&parsed.dockerfile, &all);
        for options in &all {
            let build = kiln_frontend::lower_onto(graph, &parsed.dockerfile, options, &bases);
            let build = build.map_err(|findings| self.not_lowered(&findings, file, work))?;
            add_new(&mut warnings, build.warnings);
            graph = build.graph;
            proxy_env = build.proxy_env;
            images.push(LoweredImage { target: build.target, image: build.image, scans: build.scans, reports: None });
        }
        if let Some(scanner) = Scanner::find(self.request.attest.sbom.as_ref(), &bases)? {
            for image in &mut images {
                image.reports = Some(scanner.add(&mut graph, image.target, &image.scans));
            }
        }
        let ignore = self.ignore(&graph);
        for options in &all {
            add_new(&mut warnings, self.check_build(file, parsed, options, &bases, ignore.as_ref())?);
        }
        Ok((Lowered { graph, images, proxy_env }, warnings))
    }

    fn not_lowered(&self, findings: &[Diagnostic], file: &SourceFile, work: &Work) -> CliError {
        if work.interrupt.is_set() {
            return CliError::interrupted();
        }
        let unexplained = || CliError::bug("the Dockerfile cannot be built, and nothing says why");
        self.refuse(findings, file).err().unwrap_or_else(unexplained)
    }

    pub(super) fn base_images<'a>(&'a self, work: &'a Work) -> glue::BaseImages<'a> {
        let pull = if self.request.pull { Pull::Always } else { Pull::Missing };
        let shows_platform = self.request.platforms.len() > 1;
        glue::BaseImages { images: &work.images, progress: self.progress, pull, shows_platform }
    }

    /// What is left out of the main context, if the build reads it. What is wrong with it is told later, when the
    /// context is opened.
    fn ignore(&self, graph: &Graph) -> Option<Ignore> {
        let is_main = |operation: &Operation| matches!(operation, Operation::Source(Source::Local { name }) if name == MAIN_CONTEXT);
        graph.steps().any(|(_, step)| is_main(&step.operation)).then_some(())?;
        self.request.ignore().ok()
    }

    /// What the frontend is asked for, for the first of the platforms.
    pub(super) fn options(&self) -> Options {
        self.options_for(self.request.first_platform())
    }

    /// What the frontend is asked for, for this platform.
    pub(super) fn options_for(&self, platform: &Platform) -> Options {
        let request = self.request;
        let context = |(name, context): (&String, &NamedContext)| {
            let context = match context {
                NamedContext::Directory(_) | NamedContext::Remote(_) => kiln_frontend::NamedContext::Local,
                NamedContext::Image(image) => kiln_frontend::NamedContext::Image(image.clone()),
                NamedContext::Stage(stage) => kiln_frontend::NamedContext::Stage(stage.clone()),
            };
            (name.clone(), context)
        };
        Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            platform: platform.clone(),
            targeting: request.targeting(),
            build_platform: Platform::host(),
            no_cache: request.no_cache.clone(),
            contexts: request.contexts.iter().map(context).collect(),
            entitlements: request.run.entitlements.clone(),
            network: request.run.network,
            hosts: request.run.hosts.clone(),
            limits: kiln_solver::Limits { ulimits: request.run.ulimits.clone(), cgroup_parent: None },
            shm_size: request.run.shm_size,
            finds_scans: request.attest.sbom.is_some(),
        }
    }
}

/// Adds what is not there yet: what is wrong for one platform mostly is for the others.
pub(super) fn add_new(all: &mut Vec<Diagnostic>, found: Vec<Diagnostic>) {
    for diagnostic in found {
        if !all.contains(&diagnostic) {
            all.push(diagnostic);
        }
    }
}
