//! The helper: a small process that starts, watches and kills commands.

/// The helper's whole life. kiln's `main` calls it, first thing and with a single thread, when its `argv[0]` is
/// [`super::HELPER_NAME`].
pub fn helper_main() -> ! {
    todo!()
}
