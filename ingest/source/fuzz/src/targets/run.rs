//! A decoder at work, and what must hold of each record, whatever its bytes.

use stillwell_schema::original::{Measured, Memo, Names, Template};
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeFault, Decoder, decoder_for};
use stillwell_source::mapping::Mapping;
use stillwell_source::original::{Originals, Readings};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;

use super::{Split, Target};

/// A target at work. It keeps its decoder over records, as a lane does.
pub struct Run {
    split: Split,
    decoder: Box<dyn Decoder>,
    table: SeriesTable,
    out: ReadingColumns,
    originals: Originals,
    runs: u64,
}

/// What became of a record: its error's class, or how many readings.
pub type Outcome = Result<usize, &'static str>;

/// A table begins anew after so many records, as an open batch's does.
const TABLE_RUNS: u64 = 64;

impl Run {
    /// A decoder of `target`.
    ///
    /// # Panics
    /// Where its mapping is wrong.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let mut topic = TopicSettings::new("fuzzed");
        topic.format.format = target.format;
        topic.format.time_unit = target.format.time_unit();
        (target.setup)(&mut topic.format);
        if !target.mapping.is_empty() {
            topic.format.mapping = Some(mapping(target));
        }
        let mut run = Self {
            split: target.split,
            decoder: decoder_for(&topic),
            table: SeriesTable::default(),
            out: ReadingColumns::default(),
            originals: Originals::default(),
            runs: 0,
        };
        // Something that a failed record must leave as it is.
        let mut json = decoder_for(&TopicSettings::new("before"));
        let before = br#"[{"machine":"m","sensor":"s","time":1,"value":1,"text":"before"},{"machine":"m","sensor":"s","time":2,"value":2}]"#;
        json.decode(&RecordRef::new(0, None, before), 0, &mut run.table, &mut run.out)
            .expect("a good record");
        run
    }

    /// Decodes `bytes` and checks what must hold.
    ///
    /// # Panics
    /// Where it does not hold.
    pub fn run(&mut self, bytes: &[u8]) -> Outcome {
        self.runs += 1;
        if self.runs.is_multiple_of(TABLE_RUNS) {
            // The codes of the readings before are in every table: they were its first.
            let names: Vec<String> = self.table.names().iter().take(2).map(ToString::to_string).collect();
            let first = self.table.series(0);
            self.table = SeriesTable::default();
            for name in names {
                self.table.intern_name(&name);
            }
            self.table.intern(first);
            self.decoder.new_table();
            self.originals = Originals::after(self.originals.looks());
        }
        let before = self.out.clone();
        let (key, value) = (self.split)(bytes);
        let record = RecordRef::new(1_795_000_000_000, Some(key), value);
        let decoded = self.decoder.decode(&record, 7, &mut self.table, &mut self.out);
        let readings = self.out.len() - before.len();
        let outcome = match decoded {
            Ok(()) => {
                self.check_readings(before.len());
                self.check_original(value, before.len());
                self.out.truncate(before.len());
                Ok(readings)
            }
            Err(DecodeFault::Data(error)) => {
                assert_ne!(error.class, "panic", "the decoder panicked inside");
                assert!(error.at <= bytes.len(), "an error at byte {} of {}", error.at, bytes.len());
                Err(error.class)
            }
            Err(DecodeFault::Transient(error)) => panic!("nothing outside is asked: {error}"),
        };
        assert_eq!(self.out, before, "a record leaves a trace");
        if self.out.memory_bytes() > 1 << 20 {
            self.out = before;
        }
        outcome
    }

    /// Where a template stands for the record, its text and the readings give the very bytes.
    fn check_original(&mut self, value: &[u8], first: usize) {
        let readings = Readings { columns: &self.out, first, next: self.out.len(), table: &self.table };
        let Some(code) = self.originals.find(value, readings) else { return };
        let template: Template =
            self.originals.text(code).parse().expect("a template reads as it was written");
        let (mut memo, mut rebuilt) = (Memo::default(), template.head.clone());
        for row in first..self.out.len() {
            if row > first {
                rebuilt.extend_from_slice(template.between.as_deref().expect("a list"));
            }
            let series = self.table.all()[self.out.series[row] as usize];
            let name = |code| self.table.name(code);
            let names = Names {
                machine: name(series.machine),
                sensor: name(series.sensor),
                kind: series.kind.map(name),
                unit: series.unit.map(name),
            };
            let measured = Measured {
                time_us: self.out.time_us[row],
                value: self.out.has_value[row].then(|| self.out.value[row]),
                text: self.out.text_of(row),
                quality: self.out.quality[row],
            };
            let filled = template.fill(&names).expect("its names are there");
            assert!(filled.write(&measured, &mut memo, &mut rebuilt), "a reading is written");
        }
        rebuilt.extend_from_slice(&template.tail);
        assert_eq!(rebuilt, value, "a record is rebuilt to other bytes");
    }

    /// All columns are as long, every code is known, text is where it is said to be, and names are not empty.
    fn check_readings(&self, from: usize) {
        let out = &self.out;
        let rows = out.len();
        assert!([out.time_us.len(), out.value.len(), out.has_value.len()].iter().all(|len| *len == rows));
        assert!([out.quality.len(), out.record.len(), out.index.len()].iter().all(|len| *len == rows));
        for i in from..rows {
            let series = self.table.all()[out.series[i] as usize];
            assert!(
                !self.table.name(series.machine).is_empty() && !self.table.name(series.sensor).is_empty()
            );
            assert!(out.value[i].is_finite() && out.record[i] == 7);
        }
        assert!(out.index[from..].windows(2).all(|pair| pair[0] < pair[1]), "places within a record ascend");
        for cell in &out.text {
            assert!(
                (cell.row as usize) < rows
                    && out.text_bytes.get(cell.start as usize..cell.end as usize).is_some()
            );
        }
    }
}

fn mapping(target: Target) -> Mapping {
    use stillwell_source::mapping::{MappingSettings, OneOrMore, ValueSettings};
    let mut settings = MappingSettings::default();
    for (key, paths) in target.mapping {
        let texts: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let more = Some(OneOrMore::More(texts.clone()));
        match *key {
            "each" => settings.each = texts.into_iter().next(),
            "machine" => settings.machine = more,
            "sensor" => settings.sensor = more,
            "unit" => settings.unit = more,
            "time" => settings.time = more,
            "quality" => settings.quality = more,
            "values" => settings.values = texts.into_iter().map(ValueSettings::Path).collect(),
            _ => panic!("{key} is no key of these mappings"),
        }
    }
    Mapping::parse(&settings, target.format).expect("the mapping is right")
}
