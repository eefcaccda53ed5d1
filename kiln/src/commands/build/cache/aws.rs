//! What the environment says of keys for Amazon's services, in the variables of their SDKs.

use std::path::PathBuf;

use kiln_image::{AwsSurroundings, Secret, WebIdentity};

use super::bucket::from_environment;
use super::request::Variables;

/// Where a container of ECS is told of its keys.
const CONTAINER: &str = "http://169.254.170.2";
/// Where a machine of EC2 is.
const MACHINE: &str = "http://169.254.169.254";

/// Where keys may be found.
pub(super) fn surroundings(region: &str, variables: Variables<'_>) -> AwsSurroundings {
    let get = |name: &str| from_environment(name, variables);
    let path = |name: &str| variables(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below_home = |name: &str| path("HOME").map(|home| home.join(".aws").join(name));
    let web_identity = path("AWS_WEB_IDENTITY_TOKEN_FILE")
        .zip(get("AWS_ROLE_ARN"))
        .map(|(token_file, role)| WebIdentity { token_file, role, session: get("AWS_ROLE_SESSION_NAME") });
    let relative = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let is_machine_left_out = get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let machine = get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| MACHINE.to_owned());
    AwsSurroundings {
        region: region.to_owned(),
        profile: get("AWS_PROFILE").or_else(|| get("AWS_DEFAULT_PROFILE")),
        credentials_file: path("AWS_SHARED_CREDENTIALS_FILE").or_else(|| below_home("credentials")),
        config_file: path("AWS_CONFIG_FILE").or_else(|| below_home("config")),
        web_identity,
        sts_endpoint: endpoint("STS", variables),
        container_url: relative.or_else(|| get("AWS_CONTAINER_CREDENTIALS_FULL_URI")),
        container_token: get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
        container_token_file: path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        metadata_url: (!is_machine_left_out).then_some(machine),
    }
}

/// The URL of one of their services, where it is not Amazon's own.
pub(super) fn endpoint(service: &str, variables: Variables<'_>) -> Option<String> {
    let get = |name: &str| from_environment(name, variables);
    if get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    get(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| get("AWS_ENDPOINT_URL"))
}
