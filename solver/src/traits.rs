//! What the solver asks of the rest of kiln.

use std::fmt;
use std::time::Duration;

use crate::{Cancel, Digest, Key, Made, Mismatch, Observation, Past, Reason, Step, StepId, Taken};

/// One layer of a tree, named by the digest of its uncompressed archive (OCI: diffID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    /// The digest.
    pub diff_id: Digest,
    /// Where its bytes come from.
    pub origin: Origin,
}

/// Where the bytes of a [`Layer`] come from, should they not be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From a step; only running it again would bring them back.
    Built,
    /// From an image; they can be fetched again.
    Image,
}

/// What a step produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A tree: layers, the lowest first. None at all is the empty tree.
    Layers(Vec<Layer>),
    /// A directory of this machine, by the name of its context.
    Local(String),
}

/// One step to carry out.
pub struct Job<'a> {
    /// Which one.
    pub id: StepId,
    /// What to do.
    pub step: &'a Step,
    /// What its inputs are, by position.
    pub inputs: &'a [Output],
    /// Tells when to stop.
    pub cancel: &'a Cancel,
    /// Is told what the step prints.
    pub observer: &'a dyn Observer,
}

/// Why a step did not succeed.
#[derive(Debug)]
pub enum StepError {
    /// The command ended with this exit code, not 0.
    ExitCode(i32),
    /// The command was killed by the signal of this number.
    Signal(i32),
    /// The command was killed, for it ran longer than this.
    TimedOut(Duration),
    /// Processes of the command were killed for memory.
    OutOfMemory {
        /// How much they were allowed together, in bytes; nothing where they ran into somebody else's limit.
        limit: Option<u64>,
        /// As much as they had at once, in bytes, where that is known.
        peak: Option<u64>,
    },
    /// The build was asked to stop.
    Cancelled,
    /// Anything else.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for StepError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode(code) => write!(formatter, "exit code {code}"),
            Self::Signal(number) => write!(formatter, "killed by signal {number}"),
            Self::TimedOut(time) => write!(formatter, "killed: it ran longer than {time:?}"),
            Self::OutOfMemory { limit, peak } => out_of_memory(formatter, *limit, *peak),
            Self::Cancelled => formatter.write_str("cancelled"),
            Self::Other(error) => error.fmt(formatter),
        }
    }
}

fn out_of_memory(formatter: &mut fmt::Formatter<'_>, limit: Option<u64>, peak: Option<u64>) -> fmt::Result {
    let mebibytes = |bytes: u64| (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0;
    formatter.write_str("killed: it wanted more memory than ")?;
    match limit {
        Some(limit) => write!(formatter, "the limit of {} MiB", mebibytes(limit))?,
        None => formatter.write_str("there is")?,
    }
    match peak {
        Some(peak) => write!(formatter, " (peak {} MiB)", mebibytes(peak)),
        None => Ok(()),
    }
}

impl std::error::Error for StepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Other(error) => error.source(),
            _ => None,
        }
    }
}

impl StepError {
    /// Wraps any error.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// Carries steps out.
pub trait Worker: Sync {
    /// The digest of what `step` sees of its input at this position: two inputs with the same digest must
    /// be the same to the step. `None` where that is not known.
    ///
    /// # Errors
    /// When the input cannot be read, or lacks what the step asks of it.
    fn content(&self, step: &Step, input: usize, output: &Output, cancel: &Cancel)
    -> Result<Option<Digest>, StepError>;

    /// Does it.
    ///
    /// # Errors
    /// Whatever kept it from succeeding; nothing of a failed step may be left behind.
    fn run(&self, job: Job<'_>) -> Result<Made, StepError>;

    /// Whether a step can be run at all: asked, before any step is carried out, of those that will be run in any case.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, _step: &Step) -> Result<(), StepError> {
        Ok(())
    }

    /// Told, before any step is carried out, of one that will be run in any case: what it needs can be begun.
    fn expect(&self, _step: &Step) {}

    /// Of an input that `step` observes fact by fact: the digest of the part of it that counts as a whole all the
    /// same. `None` for an input that is not observed, and so counts as [`Worker::content`] says.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn unobserved(&self, _step: &Step, _input: usize, _output: &Output) -> Result<Option<Digest>, StepError> {
        Ok(None)
    }

    /// The first of the facts of an earlier run of `step` that does not hold for these inputs; `None` where all
    /// hold. Facts that cannot be understood do not hold.
    ///
    /// # Errors
    /// When an input cannot be read.
    fn recheck(
        &self,
        _step: &Step,
        _inputs: &[Output],
        _facts: &[u8],
        _cancel: &Cancel,
    ) -> Result<Option<Mismatch>, StepError> {
        Err(StepError::other("this worker observes nothing"))
    }

    /// Some of what differs between two trees, for people; nothing where that cannot be told.
    fn differences(&self, _was: &Output, _is: &Output) -> Vec<Mismatch> {
        Vec::new()
    }
}

/// What is remembered of a step that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The step.
    pub step: &'a Step,
    /// What it took in.
    pub inputs: &'a [Taken],
    /// What it produced.
    pub outputs: &'a [Output],
}

/// Remembers what steps produced.
pub trait Records: Sync {
    /// What a step with this key produced, if it is known and every byte of it is still to be had.
    ///
    /// # Errors
    /// When the records cannot be read.
    fn find(&self, key: &Key) -> Result<Option<Vec<Output>>, StepError>;

    /// What a step is known to produce by somebody who does not go by its key, which is this; asked where nothing is
    /// found by the key.
    ///
    /// # Errors
    /// When the records cannot be read.
    fn find_step(&self, _id: StepId, _key: &Key) -> Result<Option<Vec<Output>>, StepError> {
        Ok(None)
    }

    /// Remembers what a step produced, under each of these keys.
    ///
    /// # Errors
    /// When the records cannot be written.
    fn save(&self, keys: &[Key], record: &Record<'_>) -> Result<(), StepError>;

    /// The last step carried out that did the same as this one; else the last that is like it
    /// ([`Metadata::likeness`](crate::Metadata::likeness)).
    ///
    /// # Errors
    /// When the records cannot be read.
    fn nearest(&self, _step: &Step) -> Result<Option<Past>, StepError> {
        Ok(None)
    }

    /// Whether something may be remembered of such a step, under whatever key. If not, it will be run in any case.
    ///
    /// # Errors
    /// When the records cannot be read.
    fn may_know(&self, step: &Step) -> Result<bool, StepError> {
        Ok(self.nearest(step)?.is_some_and(|past| past.same_definition))
    }

    /// What steps with this key observed, the last first, as far as every byte of what they made is still to be had.
    ///
    /// # Errors
    /// When the records cannot be read.
    fn find_observations(&self, _key: &Key) -> Result<Vec<Observation>, StepError> {
        Ok(Vec::new())
    }

    /// Remembers what a step with this key observed.
    ///
    /// # Errors
    /// When the records cannot be written.
    fn save_observation(&self, _key: &Key, _step: &Step, _observation: &Observation) -> Result<(), StepError> {
        Ok(())
    }
}

/// Which key a cache entry was found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hit {
    /// The definition key: nothing before the step changed.
    Definition,
    /// The content key: what came before changed, but gave the same files.
    Content,
    /// An observation: what the step looked at is as it was, whatever else changed.
    Observed,
    /// Not looked up: a later step's entry made it unnecessary.
    Unneeded,
}

/// Where a step prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Is told what happens, from any thread.
pub trait Observer: Sync {
    /// The key of a step by its definition; told of every step that the build needs and that has one, before any is
    /// looked up.
    fn keyed(&self, _id: StepId, _key: &Key) {}
    /// A step starts to run.
    fn started(&self, _id: StepId) {}
    /// A step need not run.
    fn cached(&self, _id: StepId, _hit: Hit) {}
    /// Whether to say what hits did not mind, too; why steps ran is always said.
    fn wants_hits_explained(&self) -> bool {
        false
    }
    /// Why a step ran; or, where it was found by content or by observation, what made no difference. Comes before
    /// the end of the step.
    fn explained(&self, _id: StepId, _reasons: &[Reason]) {}
    /// What a step comes to, made now or found in the cache; nothing is told of steps that were not needed. Comes
    /// before the end of the step.
    fn produced(&self, _id: StepId, _outputs: &[Output]) {}
    /// A step printed these bytes, whole lines or not.
    fn log(&self, _id: StepId, _stream: LogStream, _bytes: &[u8]) {}
    /// A step ran and succeeded.
    fn finished(&self, _id: StepId) {}
    /// A step ran and did not succeed, or was stopped.
    fn failed(&self, _id: StepId, _error: &StepError) {}
}
