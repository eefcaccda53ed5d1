//! What is told of a build, to a display and to the history: groups begin, print, and end.

use std::time::Duration;

pub(crate) use kiln_cache::history::{StepEnd as End, StepTitle as Title};
use kiln_solver::LogStream;

/// One thing that a build does, a step mostly: its number, counted from 0 in the order of appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group(pub(crate) usize);

/// Shows what is told, in one style. It reads no clock and writes nothing: time since the build began comes in
/// as an argument, text is taken out.
pub(crate) trait Display: Send {
    /// A group begins. Groups come in the order of their numbers.
    fn start(&mut self, now: Duration, group: Group, title: &Title);
    /// The step of a group printed these bytes, whole lines or not.
    fn output(&mut self, now: Duration, group: Group, stream: LogStream, bytes: &[u8]);
    /// A line about a group.
    fn note(&mut self, now: Duration, group: Group, note: &str);
    /// So many of so many bytes of a group have been moved.
    fn advance(&mut self, _now: Duration, _group: Group, _bytes: u64, _total: u64) {}
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
