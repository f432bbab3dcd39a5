//! From chunks of records to the two files of a commit.
//!
//! Reading order: a [`Batch`] gathers chunks, decodes them as they come and hashes their records; `sort`
//! puts the readings in the archive's order; `readings` and `records` write them as Parquet, the former page by `page`
//! in `columns` of its own, which are `packed` into `chunk`s; [`encode`] does
//! both at once and sums up what an entry says of them. All of it is CPU work, for compute threads.

mod batch;
mod chunk;
mod columns;
mod encode;
mod file;
mod packed;
mod page;
mod readings;
mod records;
mod sort;
mod values;

pub(crate) use batch::leaf;
pub use batch::{Batch, Part, PushError};
pub use encode::{Encoded, encode};
pub use file::EncodedFile;
pub(crate) use file::ROW_GROUP_BYTES;
pub(crate) use readings::order as order_of_readings;
pub(crate) use records::encodings as records_encodings;
