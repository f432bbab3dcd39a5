use proptest::prelude::*;

use super::*;

fn lane() -> TopicPartition {
    TopicPartition::new("readings", 2)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn file(name: &str) -> FileRef {
    FileRef { path: name.into(), bytes: 1, rows: 1, sha256: GENESIS.into() }
}

/// Entries `first..next`, ten offsets each.
fn cover(first: u64, next: u64, leaves: &[&str]) -> Cover {
    let at = |seq: u64| Offset(i64::try_from(seq * 10).unwrap());
    let range = OffsetRange { first: at(first), next: at(next) };
    let (first_sha256, last_sha256) = (GENESIS.to_owned(), GENESIS.to_owned());
    Cover {
        span: Span { first_seq: first, next_seq: next, first_sha256, last_sha256, range },
        readings: vec![ReadingsFile {
            file: file("r"),
            range,
            time_min_us: 1,
            time_max_us: 2,
            machines: Some(vec!["press-07".into()]),
        }],
        records: vec![RecordsFile { file: file("o"), range, undecodable: 0 }],
        leaves: leaves
            .iter()
            .map(|name| LeavesFile { file: file(name), range: OffsetRange::empty(at(first)) })
            .collect(),
    }
}

fn merge(first: u64, next: u64, leaves: &[&str]) -> Deed {
    Deed::Merge(Merge { cover: cover(first, next, leaves) })
}

fn erase(first: u64, next: u64, leaves: &[&str]) -> Deed {
    Deed::Erase(Erase {
        cover: cover(first, next, leaves),
        rules: vec![Rule { class: "default".into(), machines: Some("*".into()), keep_days: 30, until_us: 5 }],
        records: 1,
        readings: 1,
        by: "anna".into(),
        reason: "retention".into(),
    })
}

fn hold(id: &str) -> Deed {
    Deed::Hold(Hold {
        id: id.into(),
        machines: "press-*".into(),
        from_us: None,
        until_us: Some(9),
        by: "anna".into(),
        reason: "case 12".into(),
    })
}

fn release(id: &str) -> Deed {
    Deed::Release(Release { id: id.into(), by: "anna".into(), reason: "closed".into() })
}

fn apply(view: &mut View, deed: Deed) -> Result<Vec<Standing>, ActError> {
    let act = view.head().sign(&lane(), deed, "test", 1, &key())?;
    view.apply(&lane(), &act)
}

#[test]
fn a_signed_act_parses_back_to_itself_and_no_bit_of_it_can_be_flipped() {
    for deed in [merge(0, 2, &[]), erase(0, 2, &["l"]), hold("h"), release("h")] {
        let signed = LedgerHead::genesis().sign(&lane(), deed, "test", 1, &key()).unwrap();
        assert_eq!(SignedAct::parse(signed.bytes.clone()).unwrap(), signed);
        for at in 0..signed.bytes.len() {
            let mut bytes = signed.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(SignedAct::parse(bytes).is_err(), "byte {at}");
        }
    }
}

#[test]
fn covers_that_no_lane_can_have_are_refused() {
    let check = |alter: fn(&mut Cover), expected: bool| {
        let mut cover = cover(1, 3, &["l"]);
        alter(&mut cover);
        let signed = LedgerHead::genesis().sign(&lane(), Deed::Merge(Merge { cover }), "test", 1, &key());
        assert_eq!(signed.is_ok(), expected);
    };
    check(|_| (), true);
    check(|cover| cover.span.next_seq = 1, false);
    check(|cover| cover.span.range.next = Offset(9), false);
    check(|cover| cover.readings[0].range.next = Offset(31), false);
    check(|cover| cover.leaves[0].range.first = Offset(9), false);
    check(|cover| cover.records.push(cover.records[0].clone()), false);
    check(|cover| cover.records.clear(), true);
}

#[test]
fn acts_have_one_possible_order() {
    let first = LedgerHead::genesis().sign(&lane(), hold("a"), "test", 1, &key()).unwrap();
    let second = first.head().sign(&lane(), hold("b"), "test", 1, &key()).unwrap();
    let mut view = View::default();
    assert!(view.apply(&lane(), &second).is_err());
    view.apply(&lane(), &first).unwrap();
    assert!(view.apply(&lane(), &first).is_err());
    assert!(view.apply(&TopicPartition::new("readings", 3), &second).is_err());
    view.apply(&lane(), &second).unwrap();
    assert_eq!(view.holds().map(|hold| hold.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    apply(&mut view, release("a")).unwrap();
    apply(&mut view, release("a")).unwrap();
    assert_eq!(view.holds().count(), 1);
}

#[test]
fn leaves_of_erased_records_are_never_dropped() {
    let mut view = View::default();
    apply(&mut view, erase(0, 2, &["l"])).unwrap();
    assert!(apply(&mut view, merge(0, 4, &[])).is_err());
    assert!(apply(&mut view, merge(0, 4, &["k"])).is_err());
    apply(&mut view, erase(0, 4, &["k", "l"])).unwrap();
    assert_eq!(view.covers().count(), 1);
}

proptest! {
    /// The model holds, for each entry, the act that covers it, and an act is legal where each act that it
    /// touches is touched whole.
    #[test]
    fn each_entry_is_covered_by_the_newest_legal_act(
        spans in proptest::collection::vec((0u64..12, 1u64..12), 1..25)
    ) {
        let mut view = View::default();
        let mut model = [None::<u64>; 24];
        for (first, length) in spans {
            let span = usize::try_from(first).unwrap()..usize::try_from(first + length).unwrap();
            let inside = |act: u64, at: std::ops::Range<usize>| {
                model[at].iter().filter(|of| **of == Some(act)).count()
            };
            let touched: Vec<u64> = model[span.clone()].iter().flatten().copied().collect();
            let legal = touched.iter().all(|act| inside(*act, span.clone()) == inside(*act, 0..24));
            let before = view.clone();
            let act = view.head().seq;
            let applied = apply(&mut view, merge(first, first + length, &[]));
            prop_assert_eq!(applied.is_ok(), legal);
            match applied {
                Ok(superseded) => {
                    let mut expected = touched;
                    expected.dedup();
                    prop_assert_eq!(superseded.iter().map(|old| old.act).collect::<Vec<_>>(), expected);
                    model[span].fill(Some(act));
                }
                Err(_) => prop_assert_eq!(&view, &before),
            }
            for (seq, of) in (0u64..).zip(model) {
                prop_assert_eq!(view.covering(seq).map(|standing| standing.act), of);
                for offset in [seq * 10, seq * 10 + 9] {
                    let offset = Offset(i64::try_from(offset).unwrap());
                    prop_assert_eq!(view.covering_offset(offset).map(|standing| standing.act), of);
                }
            }
        }
    }
}
