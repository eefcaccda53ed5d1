//! The system calls that rustix does not have, each behind a safe face. All `unsafe` of this crate is here.
