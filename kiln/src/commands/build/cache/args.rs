//! The flags about caches elsewhere, as they were typed.

/// Caches elsewhere.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct CacheArgs {
    /// Find steps in this cache, too: `type=registry,ref=NAME`, `type=local,src=DIR`, `type=s3,bucket=NAME`, `type=gha`,
    /// or NAME for a registry; may be repeated
    ///
    /// Only what is needed of it is fetched. One that cannot be read costs a warning. An image that was built with
    /// `--cache-to type=inline` is a cache, too.
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub(in crate::commands::build) from: Vec<String>,

    /// Write what the steps came to into this cache: `type=registry,ref=NAME`, `type=local,dest=DIR`,
    /// `type=s3,bucket=NAME`, `type=gha` or `type=inline`, with `mode=max` for all steps and not those of the image alone; may be
    /// repeated
    ///
    /// Of all but inline: `mode`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes`,
    /// `image-manifest`, `ignore-error`.
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub(in crate::commands::build) to: Vec<String>,
}
