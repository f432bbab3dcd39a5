//! The archive in a bucket: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! A store answers a write when it is durable, and reads see it from then on. Stores that promise less
//! (eventual consistency) are no place for an archive.
//!
//! **Writes are tried once.** Whether a write whose answer is lost took effect is for the commit protocol to find
//! out, so nothing here asks again behind its back. Reads are asked again a few times, for they change nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use stillwell_schema::StoreOptions;
use stillwell_schema::archive::BucketUrl;
use tokio::runtime::{self, Runtime};

use super::{ArchiveStore, Creation, Listed, StoreError, is_inside};

mod build;
mod fault;

pub use build::check_options;
use fault::Fault;

/// The longest silence of a store. A request beyond it is given up, its outcome unknown.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// An upload may take as long as this many bytes a second take, a slow line's speed. Were the time for one fixed,
/// a file too large for it would never arrive.
const UPLOAD_BYTES_PER_SECOND: u64 = 256 << 10;

/// A bucket, or what lies below a prefix of one.
pub struct BucketStore {
    url: BucketUrl,
    /// Tries once.
    writes: Arc<dyn ObjectStore>,
    /// Tries again.
    reads: Arc<dyn ObjectStore>,
    /// Moves the bytes, so that the store's callers need no runtime. None once dropped.
    runtime: Option<Runtime>,
}

impl BucketStore {
    /// Opens a bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError`], permanent, where the options are not right.
    pub fn open(url: &BucketUrl, options: &StoreOptions) -> Result<Self, StoreError> {
        let wrong = |error| Fault::from(error).of("open", &url.root());
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("archive-store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::new("open", url.root(), error))?;
        Ok(Self {
            url: url.clone(),
            writes: build::build(url, options, build::once()).map_err(wrong)?,
            reads: build::build(url, options, build::again()).map_err(wrong)?,
            runtime: Some(runtime),
        })
    }

    /// Runs a request to its end on this thread, which may block.
    fn run<T>(
        &self,
        action: &'static str,
        path: &str,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else { unreachable!("it is taken by drop alone") };
        runtime.block_on(request).map_err(|fault| fault.of(action, path))
    }

    /// Where an object or folder of the archive lies in the bucket; the empty path is the archive's root.
    fn full(&self, path: &str) -> Result<Path, Fault> {
        if !is_inside(path) {
            return Err(Fault::outside());
        }
        let joined = [self.url.prefix.as_str(), path].into_iter().filter(|part| !part.is_empty());
        Ok(Path::parse(joined.collect::<Vec<_>>().join("/")).map_err(object_store::Error::from)?)
    }

    async fn upload(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<(), Fault> {
        let (full, within) = (self.full(path)?, upload_within(bytes.len()));
        let (payload, options) = (PutPayload::from(bytes), PutOptions::from(mode));
        answer(within, self.writes.put_opts(&full, payload, options)).await.map(drop)
    }

    async fn create(&self, path: &str, bytes: Bytes) -> Result<Creation, Fault> {
        match self.upload(path, bytes, PutMode::Create).await {
            Ok(()) => Ok(Creation::Created),
            Err(fault) if fault.exists(self.url.scheme) => Ok(Creation::AlreadyExists),
            Err(fault) => Err(fault),
        }
    }

    async fn download(&self, path: &str) -> Result<Option<Vec<u8>>, Fault> {
        let full = self.full(path)?;
        let found = match answer(SILENCE_MAX, self.reads.get(&full)).await {
            Err(fault) if fault.is_absent() => return Ok(None),
            found => found?,
        };
        let whole = usize::try_from(found.meta.size).unwrap_or_default();
        let (mut bytes, mut parts) = (Vec::with_capacity(whole), found.into_stream());
        while let Some(part) = answer(SILENCE_MAX, parts.try_next()).await? {
            bytes.extend_from_slice(&part);
        }
        if bytes.len() == whole { Ok(Some(bytes)) } else { Err(Fault::cut(bytes.len(), whole)) }
    }

    async fn is_there(&self, path: &str) -> Result<bool, Fault> {
        let full = self.full(path)?;
        match answer(SILENCE_MAX, self.reads.head(&full)).await {
            Err(fault) if fault.may_be_absent() => Ok(false),
            found => found.map(|_| true),
        }
    }

    async fn walk(&self, folder: &str, after: &str, each: &mut dyn FnMut(Listed)) -> Result<(), Fault> {
        let full = self.full(folder)?;
        let mut objects = match after {
            "" => self.reads.list(Some(&full)),
            after => self.reads.list_with_offset(Some(&full), &self.full(after)?),
        };
        while let Some(object) = answer(SILENCE_MAX, objects.next().map(Ok)).await? {
            let object = object?;
            let Some(name) = name_in(&full, &object.location) else { continue };
            let modified_us = object.last_modified.timestamp_micros();
            each(Listed { path: format!("{folder}/{name}"), bytes: object.size, modified_us });
        }
        Ok(())
    }

    async fn folder_names(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let full = self.full(folder)?;
        let found = answer(SILENCE_MAX, self.reads.list_with_delimiter(Some(&full))).await?;
        let names = found.common_prefixes.iter().filter_map(|path| path.filename());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn remove(&self, path: &str) -> Result<(), Fault> {
        let full = self.full(path)?;
        match answer(SILENCE_MAX, self.writes.delete(&full)).await {
            Err(fault) if !fault.may_be_absent() => Err(fault),
            _ => Ok(()),
        }
    }
}

impl ArchiveStore for BucketStore {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_shared(path, &Bytes::copy_from_slice(bytes))
    }

    fn put_shared(&self, path: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.run("write", path, self.upload(path, bytes.clone(), PutMode::Overwrite))
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.run("create", path, self.create(path, Bytes::copy_from_slice(bytes)))
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.run("read", path, self.download(path))
    }

    fn exists(&self, path: &str) -> Result<bool, StoreError> {
        self.run("look for", path, self.is_there(path))
    }

    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        self.run("list", folder, self.walk(folder, "", each))
    }

    fn visit_after(&self, folder: &str, after: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        self.run("list", folder, self.walk(folder, after, each))
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.run("list", folder, self.folder_names(folder))
    }

    fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.run("delete", path, self.remove(path))
    }
}

/// The clients hold secrets.
impl fmt::Debug for BucketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketStore").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for BucketStore {
    /// A runtime must not wait for its end on a thread of another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The answer to a request, within a time.
async fn answer<T>(
    within: Duration,
    request: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(within, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Fault::silent(within)),
    }
}

fn upload_within(bytes: usize) -> Duration {
    SILENCE_MAX + Duration::from_secs(bytes as u64 / UPLOAD_BYTES_PER_SECOND)
}

/// The name of an object directly in a folder.
fn name_in<'a>(folder: &Path, object: &'a Path) -> Option<&'a str> {
    let rest = object.as_ref().strip_prefix(folder.as_ref())?;
    let name = if folder.as_ref().is_empty() { rest } else { rest.strip_prefix('/')? };
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests;
