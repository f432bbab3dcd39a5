//! Mutates records. What leads to an outcome not seen before is mutated on, so that it wanders into the format.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Records that are mutated on.
const POOL_MAX: usize = 1024;
/// Bytes of a record, so that runs stay quick.
const BYTES_MAX: usize = 1 << 14;
/// Records of one kind of outcome that are kept, as different ways may lead there.
const ALIKE_MAX: u32 = 6;

/// Numbers at the edges, as lengths, offsets and counts may be.
const EDGES: [u64; 12] =
    [0, 1, 2, 7, 8, 127, 255, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX >> 1, u64::MAX];

pub(crate) struct Engine {
    random: SmallRng,
    pool: Vec<Vec<u8>>,
    seeds: usize,
    tokens: &'static [&'static [u8]],
    record: Vec<u8>,
    seen: HashMap<(u64, u32), u32>,
}

impl Engine {
    pub(crate) fn new(seed: u64, pool: Vec<Vec<u8>>, tokens: &'static [&'static [u8]]) -> Self {
        let seeds = pool.len();
        Self {
            random: SmallRng::seed_from_u64(seed),
            pool,
            seeds,
            tokens,
            record: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> &[u8] {
        let from = self.random.random_range(0..self.pool.len());
        self.record.clear();
        self.record.extend_from_slice(&self.pool[from]);
        // Mostly few changes: a record that is broken in many places is refused at the first.
        let changes = 1 << self.random.random_range(0..4u32);
        for _ in 0..self.random.random_range(1..=changes) {
            self.change();
        }
        self.record.truncate(BYTES_MAX);
        &self.record
    }

    /// Notes what became of the last record.
    pub(crate) fn learn(&mut self, outcome: Result<usize, &'static str>) {
        let kind = match outcome {
            Ok(readings) => (u64::from(usize::BITS - readings.leading_zeros()), self.size()),
            // The class and the size tell places apart, roughly.
            Err(class) => (
                class.bytes().fold(1 << 8, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into())),
                self.size(),
            ),
        };
        let alike = self.seen.entry(kind).or_default();
        *alike += 1;
        if *alike > ALIKE_MAX {
            return;
        }
        if self.pool.len() < POOL_MAX {
            self.pool.push(self.record.clone());
        } else {
            let old = self.random.random_range(self.seeds..POOL_MAX);
            self.pool[old].clone_from(&self.record);
        }
    }

    pub(crate) fn kinds(&self) -> usize {
        self.seen.len()
    }

    fn size(&self) -> u32 {
        usize::BITS - self.record.len().leading_zeros()
    }

    fn change(&mut self) {
        let len = self.record.len();
        if len == 0 {
            let token = self.token();
            self.record.extend_from_slice(token);
            return;
        }
        let at = self.random.random_range(0..len);
        match self.random.random_range(0..12u32) {
            0 => self.record[at] ^= 1 << self.random.random_range(0..8u32),
            1 => self.record[at] = self.random.random(),
            2 => self.record.insert(at, self.random.random()),
            3 => {
                let end = (at + self.random.random_range(1..=16usize)).min(len);
                self.record.drain(at..end);
            }
            4 => self.record.truncate(at),
            5 => {
                // Twice what is there: members, lines, messages.
                let end = (at + self.random.random_range(1..=256usize)).min(len);
                let part = self.record[at..end].to_vec();
                let to = self.random.random_range(0..=len);
                drop(self.record.splice(to..to, part));
            }
            6 | 7 => {
                let token = self.token();
                drop(self.record.splice(at..at, token.iter().copied()));
            }
            8 => {
                let token = self.token();
                let end = (at + token.len()).min(len);
                drop(self.record.splice(at..end, token.iter().copied()));
            }
            9 => {
                // An aligned number, as binary formats have.
                let width = [1, 2, 4, 8][self.random.random_range(0..4usize)];
                let at = at / width * width;
                let edge = EDGES[self.random.random_range(0..EDGES.len())];
                let value = if self.random.random() {
                    edge
                } else {
                    edge.wrapping_sub(self.random.random_range(0..9))
                };
                if at + width <= len {
                    self.record[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
            10 => {
                let add = self.random.random_range(0..=16u8);
                self.record[at] = self.record[at].wrapping_add(add).wrapping_sub(8);
            }
            _ => {
                // The head of this and the tail of another.
                let other = self.random.random_range(0..self.pool.len());
                let tail = &self.pool[other];
                let from = self.random.random_range(0..=tail.len());
                self.record.truncate(at);
                self.record.extend_from_slice(&tail[from..]);
            }
        }
    }

    fn token(&mut self) -> &'static [u8] {
        self.tokens[self.random.random_range(0..self.tokens.len())]
    }
}
