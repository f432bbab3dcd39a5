//! Messages written byte by byte; those that foreign encoders wrote are in `tests/vectors.rs`.

use super::*;

fn field(number: u32, wire: u32, content: &[u8]) -> Vec<u8> {
    assert!(number < 16, "one byte of tag");
    let mut bytes = vec![(number << 3 | wire) as u8];
    if wire == 2 {
        bytes.push(content.len() as u8);
    }
    bytes.extend_from_slice(content);
    bytes
}

fn good() -> Vec<u8> {
    [
        field(1, 2, b"press-07"),
        field(2, 2, b"oil"),
        field(4, 2, "°C".as_bytes()),
        field(5, 0, &[0xc0, 0x84, 0x3d]),
        field(6, 1, &61.5f64.to_le_bytes()),
    ]
    .concat()
}

fn decode(bytes: &[u8]) -> Result<(SeriesTable, ReadingColumns), &'static str> {
    let (mut table, mut out) = (SeriesTable::default(), ReadingColumns::default());
    let decoded = ProtobufDecoder::new(None).decode(&RecordRef::new(0, None, bytes), 3, &mut table, &mut out);
    match decoded {
        Ok(()) => Ok((table, out)),
        Err(DecodeFault::Data(error)) => {
            assert!(out.is_empty() && error.at <= bytes.len());
            Err(error.class)
        }
        Err(DecodeFault::Transient(error)) => panic!("{error}"),
    }
}

#[test]
fn a_reading_and_a_batch_are_read() {
    let (table, out) = decode(&good()).unwrap();
    assert_eq!((out.time_us[0], out.value[0], out.record[0], out.index[0]), (1_000_000, 61.5, 3, 0));
    let series = table.series(out.series[0]);
    assert_eq!((table.name(series.machine), table.name(series.sensor)), ("press-07", "oil"));
    assert_eq!((series.kind, series.unit.map(|unit| table.name(unit))), (None, Some("°C")));

    let text =
        [field(1, 2, b"m"), field(2, 2, b"s"), field(5, 0, &[2]), field(7, 2, b"on"), field(8, 0, &[9])];
    let batch = [field(15, 2, &good()), field(15, 2, &text.concat()), field(15, 2, &good())].concat();
    let (_, out) = decode(&batch).unwrap();
    assert_eq!((&out.series[..], &out.index[..]), (&[0, 1, 0][..], &[0, 1, 2][..]));
    assert_eq!((out.text[0].row, &*out.text_bytes, out.quality[1]), (1, "on", 9));
}

#[test]
fn the_last_of_a_field_counts_and_unknown_ones_are_passed_over() {
    let unknown =
        [field(9, 0, &[1]), field(10, 2, b"x"), field(11, 1, &[0; 8]), field(12, 5, &[0; 4])].concat();
    let twice = [unknown, good(), field(2, 2, b"water")].concat();
    let (table, out) = decode(&twice).unwrap();
    assert_eq!(table.name(table.series(out.series[0]).sensor), "water");
}

#[test]
fn what_is_wrong_is_said_by_its_class() {
    let check = |bytes: &[u8], class| assert_eq!(decode(bytes).err(), Some(class), "{bytes:x?}");
    check(&[], "missing_field");
    check(&field(9, 0, &[1]), "missing_field");
    check(&[good(), field(6, 0, &[1])].concat(), "wire_type");
    check(&[good(), field(1, 2, b"")].concat(), "missing_field");
    check(&[good(), field(1, 2, b"\xff")].concat(), "utf8");
    check(&[good(), field(7, 2, b"\xff")].concat(), "utf8");
    check(&[good(), field(8, 0, &[0xff, 0xff, 0xff, 0xff, 0x7f])].concat(), "bad_quality");
    check(
        &[good(), field(5, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])].concat(),
        "bad_time",
    );
    check(&[good(), field(15, 2, &good())].concat(), "syntax");
    check(&[field(15, 2, &good()), good()].concat(), "syntax");
    check(&good()[..good().len() - 1], "syntax");
    check(&field(1, 3, &[]), "unsupported");
    check(&[0, 0, 0, 0, 17, 0, 8, 1], "framing");
    check(&[0, 0, 0], "framing");
    check(&[0, 0, 0, 0, 17, 0xff], "framing");
    check(&[0, 0, 0, 0, 17, 20], "framing");
}

#[test]
fn a_value_that_is_no_number_is_none_of_bad_quality() {
    let (_, out) = decode(&[good(), field(6, 1, &f64::NAN.to_le_bytes())].concat()).unwrap();
    assert_eq!((out.has_value[0], out.value[0], out.quality[0]), (false, 0.0, 0x8000_0000));
}
