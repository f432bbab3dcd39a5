//! `[archive_store]`: what the archive's object store needs to know, by the store's own names.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use stillwell_schema::archive::Scheme;

/// Options of the archive's object store. Some are secrets, so they show their names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArchiveStore {
    /// `endpoint`, `region`, `access_key_id` and so on.
    pub options: BTreeMap<String, Value>,
    /// The usual names of the environment, such as `AWS_REGION`.
    #[serde(skip)]
    pub environment: BTreeMap<String, String>,
}

impl fmt::Debug for ArchiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.options.keys()).entries(self.environment.keys()).finish()
    }
}

/// A text; a number or true/false stands for its digits or its word.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// True or false.
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// What of the environment is meant for some store.
pub(super) fn ambient(env: &[(String, String)]) -> BTreeMap<String, String> {
    let begins = [Scheme::S3, Scheme::Gs, Scheme::Az].map(Scheme::environment);
    let known = env.iter().filter(|(name, _)| begins.iter().any(|begin| name.starts_with(begin)));
    known.cloned().collect()
}
