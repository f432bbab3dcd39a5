//! A reading's proof holds for who has the public key, and for nothing but what it says.

mod support;

use ed25519_dalek::SigningKey;
use stillwell_ingest::evidence;
use stillwell_ingest::proof::{Proof, ProofError, ProveError, Sought, prove};
use stillwell_ingest::stage::Limits;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::Offset;
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeError, DecodeFault, Decoder, decoder_for};
use stillwell_source::lane::Stage;
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;
use support::{LIMITS, MemoryStore, chunk, ingest, key, lane, public_key};

async fn archive() -> std::sync::Arc<MemoryStore> {
    let store = std::sync::Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", Limits { file_bytes: 1, ..LIMITS });
    let (lane, feed) = lane(0);
    for first in [0, 20, 40] {
        feed.chunks.send(chunk(first, first + 20)).await.unwrap();
    }
    drop(feed);
    stage.run(lane).await.unwrap();
    store
}

/// The reading that record `offset` of the tests holds.
fn sought(offset: i64) -> Sought {
    Sought {
        machine: format!("press-{}", offset % 3),
        sensor: "oil".into(),
        time_us: (1_795_000_000_000 + offset * 10) * 1000,
        topic: None,
        place: None,
    }
}

fn decoder() -> Box<dyn Decoder> {
    decoder_for(&TopicSettings::new("readings"))
}

#[tokio::test]
async fn each_reading_of_the_archive_has_a_proof_that_holds() {
    let store = archive().await;
    for offset in (0..60).filter(|offset| offset % 7 != 3 && !support::is_gap(*offset)) {
        let (proof, matches) = prove(&*store, &sought(offset), &|_| Some(decoder())).unwrap();
        assert_eq!((proof.record.offset, matches), (offset, 1));
        assert_eq!(proof.reading.value, Some(offset as f64 / 4.0));
        let json = serde_json::to_string(&proof).unwrap();
        let read: Proof = serde_json::from_str(&json).unwrap();
        let entry = read.check(&public_key(), &mut *decoder()).unwrap();
        assert!(entry.range.contains(Offset(offset)));
    }
    let missing = Sought { sensor: "other".into(), ..sought(1) };
    let none = prove(&*store, &missing, &|_| Some(decoder()));
    assert!(matches!(none, Err(ProveError::NotFound)));
}

/// Reads no record by itself.
struct ByHistory;

impl Decoder for ByHistory {
    fn decode(
        &mut self,
        _: &RecordRef<'_>,
        _: u32,
        _: &mut SeriesTable,
        _: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        Err(DecodeError::new("unresolved_alias", 0, "no birth was seen").into())
    }

    fn needs_history(&mut self, _: &RecordRef<'_>) -> bool {
        true
    }

    fn new_table(&mut self) {}
}

#[tokio::test]
async fn a_record_that_is_read_by_those_before_it_is_not_called_damaged() {
    let store = archive().await;
    let refused = prove(&*store, &sought(25), &|_| Some(Box::new(ByHistory)));
    assert!(matches!(refused, Err(ProveError::NeedsHistory { offset: Offset(25), .. })), "{refused:?}");
}

#[tokio::test]
async fn a_proof_in_which_anything_is_changed_does_not_hold() {
    let store = archive().await;
    let (proof, _) = prove(&*store, &sought(25), &|_| Some(decoder())).unwrap();
    let (other, _) = prove(&*store, &sought(44), &|_| Some(decoder())).unwrap();
    let refused = |change: &dyn Fn(&mut Proof)| {
        let mut changed = proof.clone();
        change(&mut changed);
        changed.check(&public_key(), &mut *decoder()).unwrap_err()
    };
    assert!(matches!(refused(&|p| p.reading.value = Some(1.0)), ProofError::Claim(_)));
    assert!(matches!(refused(&|p| p.reading.machine = "press-9".into()), ProofError::Claim(_)));
    assert!(matches!(refused(&|p| p.record.timestamp_ms += 1), ProofError::NotIncluded));
    assert!(matches!(refused(&|p| p.record.value.clone_from(&other.record.value)), ProofError::NotIncluded));
    assert!(matches!(refused(&|p| p.record.headers.push(("h".into(), None))), ProofError::NotIncluded));
    assert!(matches!(refused(&|p| p.record.offset = 2), ProofError::Elsewhere { .. }));
    assert!(matches!(refused(&|p| p.leaf += 1), ProofError::NotIncluded));
    assert!(matches!(refused(&|p| p.leaves -= 1), ProofError::Elsewhere { .. }));
    assert!(matches!(refused(&|p| drop(p.path.pop())), ProofError::NotIncluded));
    assert!(matches!(refused(&|p| p.entry.clone_from(&other.entry)), ProofError::Elsewhere { .. }));
    assert!(matches!(refused(&|p| p.entry = p.entry.replace("\"a\"", "\"b\"")), ProofError::Entry(_)));
    let stranger = hex(&SigningKey::from_bytes(&[1; 32]));
    assert!(matches!(proof.check(&stranger, &mut *decoder()), Err(ProofError::Untrusted { .. })));
}

#[tokio::test]
async fn a_proof_holds_for_who_knows_an_earlier_or_a_later_key_of_the_archive() {
    let store = archive().await;
    let next = SigningKey::from_bytes(&[9; 32]);
    evidence::change_key(&*store as &dyn ArchiveStore, &key(), &next, 1, "planned").unwrap();
    let (proof, _) = prove(&*store, &sought(25), &|_| Some(decoder())).unwrap();
    for known in [public_key(), hex(&next)] {
        proof.check(&known, &mut *decoder()).unwrap();
    }
    let stranger = hex(&SigningKey::from_bytes(&[1; 32]));
    proof.check(&stranger, &mut *decoder()).unwrap_err();
}

fn hex(key: &SigningKey) -> String {
    key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn values_come_back_to_the_last_bit() {
    for bits in (0..20_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let value = f64::from_bits(bits);
        let reading = stillwell_ingest::proof::Reading {
            machine: "m".into(),
            sensor: "s".into(),
            kind: None,
            unit: None,
            time_us: 0,
            value: Some(value),
            text: None,
            quality: 0,
            index: 0,
        };
        let json = serde_json::to_string(&reading).unwrap();
        let back: stillwell_ingest::proof::Reading = serde_json::from_str(&json).unwrap();
        assert!(back.value.unwrap().to_bits() == bits || value.is_nan(), "{json}");
    }
}
