//! Lanes of the write side, from chunks to an archive that readers see. What befalls several writers at once is
//! the simulator's.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stillwell_ingest::IngestError;
use stillwell_ingest::gc::{self, Scope};
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::stage::Limits;
use stillwell_ingest::store::{ArchiveStore, LocalStore};
use stillwell_schema::ledger::View;
use stillwell_schema::{Clock, Head, Offset, paths};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::lane::{LaneEnd, Stage};
use support::{
    AWAY, ByHand, LIMITS, LeapingClock, MemoryStore, Op, SetClock, audit, chunk, expected, ingest, ingest_at,
    ingest_by, ingest_on, lane, lane_id, see,
};

fn sound(store: &dyn ArchiveStore, next: i64) {
    let report = audit(store);
    assert_eq!(report.problems, []);
    assert_eq!(report.range.unwrap().next, Offset(next));
    assert_eq!(see(store), expected(0, next));
}

#[tokio::test]
async fn an_orderly_stop_makes_all_that_was_received_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ArchiveStore> = Arc::new(LocalStore::open(folder.path()).unwrap());
    let (stage, kept, board) = ingest_on(Arc::clone(&store), "a", LIMITS);
    assert_eq!(stage.position(&lane_id()).await.unwrap(), None);
    let (lane, mut feed) = lane(0);
    for first in [0, 40, 80] {
        feed.chunks.send(chunk(first, first + 40)).await.unwrap();
    }
    drop(feed.chunks);
    assert_eq!(stage.run(lane).await.unwrap(), LaneEnd::Done);
    sound(&*store, 120);
    assert_eq!(feed.durable.recv().await.unwrap(), (lane_id(), Offset(120)));
    assert_eq!(stage.position(&lane_id()).await.unwrap(), Some(Offset(120)));
    assert!(board.read().is_empty());
    let poison: Vec<_> = (0..120).filter(|o| o % 7 == 3 && !support::is_gap(*o)).collect();
    let letters = kept.0.lock().unwrap();
    assert_eq!(letters.iter().map(|letter| letter.1).collect::<Vec<_>>(), poison);
    assert!(letters.iter().all(|letter| letter.0 == "readings.dlq"));
}

#[tokio::test]
async fn what_is_open_when_the_partition_goes_is_left_to_its_next_owner() {
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", LIMITS);
    let (lane, feed) = lane(0);
    feed.chunks.send(chunk(0, 40)).await.unwrap();
    feed.revoked.cancel();
    drop(feed.chunks);
    assert_eq!(stage.run(lane).await.unwrap(), LaneEnd::Done);
    assert!(store.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_is_committed_at_its_size_and_at_its_age_without_a_stop() {
    let sized = Limits { file_bytes: 1, ..LIMITS };
    let aged = Limits { flush_interval: Duration::ZERO, ..LIMITS };
    let cramped = Limits { memory_bytes: 1, ..LIMITS };
    for limits in [sized, aged, cramped] {
        let store = Arc::new(MemoryStore::default());
        let (stage, ..) = ingest(&store, "a", limits);
        let (lane, mut feed) = lane(0);
        let running = tokio::spawn(async move { stage.run(lane).await });
        feed.chunks.send(chunk(0, 40)).await.unwrap();
        assert_eq!(feed.durable.recv().await.unwrap().1, Offset(40));
        sound(&*store, 40);
        drop(feed.chunks);
        assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
    }
}

#[tokio::test]
async fn offsets_below_the_head_are_dropped() {
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", Limits { file_bytes: 1, ..LIMITS });
    for chunks in [[(0, 25), (25, 30)], [(0, 20), (20, 60)]] {
        let (lane, feed) = lane(0);
        for (first, next) in chunks {
            feed.chunks.send(chunk(first, next)).await.unwrap();
        }
        drop(feed.chunks);
        assert_eq!(stage.run(lane).await.unwrap(), LaneEnd::Done);
    }
    sound(&*store, 60);
}

#[tokio::test]
async fn a_lane_that_would_leave_a_hole_is_refused() {
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", LIMITS);
    let (first, feed) = lane(0);
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    drop(feed);
    stage.run(first).await.unwrap();
    let (ahead, _feed) = lane(25);
    stage.run(ahead).await.unwrap_err();
    let (holed, feed) = lane(20);
    feed.chunks.send(chunk(21, 30)).await.unwrap();
    stage.run(holed).await.unwrap_err();
    sound(&*store, 20);
}

#[tokio::test]
async fn a_range_of_gaps_alone_is_an_entry_without_files() {
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", LIMITS);
    let (lane, feed) = lane(10);
    feed.chunks.send(chunk(10, 11)).await.unwrap();
    drop(feed);
    stage.run(lane).await.unwrap();
    assert_eq!(store.objects.lock().unwrap().keys().collect::<Vec<_>>(), [&paths::entry(&lane_id(), 0)]);
    assert_eq!(find_head(&*store, &lane_id()).unwrap().next, Some(Offset(11)));
    assert!(audit(&*store).problems.is_empty());
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_store_is_away_and_the_board_says_why() {
    let store = Arc::new(MemoryStore::default());
    (0..2_000).for_each(|_| store.fail(Op::Put, false, AWAY));
    let (stage, _, board) = ingest(&store, "a", Limits { file_bytes: 1, ..LIMITS });
    let (lane, mut feed) = lane(0);
    let running = tokio::spawn(async move { stage.run(lane).await });
    feed.chunks.send(chunk(0, 40)).await.unwrap();
    let detail = loop {
        let status = board.read().remove("ingest/readings/3");
        match status {
            Some(status) if status.detail.contains("free space") => break status,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(detail.state, stillwell_schema::health::State::Waiting);
    assert!(feed.durable.try_recv().is_err());
    store.faults.lock().unwrap().clear();
    assert_eq!(feed.durable.recv().await.unwrap().1, Offset(40));
    assert_eq!(board.read()["ingest/readings/3"].state, stillwell_schema::health::State::Ok);
    drop(feed);
    running.await.unwrap().unwrap();
    sound(&*store, 40);
}

#[tokio::test]
async fn only_files_that_no_entry_names_are_collected() {
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", Limits { file_bytes: 1, ..LIMITS });
    let (lane, feed) = lane(0);
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    feed.chunks.send(chunk(20, 40)).await.unwrap();
    drop(feed);
    stage.run(lane).await.unwrap();
    let [left, within] = ["readings/records/3/30-50-x.parquet", "readings/readings/3/20-25-y.parquet"];
    // A writer may still commit what it begins at the head, however long it waits for the store.
    let waiting = "readings/records/3/40-50-z.parquet";
    [left, within, waiting].into_iter().for_each(|path| store.put(path, b"left").unwrap());
    let head = find_head(&*store, &lane_id()).unwrap();
    let from = &Head::genesis();
    let view = View::default();
    let scope =
        |before_us| Scope { from, head: &head, view: &view, before_us, superseded_before_us: before_us };
    let collect = |before_us| gc::collect(&*store, &lane_id(), scope(before_us));
    assert_eq!(collect(0).unwrap(), 0, "too young");
    let entry = store.objects.lock().unwrap().remove(&paths::entry(&lane_id(), 0)).unwrap();
    collect(1).unwrap_err();
    assert!(store.exists(left).unwrap());
    store.objects.lock().unwrap().insert(paths::entry(&lane_id(), 0), entry);
    assert_eq!(collect(1).unwrap(), 2);
    assert!(!store.exists(left).unwrap() && !store.exists(within).unwrap());
    assert!(store.exists(waiting).unwrap());
    sound(&*store, 40);
}

#[tokio::test]
async fn what_a_dead_writer_left_is_collected_by_a_lane_that_lives_on() {
    let store = Arc::new(MemoryStore::default());
    let left = "readings/records/3/0-50-x.parquet";
    store.put(left, b"left").unwrap();
    store.now_us.store(i64::MAX, Ordering::Relaxed);
    let clock = Arc::new(LeapingClock::default());
    let (stage, ..) = ingest_at(clock, Arc::clone(&store) as _, "a", Limits { file_bytes: 1, ..LIMITS });
    let (lane, mut feed) = lane(0);
    let running = tokio::spawn(async move { stage.run(lane).await });
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    assert_eq!(feed.durable.recv().await.unwrap().1, Offset(20));
    assert!(store.exists(left).unwrap());
    for first in (20..).step_by(20) {
        feed.chunks.send(chunk(first, first + 20)).await.unwrap();
        feed.durable.recv().await.unwrap();
        if !store.exists(left).unwrap() {
            break;
        }
    }
    drop(feed);
    assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
}

/// A writer whose entry is created sleeps for hours before it learns so and sweeps; its successor has stored its
/// files, long ago by then, and only now comes to create its entry.
#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_collects_nothing_of_its_successor() {
    let (store, workers) = (Arc::new(MemoryStore::default()), Arc::new(ByHand::default()));
    let clock = Arc::new(SetClock::default());
    let limits = Limits { file_bytes: 1, ..LIMITS };
    let stage =
        ingest_by(Arc::clone(&workers) as _, Arc::clone(&clock) as _, Arc::clone(&store) as _, limits);
    let (lane, mut feed) = lane(0);
    let running = tokio::spawn(async move { stage.run(lane).await });
    workers.finish("the head").await;
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    workers.finish("the decoding").await;
    workers.finish("the encoding").await;
    workers.finish("a file").await;
    workers.finish("the other file").await;
    let created = workers.until("the creation").await;
    assert!(store.exists(&paths::entry(&lane_id(), 0)).unwrap());
    let successors = "readings/records/3/20-30-x.parquet";
    store.now_us.store(clock.now_us(), Ordering::Relaxed);
    store.put(successors, b"stored, not named yet").unwrap();
    clock.pass(gc::AGE_US * 3);
    created();
    assert_eq!(feed.durable.recv().await.unwrap().1, Offset(20));
    workers.finish("the sweep").await;
    assert!(store.exists(successors).unwrap());
    drop(feed);
    assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
}

#[tokio::test]
async fn a_key_that_was_replaced_signs_nothing_more() {
    let store = Arc::new(MemoryStore::default());
    let (stage, _, board) = ingest(&store, "a", LIMITS);
    let next = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    stillwell_ingest::evidence::change_key(&*store, &support::key(), &next, 1, "planned").unwrap();
    let (lane, feed) = lane(0);
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    drop(feed);
    let error = stage.run(lane).await.unwrap_err().to_string();
    assert!(error.contains("restart"), "{error}");
    assert_eq!(board.read()["ingest/readings/3"].state, stillwell_schema::health::State::Failed);
    assert!(!store.exists(&paths::entry(&lane_id(), 0)).unwrap());
}

/// `records` that no decoder reads.
fn garbage(records: i64) -> RecordChunk {
    let mut chunk = RecordChunk::new(lane_id(), Offset(0));
    for offset in 0..records {
        chunk.push(Offset(offset), 0, None, Some(b"garbage"), []);
    }
    chunk
}

#[tokio::test]
async fn a_batch_of_garbage_halts_its_lane_before_anything_is_written_and_a_few_do_not() {
    let store = Arc::new(MemoryStore::default());
    let (stage, kept, board) = ingest(&store, "a", LIMITS);
    let (many, feed) = lane(0);
    feed.chunks.send(garbage(200)).await.unwrap();
    drop(feed);
    let halted = stage.run(many).await.unwrap_err();
    assert!(matches!(&halted, IngestError::Halted(halted) if halted.failures == 200), "{halted}");
    assert!(store.objects.lock().unwrap().is_empty());
    assert!(kept.0.lock().unwrap().is_empty());
    let shown = board.read().remove("ingest/readings/3").unwrap();
    assert_eq!(shown.state, stillwell_schema::health::State::Failed);
    assert!(shown.detail.contains("200 of 200") && shown.detail.contains("restart"), "{}", shown.detail);
    assert!(matches!(stage.position(&lane_id()).await, Err(IngestError::Halted(_))));

    // Another process looks anew, and what is few passes.
    let (stage, kept, _) = ingest(&store, "b", LIMITS);
    assert_eq!(stage.position(&lane_id()).await.unwrap(), None);
    let (few, feed) = lane(0);
    feed.chunks.send(garbage(99)).await.unwrap();
    drop(feed);
    assert_eq!(stage.run(few).await.unwrap(), LaneEnd::Done);
    assert_eq!(kept.0.lock().unwrap().len(), 99);
    assert_eq!(stage.position(&lane_id()).await.unwrap(), Some(Offset(99)));
}

#[tokio::test]
async fn a_key_that_is_not_the_archives_signs_nothing() {
    let store = Arc::new(MemoryStore::default());
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    stillwell_ingest::evidence::check_key(&*store, &stranger).unwrap();
    let (stage, ..) = ingest(&store, "a", LIMITS);
    let (first, feed) = lane(0);
    feed.chunks.send(chunk(0, 20)).await.unwrap();
    drop(feed);
    stage.run(first).await.unwrap();
    let refused = |done: Result<(), stillwell_ingest::evidence::EvidenceError>| {
        let error = done.unwrap_err().to_string();
        assert!(error.contains("key file"), "{error}");
    };
    stillwell_ingest::evidence::check_key(&*store, &support::key()).unwrap();
    refused(stillwell_ingest::evidence::check_key(&*store, &stranger));
    refused(stillwell_ingest::evidence::checkpoint(&*store, &stranger, "w", 1).map(drop));
    refused(stillwell_ingest::evidence::change_key(&*store, &stranger, &support::key(), 1, "").map(drop));
}
