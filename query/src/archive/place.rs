//! Where the archive lies: a folder or a bucket, read through one interface.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Error, ObjectStore, RetryConfig};
use stillwell_schema::archive::{BucketUrl, Scheme};
use stillwell_schema::{ArchiveUrl, StoreOptions};

use crate::error::QueryError;
use crate::settings::QuerySettings;

/// The store whose root is the archive's. A folder is created where it is missing; a bucket is not asked yet.
pub(crate) fn open(settings: &QuerySettings) -> Result<Arc<dyn ObjectStore>, QueryError> {
    let opened = match &settings.archive {
        ArchiveUrl::Folder(folder) => std::fs::create_dir_all(folder)
            .map_err(|error| error.to_string())
            .and_then(|()| LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string()))
            .map(|store| Arc::new(store) as _),
        ArchiveUrl::Bucket(bucket) => {
            bucket_store(bucket, &settings.archive_options).map_err(|error| error.to_string())
        }
    };
    opened.map_err(|error| {
        QueryError::Archive(format!("cannot open the archive {}: {error}", settings.archive))
    })
}

macro_rules! client {
    ($builder:ident, $key:ident, $url:expr, $options:expr) => {{
        let mut builder = $builder::new().with_url($url.root()).with_retry(retry());
        for (name, value) in $options.all() {
            match name.parse::<$key>() {
                Ok(key) => builder = builder.with_config(key, value),
                Err(error) if $options.config.contains_key(&name) => return Err(error),
                // Another program's.
                Err(_) => {}
            }
        }
        Arc::new(builder.build()?)
    }};
}

fn bucket_store(url: &BucketUrl, options: &StoreOptions) -> object_store::Result<Arc<dyn ObjectStore>> {
    let store: Arc<dyn ObjectStore> = match url.scheme {
        Scheme::S3 => client!(AmazonS3Builder, AmazonS3ConfigKey, url, options),
        Scheme::Gs => client!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options),
        Scheme::Az => client!(MicrosoftAzureBuilder, AzureConfigKey, url, options),
    };
    Ok(if url.prefix.is_empty() {
        store
    } else {
        Arc::new(PrefixStore::new(store, Path::from(&*url.prefix)))
    })
}

/// A store that is away for longer is said to be away: whoever asks may ask again.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) }
}

/// Whether there is no such object or folder. A 404 may also stand for a bucket or a user that the store does not
/// know, which is no empty archive.
pub(super) fn is_absent(error: &Error) -> bool {
    let text = error.to_string();
    let code = text.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once('<')?.0));
    matches!(error, Error::NotFound { .. }) && matches!(code, None | Some("NoSuchKey" | "BlobNotFound"))
}
