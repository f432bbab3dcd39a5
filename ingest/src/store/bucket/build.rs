//! A bucket's client from its URL and options.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use stillwell_schema::archive::{BucketUrl, Scheme};
use stillwell_schema::{ArchiveUrl, StoreOptions};

use super::super::StoreError;
use super::Fault;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client that never asks twice.
pub(super) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..again() }
}

/// A client that asks a few times within [`SILENCE_MAX`](super::SILENCE_MAX); longer outages are the caller's.
pub(super) fn again() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(20) }
}

macro_rules! client {
    ($builder:ident, $key:ident, $url:expr, $options:expr, $retry:expr) => {{
        // How long a request may take depends on its size, see there.
        let timeouts = ClientOptions::new().with_timeout_disabled().with_connect_timeout(CONNECT_WITHIN);
        let mut builder =
            $builder::new().with_url($url.root()).with_client_options(timeouts).with_retry($retry);
        for (name, value) in $options.all() {
            match name.parse::<$key>() {
                Ok(key) => builder = builder.with_config(key, value),
                Err(error) if $options.config.contains_key(&name) => return Err(error),
                // Another program's.
                Err(_) => {}
            }
        }
        Ok(Arc::new(builder.build()?))
    }};
}

pub(super) fn build(
    url: &BucketUrl,
    options: &StoreOptions,
    retry: RetryConfig,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    match url.scheme {
        Scheme::S3 => client!(AmazonS3Builder, AmazonS3ConfigKey, url, options, retry),
        Scheme::Gs => client!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options, retry),
        Scheme::Az => client!(MicrosoftAzureBuilder, AzureConfigKey, url, options, retry),
    }
}

/// Whether the options of an archive's store are right, as far as that shows without asking it.
///
/// # Errors
/// [`StoreError`] that names the option; also where there are options and no store that would take them.
pub fn check_options(url: &ArchiveUrl, options: &StoreOptions) -> Result<(), StoreError> {
    match url {
        ArchiveUrl::Bucket(bucket) => build(bucket, options, once())
            .map(drop)
            .map_err(|error| Fault::from(error).of("open", &bucket.root())),
        ArchiveUrl::Folder(_) if options.config.is_empty() => Ok(()),
        ArchiveUrl::Folder(folder) => Err(Fault::needless().of("open", &folder.display().to_string())),
    }
}
