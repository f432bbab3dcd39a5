//! Schemas of a Confluent schema registry, or of any that speaks its REST interface (Karapace, Apicurio's `ccompat`).
//!
//! Decoders run on compute threads, which do no network I/O: [`Schemas::lookup`] answers at once, from memory. A schema
//! that is not there is put on the list of a thread that fetches, each id once at a time however many lanes want
//! it, and the lane waits with its record until it has come ([`crate::waiting`]).
//!
//! | answer | what it means | for how long |
//! |---|---|---|
//! | 200 | the schema; an id never changes its meaning | for ever |
//! | 404 with error code 40403, twice a second apart | there is no such schema: a data error | 30 s |
//! | 404 with 40401 or 40402, twice a second apart, for what a schema refers to | the schema cannot be used: a data error | 30 s |
//! | a schema of more than 4 MiB, or that refers to more than 256 others | the same | 30 s |
//! | another status, no answer, one that is no schema | the registry is away: lanes wait | asked again after a second |
//!
//! A 404 without that code comes from something that is no registry, such as a proxy or a wrong path, and says
//! nothing of the schema. A wrong password is something that an operator mends, so lanes wait for that as well.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

mod answer;
mod http;

use answer::Fetched;
use http::{Base, Client};

/// How long it is believed that there is no schema of an id, or none that can be used: it may be registered a moment
/// after its first record, and what it refers to may be restored.
const ABSENT: Duration = Duration::from_secs(30);
/// A registry that is away is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Ids without a schema that can be used that are remembered: whoever writes a topic can name any.
const ABSENT_MAX: usize = 10_000;
/// Requests at once.
const REQUESTS_MAX: usize = 4;

/// How a registry is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// `http[s]://host[:port][/path]`, several of one registry separated by commas.
    pub url: String,
    /// User of HTTP basic authentication; none where empty.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// PEM file of the authorities to trust in the place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take.
    pub timeout: Duration,
}

/// A password or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Itself.
    Plain(String),
    /// A file, read for every request, so that it may be replaced.
    File(PathBuf),
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, user, ca_file, timeout, .. } = self;
        f.debug_struct("RegistrySettings")
            .field("url", url)
            .field("user", user)
            .field("ca_file", ca_file)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

impl RegistrySettings {
    /// Looks whether the address is right, without a look at the files, which another machine may have.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check(&self) -> Result<(), RegistryError> {
        Base::all(&self.url).map(|_| ())
    }
}

/// Why a registry cannot be used.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The address is none.
    #[error("the schema registry's url {url:?} is not right: {message}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// The authorities cannot be read.
    #[error("the schema registry's ca_file {file} cannot be used: {message}")]
    Ca {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No authority is known.
    #[error("the system has no certificates of authorities: name them with ca_file")]
    NoAuthorities,
}

/// A registered schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its language.
    pub kind: Kind,
    /// Its text.
    pub text: String,
    /// The texts that it refers to, each after those that it refers to itself.
    pub references: Vec<String>,
}

/// The language of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Avro.
    Avro,
    /// Protobuf.
    Protobuf,
    /// Another, by its name.
    Other(String),
}

/// Why there is no schema for now or for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The registry says that there is none of that id.
    Unknown,
    /// What the registry has of it cannot be used, with the reason; asking again soon helps nobody.
    Unusable(String),
    /// It is not here yet, with the reason.
    Away(String),
}

/// Why the registry gave no schema.
enum Failure {
    /// It may give one later.
    Away(String),
    /// It will give none that can be used until somebody changes what is registered.
    Unusable(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Away(reason)
    }
}

/// The schemas of a registry, shared by all lanes; cheap to clone.
#[derive(Clone)]
pub struct Schemas(Arc<Shared>);

struct Shared {
    settings: RegistrySettings,
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    entries: HashMap<u32, Entry>,
    absent: usize,
    /// To the thread that fetches, once it runs.
    wanted: Option<UnboundedSender<u32>>,
}

enum Entry {
    Here(Arc<Registered>),
    Absent { miss: Miss, until: Instant },
    Asked { before: Option<String> },
    Away { reason: String, again: Instant },
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.settings.fmt(f)
    }
}

impl PartialEq for Schemas {
    fn eq(&self, other: &Self) -> bool {
        self.0.settings == other.0.settings
    }
}

impl Eq for Schemas {}

impl Schemas {
    /// Of the registry that `settings` name. Nothing is asked yet.
    ///
    /// # Errors
    /// Where the address or the authorities are not right.
    pub fn open(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let client = Client::new(&settings)?;
        Ok(Self(Arc::new(Shared { settings, client, known: Mutex::default() })))
    }

    /// The schema of that id, if it is here; if not, it is sent for.
    ///
    /// # Errors
    /// [`Miss`].
    pub fn lookup(&self, id: u32) -> Result<Arc<Registered>, Miss> {
        let shared = &self.0;
        let mut known = shared.known();
        let now = Instant::now();
        let before = match known.entries.get(&id) {
            Some(Entry::Here(schema)) => return Ok(Arc::clone(schema)),
            Some(Entry::Absent { miss, until }) if now < *until => return Err(miss.clone()),
            Some(Entry::Asked { before }) => return Err(Miss::Away(shared.not_yet(id, before.as_ref()))),
            Some(Entry::Away { reason, again }) if now < *again => {
                return Err(Miss::Away(shared.not_yet(id, Some(reason))));
            }
            Some(Entry::Away { reason, .. }) => Some(reason.clone()),
            Some(Entry::Absent { .. }) => {
                known.absent -= 1;
                None
            }
            None => None,
        };
        let reason = shared.not_yet(id, before.as_ref());
        match shared.send_for(&mut known, id) {
            Ok(()) => {
                known.entries.insert(id, Entry::Asked { before });
                Err(Miss::Away(reason))
            }
            Err(error) => {
                known.entries.remove(&id);
                Err(Miss::Away(error))
            }
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in it is half done between two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_yet(&self, id: u32, reason: Option<&String>) -> String {
        match reason {
            Some(reason) => format!("schema {id} is not here yet: {reason}"),
            None => format!("schema {id} is not here yet; {} is asked", self.settings.url),
        }
    }

    /// Puts `id` on the list of the thread that fetches, which is started if it does not run.
    fn send_for(self: &Arc<Self>, known: &mut Known, id: u32) -> Result<(), String> {
        if let Some(wanted) = &known.wanted
            && wanted.send(id).is_ok()
        {
            return Ok(());
        }
        let (wanted, ids) = unbounded_channel();
        let shared = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("schema-registry".to_owned());
        thread
            .spawn(move || run(&shared, ids))
            .map_err(|error| format!("no thread can be started to ask the schema registry: {error}"))?;
        // It listens as long as this sender is there.
        let sent = wanted.send(id).map_err(|_| "the schema registry's thread has ended".to_owned());
        known.wanted = Some(wanted);
        sent
    }

    fn store(&self, id: u32, fetched: Result<Fetched, Failure>) {
        let mut known = self.known();
        let entry = match fetched {
            Ok(Fetched::Schema(schema)) => Entry::Here(Arc::new(schema)),
            Ok(Fetched::Absent) => known.absent(Miss::Unknown),
            Err(Failure::Unusable(reason)) => {
                tracing::warn!(schema = id, %reason, "a schema of the registry cannot be used");
                known.absent(Miss::Unusable(reason))
            }
            Err(Failure::Away(reason)) => {
                let before = known.entries.get(&id);
                if !matches!(before, Some(Entry::Asked { before: Some(before) }) if *before == reason) {
                    tracing::warn!(schema = id, %reason, "the schema registry gives no schema");
                }
                Entry::Away { reason, again: Instant::now() + AGAIN }
            }
        };
        known.entries.insert(id, entry);
    }
}

impl Known {
    fn absent(&mut self, miss: Miss) -> Entry {
        if self.absent == ABSENT_MAX {
            self.entries.retain(|_, entry| !matches!(entry, Entry::Absent { .. }));
            self.absent = 0;
        }
        self.absent += 1;
        Entry::Absent { miss, until: Instant::now() + ABSENT }
    }
}

/// Fetches what is asked for until nobody is left who asks.
fn run(shared: &Weak<Shared>, mut ids: UnboundedReceiver<u32>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the schema registry cannot be asked");
            while let Some((id, shared)) = ids.blocking_recv().and_then(|id| Some((id, shared.upgrade()?))) {
                let reason = format!("the schema registry cannot be asked: {error}");
                shared.store(id, Err(Failure::Away(reason)));
            }
            return;
        }
    };
    let slots = Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    runtime.block_on(async {
        while let Some(id) = ids.recv().await {
            let (shared, slots) = (Weak::clone(shared), Arc::clone(&slots));
            tokio::spawn(async move {
                // The semaphore is never closed.
                let _slot = slots.acquire_owned().await;
                let Some(client) = shared.upgrade().map(|shared| shared.client.clone()) else { return };
                let fetched = answer::fetch(&client, id).await;
                if let Some(shared) = shared.upgrade() {
                    shared.store(id, fetched);
                }
            });
        }
    });
}
