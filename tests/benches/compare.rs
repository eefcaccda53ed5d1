//! Times kiln against buildah.
fn main() {}
