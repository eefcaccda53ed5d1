//! The smallest builds.

use kiln_tests::{World, registry};

#[test]
fn the_registry_serves_busybox() {
    assert!(registry::shared().digest("library/busybox:latest").starts_with("sha256:"));
}

#[test]
fn hello_world() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nRUN echo hello > /hello\n")]);
    let image = world.image(&project, &[]);
    assert_eq!(image.tree().text("hello"), "hello\n");
    assert_eq!(image.last_layer().paths(), ["hello"]);
}
