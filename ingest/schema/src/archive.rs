//! Where an archive lies: a folder, or a prefix in a bucket of an object store.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where an archive lies.
///
/// ```
/// use stillwell_schema::ArchiveUrl;
/// let url: ArchiveUrl = "s3://plant/line-1".parse().unwrap();
/// assert_eq!(url.to_string(), "s3://plant/line-1");
/// assert_eq!("/var/lib/archive".parse::<ArchiveUrl>().unwrap().folder().unwrap().to_str(), Some("/var/lib/archive"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArchiveUrl {
    /// A folder of a file system; a path, or `file://` and an absolute one.
    Folder(PathBuf),
    /// A bucket, or a part of one.
    Bucket(BucketUrl),
}

/// A bucket of an object store, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    /// Whose.
    pub scheme: Scheme,
    /// The bucket, or the container.
    pub bucket: String,
    /// The path that all objects' paths follow, without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
}

/// The object stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `s3://`: Amazon S3, and what speaks its protocol.
    S3,
    /// `gs://`: Google Cloud Storage.
    Gs,
    /// `az://`: Azure Blob Storage.
    Az,
}

impl Scheme {
    /// As it stands before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        }
    }

    /// How the names of the environment begin that are this store's.
    #[must_use]
    pub fn environment(self) -> &'static str {
        match self {
            Self::S3 => "AWS_",
            Self::Gs => "GOOGLE_",
            Self::Az => "AZURE_",
        }
    }
}

impl BucketUrl {
    /// The bucket's own URL.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{}://{}", self.scheme.name(), self.bucket)
    }
}

/// Why a text is no archive's URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArchiveUrlError {
    /// It is empty.
    #[error("an archive needs a place: a folder, or s3://bucket/prefix")]
    Empty,
    /// There is no such store.
    #[error("{0}:// is no store of archives; there are a folder's path, file://, s3://, gs:// and az://")]
    Scheme(String),
    /// The rest is not a bucket and a path.
    #[error("{url:?} is not {scheme}://bucket/prefix: {why}", scheme = .scheme.name())]
    Bucket {
        /// The text.
        url: String,
        /// Its store.
        scheme: Scheme,
        /// What is wrong.
        why: &'static str,
    },
    /// `file://` with a host, or a relative path.
    #[error("{0:?} must be file:// and an absolute path, such as file:///var/lib/archive")]
    File(String),
}

impl ArchiveUrl {
    /// The folder, where it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&std::path::Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Bucket(_) => None,
        }
    }
}

impl FromStr for ArchiveUrl {
    type Err = ArchiveUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = match text.split_once("://") {
            None if text.is_empty() => return Err(ArchiveUrlError::Empty),
            None => return Ok(Self::Folder(text.into())),
            Some(("file", path)) if path.starts_with('/') => return Ok(Self::Folder(path.into())),
            Some(("file", _)) => return Err(ArchiveUrlError::File(text.to_owned())),
            Some(("s3", rest)) => (Scheme::S3, rest),
            Some(("gs", rest)) => (Scheme::Gs, rest),
            Some(("az", rest)) => (Scheme::Az, rest),
            Some((other, _)) => return Err(ArchiveUrlError::Scheme(other.to_owned())),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=".contains(&b));
        let why = if bucket.is_empty() || !is_plain(bucket) {
            "a bucket's name has letters, digits, dots and dashes; keys and options belong into [archive_store]"
        } else if !prefix.is_empty() && prefix.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        {
            "no part of a prefix is empty or begins with a dot"
        } else if !prefix.split('/').all(is_plain) {
            "a prefix has letters, digits and the signs - _ . = only"
        } else {
            let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
            return Ok(Self::Bucket(BucketUrl { scheme, bucket, prefix }));
        };
        Err(ArchiveUrlError::Bucket { url: text.to_owned(), scheme, why })
    }
}

impl fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket(bucket) if bucket.prefix.is_empty() => f.write_str(&bucket.root()),
            Self::Bucket(bucket) => write!(f, "{}/{}", bucket.root(), bucket.prefix),
        }
    }
}

impl TryFrom<String> for ArchiveUrl {
    type Error = ArchiveUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ArchiveUrl> for String {
    fn from(url: ArchiveUrl) -> Self {
        url.to_string()
    }
}

/// What an object store needs to know besides its URL: endpoint, region, credentials. They hold secrets, so
/// they show their names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// By the store's own names, such as `endpoint`; each must be one that it knows.
    pub config: BTreeMap<String, String>,
    /// From the environment, such as `AWS_REGION`; names that the store does not know are other programs'.
    pub environment: BTreeMap<String, String>,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("config", &self.config.keys())
            .field("environment", &self.environment.keys())
            .finish()
    }
}

impl StoreOptions {
    /// Names and values, those of the environment in lower case and first, so that the config's lie over them.
    pub fn all(&self) -> impl Iterator<Item = (String, &String)> {
        let environment = self.environment.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        environment.chain(self.config.iter().map(|(name, value)| (name.clone(), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_and_read_back_as_written() {
        let bucket = |scheme, bucket: &str, prefix: &str| {
            ArchiveUrl::Bucket(BucketUrl { scheme, bucket: bucket.into(), prefix: prefix.into() })
        };
        for (text, expected, shown) in [
            ("archive", ArchiveUrl::Folder("archive".into()), "archive"),
            ("/a/b c", ArchiveUrl::Folder("/a/b c".into()), "/a/b c"),
            ("file:///a/b", ArchiveUrl::Folder("/a/b".into()), "/a/b"),
            ("s3://plant", bucket(Scheme::S3, "plant", ""), "s3://plant"),
            ("s3://plant/", bucket(Scheme::S3, "plant", ""), "s3://plant"),
            ("s3://plant/line-1/a/", bucket(Scheme::S3, "plant", "line-1/a"), "s3://plant/line-1/a"),
            ("gs://plant/x", bucket(Scheme::Gs, "plant", "x"), "gs://plant/x"),
            ("az://plant/x", bucket(Scheme::Az, "plant", "x"), "az://plant/x"),
        ] {
            let url: ArchiveUrl = text.parse().unwrap();
            assert_eq!((&url, &*url.to_string()), (&expected, shown), "{text}");
            assert_eq!(shown.parse::<ArchiveUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "a folder"),
            ("http://host/bucket", "s3://"),
            ("file://host/a", "absolute"),
            ("s3://", "bucket's name"),
            ("s3://key:secret@plant", "[archive_store]"),
            ("s3://plant?region=x", "[archive_store]"),
            ("s3://plant/a//b", "empty"),
            ("s3://plant/../b", "dot"),
            ("s3://plant/a b", "letters"),
        ] {
            let error = text.parse::<ArchiveUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn options_show_no_value_and_the_config_comes_last() {
        let options = StoreOptions {
            config: [("region".to_owned(), "here".to_owned())].into(),
            environment: [("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())].into(),
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hush"), "{shown}");
        let names: Vec<_> = options.all().map(|(name, _)| name).collect();
        assert_eq!(names, ["aws_secret_access_key", "region"]);
    }
}
