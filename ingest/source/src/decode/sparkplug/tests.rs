//! What a lane makes of a node's messages, one after the other. Payloads are written byte by byte here; those that
//! foreign encoders wrote are in `tests/vectors.rs`.

use stillwell_schema::quality::{BAD, GOOD};

use super::*;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn double(value: f64) -> Vec<u8> {
    [varint(13 << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn payload(timestamp: u64, seq: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<u8> = metrics.iter().flat_map(|metric| bytes(2, metric)).collect();
    [int(1, timestamp), metrics, int(3, seq)].concat()
}

/// A metric of a birth: a double.
fn born(name: &str, alias: u64, value: f64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), int(2, alias), int(4, 10), double(value)].concat()
}

/// A metric of data, by its alias.
fn data(alias: u64, value: f64) -> Vec<u8> {
    [int(2, alias), double(value)].concat()
}

struct Lane {
    decoder: SparkplugDecoder,
    table: SeriesTable,
}

/// Machine, sensor, ms, value, quality.
type Seen = Vec<(String, String, i64, Option<f64>, u32)>;

impl Lane {
    fn new() -> Self {
        Self { decoder: SparkplugDecoder::new(SparkplugSettings::default()), table: SeriesTable::default() }
    }

    fn take(&mut self, topic: &str, value: &[u8]) -> Result<Seen, &'static str> {
        let mut out = ReadingColumns::default();
        let record = RecordRef::new(9_000, Some(topic.as_bytes()), value);
        match self.decoder.decode(&record, 0, &mut self.table, &mut out) {
            Ok(()) => {}
            Err(DecodeFault::Data(error)) => {
                assert!(out.is_empty());
                return Err(error.class);
            }
            Err(DecodeFault::Transient(error)) => panic!("{error}"),
        }
        let reading = |i: usize| {
            let series = self.table.series(out.series[i]);
            let [machine, sensor] =
                [series.machine, series.sensor].map(|code| self.table.name(code).to_owned());
            let value = out.has_value[i].then_some(out.value[i]);
            (machine, sensor, out.time_us[i] / 1000, value, out.quality[i])
        };
        Ok((0..out.len()).map(reading).collect())
    }

    /// Value and quality of the one reading.
    fn one(&mut self, topic: &str, value: &[u8]) -> Result<(f64, u32), &'static str> {
        let seen = self.take(topic, value)?;
        assert_eq!(seen.len(), 1);
        Ok((seen[0].3.unwrap(), seen[0].4))
    }
}

const NBIRTH: &str = "spBv1.0/G/NBIRTH/E";
const DBIRTH: &str = "spBv1.0/G/DBIRTH/E/D";
const DDATA: &str = "spBv1.0/G/DDATA/E/D";
const DDEATH: &str = "spBv1.0/G/DDEATH/E/D";
const NDEATH: &str = "spBv1.0/G/NDEATH/E";

fn lane_with_births() -> Lane {
    let mut lane = Lane::new();
    let bd_seq = [bytes(1, b"bdSeq"), int(4, 4), int(11, 3)].concat();
    assert_eq!(lane.take(NBIRTH, &payload(100, 0, &[bd_seq, born("cpu", 1, 0.5)])).unwrap().len(), 2);
    let seen = lane.take(DBIRTH, &payload(101, 1, &[born("oil", 2, 61.0), born("rpm", 3, 9.0)])).unwrap();
    assert_eq!(seen[0], ("G/E/D".to_owned(), "oil".to_owned(), 101, Some(61.0), GOOD));
    lane
}

#[test]
fn aliases_mean_what_the_last_birth_gave_them() {
    let mut lane = lane_with_births();
    assert_eq!(lane.one(DDATA, &payload(102, 2, &[data(2, 62.0)])), Ok((62.0, GOOD)));
    lane.table = SeriesTable::default();
    lane.decoder.new_table();
    let seen = lane.take(DDATA, &payload(103, 3, &[data(3, 8.0), data(2, 63.0)])).unwrap();
    assert_eq!((&*seen[0].1, &*seen[1].1, seen[1].2), ("rpm", "oil", 103));
    // A node's alias is none of its device's.
    assert_eq!(lane.one(DDATA, &payload(104, 4, &[data(1, 1.0)])), Err("unresolved_alias"));
    // What failed has its place in the sequence all the same.
    assert_eq!(lane.one(DDATA, &payload(105, 5, &[data(2, 1.0)])), Ok((1.0, GOOD)));
    lane.take(DBIRTH, &payload(106, 6, &[born("temperature", 2, 1.0)])).unwrap();
    assert_eq!(lane.take(DDATA, &payload(107, 7, &[data(2, 2.0)])).unwrap()[0].1, "temperature");
    assert_eq!(lane.one(DDATA, &payload(108, 8, &[data(3, 2.0)])), Err("unresolved_alias"));
    // A node's birth ends its devices'.
    lane.take(NBIRTH, &payload(109, 0, &[])).unwrap();
    assert_eq!(lane.one(DDATA, &payload(110, 1, &[data(2, 2.0)])), Err("unresolved_alias"));
}

#[test]
fn a_lane_that_starts_in_the_middle_guesses_nothing() {
    let mut lane = Lane::new();
    assert_eq!(lane.one(DDATA, &payload(1, 9, &[data(2, 1.0)])), Err("unresolved_alias"));
    let named = [bytes(1, b"oil"), double(5.0)].concat();
    assert_eq!(lane.one(DDATA, &payload(2, 10, std::slice::from_ref(&named))), Ok((5.0, GOOD)));
    let untyped = [bytes(1, b"oil"), int(10, 5)].concat();
    assert_eq!(lane.one(DDATA, &payload(3, 11, &[untyped])), Err("unknown_datatype"));
    lane.take(DBIRTH, &payload(4, 12, &[born("oil", 2, 1.0)])).unwrap();
    assert_eq!(lane.one(DDATA, &payload(5, 13, &[data(2, 1.0)])), Ok((1.0, GOOD)));
}

#[test]
fn after_a_break_of_the_sequence_aliases_are_uncertain_until_the_next_birth() {
    let mut lane = lane_with_births();
    assert_eq!(lane.one(DDATA, &payload(102, 4, &[data(2, 1.0)])), Ok((1.0, UNCERTAIN)));
    assert_eq!(lane.one(DDATA, &payload(103, 5, &[data(2, 2.0)])), Ok((2.0, UNCERTAIN)));
    let named = [bytes(1, b"oil"), double(5.0)].concat();
    assert_eq!(lane.one(DDATA, &payload(104, 6, &[named])), Ok((5.0, GOOD)));
    lane.take(DBIRTH, &payload(105, 7, &[born("oil", 2, 1.0)])).unwrap();
    assert_eq!(lane.one(DDATA, &payload(106, 8, &[data(2, 3.0)])), Ok((3.0, GOOD)));
    // A birth whose own number breaks the sequence is as good: nothing was lost after it.
    lane.take(DBIRTH, &payload(107, 20, &[born("oil", 2, 1.0)])).unwrap();
    assert_eq!(lane.one(DDATA, &payload(108, 21, &[data(2, 3.0)])), Ok((3.0, GOOD)));
}

#[test]
fn sequences_wrap_and_repeated_and_late_messages_break_none() {
    let mut lane = lane_with_births();
    for seq in 2..=300u64 {
        assert_eq!(
            lane.one(DDATA, &payload(200 + seq, seq % 256, &[data(2, 1.0)])),
            Ok((1.0, GOOD)),
            "{seq}"
        );
    }
    assert_eq!(lane.one(DDATA, &payload(500, 44, &[data(2, 1.0)])), Ok((1.0, GOOD)), "it comes again");
    assert_eq!(lane.one(DDATA, &payload(150, 7, &[data(2, 1.0)])), Ok((1.0, GOOD)), "it comes late");
    assert_eq!(
        lane.one(DDATA, &payload(99, 7, &[data(2, 1.0)])),
        Ok((1.0, UNCERTAIN)),
        "it is older than the birth"
    );
    assert_eq!(lane.one(DDATA, &payload(501, 45, &[data(2, 1.0)])), Ok((1.0, GOOD)));
    assert_eq!(lane.one(DDATA, &payload(502, 256, &[data(2, 1.0)])), Err("bad_sequence"));
}

#[test]
fn deaths_leave_every_metric_stale() {
    let mut lane = lane_with_births();
    let seen = lane.take(DDEATH, &payload(110, 2, &[])).unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], ("G/E/D".to_owned(), "oil".to_owned(), 110, None, STALE));
    assert_eq!(lane.take(DDEATH, &payload(111, 3, &[])), Ok(vec![]));
    assert_eq!(lane.one(DDATA, &payload(112, 4, &[data(2, 1.0)])), Err("unresolved_alias"));

    let mut lane = lane_with_births();
    let will = |session| bytes(2, &[bytes(1, b"bdSeq"), int(4, 4), int(11, session)].concat());
    assert_eq!(lane.take(NDEATH, &will(2)), Ok(vec![]), "the death of a session before");
    let seen = lane.take(NDEATH, &will(3)).unwrap();
    let stale: Vec<_> = seen.iter().map(|(machine, sensor, ms, ..)| (&**machine, &**sensor, *ms)).collect();
    assert_eq!(
        stale,
        [("G/E", "bdSeq", 9000), ("G/E", "cpu", 9000), ("G/E/D", "oil", 9000), ("G/E/D", "rpm", 9000)]
    );
}

#[test]
fn an_old_birth_or_death_does_not_undo_a_newer_birth() {
    let mut lane = lane_with_births();
    let seen = lane.take(DBIRTH, &payload(50, 9, &[born("rpm", 2, 7.0)])).unwrap();
    assert_eq!(seen, [("G/E/D".to_owned(), "rpm".to_owned(), 50, Some(7.0), GOOD)]);
    let seen = lane.take(NBIRTH, &payload(50, 0, &[born("load", 1, 0.1)])).unwrap();
    assert_eq!(seen, [("G/E".to_owned(), "load".to_owned(), 50, Some(0.1), GOOD)]);
    assert_eq!(lane.take(DDEATH, &payload(50, 9, &[])), Ok(vec![]));
    // Neither the aliases nor the sequence have moved.
    let seen = lane.take(DDATA, &payload(102, 2, &[data(2, 62.0)])).unwrap();
    assert_eq!(seen, [("G/E/D".to_owned(), "oil".to_owned(), 102, Some(62.0), GOOD)]);
    // A node's birth that is older than what a device said since is old, be the node's own known or not.
    let mut lane = Lane::new();
    lane.take(DBIRTH, &payload(101, 1, &[born("oil", 2, 61.0)])).unwrap();
    assert_eq!(lane.take(NBIRTH, &payload(50, 0, &[born("cpu", 1, 0.1)])).unwrap().len(), 1);
    assert_eq!(lane.one(DDATA, &payload(102, 2, &[data(2, 62.0)])), Ok((62.0, GOOD)));
}

#[test]
fn what_is_no_reading_is_passed_over_and_what_is_wrong_is_said() {
    let mut lane = lane_with_births();
    assert_eq!(lane.take("spBv1.0/G/NCMD/E", b"\xff"), Ok(vec![]));
    assert_eq!(lane.take("spBv1.0/STATE/scada", b"{\"online\":true}"), Ok(vec![]));
    let set = [bytes(1, b"table"), int(4, 16), bytes(17, b"x")].concat();
    let seen = lane.take(DBIRTH, &payload(102, 2, &[set, born("oil", 2, 1.0)])).unwrap();
    assert_eq!((seen.len(), &*seen[0].1), (1, "oil"));
    let null = [int(2, 2), int(7, 1)].concat();
    assert_eq!(lane.take(DDATA, &payload(103, 3, &[null])).unwrap()[0].3, None);
    let key = bytes(9, &[bytes(1, b"Quality"), bytes(2, &int(3, 0))].concat());
    let bad = [data(2, 1.0), key].concat();
    assert_eq!(lane.one(DDATA, &payload(104, 4, &[bad])), Ok((1.0, BAD)));
    assert_eq!(lane.take("nonsense", b""), Err("bad_topic"));
    assert_eq!(lane.take(DDATA, b"\x12\x05"), Err("syntax"));
    let twice = payload(105, 5, &[born("a", 2, 1.0), born("b", 2, 1.0)]);
    assert_eq!(lane.take(DBIRTH, &twice), Err("duplicate_alias"));
    assert_eq!(lane.one(DDATA, &payload(106, 5, &[data(2, 7.0)])), Ok((7.0, GOOD)), "the old birth holds");
    assert_eq!(lane.take(DBIRTH, &payload(107, 6, &[born("", 2, 1.0)])), Err("empty_name"));
    let neither = payload(108, 6, &[double(1.0)]);
    assert_eq!(lane.take(DDATA, &neither), Err("missing_field"));
}

#[test]
fn machines_are_named_as_the_settings_say() {
    let settings =
        SparkplugSettings { machine: "{device}@{edge} {x}".into(), ..SparkplugSettings::default() };
    let topic = Topic { group: "G", kind: Kind::Data, edge: "{device}", device: Some("D") };
    assert_eq!(settings.name(&topic), "D@{device} {x}");
    assert_eq!(settings.name(&Topic { device: None, ..topic }), "G/{device}");
}
