//! What every command that touches the store begins with: becoming whoever can, and opening it.

use std::sync::Arc;

use kiln_cache::{Store, Whiteouts};
use kiln_executor::rootless::{self, Identity};

use crate::environment::Environment;
use crate::error::{CliError, Kind};

/// An open store and who we are to it.
pub(crate) struct Session {
    /// What this process is.
    pub(crate) identity: Identity,
    /// The store.
    pub(crate) store: Arc<Store>,
}

impl Session {
    /// Moves into a user namespace if need be, which only works while there is a single thread, and opens the
    /// store.
    pub(crate) fn open(environment: &Environment) -> Result<Self, CliError> {
        let identity = rootless::enter().map_err(|error| CliError::from_error(Kind::Environment, &error))?;
        let whiteouts = if identity.in_user_namespace() { Whiteouts::User } else { Whiteouts::Trusted };
        let store = Store::open(&environment.root, whiteouts).map_err(|error| store_error(&error))?;
        Ok(Self { identity, store: Arc::new(store) })
    }
}

/// An error of the store.
pub(crate) fn store_error(error: &kiln_cache::StoreError) -> CliError {
    CliError::from_error(Kind::Environment, error)
}
