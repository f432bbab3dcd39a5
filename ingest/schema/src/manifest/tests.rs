use super::*;

fn entry(seq: u64, first: i64, next: i64, previous: &str) -> Entry {
    Entry {
        format: FORMAT,
        topic: "readings".into(),
        partition: 2,
        seq,
        previous: previous.into(),
        range: OffsetRange::new(Offset(first), Offset(next)).unwrap(),
        gaps: vec![],
        readings: None,
        records: None,
        undecodable: 0,
        merkle_root: GENESIS.into(),
        time_min_us: None,
        time_max_us: None,
        machines: Some(vec!["press-07".into()]),
        schema: crate::columns::SCHEMA_ID.into(),
        writer: "test".into(),
        written_us: 1,
        key: String::new(),
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

#[test]
fn a_signed_entry_parses_back_to_itself() {
    let signed = entry(0, 0, 10, GENESIS).sign(&key()).unwrap();
    let again = SignedEntry::parse(signed.bytes.clone()).unwrap();
    assert_eq!(again, signed);
}

#[test]
fn any_flipped_bit_is_refused() {
    let signed = entry(0, 0, 10, GENESIS).sign(&key()).unwrap();
    for at in 0..signed.bytes.len() {
        for bit in 0..8 {
            let mut bytes = signed.bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(SignedEntry::parse(bytes).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn spacing_and_field_order_are_part_of_the_format() {
    let signed = entry(0, 0, 10, GENESIS).sign(&key()).unwrap();
    let mut spaced = signed.bytes.clone();
    spaced.push(b' ');
    assert!(matches!(SignedEntry::parse(spaced), Err(EntryError::Signed(SignedError::NotCanonical))));
}

#[test]
fn ranges_and_gaps_that_no_log_can_have_are_refused() {
    let check = |(first, next): (i64, i64), gaps: &[(i64, i64)], expected: bool| {
        let gap = |&(first, next): &(i64, i64)| Gap {
            first: Offset(first),
            next: Offset(next),
            reason: crate::GapReason::NotDelivered,
        };
        let range = OffsetRange { first: Offset(first), next: Offset(next) };
        let entry = Entry { range, gaps: gaps.iter().map(gap).collect(), ..entry(0, 0, 10, GENESIS) };
        let signed = entry.sign(&key());
        assert_eq!(signed.is_ok(), expected, "[{first}, {next}) {gaps:?}");
        assert!(signed.is_ok() || matches!(signed, Err(EntryError::Range { .. })));
    };
    check((5, 10), &[], true);
    check((5, 10), &[(5, 10)], true);
    check((5, 10), &[(5, 7), (7, 8), (9, 10)], true);
    check((10, 5), &[], false);
    check((-1, 5), &[], false);
    check((5, 10), &[(4, 6)], false);
    check((5, 10), &[(9, 11)], false);
    check((5, 10), &[(7, 7)], false);
    check((5, 10), &[(8, 9), (5, 6)], false);
    check((5, 10), &[(5, 8), (7, 9)], false);
}

#[test]
fn a_chain_has_one_possible_order() {
    let lane = TopicPartition::new("readings", 2);
    let first = entry(0, 5, 10, GENESIS).sign(&key()).unwrap();
    Head::genesis().check(&lane, &first.entry).unwrap();
    let head = first.head();
    let follows = entry(1, 10, 12, &first.sha256);
    head.check(&lane, &follows).unwrap();
    let wrong = [
        entry(2, 10, 12, &first.sha256),
        entry(1, 11, 12, &first.sha256),
        entry(1, 9, 12, &first.sha256),
        entry(1, 10, 12, GENESIS),
        Entry { partition: 3, ..follows.clone() },
        Entry { topic: "other".into(), ..follows },
    ];
    for bad in wrong {
        assert!(head.check(&lane, &bad).is_err(), "{bad:?}");
    }
}

#[test]
fn files_of_before_are_read_and_those_of_a_later_version_are_not() {
    let of = |schema: &str| {
        let entry = Entry { schema: schema.to_owned(), ..entry(0, 0, 5, GENESIS) };
        SignedEntry::parse(entry.sign(&key())?.bytes)
    };
    for known in ["stillwell-1", "stillwell-2"] {
        assert_eq!(of(known).unwrap().entry.schema, known);
    }
    let later = of("stillwell-3").unwrap_err();
    assert!(matches!(&later, EntryError::Schema { seq: 0, schema } if schema == "stillwell-3"), "{later}");
}
