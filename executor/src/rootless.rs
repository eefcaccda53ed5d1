//! Running as an ordinary user: moving into a user namespace.
