//! A decoder that survives its own faults: a panic over one record costs that record, not the lane.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{DecodeError, DecodeFault, Decoder, Origin};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;

/// Tries at a record over which the decoder panics, each after the first with a new decoder: what went wrong may
/// have been the old one's knowledge. More would find nothing new, as decoding has no other input.
const TRIES: u32 = 3;

/// Guards a decoder and makes it anew after a panic. What the old one knew of the stream is lost then.
pub(super) struct Guard<D, F> {
    decoder: D,
    make: F,
}

impl<D: Decoder, F: Fn() -> D + Send + Sync> Guard<D, F> {
    pub(super) fn new(make: F) -> Self {
        Self { decoder: make(), make }
    }

    #[inline]
    fn guarded(
        &mut self,
        out: &mut ReadingColumns,
        mut decode: impl FnMut(&mut D, &mut ReadingColumns) -> Result<(), DecodeFault>,
    ) -> Result<(), DecodeFault> {
        let (rows, mut tries) = (out.len(), 0);
        loop {
            let decoder = &mut self.decoder;
            // What a panic may have left half done is thrown away: the decoder, and the rows it appended. Names
            // that it gave codes to in the table stay, as those of any record that fails.
            let panic = match catch_unwind(AssertUnwindSafe(|| decode(decoder, out))) {
                Ok(outcome) => return outcome,
                Err(panic) => panic,
            };
            out.truncate(rows);
            self.decoder = (self.make)();
            tries += 1;
            if tries == TRIES {
                let why = message(&*panic);
                return Err(DecodeError::new(
                    "panic",
                    0,
                    format!("the decoder panicked {TRIES} times: {why}"),
                )
                .into());
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

impl<D: Decoder, F: Fn() -> D + Send + Sync> Decoder for Guard<D, F> {
    #[inline]
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        self.guarded(out, |decoder, out| decoder.decode(record, number, table, out))
    }

    fn explain(
        &mut self,
        record: &RecordRef<'_>,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
        origins: &mut Vec<Origin>,
    ) -> Result<(), DecodeFault> {
        let outcome = self.guarded(out, |decoder, out| decoder.explain(record, table, out, origins));
        if outcome.is_err() {
            origins.clear();
        }
        outcome
    }

    fn needs_history(&mut self, record: &RecordRef<'_>) -> bool {
        self.decoder.needs_history(record)
    }

    fn new_table(&mut self) {
        self.decoder.new_table();
    }

    fn memory_bytes(&self) -> usize {
        self.decoder.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::decode::json::JsonDecoder;
    use crate::settings::TimeUnit;

    /// Panics over `poison` always, over `moody` where it is its first decoder, and half way: a reading is out.
    struct Fragile {
        json: JsonDecoder,
        number: u32,
    }

    impl Decoder for Fragile {
        fn decode(
            &mut self,
            record: &RecordRef<'_>,
            number: u32,
            table: &mut SeriesTable,
            out: &mut ReadingColumns,
        ) -> Result<(), DecodeFault> {
            let reading = br#"{"machine":"m","sensor":"s","time":1,"value":1}"#;
            self.json.decode(&RecordRef::new(0, None, reading), number, table, out)?;
            match record.bytes() {
                b"poison" => panic!("poisoned by {}", self.number),
                b"moody" if self.number == 0 => panic!("moody"),
                _ => Ok(()),
            }
        }

        fn new_table(&mut self) {
            self.json.new_table();
        }
    }

    #[test]
    fn a_panic_costs_one_record_after_three_tries_and_leaves_nothing_half_done() {
        let made = AtomicU32::new(0);
        let make = || Fragile {
            json: JsonDecoder::new(TimeUnit::Millis),
            number: made.fetch_add(1, Ordering::Relaxed),
        };
        let mut guard = Guard::new(make);
        let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
        let mut decode = |value: &[u8]| {
            let outcome = guard.decode(&RecordRef::new(0, None, value), 0, &mut table, &mut out);
            (outcome, out.len())
        };
        assert_eq!(decode(b"good"), (Ok(()), 1));
        assert_eq!(decode(b"moody"), (Ok(()), 2));
        let (outcome, rows) = decode(b"poison");
        let Err(DecodeFault::Data(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.class, rows), ("panic", 2));
        assert!(error.message.ends_with("poisoned by 3"), "{error}");
        assert_eq!(decode(b"good"), (Ok(()), 3));
    }
}
