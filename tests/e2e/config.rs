//! The image's configuration.

use kiln_tests::World;
use kiln_tests::layout::{self, Layout};
use serde_json::{Value, json};

#[test]
fn it_is_complete() {
    let world = World::new();
    let project = world.project(&[(
        "Dockerfile",
        "FROM busybox\nENV A=1\nRUN echo x > /x\nCOPY Dockerfile /\nLABEL l=v\nEXPOSE 80\nCMD [\"sh\"]\n",
    )]);
    let image = world.image(&project, &[]);
    assert_eq!(image.config["architecture"], layout::architecture());
    assert_eq!(image.config["os"], "linux");
    assert!(image.config["created"].is_string());
    assert_eq!(image.config["rootfs"]["type"], "layers");
    assert_eq!(image.field("ExposedPorts"), &json!({ "80/tcp": {} }));
    let env = image.field("Env").as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.iter().any(|value| value.as_str().unwrap().starts_with("PATH=")));

    let history = image.config["history"].as_array().unwrap();
    let said: Vec<_> = history.iter().map(|entry| entry["created_by"].as_str().unwrap()).collect();
    assert_eq!(said[0], "a test made this", "the history of the base comes first");
    assert_eq!(said.len(), 7, "{said:?}");
    assert!(said[2].contains("echo x > /x"), "{said:?}");
    let with_layer = history.iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(with_layer, image.layers.len(), "{history:#?}");
    assert!(history.iter().all(|entry| entry["created"].is_string()), "{history:#?}");
}

#[test]
fn everything_of_the_base_is_inherited() {
    let world = World::new();
    let inner = json!({
        "User": "33", "Env": ["PATH=/bin", "INHERITED=yes"], "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id"],
        "WorkingDir": "/var/www", "Labels": { "a": "b" }, "ExposedPorts": { "53/udp": {} }, "Volumes": { "/v": {} },
        "StopSignal": "SIGINT", "Shell": ["/bin/sh", "-e", "-c"],
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5_000_000_000_u64 },
        "SomethingOfTheFuture": { "deep": [1, 2.5, "three"] }
    });
    let mut base = layout::config(inner.clone());
    base["os.features"] = json!(["future"]);
    base["author"] = json!("someone");
    base["com.example.unknown"] = json!({ "kept": true });
    let image = build_on(&world, base, "LABEL c=d\n");
    for (field, value) in inner.as_object().unwrap() {
        if field != "Labels" {
            assert_eq!(image.field(field), value, "{field}");
        }
    }
    assert_eq!(image.field("Labels"), &json!({ "a": "b", "c": "d" }));
    assert_eq!(image.config["com.example.unknown"], json!({ "kept": true }), "{:#}", image.config);
    assert_eq!(image.config["os.features"], json!(["future"]));
}

fn build_on(world: &World, base: Value, instructions: &str) -> kiln_tests::Image {
    let layout = Layout::create(world.path().join("base"));
    let layer = layout.layer(&layout::archive(&[("file", "text")]));
    let manifest = layout.image(base, &[layer]);
    layout.tag(&[("latest", &manifest)]);
    let project = world.project(&[("Dockerfile", &format!("FROM base\n{instructions}"))]);
    let context = format!("base=oci-layout://{}", layout.path().display());
    world.image(&project, &["--build-context", &context])
}

#[test]
fn a_base_without_history_or_config_will_do() {
    let world = World::new();
    let base = json!({ "architecture": layout::architecture(), "os": "linux" });
    let image = build_on(&world, base, "ENV x=y\n");
    assert_eq!(image.tree().text("file"), "text");
    assert!(image.field("Env").as_array().unwrap().contains(&json!("x=y")));
}

#[test]
fn labels_of_the_command_line_win() {
    let world = World::new();
    let project = world.project(&[("Dockerfile", "FROM busybox\nLABEL a=file b=file\n")]);
    let image = world.image(&project, &["--label", "a=flag", "--label", "c=x=y", "--label", "d="]);
    assert_eq!(image.field("Labels"), &json!({ "a": "flag", "b": "file", "c": "x=y", "d": "" }));
}
