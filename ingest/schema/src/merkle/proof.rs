//! Inclusion proofs: the siblings on the way from a leaf to the root (RFC 6962 section 2.1.1, verified as in
//! RFC 9162 section 2.1.3.2).
//!
//! ```
//! use stillwell_schema::merkle::{Tree, proof};
//! let leaves = [[1; 32], [2; 32], [3; 32]];
//! let mut tree = Tree::default();
//! leaves.iter().for_each(|leaf| tree.push(*leaf));
//! let path = proof::path(&leaves, 2);
//! assert_eq!(proof::root(leaves[2], 2, 3, &path), Some(tree.root()));
//! assert_ne!(proof::root(leaves[1], 2, 3, &path), Some(tree.root()));
//! ```

use super::{Hash, Tree, parent};

/// The siblings of leaf `index` on its way to the root, lowest first; none beyond the last leaf has any.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(1 << (leaves.len() - 1).ilog2());
        let (mine, other) = if index < left.len() { (left, right) } else { (right, left) };
        index -= if index < left.len() { 0 } else { left.len() };
        path.push(tree_hash(other));
        leaves = mine;
    }
    path.reverse();
    path
}

/// All nodes of a tree: where many leaves of it are proven, each node is hashed once.
///
/// ```
/// use stillwell_schema::merkle::proof::{Nodes, path};
/// let leaves = [[1; 32], [2; 32], [3; 32]];
/// let nodes = Nodes::new(leaves.to_vec());
/// assert_eq!(nodes.path(1), path(&leaves, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Nodes {
    /// From the leaves up; a last node without a neighbour stands in the level above as it is.
    levels: Vec<Vec<Hash>>,
}

impl Nodes {
    /// The nodes over `leaves`.
    #[must_use]
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let node = |pair: &[Hash]| match pair {
                [left, right] => parent(left, right),
                rest => rest[0],
            };
            let above: Vec<Hash> = below.chunks(2).map(node).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The root, as of [`Tree::root`].
    #[must_use]
    pub fn root(&self) -> Hash {
        let top = self.levels.last().and_then(|top| top.first());
        top.copied().unwrap_or_else(|| Tree::default().root())
    }

    /// The path of leaf `index`, as of [`path`].
    #[must_use]
    pub fn path(&self, index: usize) -> Vec<Hash> {
        let levels = self.levels.iter().enumerate();
        levels.filter_map(|(height, level)| level.get((index >> height) ^ 1).copied()).collect()
    }
}

fn tree_hash(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The root that `leaf`, as number `index` of `size` leaves, has with the siblings `path`; none where a path of
/// that length belongs to no such leaf.
#[must_use]
pub fn root(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if place % 2 == 1 || place == last {
            hash = parent(sibling, &hash);
            // A right edge skips the levels on which it has no sibling.
            while place % 2 == 0 && place != 0 {
                (place, last) = (place / 2, last / 2);
            }
        } else {
            hash = parent(&hash, sibling);
        }
        (place, last) = (place / 2, last / 2);
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn leaves(n: u32) -> Vec<Hash> {
        (0..n).map(|i| Sha256::digest(i.to_be_bytes()).into()).collect()
    }

    #[test]
    fn every_leaf_of_every_tree_has_a_proof_and_it_fits_that_leaf_only() {
        for n in 1..40 {
            let leaves = leaves(n);
            let whole = tree_hash(&leaves);
            for (i, leaf) in leaves.iter().enumerate() {
                let path = path(&leaves, i);
                for (j, other) in leaves.iter().enumerate() {
                    let fits = root(*other, j as u64, u64::from(n), &path) == Some(whole);
                    assert_eq!(fits, i == j, "leaf {j} by the path of leaf {i} of {n}");
                }
                assert_ne!(root(*leaf, i as u64 + 1, u64::from(n), &path), Some(whole));
            }
        }
    }

    #[test]
    fn the_nodes_of_a_tree_have_its_root_and_the_paths_of_its_leaves() {
        for n in 0..70 {
            let leaves = leaves(n);
            let nodes = Nodes::new(leaves.clone());
            assert_eq!(nodes.root(), tree_hash(&leaves), "{n} leaves");
            for i in 0..leaves.len() {
                assert_eq!(nodes.path(i), path(&leaves, i), "leaf {i} of {n}");
            }
        }
    }

    #[test]
    fn a_path_with_a_sibling_too_many_or_too_few_is_refused() {
        let leaves = leaves(11);
        for (i, leaf) in leaves.iter().enumerate() {
            let mut path = path(&leaves, i);
            path.push([0; 32]);
            assert_eq!(root(*leaf, i as u64, 11, &path), None);
            path.truncate(path.len() - 2);
            assert_eq!(root(*leaf, i as u64, 11, &path), None);
        }
        assert_eq!(root(leaves[0], 11, 11, &[]), None);
    }
}
