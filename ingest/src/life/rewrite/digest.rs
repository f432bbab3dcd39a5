//! A digest of readings that does not depend on their order: what went in is what came out.
//!
//! It guards against mistakes, not against forgers, who would need the signing key: each row is hashed (SipHash,
//! all columns), and the hashes are added up.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, UInt32Type,
};

/// Count and sum of hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    sum: u128,
}

impl Digest {
    /// Adds all rows of a batch of readings.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        let text = |name: &str| batch[name].as_string::<i32>().clone();
        let texts: [StringArray; 6] = ["machine", "sensor", "kind", "unit", "text", "topic"].map(text);
        let times = numbers::<TimestampMicrosecondType>(batch, "time");
        let kafka_times = numbers::<TimestampMillisecondType>(batch, "kafka_time");
        let values = numbers::<Float64Type>(batch, "value");
        let (qualities, indexes) =
            (numbers::<UInt32Type>(batch, "quality"), numbers::<UInt32Type>(batch, "index"));
        let (partitions, offsets) =
            (numbers::<Int32Type>(batch, "partition"), numbers::<Int64Type>(batch, "offset"));
        for row in 0..batch.num_rows() {
            let mut hasher = DefaultHasher::new();
            for text in &texts {
                text.is_valid(row).then(|| text.value(row)).hash(&mut hasher);
            }
            values.is_valid(row).then(|| values.value(row).to_bits()).hash(&mut hasher);
            (times.value(row), kafka_times.value(row), qualities.value(row)).hash(&mut hasher);
            (partitions.value(row), offsets.value(row), indexes.value(row)).hash(&mut hasher);
            self.sum += u128::from(hasher.finish());
        }
        self.rows += batch.num_rows() as u64;
    }
}

fn numbers<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> &'a PrimitiveArray<T> {
    batch[name].as_primitive::<T>()
}
