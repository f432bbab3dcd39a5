//! Packs that somebody forged who writes every file that is not signed, and archives that somebody added to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use stillwell_schema::checkpoint::SignedCheckpoint;
use stillwell_schema::ledger::{Deed, Hold};
use stillwell_schema::{Entry, SignedEntry, TopicPartition, paths};
use stillwell_source::chunk::RecordRef;
use stillwell_source::columns::ReadingColumns;
use stillwell_source::decode::{DecodeError, DecodeFault, TransientError};
use stillwell_source::series::SeriesTable;

use super::*;
use crate::support::key;
use crate::tamper::commit;

/// The lanes of [`plain`].
fn lanes() -> [TopicPartition; 2] {
    [0, 7].map(|partition| TopicPartition::new("readings", partition))
}

/// Two lanes of four entries each, of which nothing was merged or erased.
fn plain() -> MemoryStore {
    let (store, mut random) = (MemoryStore::default(), StdRng::seed_from_u64(5));
    for _ in 0..4 {
        for lane in lanes() {
            commit(&store, &lane, &key(), &mut random);
        }
    }
    store
}

/// Another key.
fn next_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn pack_plain(store: &MemoryStore, pack: &Path) -> Manifest {
    export(store, &options(query(&["press-*"], 0, 60)), pack, &|_| ()).unwrap()
}

fn lines(pack: &Path, name: &str) -> Vec<String> {
    fs::read_to_string(pack.join(name)).unwrap().lines().map(str::to_owned).collect()
}

fn write_lines(pack: &Path, name: &str, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(pack.join(name), text).unwrap();
}

/// Puts other rows in the place of a Parquet file's.
fn rewrite(pack: &Path, name: &str, change: impl Fn(&RecordBatch) -> RecordBatch) {
    let path = pack.join(name);
    let batches: Vec<RecordBatch> = read_parquet(&fs::read(&path).unwrap()).iter().map(change).collect();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    fs::write(path, writer.into_inner().unwrap()).unwrap();
}

/// The batch with another column.
fn with(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Each row twice.
fn twice(batch: &RecordBatch) -> RecordBatch {
    let rows = UInt32Array::from_iter_values((0..batch.num_rows() as u32).flat_map(|row| [row, row]));
    take_record_batch(batch, &rows).unwrap()
}

/// Changes every entry of a pack, and signs and chains them anew.
fn sign_anew(pack: &Path, change: impl Fn(usize, &mut Entry) -> SigningKey) {
    let mut heads = BTreeMap::<_, String>::new();
    let forge = |(at, line): (usize, &String)| {
        let mut entry = SignedEntry::parse(line.clone().into_bytes()).unwrap().entry;
        let lane = (entry.topic.clone(), entry.partition);
        if let Some(previous) = heads.get(&lane) {
            entry.previous.clone_from(previous);
        }
        let key = change(at, &mut entry);
        let signed = entry.sign(&key).unwrap();
        heads.insert(lane, signed.sha256);
        String::from_utf8(signed.bytes).unwrap()
    };
    let forged: Vec<String> = lines(pack, "entries.jsonl").iter().enumerate().map(forge).collect();
    write_lines(pack, "entries.jsonl", &forged);
}

/// Whether something is wrong with `object`, in these `words` among others.
#[track_caller]
fn assert_found(report: &Report, object: &str, words: &str) {
    let found =
        report.problems.iter().any(|one| one.object.starts_with(object) && one.message.contains(words));
    assert!(!report.sound && found, "{object}: {words}: {:#?}", report.problems);
}

fn held(pack: &Path, checkpoint: &SignedCheckpoint) -> Report {
    let audit =
        Audit { key: &public_key(), checkpoint: Some(checkpoint), salt: [7; 16], decoder_of: &decoder };
    check(pack, &audit, &|_| ()).unwrap()
}

#[test]
fn a_lane_that_comes_back_hides_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    pack_plain(&plain(), &pack);
    let all = lines(&pack, "entries.jsonl");
    let (first, other): (Vec<String>, Vec<String>) =
        all.into_iter().partition(|line| line.contains(r#""partition":0"#));
    assert!(first.len() > 2 && !other.is_empty());
    write_lines(&pack, "entries.jsonl", &[&first[..1], &other, &first[2..]].concat());
    restate(&pack, |_| ());
    assert_found(&checked(&pack, &public_key()), "entries.jsonl", "stands after an entry of");
    write_lines(&pack, "entries.jsonl", &[&first[..1], &first[2..], &other].concat());
    restate(&pack, |_| ());
    assert_found(&checked(&pack, &public_key()), "entries.jsonl", "does not follow its predecessor");
}

#[test]
fn a_record_counts_once_however_often_it_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    pack_plain(&plain(), &pack);
    for name in ["records.parquet", "readings.parquet"] {
        rewrite(&pack, name, twice);
    }
    let proofs = lines(&pack, "proofs.jsonl");
    write_lines(
        &pack,
        "proofs.jsonl",
        &proofs.iter().flat_map(|line| [line.clone(), line.clone()]).collect::<Vec<_>>(),
    );
    let csv = lines(&pack, "readings.csv");
    let rows = csv[1..].iter().flat_map(|line| [line.clone(), line.clone()]);
    write_lines(&pack, "readings.csv", &csv[..1].iter().cloned().chain(rows).collect::<Vec<_>>());
    restate(&pack, |manifest| {
        manifest.readings *= 2;
        manifest.records *= 2;
        manifest.machines.iter_mut().for_each(|machine| machine.readings *= 2);
        manifest.lanes.iter_mut().for_each(|lane| lane.records *= 2);
    });
    assert_found(&checked(&pack, &public_key()), "proofs.jsonl", "once more");
}

/// Reads nothing, for a reason.
struct Refuses {
    fault: DecodeFault,
    needs_history: bool,
}

impl Decoder for Refuses {
    fn decode(
        &mut self,
        _: &RecordRef<'_>,
        _: u32,
        _: &mut SeriesTable,
        _: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        Err(self.fault.clone())
    }

    fn needs_history(&mut self, _: &RecordRef<'_>) -> bool {
        self.needs_history
    }

    fn new_table(&mut self) {}
}

#[test]
fn a_record_that_does_not_decode_has_no_readings_and_one_that_cannot_be_decoded_here_leaves_them_open() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let manifest = pack_plain(&plain(), &pack);
    let report = |fault: DecodeFault, needs_history: bool| {
        let decoder_of = |_: &str| -> Result<Box<dyn Decoder>, String> {
            Ok(Box::new(Refuses { fault: fault.clone(), needs_history }))
        };
        let key = public_key();
        let audit = Audit { key: &key, checkpoint: None, salt: [7; 16], decoder_of: &decoder_of };
        check(&pack, &audit, &|_| ()).unwrap()
    };
    let data = DecodeFault::from(DecodeError::new("syntax", 0, "no"));
    let refused = report(data.clone(), false);
    assert_found(&refused, "proofs.jsonl", "does not decode");
    assert!(!refused.is_open() && refused.readings_open == 0);
    for open in [report(TransientError("the registry is away".into()).into(), false), report(data, true)] {
        assert!(open.sound && open.is_open(), "{open:?}");
        assert_eq!((open.readings_open, open.records), (manifest.readings, manifest.records));
    }
}

#[test]
fn files_have_the_columns_of_the_format_and_say_of_records_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    pack_plain(&plain(), &pack);
    let attack = |name: &str, words: &str, change: &dyn Fn(&RecordBatch) -> RecordBatch| {
        let path = pack.join(name);
        let bytes = fs::read(&path).unwrap();
        rewrite(&pack, name, change);
        restate(&pack, |_| ());
        let object = if words.contains("states") { "" } else { name };
        assert_found(&checked(&pack, &public_key()), object, words);
        fs::write(&path, bytes).unwrap();
    };
    let loosened = |batch: &RecordBatch| {
        let schema = batch.schema();
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Schema::new(fields.collect::<Vec<Field>>());
        RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
    };
    attack("readings.parquet", "columns", &loosened);
    attack("readings.parquet", "columns", &|batch| batch.project(&[0, 1, 2]).unwrap());
    attack("records.parquet", "columns", &loosened);
    attack("records.parquet", "states 9", &|batch| {
        with(batch, "readings", Arc::new(UInt32Array::from(vec![9; batch.num_rows()])))
    });
    for column in ["error_class", "error"] {
        attack("records.parquet", "states errors", &|batch| {
            with(batch, column, Arc::new(StringArray::from(vec!["syntax"; batch.num_rows()])))
        });
    }
    rewrite(&pack, "readings.parquet", |batch| {
        let rows = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
        take_record_batch(batch, &rows).unwrap()
    });
    restate(&pack, |_| ());
    assert_found(&checked(&pack, &public_key()), "readings.parquet", "not in the order");
}

#[test]
fn an_act_that_a_stranger_signed_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = plain();
    let [lane, _] = lanes();
    let hold = Hold {
        id: "case".into(),
        machines: "*".into(),
        from_us: None,
        until_us: None,
        by: "eve".into(),
        reason: "none".into(),
    };
    let stranger = SigningKey::from_bytes(&[1; 32]);
    let view = read_view(&store, &lane).unwrap();
    let act = view.head().sign(&lane, Deed::Hold(hold), "eve", 1, &stranger).unwrap();
    store.put(&paths::act(&lane, 0), &act.bytes).unwrap();
    for trusted in [Some(public_key()), None] {
        let options = Options { trusted, ..options(query(&["press-*"], 0, 60)) };
        let planned = plan(&store, &options, &|_| ()).unwrap_err();
        assert!(matches!(planned, ExportError::Untrusted { .. }), "{planned}");
        let made = export(&store, &options, &folder.path().join("pack"), &|_| ()).unwrap_err();
        assert!(matches!(made, ExportError::Untrusted { .. }), "{made}");
    }
}

#[test]
fn a_key_that_was_replaced_signs_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let store = plain();
    evidence::change_key(&store, &key(), &next_key(), 1, "planned").unwrap();
    pack_plain(&store, &pack);
    assert_eq!(checked(&pack, &public_key()).problems, []);
    sign_anew(&pack, |at, _| if at == 0 { next_key() } else { key() });
    restate(&pack, |_| ());
    assert_found(&checked(&pack, &public_key()), "entries.jsonl", "a later key had replaced");
    let [lane, _] = lanes();
    for signer in [next_key(), key(), key(), key()] {
        commit(&store, &lane, &signer, &mut StdRng::seed_from_u64(1));
    }
    let refused = export(&store, &options(query(&["press-*"], 0, 90)), &folder.path().join("other"), &|_| ());
    assert!(matches!(refused, Err(ExportError::Replaced { .. })), "{refused:?}");
}

#[test]
fn a_kept_checkpoint_shows_what_the_holder_of_the_key_wrote_anew() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let store = plain();
    pack_plain(&store, &pack);
    let kept = evidence::checkpoint(&store, &key(), "w", 1).unwrap().unwrap();
    let honest = held(&pack, &kept);
    assert!(honest.sound && !honest.is_open(), "{honest:?}");
    sign_anew(&pack, |_, entry| {
        "eve".clone_into(&mut entry.writer);
        key()
    });
    restate(&pack, |_| ());
    assert!(checked(&pack, &public_key()).sound, "the key's holder can sign anything");
    assert_found(&held(&pack, &kept), "entries.jsonl", "attests another entry");

    let [lane, _] = lanes();
    let later = folder.path().join("later");
    for _ in 0..3 {
        commit(&store, &lane, &key(), &mut StdRng::seed_from_u64(1));
    }
    export(&store, &options(query(&["press-*"], 0, 1)), &later, &|_| ()).unwrap();
    let far = evidence::checkpoint(&store, &key(), "w", 2).unwrap().unwrap();
    let report = held(&later, &far);
    assert!(report.sound && report.is_open(), "it marks none of these entries: {report:?}");
}

#[test]
fn what_nobody_signed_is_compared_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let manifest = pack_plain(&plain(), &pack);
    type Claim = (&'static str, fn(&mut Manifest));
    let claims: [Claim; 5] = [
        ("states", |manifest| manifest.records += 1),
        ("does not state the lanes", |manifest| manifest.lanes[0].erasures += 1),
        ("does not state the lanes", |manifest| drop(manifest.lanes.pop())),
        ("does not state the machines", |manifest| manifest.machines[0].readings += 1),
        ("names the key", |manifest| manifest.key = manifest.key.replace('a', "b")),
    ];
    for (words, change) in claims {
        restate(&pack, change);
        assert_found(&checked(&pack, &public_key()), "manifest.json", words);
        fs::write(pack.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    }
    for name in ["README.html", "check.py"] {
        let bytes = fs::read(pack.join(name)).unwrap();
        fs::write(pack.join(name), [&bytes[..], b" "].concat()).unwrap();
        restate(&pack, |stated| stated.stillwell.clone_from(&manifest.stillwell));
        assert_found(&checked(&pack, &public_key()), name, "is not what the version");
        fs::write(pack.join(name), bytes).unwrap();
    }
    fs::write(pack.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    fs::write(pack.join("summary.pdf"), "all is well").unwrap();
    assert_found(&checked(&pack, &public_key()), "summary.pdf", "is not of the pack");
}
