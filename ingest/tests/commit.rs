//! The commit protocol, every row of its recovery table, on a store that fails where told.

mod support;

use std::ops::Range;
use std::sync::Arc;

use stillwell_ingest::commit::{Commit, Event, Outcome, State};
use stillwell_ingest::manifest::{Chain, find_head};
use stillwell_ingest::store::{ArchiveStore, Creation};
use stillwell_ingest::workers::{Threads, Workers};
use stillwell_ingest::writer::{Batch, encode};
use stillwell_schema::{Head, Offset, SignedEntry, paths};
use stillwell_source::budget::{Budget, Part};
use stillwell_source::decode::decoder_for;
use stillwell_source::settings::TopicSettings;
use support::{AWAY, ByHand, CRASH, MemoryStore, Op, QUICK, audit, chunk, key, lane_id};

type Objects = std::collections::BTreeMap<String, Vec<u8>>;

/// A writer's commit of the offsets `first..next` after `head`.
fn prepare(
    store: &Arc<MemoryStore>,
    writer: &str,
    head: &Head,
    first: i64,
    next: i64,
) -> (Commit, SignedEntry) {
    prepare_by(Arc::new(Threads), store, writer, head, first..next)
}

fn prepare_by(
    workers: Arc<dyn Workers>,
    store: &Arc<MemoryStore>,
    writer: &str,
    head: &Head,
    Range { start: first, end: next }: Range<i64>,
) -> (Commit, SignedEntry) {
    let mut batch = Batch::new(lane_id(), Offset(first));
    batch.push(&mut *decoder_for(&TopicSettings::new("readings")), chunk(first, next)).unwrap();
    let mut encoded = encode(&batch, writer).unwrap();
    let entry = encoded.entry(head, writer, 1, &key()).unwrap();
    let files = std::mem::take(&mut encoded.files);
    let store = Arc::clone(store) as Arc<dyn ArchiveStore>;
    (Commit::new(store, workers, files, entry.clone(), QUICK), entry)
}

fn sound(store: &MemoryStore, next: i64) {
    let report = audit(store);
    assert_eq!(report.problems, []);
    assert_eq!(report.range.unwrap().next, Offset(next));
    assert_eq!(find_head(store, &lane_id()).unwrap().next, Some(Offset(next)));
}

#[test]
fn the_legal_transitions_are_these_and_no_others() {
    use Event as E;
    use State as S;
    let legal = [
        (S::Store, E::Away, S::Store),
        (S::Store, E::Stored, S::Create),
        (S::Create, E::Created, S::Committed),
        (S::Create, E::Exists, S::ReadBack),
        (S::Create, E::Unknown, S::ReadBack),
        (S::ReadBack, E::Away, S::ReadBack),
        (S::ReadBack, E::Absent, S::Create),
        (S::ReadBack, E::Own, S::Committed),
        (S::ReadBack, E::Other, S::Fenced),
    ];
    let events = [E::Stored, E::Created, E::Exists, E::Unknown, E::Own, E::Other, E::Absent, E::Away];
    for state in [S::Store, S::Create, S::ReadBack, S::Committed, S::Fenced] {
        for event in events {
            let expected = legal.iter().find(|row| (row.0, row.1) == (state, event)).map(|row| row.2);
            assert_eq!(state.after(event), expected, "{state:?} {event:?}");
        }
    }
}

/// Faults of one commit, and how often it is heard waiting.
#[tokio::test]
async fn whatever_passes_is_waited_out_and_the_commit_stands() {
    type Case = (&'static str, Vec<(Op, bool)>, usize);
    let cases: [Case; 7] = [
        ("nothing fails", vec![], 0),
        ("the disk is full for a while", vec![(Op::Put, false), (Op::Put, false), (Op::Put, false)], 2),
        ("a file was written, but the answer was lost", vec![(Op::Put, true)], 1),
        ("the entry was not created", vec![(Op::Create, false)], 1),
        ("the entry was created, but the answer was lost", vec![(Op::Create, true)], 1),
        (
            "the read-back fails too",
            vec![(Op::Create, true), (Op::ReadBack, false), (Op::ReadBack, false)],
            3,
        ),
        (
            "neither was it created nor does the read-back work",
            vec![(Op::Create, false), (Op::ReadBack, true)],
            2,
        ),
    ];
    for (name, faults, waits) in cases {
        let store = Arc::new(MemoryStore::default());
        faults.iter().for_each(|(op, after)| store.fail(*op, *after, AWAY));
        let (commit, entry) = prepare(&store, "a", &Head::genesis(), 0, 30);
        let mut heard = 0;
        let outcome = commit.run(|_| heard += 1).await.unwrap();
        assert_eq!(outcome, Outcome::Committed(entry.head()), "{name}");
        assert!(heard >= waits, "{name}: {heard}");
        sound(&store, 30);
    }
}

/// The bytes of a put that hangs are in memory, whatever became of the commit that waits for it.
#[tokio::test(start_paused = true)]
async fn a_put_that_is_given_up_holds_its_claim_until_it_ends() {
    let (store, workers) = (Arc::new(MemoryStore::default()), Arc::new(ByHand::default()));
    let (commit, _) = prepare_by(Arc::clone(&workers) as _, &store, "a", &Head::genesis(), 0..30);
    let budget = Budget::new(100);
    let running = tokio::spawn(commit.holding(budget.hold(None, Part::Files, 10)).run(|_| ()));
    workers.finish("a file").await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(budget.used_bytes(), 10);
    workers.finish("the other file").await;
    assert_eq!(budget.used_bytes(), 0);
}

/// A put that is still under way when its twin has failed would write once more what the next attempt has stored,
/// and might be cut short where the entry names it already.
#[tokio::test(start_paused = true)]
async fn no_file_is_put_again_while_it_is_being_put() {
    let (store, workers) = (Arc::new(MemoryStore::default()), Arc::new(ByHand::default()));
    store.fail(Op::Put, false, AWAY);
    let (commit, entry) = prepare_by(Arc::clone(&workers) as _, &store, "a", &Head::genesis(), 0..30);
    let running = tokio::spawn(commit.run(|_| ()));
    workers.finish("a put that fails").await;
    // Far longer than any wait between two attempts.
    tokio::time::sleep(QUICK.most * 20).await;
    assert_eq!(workers.waiting(), 1, "its twin is still under way");
    for step in ["its twin", "a put", "the other put", "the creation"] {
        workers.finish(step).await;
    }
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Committed(entry.head()));
    sound(&store, 30);
}

#[tokio::test]
async fn after_a_crash_at_any_step_the_next_writer_goes_on_from_what_is_there() {
    let steps = [(Op::Put, false, 0), (Op::Put, true, 0), (Op::Create, false, 0), (Op::Create, true, 30)];
    for (op, after, survives) in steps {
        let store = Arc::new(MemoryStore::default());
        store.fail(op, after, CRASH);
        let (commit, _) = prepare(&store, "a", &Head::genesis(), 0, 30);
        commit.run(|_| ()).await.unwrap_err();
        let head = find_head(&*store, &lane_id()).unwrap();
        assert_eq!(head.next.map_or(0, |next| next.0), survives, "{op:?} {after}");
        let (commit, _) = prepare(&store, "b", &head, survives, 50);
        assert!(matches!(commit.run(|_| ()).await.unwrap(), Outcome::Committed(_)));
        sound(&store, 50);
    }
}

#[tokio::test]
async fn a_writer_that_lost_its_lane_is_fenced_whatever_it_learns() {
    for faults in [vec![], vec![(Op::Create, true)], vec![(Op::Create, false), (Op::ReadBack, false)]] {
        let store = Arc::new(MemoryStore::default());
        let (zombie, _) = prepare(&store, "zombie", &Head::genesis(), 0, 30);
        let (winner, entry) = prepare(&store, "winner", &Head::genesis(), 0, 20);
        winner.run(|_| ()).await.unwrap();
        faults.iter().for_each(|(op, after)| store.fail(*op, *after, AWAY));
        assert_eq!(zombie.run(|_| ()).await.unwrap(), Outcome::Fenced, "{faults:?}");
        assert_eq!(store.get(&paths::entry(&lane_id(), 0)).unwrap().unwrap(), entry.bytes);
        sound(&store, 20);
    }
}

#[test]
fn the_head_is_found_at_every_length() {
    let store = Arc::new(MemoryStore::default());
    let mut head = Head::genesis();
    for seq in 0..70i64 {
        assert_eq!(find_head(&*store, &lane_id()).unwrap(), head, "{seq}");
        let (_, entry) = prepare(&store, "a", &head, seq, seq + 1);
        let path = paths::entry(&lane_id(), entry.entry.seq);
        assert_eq!(store.put_if_absent(&path, &entry.bytes).unwrap(), Creation::Created);
        head = entry.head();
    }
    assert_eq!(Chain::new(&*store, lane_id()).map(Result::unwrap).count(), 70);
}

#[tokio::test]
async fn no_lost_entry_is_taken_for_the_end() {
    let store = Arc::new(MemoryStore::default());
    let mut head = Head::genesis();
    for seq in 0..9 {
        let (commit, entry) = prepare(&store, &format!("w{seq}"), &head, seq * 10, seq * 10 + 10);
        commit.run(|_| ()).await.unwrap();
        head = entry.head();
    }
    store.put("readings/manifest/3/000000000009.json.bak", b"no entry").unwrap();
    assert_eq!(find_head(&*store, &lane_id()).unwrap(), head);
    let whole = store.objects.lock().unwrap().clone();
    for seq in 0..8 {
        let lost = paths::entry(&lane_id(), seq);
        store.objects.lock().unwrap().remove(&lost);
        match find_head(&*store, &lane_id()) {
            // The search did not pass there, and the end is the true one.
            Ok(found) => assert_eq!(found, head, "{seq}"),
            Err(error) => assert!(error.to_string().contains(&lost), "{seq}: {error}"),
        }
        store.objects.lock().unwrap().clone_from(&whole);
    }
}

#[tokio::test]
async fn damage_is_named() {
    let store = Arc::new(MemoryStore::default());
    let mut head = Head::genesis();
    for seq in 0..4 {
        let (commit, entry) = prepare(&store, &format!("w{seq}"), &head, seq * 10, seq * 10 + 10);
        commit.run(|_| ()).await.unwrap();
        head = entry.head();
    }
    let whole = store.objects.lock().unwrap().clone();
    for path in whole.keys() {
        let problems = |change: &dyn Fn(&mut Objects)| {
            let mut objects = whole.clone();
            change(&mut objects);
            *store.objects.lock().unwrap() = objects;
            audit(&*store).problems
        };
        assert!(!problems(&|o| o.get_mut(path).unwrap()[20] ^= 1).is_empty(), "{path} altered");
        // The last entry is the one object whose loss its lane alone cannot tell.
        let last = path.ends_with("000000000003.json");
        assert_eq!(problems(&|o| drop(o.remove(path))).is_empty(), last, "{path} lost");
    }
}
