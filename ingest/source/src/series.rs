//! The series a lane has seen, each with a small code, so that readings carry one integer for their
//! machine, sensor, kind and unit.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// A code into a [`SeriesTable`].
pub type SeriesCode = u32;

/// A code into the table's strings.
pub type NameCode = u32;

/// What a series code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// Machine name.
    pub machine: NameCode,
    /// Sensor name.
    pub sensor: NameCode,
    /// Kind, if given.
    pub kind: Option<NameCode>,
    /// Unit, if given.
    pub unit: Option<NameCode>,
}

/// Append-only interner of names and of (machine, sensor, kind, unit). Codes are dense from 0 in order of
/// first sight and never change. Two codes may share machine and sensor, when kind or unit changed.
#[derive(Debug, Default)]
pub struct SeriesTable {
    names: Vec<Box<str>>,
    names_bytes: usize,
    name_codes: HashTable<NameCode>,
    series: Vec<Series>,
    series_codes: HashTable<SeriesCode>,
}

impl SeriesTable {
    /// The code of a name, new if needed.
    pub fn intern_name(&mut self, name: &str) -> NameCode {
        let hash = FxBuildHasher.hash_one(name);
        let names = &self.names;
        if let Some(&code) = self.name_codes.find(hash, |&c| &*names[c as usize] == name) {
            return code;
        }
        let code = next_code(self.names.len());
        self.names.push(name.into());
        self.names_bytes += name.len();
        let names = &self.names;
        self.name_codes.insert_unique(hash, code, |&c| FxBuildHasher.hash_one(&*names[c as usize]));
        code
    }

    /// The code of a series, new if needed.
    pub fn intern(&mut self, series: Series) -> SeriesCode {
        let hash = FxBuildHasher.hash_one(series);
        let all = &self.series;
        if let Some(&code) = self.series_codes.find(hash, |&c| all[c as usize] == series) {
            return code;
        }
        let code = next_code(self.series.len());
        self.series.push(series);
        let all = &self.series;
        self.series_codes.insert_unique(hash, code, |&c| FxBuildHasher.hash_one(all[c as usize]));
        code
    }

    /// The name behind a code.
    #[must_use]
    pub fn name(&self, code: NameCode) -> &str {
        &self.names[code as usize]
    }

    /// The series behind a code.
    #[must_use]
    pub fn series(&self, code: SeriesCode) -> Series {
        self.series[code as usize]
    }

    /// All series; the index is the code.
    #[must_use]
    pub fn all(&self) -> &[Series] {
        &self.series
    }

    /// All names; the index is the code.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.names_bytes
            + self.names.capacity() * size_of::<Box<str>>()
            + self.name_codes.allocation_size()
            + self.series.capacity() * size_of::<Series>()
            + self.series_codes.allocation_size()
    }

    /// Whether nothing was seen yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

fn next_code(len: usize) -> u32 {
    u32::try_from(len).expect("a lane holds fewer than 2^32 names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_series_has_the_same_code() {
        let mut table = SeriesTable::default();
        let machine = table.intern_name("press-07");
        let sensor = table.intern_name("oil");
        let plain = Series { machine, sensor, kind: None, unit: None };
        let with_unit = Series { unit: Some(table.intern_name("°C")), ..plain };
        assert_eq!(table.intern(plain), 0);
        assert_eq!(table.intern(with_unit), 1);
        assert_eq!(table.intern(plain), 0);
        assert_eq!(table.name(table.series(1).unit.unwrap()), "°C");
        assert_eq!(table.len(), 2);
    }
}
