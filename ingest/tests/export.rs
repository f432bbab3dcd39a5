//! An audit pack holds exactly what was asked for, stands for itself with the public key alone, and shows what was
//! done to it.

#[path = "export/aged.rs"]
mod aged;
#[path = "export/forged.rs"]
mod forged;
mod support;
#[path = "tamper/archive.rs"]
#[allow(dead_code, reason = "this file attacks packs")]
mod tamper;

use std::fs;
use std::path::Path;
use std::process::Command;

use ed25519_dalek::SigningKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use stillwell_ingest::evidence;
use stillwell_ingest::export::check::{Audit, Report, check};
use stillwell_ingest::export::{ExportError, Manifest, Options, Query, export, plan};
use stillwell_ingest::life::ledger::read_view;
use stillwell_ingest::life::pieces::Pieces;
use stillwell_ingest::store::ArchiveStore;
use stillwell_schema::{Clock, pattern};
use stillwell_source::decode::{Decoder, decoder_for};
use stillwell_source::settings::TopicSettings;
use support::{FixedClock, MemoryStore, public_key, read_parquet};
use tamper::Archive;

/// What the tests know of a reading: machine, time (µs), partition, offset, index, bits of the value.
type Known = (String, i64, i32, i64, u32, Option<u64>);

fn known(parquet: &[u8]) -> Vec<Known> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type};
    let mut all = Vec::new();
    for batch in read_parquet(parquet) {
        let value = batch["value"].as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            all.push((
                batch["machine"].as_string::<i32>().value(row).to_owned(),
                batch["time"].as_primitive::<TimestampMicrosecondType>().value(row),
                batch["partition"].as_primitive::<Int32Type>().value(row),
                batch["offset"].as_primitive::<Int64Type>().value(row),
                batch["index"].as_primitive::<UInt32Type>().value(row),
                value.is_valid(row).then(|| value.value(row).to_bits()),
            ));
        }
    }
    all
}

/// Every reading of the archive that is asked for, found by looking at each.
fn by_looking(store: &dyn ArchiveStore, query: &Query) -> Vec<Known> {
    let mut all = Vec::new();
    for lane in evidence::lanes(store, None).unwrap() {
        let view = read_view(store, &lane).unwrap();
        for piece in Pieces::new(store, &lane, &view) {
            let files = piece.unwrap().readings;
            all.extend(files.iter().flat_map(|file| known(&store.get(&file.path).unwrap().unwrap())));
        }
    }
    all.retain(|(machine, time, ..)| {
        (query.from_us..query.to_us).contains(time)
            && query.machines.iter().any(|wanted| pattern::matches(wanted, machine))
    });
    all.sort();
    all
}

/// The readings of some machines whose records have the offsets `first..next`.
fn query(machines: &[&str], first: i64, next: i64) -> Query {
    let time = |offset: i64| FixedClock.now_us() + offset * 10_000;
    let machines = machines.iter().map(|machine| (*machine).to_owned()).collect();
    Query { topic: None, machines, from_us: time(first), to_us: time(next) }
}

fn options(query: Query) -> Options {
    Options { query, archive: "memory".into(), trusted: Some(public_key()), made_us: FixedClock.now_us() }
}

fn decoder(_: &str) -> Result<Box<dyn Decoder>, String> {
    Ok(decoder_for(&TopicSettings::new("readings")))
}

fn checked(pack: &Path, key: &str) -> Report {
    let audit = Audit { key, checkpoint: None, salt: [7; 16], decoder_of: &decoder };
    check(pack, &audit, &|_| ()).unwrap()
}

/// An archive of several lanes and a pack of it.
fn pack_of(seed: u64, query: Query, pack: &Path) -> (MemoryStore, Manifest) {
    let store = Archive::new(seed).store();
    let manifest = export(&store, &options(query), pack, &|_| ()).unwrap();
    (store, manifest)
}

/// Makes the manifest name the files as they are, and say whatever else `change` makes it say: it is not signed. It
/// names a version whose page and script nobody here knows.
fn restate(pack: &Path, change: impl FnOnce(&mut Manifest)) {
    let path = pack.join("manifest.json");
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    "other".clone_into(&mut manifest.stillwell);
    for file in &mut manifest.files {
        let bytes = fs::read(pack.join(&file.name)).unwrap();
        file.bytes = bytes.len() as u64;
        file.sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    change(&mut manifest);
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_pack_holds_what_was_asked_for_and_nothing_else_and_checks() {
    let folder = tempfile::tempdir().unwrap();
    let (mut written, mut empty) = (0, 0);
    for seed in 0..60 {
        eprintln!("archive {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let store = Archive::new(seed).store();
        let machines =
            [&["press-0"][..], &["press-*"], &["*-1", "press-2"], &["press-1", "press-1"], &["*-9"]];
        let first = random.random_range(-5..25);
        let query = query(machines[random.random_range(0..5)], first, first + random.random_range(1..40));
        let expected = by_looking(&store, &query);
        let pack = folder.path().join(format!("pack-{seed}"));
        let planned = plan(&store, &options(query.clone()), &|_| ());
        let made = export(&store, &options(query), &pack, &|_| ());
        if expected.is_empty() {
            assert!(
                matches!(planned, Err(ExportError::NotFound { .. }))
                    && matches!(made, Err(ExportError::NotFound { .. }))
            );
            assert!(!pack.exists());
            empty += 1;
            continue;
        }
        let (planned, manifest) = (planned.unwrap(), made.unwrap());
        let found = known(&fs::read(pack.join("readings.parquet")).unwrap());
        assert!(
            found.is_sorted_by_key(|(machine, time, _, offset, index, _)| (machine, *time, *offset, *index))
        );
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        let counts = (manifest.readings, manifest.records);
        assert_eq!((planned.readings, planned.records), counts);
        let report = checked(&pack, &public_key());
        assert_eq!(report.problems, []);
        assert!(report.sound && report.notes.is_empty());
        assert_eq!((report.readings, report.records, report.readings_open), (counts.0, counts.1, 0));
        let csv = fs::read_to_string(pack.join("readings.csv")).unwrap();
        let (header, rows) = csv.split_once('\n').unwrap();
        assert!(header.starts_with("machine,sensor,"), "{header}");
        let values: Vec<Option<u64>> = rows
            .lines()
            .map(|line| line.split(',').nth(5).unwrap())
            .map(|cell| (!cell.is_empty()).then(|| cell.parse::<f64>().unwrap().to_bits()))
            .collect();
        assert_eq!(values, found.iter().map(|known| known.5).collect::<Vec<_>>());
        written += 1;
    }
    assert!(written > 15 && empty > 3, "{written} packs, {empty} of nothing");
    assert_eq!(names(folder.path()).len(), written, "nothing is left of those that were not made");
}

#[test]
fn whatever_byte_of_a_pack_is_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let (_, manifest) = pack_of(3, query(&["press-*"], 0, 60), &pack);
    let mut random = StdRng::seed_from_u64(1);
    for file in &manifest.files {
        let path = pack.join(&file.name);
        let bytes = fs::read(&path).unwrap();
        for _ in 0..if bytes.is_empty() { 0 } else { 12 } {
            let mut changed = bytes.clone();
            let at = random.random_range(0..changed.len());
            changed[at] ^= 1 << random.random_range(0..7);
            fs::write(&path, &changed).unwrap();
            let report = checked(&pack, &public_key());
            let found = report.problems.iter().any(|one| one.object == file.name);
            assert!(found, "byte {at} of {}", file.name);
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(checked(&pack, &public_key()).problems, []);
}

#[test]
fn proofs_and_entries_are_forged_by_nobody_who_writes_the_manifest_too() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    pack_of(3, query(&["press-*"], 0, 60), &pack);
    let mut random = StdRng::seed_from_u64(2);
    for name in ["proofs.jsonl", "entries.jsonl"] {
        let path = pack.join(name);
        let bytes = fs::read(&path).unwrap();
        for _ in 0..60 {
            let mut changed = bytes.clone();
            let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
            let at = digits[random.random_range(0..digits.len())];
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            fs::write(&path, &changed).unwrap();
            restate(&pack, |_| ());
            assert!(!checked(&pack, &public_key()).sound, "byte {at} of {name}");
        }
        fs::write(&path, &bytes).unwrap();
        restate(&pack, |_| ());
    }
    assert!(checked(&pack, &public_key()).sound);
}

#[test]
fn readings_that_their_records_do_not_say_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let [all, some] = ["all", "some"].map(|name| folder.path().join(name));
    pack_of(3, query(&["press-*"], 0, 60), &all);
    let (_, fewer) = pack_of(3, query(&["press-1"], 0, 60), &some);
    for name in ["readings.parquet", "readings.csv"] {
        fs::copy(some.join(name), all.join(name)).unwrap();
    }
    restate(&all, |manifest| {
        manifest.readings = fewer.readings;
        manifest.machines.clone_from(&fewer.machines);
    });
    let report = checked(&all, &public_key());
    assert!(!report.sound && report.problems.iter().all(|one| one.object == "readings.parquet"));
    let more = known(&fs::read(some.join("readings.parquet")).unwrap()).len() as u64;
    assert_eq!(report.readings, more, "those that are there are of proven records");
}

#[test]
fn a_topic_that_cannot_be_decoded_is_left_open_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let (_, manifest) = pack_of(3, query(&["press-*"], 0, 60), &pack);
    let none = |topic: &str| -> Result<Box<dyn Decoder>, String> { Err(format!("no {topic}")) };
    let audit = Audit { key: &public_key(), checkpoint: None, salt: [7; 16], decoder_of: &none };
    let report = check(&pack, &audit, &|_| ()).unwrap();
    assert!(
        report.sound && report.is_open() && report.notes.iter().all(|note| note.contains("no readings")),
        "{report:?}"
    );
    assert_eq!(report.readings_open, manifest.readings);
}

#[test]
fn another_key_neither_makes_a_pack_nor_checks_it() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let (store, _) = pack_of(3, query(&["press-*"], 0, 60), &pack);
    let stranger = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    let stranger: String = stranger.iter().map(|byte| format!("{byte:02x}")).collect();
    let report = checked(&pack, &stranger);
    assert!(!report.sound && report.records == 0, "{report:?}");
    let options = Options { trusted: Some(stranger), ..options(query(&["press-*"], 0, 60)) };
    let refused = export(&store, &options, &folder.path().join("other"), &|_| ());
    assert!(matches!(refused, Err(ExportError::Untrusted { .. })));
    assert_eq!(names(folder.path()), ["pack"]);
}

#[test]
fn a_folder_in_use_is_not_touched_and_an_empty_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    fs::create_dir(&pack).unwrap();
    let (store, _) = pack_of(3, query(&["press-*"], 0, 60), &pack);
    let before = names(&pack);
    let again = export(&store, &options(query(&["press-0"], 0, 60)), &pack, &|_| ());
    assert!(matches!(again, Err(ExportError::NotEmpty { .. })));
    assert_eq!((names(&pack), names(folder.path())), (before, vec!["pack".to_owned()]));
}

#[test]
fn an_altered_archive_gives_no_pack() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["/readings/", "/records/"] {
        let store = Archive::new(3).store();
        for (path, bytes) in store.objects.lock().unwrap().iter_mut() {
            if path.contains(part) {
                bytes[40] ^= 4;
            }
        }
        let made = export(&store, &options(query(&["press-*"], 0, 60)), &folder.path().join("pack"), &|_| ());
        assert!(matches!(made, Err(ExportError::Damaged(_))), "{part}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

/// The script needs a python3, and so does this.
#[test]
fn the_script_says_the_same_without_stillwell() {
    let folder = tempfile::tempdir().unwrap();
    let run = |pack: &Path| {
        let output = Command::new("python3").arg(pack.join("check.py")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        (output.status.success(), format!("{}{error}", String::from_utf8_lossy(&output.stdout)))
    };
    let mut packs = 0;
    for seed in 0..12 {
        let pack = folder.path().join(format!("pack-{seed}"));
        let store = Archive::new(seed).store();
        let manifest = match export(&store, &options(query(&["press-*"], 0, 60)), &pack, &|_| ()) {
            Ok(manifest) => manifest,
            Err(ExportError::NotFound { .. }) => continue,
            Err(error) => panic!("{seed}: {error}"),
        };
        packs += 1;
        let (holds, said) = run(&pack);
        assert!(holds && said.contains(&format!("{} records proven", manifest.records)), "{seed}: {said}");
        let path = pack.join("proofs.jsonl");
        let proofs = fs::read_to_string(&path).unwrap();
        let first = proofs.lines().next().unwrap();
        let attacks = [
            (proofs.replacen("\"timestamp_ms\":", "\"timestamp_ms\":1", 1), "Merkle root"),
            (format!("{first}\n{proofs}"), "does not come after the record before it"),
            (proofs.replacen(&format!("{first}\n"), "", 1), "is of no proven record"),
        ];
        for (forged, words) in attacks {
            fs::write(&path, forged).unwrap();
            restate(&pack, |_| ());
            let (holds, said) = run(&pack);
            assert!(!holds && said.contains(words), "{seed}: {words}: {said}");
        }
    }
    assert!(packs > 7, "{packs}");
}
