//! `RUN --mount`: what a command sees beside the files of its stage. `options` reads what is written, `lower` makes
//! the mounts of a step of it; both with the meaning and the rules that BuildKit has.

mod lower;
mod options;

pub(crate) use lower::StepMounts;
pub(crate) use options::{from_of, parse};

use kiln_solver::Sharing;

/// What a mount shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MountType {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

/// One mount as it is meant, before it is known what there is to mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunMount {
    kind: MountType,
    /// A stage, an image or a context; empty for what the type takes by default.
    from: String,
    source: String,
    target: String,
    id: String,
    readonly: Option<bool>,
    required: bool,
    /// In bytes.
    size: Option<u64>,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    /// The variable that a secret goes into.
    env: Option<String>,
}

impl RunMount {
    /// The variable that a secret goes into.
    pub(crate) fn secret_variable(&self) -> Option<&str> {
        self.env.as_deref()
    }

    fn has_owner_or_mode(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some()
    }
}

impl MountType {
    fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}
