//! The form of every object that is evidence: a body, its signature, and one possible spelling.
//!
//! An object is one line of JSON, `{"body":{…},"signature":"<hex>"}`, exactly as this module writes it: fields in
//! the order of their type, no spaces, integers only, lower-case hex. The signature is Ed25519 over the body's
//! bytes, by the key that the body names. Objects of one kind form chains: each body names the SHA-256 of its
//! predecessor's whole object, [`GENESIS`] for the first.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The `previous` of the first object of a chain.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a body has to say of itself, to be signed.
pub trait Body: Serialize + DeserializeOwned {
    /// The version of this kind's format.
    const FORMAT: u32;

    /// The version that this body states.
    fn format(&self) -> u32;

    /// The Ed25519 public key that signs it, hex.
    fn key(&self) -> &str;

    /// States the key.
    fn set_key(&mut self, key: String);
}

/// A body as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is stated.
    pub body: T,
    /// The object's exact bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, hex: the next object's `previous`.
    pub sha256: String,
}

/// Why an object is not what it should be.
#[derive(Debug, Error)]
pub enum SignedError {
    /// Not the JSON of such an object.
    #[error("not JSON of this kind: {0}")]
    Json(#[from] serde_json::Error),
    /// Parses, but its bytes are not those this format writes.
    #[error("its bytes are not in canonical form")]
    NotCanonical,
    /// Written by an unknown format version.
    #[error("format {0} is unknown to this version; upgrade stillwell to read it")]
    Format(u32),
    /// The signature or key does not parse or does not match.
    #[error("its signature does not match its body")]
    Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    body: T,
    signature: String,
}

impl<T: Body> Signed<T> {
    /// Signs a body and fixes its bytes. The body's key is overwritten with the public half of `key`.
    ///
    /// # Errors
    /// [`SignedError::Json`] if it cannot be serialised.
    pub fn sign(mut body: T, key: &SigningKey) -> Result<Self, SignedError> {
        body.set_key(hex::encode(key.verifying_key().to_bytes()));
        let signature = hex::encode(key.sign(&serde_json::to_vec(&body)?).to_bytes());
        Self::parse(serde_json::to_vec(&Stored { body, signature })?)
    }

    /// Parses and checks an object: canonical bytes, known format, and a signature that matches the key it names.
    /// Whether that key is trusted, and whether the body makes sense, is the caller's question.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SignedError> {
        let stored: Stored<T> = serde_json::from_slice(&bytes)?;
        if stored.body.format() != T::FORMAT {
            return Err(SignedError::Format(stored.body.format()));
        }
        if serde_json::to_vec(&stored)? != bytes {
            return Err(SignedError::NotCanonical);
        }
        verify(&serde_json::to_vec(&stored.body)?, stored.body.key(), &stored.signature)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Self { body: stored.body, bytes, sha256 })
    }
}

/// Checks the Ed25519 `signature` of `message` by `key`, both hex.
///
/// # Errors
/// [`SignedError::Signature`] where it does not match, [`SignedError::NotCanonical`] where the hex has another
/// spelling.
pub fn verify(message: &[u8], key: &str, signature: &str) -> Result<(), SignedError> {
    let key = VerifyingKey::from_bytes(&fixed::<32>(key)?).map_err(|_| SignedError::Signature)?;
    let signature = Signature::from_bytes(&fixed::<64>(signature)?);
    key.verify(message, &signature).map_err(|_| SignedError::Signature)
}

/// Of fields with what they say and what they had to say, the first that differs.
pub(crate) fn first_difference<const N: usize>(
    fields: [(&'static str, String, String); N],
) -> Option<(&'static str, String, String)> {
    fields.into_iter().find(|(_, found, expected)| found != expected)
}

fn fixed<const N: usize>(text: &str) -> Result<[u8; N], SignedError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| SignedError::Signature)?;
    // One spelling only: upper-case digits would be another object that says the same.
    if hex::encode(out) == text { Ok(out) } else { Err(SignedError::NotCanonical) }
}
