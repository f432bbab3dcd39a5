//! The change of the key that signs: the old key names the new one, and the new one accepts.
//!
//! Changes form a chain (see [`crate::signed`]), and with it a [`KeyRing`]: whoever trusts one key of it trusts all,
//! as each neighbour has signed for the other. Within a lane a key is never used again once a later one was.

use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::signed::{self, Body, GENESIS, Signed, SignedError};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// One change of key, signed by the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// [`FORMAT`].
    pub format: u32,
    /// Number of this change, from 0.
    pub seq: u64,
    /// SHA-256 of the previous change's object, hex.
    pub previous: String,
    /// The Ed25519 public key from now on, hex.
    pub new: String,
    /// Its signature of [`acceptance`], hex.
    pub accepted: String,
    /// When, µs UTC.
    pub written_us: i64,
    /// Why, in the words of who did it.
    pub reason: String,
    /// The old public key, which signs this, hex.
    pub key: String,
}

/// A change as it is stored.
pub type SignedKeyChange = Signed<KeyChange>;

/// The keys of an archive, in the order of their use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<String>,
    /// SHA-256 of the objects of the changes so far, hex.
    changes: Vec<String>,
}

/// Why a change does not fit its ring.
#[derive(Debug, Error)]
pub enum KeyRingError {
    /// It does not follow the change before.
    #[error("key change {0} does not follow its predecessor")]
    Chain(u64),
    /// It is signed by another key than the one in use.
    #[error("key change {seq} is signed by {found}, where {expected} was in use")]
    Signer {
        /// The change's seq.
        seq: u64,
        /// Who signed.
        found: String,
        /// Who had to.
        expected: String,
    },
    /// The new key did not accept, or was in use before.
    #[error("key change {0}: the new key has not accepted it, or is not new")]
    Acceptance(u64),
    /// It cannot be signed.
    #[error(transparent)]
    Signed(#[from] SignedError),
}

/// The keys of one chain of objects: each is of the ring, and none comes after a later one.
#[derive(Clone, Debug, Default)]
pub struct KeyWatch {
    /// The place in the ring of the newest key used so far.
    newest: usize,
}

/// Why a key may not sign the next object of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyUseError {
    /// It is not of the ring.
    #[error("is signed by {0}, which is not trusted")]
    Unknown(String),
    /// The chain has an object of a later key.
    #[error("is signed by {0}, which a later key had replaced")]
    Replaced(String),
}

/// What the new key signs.
#[must_use]
pub fn acceptance(seq: u64, previous: &str, old: &str, new: &str) -> Vec<u8> {
    format!("stillwell key change {seq} after {previous}: {old} to {new}").into_bytes()
}

impl KeyRing {
    /// A ring of one key, which no change names yet.
    #[must_use]
    pub fn of(key: impl Into<String>) -> Self {
        Self { keys: vec![key.into()], changes: Vec::new() }
    }

    /// The changes so far: SHA-256 of their objects, hex.
    #[must_use]
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// SHA-256 of the last change's object, hex; [`GENESIS`] where there is none.
    #[must_use]
    pub fn head(&self) -> &str {
        self.changes.last().map_or(GENESIS, String::as_str)
    }

    /// The keys in the order of their use, hex.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The place of a key in that order.
    #[must_use]
    pub fn position(&self, key: &str) -> Option<usize> {
        self.keys.iter().position(|known| known == key)
    }

    /// The statement by which `old`, the newest key, gives way to `new`.
    ///
    /// # Errors
    /// [`KeyRingError`] where `old` is not the newest key, or `new` is in the ring.
    pub fn change(
        &self,
        old: &SigningKey,
        new: &SigningKey,
        written_us: i64,
        reason: &str,
    ) -> Result<SignedKeyChange, KeyRingError> {
        let (seq, previous) = (self.changes.len() as u64, self.head().to_owned());
        let [from, to] = [old, new].map(|key| hex::encode(key.verifying_key().to_bytes()));
        let accepted = hex::encode(new.sign(&acceptance(seq, &previous, &from, &to)).to_bytes());
        let reason = reason.to_owned();
        let body =
            KeyChange { format: FORMAT, seq, previous, new: to, accepted, written_us, reason, key: from };
        let signed = Signed::sign(body, old)?;
        self.clone().add(&signed)?;
        Ok(signed)
    }

    /// Takes the next change. On error nothing changes.
    ///
    /// # Errors
    /// [`KeyRingError`] where it is not the next one.
    pub fn add(&mut self, signed: &SignedKeyChange) -> Result<(), KeyRingError> {
        let change = &signed.body;
        let seq = change.seq;
        if (seq, &*change.previous) != (self.changes.len() as u64, self.head()) {
            return Err(KeyRingError::Chain(seq));
        }
        if let Some(expected) = self.keys.last().filter(|key| **key != change.key) {
            let (found, expected) = (change.key.clone(), expected.clone());
            return Err(KeyRingError::Signer { seq, found, expected });
        }
        let message = acceptance(seq, &change.previous, &change.key, &change.new);
        let accepted = signed::verify(&message, &change.new, &change.accepted).is_ok();
        if !accepted || change.new == change.key || self.position(&change.new).is_some() {
            return Err(KeyRingError::Acceptance(seq));
        }
        self.keys.push(change.new.clone());
        self.changes.push(signed.sha256.clone());
        Ok(())
    }
}

impl KeyWatch {
    /// Takes the key, hex, of the next object of the chain. On error nothing changes.
    ///
    /// # Errors
    /// [`KeyUseError`].
    pub fn check(&mut self, ring: &KeyRing, key: &str) -> Result<(), KeyUseError> {
        match ring.position(key) {
            None => Err(KeyUseError::Unknown(key.to_owned())),
            Some(place) if place < self.newest => Err(KeyUseError::Replaced(key.to_owned())),
            Some(place) => {
                self.newest = place;
                Ok(())
            }
        }
    }
}

impl Body for KeyChange {
    const FORMAT: u32 = FORMAT;

    fn format(&self) -> u32 {
        self.format
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn set_key(&mut self, key: String) {
        self.key = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> String {
        hex::encode(key(seed).verifying_key().to_bytes())
    }

    #[test]
    fn each_change_adds_its_key_and_parses_back() {
        let mut ring = KeyRing::of(public(1));
        let mut found = KeyRing::of(public(1));
        for seed in 1..5 {
            let change = ring.change(&key(seed), &key(seed + 1), 7, "yearly").unwrap();
            ring.add(&change).unwrap();
            found.add(&Signed::parse(change.bytes).unwrap()).unwrap();
        }
        assert_eq!(ring.keys(), [1, 2, 3, 4, 5].map(public));
        assert_eq!(found, ring);
    }

    #[test]
    fn a_change_by_any_but_the_newest_key_or_to_a_key_of_the_ring_is_refused() {
        let mut ring = KeyRing::of(public(1));
        ring.add(&ring.change(&key(1), &key(2), 0, "").unwrap()).unwrap();
        let before = ring.clone();
        for (old, new) in [(1, 3), (3, 4), (2, 1), (2, 2)] {
            ring.change(&key(old), &key(new), 0, "").unwrap_err();
        }
        assert_eq!(ring, before);
    }

    #[test]
    fn a_key_is_not_taken_without_its_own_signature() {
        let ring = KeyRing::of(public(1));
        let mut body = ring.change(&key(1), &key(2), 0, "").unwrap().body;
        body.new = public(3);
        let forged = Signed::sign(body, &key(1)).unwrap();
        assert!(matches!(ring.clone().add(&forged), Err(KeyRingError::Acceptance(0))));
    }

    #[test]
    fn a_key_is_used_until_a_later_one_is() {
        let mut ring = KeyRing::of(public(1));
        ring.add(&ring.change(&key(1), &key(2), 0, "").unwrap()).unwrap();
        let mut watch = KeyWatch::default();
        for seed in [1, 1, 2, 2] {
            watch.check(&ring, &public(seed)).unwrap();
        }
        assert_eq!(watch.check(&ring, &public(1)), Err(KeyUseError::Replaced(public(1))));
        assert_eq!(watch.check(&ring, &public(3)), Err(KeyUseError::Unknown(public(3))));
        watch.check(&ring, &public(2)).unwrap();
    }

    #[test]
    fn a_change_fits_its_place_in_the_chain_only() {
        let mut ring = KeyRing::of(public(1));
        let first = ring.change(&key(1), &key(2), 0, "").unwrap();
        ring.add(&first).unwrap();
        assert!(matches!(ring.add(&first), Err(KeyRingError::Chain(0))));
        let second = ring.change(&key(2), &key(3), 0, "").unwrap();
        assert!(matches!(KeyRing::of(public(2)).add(&second), Err(KeyRingError::Chain(1))));
    }
}
