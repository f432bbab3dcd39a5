//! The RFC 6962 Merkle tree over a commit's original records.
//!
//! Leaf: `SHA-256(0x00 ‖ leaf bytes)`, node: `SHA-256(0x01 ‖ left ‖ right)`, split at the largest power
//! of two smaller than the number of leaves. A record's leaf bytes are, in order: partition (i32), offset
//! (i64), Kafka timestamp (ms, i64), then topic, key, value, and each header's name and value, every one
//! as a u32 length and its bytes; an absent key, value or header value has the length `u32::MAX`. Integers
//! are big-endian. [`proof`] shows that one leaf is under a root.

use sha2::{Digest, Sha256};

pub mod proof;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The parts of a record that its leaf binds.
#[derive(Clone, Copy, Debug)]
pub struct LeafRecord<'a, H> {
    /// Topic name.
    pub topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
    /// Kafka timestamp, ms since the epoch.
    pub timestamp_ms: i64,
    /// Key bytes, if any.
    pub key: Option<&'a [u8]>,
    /// Value bytes, if any.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: H,
}

/// The leaf hash of a record.
pub fn leaf<'a, H>(record: LeafRecord<'a, H>) -> Hash
where
    H: IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
{
    let mut leaf = LeafHasher::default();
    leaf.put(&[0u8]);
    leaf.put(&record.partition.to_be_bytes());
    leaf.put(&record.offset.to_be_bytes());
    leaf.put(&record.timestamp_ms.to_be_bytes());
    leaf.field(Some(record.topic.as_bytes()));
    leaf.field(record.key);
    leaf.field(record.value);
    for (name, value) in record.headers {
        leaf.field(Some(name.as_bytes()));
        leaf.field(value);
    }
    leaf.hash()
}

/// Bytes of a leaf put together before they are hashed: most records of one reading fit.
const GATHERED: usize = 320;

/// Hashes a leaf. What is small is put together first, as each piece that is hashed alone costs as much as many bytes.
struct LeafHasher {
    sha: Sha256,
    gathered: [u8; GATHERED],
    len: usize,
}

impl Default for LeafHasher {
    fn default() -> Self {
        Self { sha: Sha256::new(), gathered: [0; GATHERED], len: 0 }
    }
}

impl LeafHasher {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.gathered[self.len..].get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
            return;
        }
        self.sha.update(&self.gathered[..self.len]);
        self.sha.update(bytes);
        self.len = 0;
    }

    fn field(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.put(&u32::MAX.to_be_bytes()),
            Some(bytes) => {
                // Kafka bounds a record by an i32, so the length always fits and never equals the marker.
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1);
                self.put(&len.to_be_bytes());
                self.put(bytes);
            }
        }
    }

    fn hash(mut self) -> Hash {
        self.sha.update(&self.gathered[..self.len]);
        self.sha.finalize().into()
    }
}

/// The Merkle tree hash of `leaves`, built as leaves come; the empty tree has the hash of no bytes.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Roots of complete subtrees, largest first, each with its number of leaves.
    peaks: Vec<(u64, Hash)>,
}

impl Tree {
    /// Adds the next leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = (1u64, leaf);
        while let Some(&(size, left)) = self.peaks.last() {
            if size != node.0 {
                break;
            }
            self.peaks.pop();
            node = (size * 2, parent(&left, &node.1));
        }
        self.peaks.push(node);
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(&(_, last)) = peaks.next() else {
            return Sha256::digest([]).into();
        };
        peaks.fold(last, |right, (_, left)| parent(left, &right))
    }
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update([1u8]);
    sha.update(left);
    sha.update(right);
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let k = (n - 1).ilog2();
                let (left, right) = leaves.split_at(1 << k);
                parent(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_incremental_root_is_the_defined_root() {
        let leaves: Vec<Hash> = (0u32..70).map(|i| Sha256::digest(i.to_be_bytes()).into()).collect();
        let mut tree = Tree::default();
        for n in 0..leaves.len() {
            assert_eq!(tree.root(), by_definition(&leaves[..n]), "{n} leaves");
            tree.push(leaves[n]);
        }
    }

    #[test]
    fn the_empty_root_is_the_rfc_vector() {
        assert_eq!(
            hex::encode(Tree::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
