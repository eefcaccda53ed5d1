//! What is told of a build, to a display and to the history: groups begin, print, and end.

use std::time::Duration;

use kiln_solver::{Digest, Hit, LogStream};

/// One thing that a build does, a step mostly: its number, counted from 0 in the order of appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(pub(crate) usize);

/// What a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Title {
    /// The line shown to people, such as `[build 2/4] RUN make`.
    pub(crate) name: String,
    /// The definition digest, where the group is a step.
    pub(crate) digest: Option<Digest>,
    /// The definition digests of the steps that it builds on.
    pub(crate) inputs: Vec<Digest>,
    /// The line of the Dockerfile on which it begins, counted from 1.
    pub(crate) line: Option<usize>,
}

impl Title {
    /// Of something that is no step.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// How a group ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did what it should.
    Done,
    /// It had been done before.
    Cached(Hit),
    /// The build was stopped.
    Cancelled,
    /// It failed, for this reason.
    Failed(String),
}

/// Shows what is told, in one style. It reads no clock and writes nothing: time since the build began comes in
/// as an argument, text is taken out.
pub(crate) trait Display: Send {
    /// A group begins. Groups come in the order of their numbers.
    fn start(&mut self, now: Duration, group: Group, title: &Title);
    /// The step of a group printed these bytes, whole lines or not.
    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]);
    /// A line about a group.
    fn note(&mut self, now: Duration, group: Group, note: &str);
    /// A group ends.
    fn end(&mut self, now: Duration, group: Group, end: &End);
    /// The last lines that the step of a group printed, each with its time.
    fn tail(&self, group: Group) -> Vec<String>;
    /// Time goes by.
    fn tick(&mut self, now: Duration);
    /// Whether something waits for [`Display::tick`].
    fn waits(&self) -> bool;
    /// The end of it all, or a pause in which others print: everything held back is shown.
    fn finish(&mut self, now: Duration);
    /// Takes out the text to print.
    fn take(&mut self) -> String;
}
