//! The images of a registry that exists only here.

use std::error::Error;
use std::sync::Mutex;

use kiln_frontend::{BaseImage, Resolver};
use kiln_image::{Reference, spec};
use kiln_solver::{Digest, Platform};

/// Knows a few images, and remembers what it was asked for.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Resolver for Registry {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        self.asked.lock().unwrap().push(format!("{reference} {platform}"));
        let (name, canonical) = match reference.strip_prefix("oci-layout://") {
            Some(directory) => (directory.to_owned(), reference.to_owned()),
            None => {
                let parsed = Reference::parse(reference)?;
                (parsed.familiar(), parsed.to_string())
            }
        };
        let json = config(&name).ok_or_else(|| format!("no such image: `{canonical}`"))?;
        let mut image: spec::Image = serde_json::from_value(json)?;
        image.os.clone_from(&platform.os);
        image.architecture.clone_from(&platform.architecture);
        image.variant.clone_from(&platform.variant);
        let digest = Digest::of(format!("{canonical} {platform}").as_bytes());
        Ok(BaseImage { reference: canonical, digest, image })
    }
}

fn config(name: &str) -> Option<serde_json::Value> {
    let layers = serde_json::json!({"type": "layers", "diff_ids": [Digest::of(b"layer").to_string()]});
    let history = serde_json::json!([{"created": "2026-01-01T00:00:00Z", "created_by": "ADD rootfs /"}]);
    let config = match name {
        "alpine:latest" | "alpine:3" | "golang:1" | "images/alpine" => serde_json::json!({
            "Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"],
        }),
        // Every field of a config, and some that nobody knows.
        "full:latest" => serde_json::json!({
            "User": "app:staff", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin", "LANG=C", "VERSION=0"],
            "Entrypoint": ["/entry"], "Cmd": ["serve"], "Volumes": {"/data": {}}, "WorkingDir": "/srv",
            "Labels": {"a": "1", "b": "2"}, "StopSignal": "SIGINT", "Shell": ["/bin/ash", "-c"],
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000_i64}, "Hostname": "unknown",
        }),
        // No environment, no working directory.
        "bare:latest" => serde_json::json!({}),
        "triggers:latest" => serde_json::json!({
            "OnBuild": ["ARG MODE=release", "COPY . /src", "RUN make $MODE"], "Env": ["PATH=/bin"],
        }),
        "copying:latest" => serde_json::json!({"OnBuild": ["COPY --from=golang:1 /go /go"], "Env": ["PATH=/bin"]}),
        "broken-trigger:latest" => serde_json::json!({"OnBuild": ["FROM x", "COPY --parents a b"]}),
        "empty:latest" => {
            return Some(serde_json::json!({"config": {"Env": ["PATH=/bin"], "Labels": {"from": "empty"}}}));
        }
        _ => return None,
    };
    Some(serde_json::json!({
        "created": "2026-01-01T00:00:00Z", "author": "somebody", "config": config, "rootfs": layers,
        "history": history, "os.features": ["unknown"],
    }))
}
