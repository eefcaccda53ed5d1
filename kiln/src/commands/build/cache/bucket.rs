//! Buckets of S3-compatible stores, in the words of BuildKit and of the environment that Amazon's own tools read.

use std::time::Duration;

use kiln_frontend::parse_duration;
use kiln_image::remote_cache::{Shelf, ShelfOptions};
use kiln_image::{BucketLogin, BucketSettings, Keys};

use super::aws;
use super::request::{Attributes, Variables};
use crate::error::CliError;

/// How many blobs are sent at a time where nothing is said.
const PARALLELISM: usize = 4;
/// How old blobs may get where nothing is said.
const TOUCH_REFRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where in which bucket a cache is.
pub(super) fn shelf(attributes: &mut Attributes, variables: Variables<'_>) -> Result<Shelf, CliError> {
    let mut required = |key: &str, variable: &str| {
        let given = attributes.take(key).or_else(|| from_environment(variable, variables));
        given.ok_or_else(|| CliError::usage(format!("type `s3` needs `{key}=…`, or `{variable}` in the environment")))
    };
    let (bucket, region) = (required("bucket", "AWS_BUCKET")?, required("region", "AWS_REGION")?);
    let endpoint = attributes.take("endpoint_url").or_else(|| aws::endpoint("S3", variables));
    // As BuildKit has it: Amazon's own buckets have hosts of their own.
    let path_style = attributes.flag("use_path_style", false)? && endpoint.is_some();
    let attempts = attributes.take("retry_max_attempts").map(|text| {
        let wrong = || CliError::usage(format!("`retry_max_attempts` is a number from 1 on, not `{text}`"));
        text.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)
    });
    let attempts = attempts.transpose()?;
    // How the pauses between attempts grow is kiln's own matter, and a header that nothing is signed with cannot be wrong.
    if let Some(other) = attributes.take("retry_mode").filter(|mode| !["standard", "adaptive"].contains(&mode.as_str()))
    {
        return Err(CliError::usage(format!("`retry_mode` is `standard` or `adaptive`, not `{other}`")));
    }
    attributes.flag("disable_accept_encoding", false)?;
    let names = attributes.take("name").unwrap_or_else(|| "buildkit".to_owned());
    let login = login(attributes, &region, variables)?;
    Ok(Shelf {
        bucket: BucketSettings { bucket, region, endpoint, path_style, login, attempts },
        prefix: attributes.take("prefix").unwrap_or_default(),
        blobs_prefix: attributes.take("blobs_prefix").unwrap_or_else(|| "blobs/".to_owned()),
        manifests_prefix: attributes.take("manifests_prefix").unwrap_or_else(|| "manifests/".to_owned()),
        names: names.split(';').map(str::to_owned).collect(),
    })
}

fn login(attributes: &mut Attributes, region: &str, variables: Variables<'_>) -> Result<BucketLogin, CliError> {
    let given = ["access_key_id", "secret_access_key", "session_token"].map(|key| attributes.take(key));
    let [id, key, token] = match given {
        [None, None, None] => ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
            .map(|variable| from_environment(variable, variables)),
        given => given,
    };
    match (id, key) {
        (Some(id), Some(key)) => Ok(BucketLogin::Keys(Keys::new(id, key, token))),
        (None, None) => Ok(BucketLogin::Found(Box::new(aws::surroundings(region, variables)))),
        _ => Err(CliError::usage("`access_key_id` and `secret_access_key` need each other")),
    }
}

pub(super) fn from_environment(name: &str, variables: Variables<'_>) -> Option<String> {
    variables(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}

/// How a cache is written there.
pub(super) fn shelf_options(attributes: &mut Attributes) -> Result<ShelfOptions, CliError> {
    let parallelism =
        match attributes.take("upload_parallelism") {
            None => PARALLELISM,
            Some(text) => text.parse().ok().filter(|number| (1..=64).contains(number)).ok_or_else(|| {
                CliError::usage(format!("`upload_parallelism` is a number from 1 to 64, not `{text}`"))
            })?,
        };
    let touch_refresh = match attributes.take("touch_refresh") {
        None => TOUCH_REFRESH,
        Some(text) => {
            let nanos = parse_duration(&text).and_then(|nanos| u64::try_from(nanos).ok());
            let wrong = || CliError::usage(format!("`touch_refresh` is a time such as `24h`, not `{text}`"));
            Duration::from_nanos(nanos.ok_or_else(wrong)?)
        }
    };
    Ok(ShelfOptions { parallelism, touch_refresh })
}
