//! The memory of the write side: one budget over many lanes, of which the largest open batch goes first.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stillwell_ingest::IngestError;
use stillwell_ingest::manifest::find_head;
use stillwell_ingest::stage::{Ingest, Limits};
use stillwell_ingest::writer::Batch;
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::budget::{Budget, Part};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::decoder_for;
use stillwell_source::lane::{LaneEnd, Stage};
use stillwell_source::settings::TopicSettings;
use support::{Feed, Kept, LIMITS, MemoryStore, chunk_of, ingest, lane_of};
use tokio::task::JoinHandle;

/// Memory alone ends a batch.
const ONLY_MEMORY: Limits = Limits { file_bytes: 1 << 30, ..LIMITS };

/// What hangs has gone wrong.
const WITHIN: Duration = Duration::from_secs(60);

fn id(partition: i32) -> TopicPartition {
    TopicPartition::new("readings", partition)
}

/// Bytes of memory that a batch of `chunk` alone holds, and its decoder.
fn decoded_bytes(chunk: RecordChunk) -> (usize, usize) {
    let mut batch = Batch::new(chunk.lane().clone(), chunk.range().first);
    let mut decoder = decoder_for(&TopicSettings::new("readings"));
    batch.push(&mut *decoder, chunk).unwrap();
    (batch.memory_bytes(), decoder.memory_bytes())
}

fn run(stage: &Arc<Ingest<Kept>>, partition: i32) -> (JoinHandle<Result<LaneEnd, IngestError>>, Feed) {
    let (stage, (lane, feed)) = (Arc::clone(stage), lane_of(id(partition), 0));
    (tokio::spawn(async move { stage.run(lane).await }), feed)
}

/// `chunk` with its share of the budget, once there is room, as the consumer hands it on.
async fn claimed(budget: &Budget, mut chunk: RecordChunk) -> RecordChunk {
    loop {
        if let Some(claim) = budget.try_claim(chunk.lane(), chunk.memory_bytes()) {
            chunk.hold(claim);
            return chunk;
        }
        tokio::task::yield_now().await;
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, so).await.expect("it never comes to be so");
}

#[tokio::test]
async fn many_busy_lanes_stay_within_the_budget_and_everything_is_committed() {
    const LANES: i32 = 64;
    const CHUNKS: i64 = 10;
    const RECORDS: i64 = 80;
    let limits = Limits { memory_bytes: 2 << 20, ..ONLY_MEMORY };
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", limits);
    let busy = (0..LANES).map(|partition| {
        let (budget, (running, feed)) = (stage.budget(), run(&stage, partition));
        tokio::spawn(async move {
            for first in (0..CHUNKS).map(|chunk| chunk * RECORDS) {
                let chunk = claimed(&budget, chunk_of(&id(partition), first, first + RECORDS)).await;
                feed.chunks.send(chunk).await.unwrap();
            }
            drop(feed);
            running.await.unwrap().unwrap()
        })
    });
    let all = futures::future::join_all(busy.collect::<Vec<_>>());
    for ended in tokio::time::timeout(WITHIN, all).await.expect("all lanes end") {
        assert_eq!(ended.unwrap(), LaneEnd::Done);
    }
    for partition in 0..LANES {
        let head = find_head(&*store, &id(partition)).unwrap();
        assert_eq!(head.next, Some(Offset(CHUNKS * RECORDS)), "{partition}");
    }
    let (batch, decoder) = decoded_bytes(chunk_of(&id(0), 0, RECORDS));
    let one = batch + decoder;
    let bound = limits.memory_bytes + LANES as usize * one;
    let (budget, all) = (stage.budget(), LANES as usize * CHUNKS as usize * one);
    assert!(all > 2 * bound, "{all} bytes in all say nothing of a bound of {bound}");
    assert!(budget.peak_bytes() <= bound, "{} of {bound}", budget.peak_bytes());
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn when_memory_is_short_the_largest_open_batches_are_committed_first() {
    const LANES: i32 = 40;
    let chunk = |partition: i32| chunk_of(&id(partition), 0, 20 + i64::from(partition * 7 % LANES) * 2);
    let sizes: Vec<_> = (0..LANES).map(|partition| decoded_bytes(chunk(partition))).collect();
    let decoders: usize = sizes.iter().map(|(_, decoder)| decoder).sum();
    let memory_bytes = sizes.iter().map(|(batch, _)| batch).sum::<usize>() / 2 + decoders;
    let mark = memory_bytes - memory_bytes / 4;
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", Limits { memory_bytes, ..ONLY_MEMORY });
    let (budget, mut committed, mut known) = (stage.budget(), 0, 0);
    let mut lanes: Vec<_> = (0..LANES).map(|partition| run(&stage, partition)).collect();
    let mut open = BTreeMap::new();
    for partition in 0..LANES {
        let at = partition as usize;
        lanes[at].1.chunks.send(chunk(partition)).await.unwrap();
        let (batch, decoder) = sizes[at];
        open.insert(at, batch);
        known += decoder;
        while open.values().sum::<usize>() + known > mark {
            // Of equal ones the last is taken, so the first lane's.
            let largest = *open.iter().rev().max_by_key(|(_, bytes)| **bytes).unwrap().0;
            open.remove(&largest);
            let durable = tokio::time::timeout(WITHIN, lanes[largest].1.durable.recv()).await;
            assert!(durable.expect("the largest is committed").is_some(), "{largest}");
            committed += 1;
        }
        let staying = open.values().sum::<usize>();
        until(|| budget.used_by(Part::Batches) == staying).await;
    }
    assert!(committed > 5, "{committed}");
    for (running, feed) in lanes {
        drop(feed);
        assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
    }
}

#[tokio::test]
async fn a_record_larger_than_the_budget_is_committed_while_others_hold_all_of_it() {
    let limits = Limits { memory_bytes: 1 << 20, ..ONLY_MEMORY };
    let store = Arc::new(MemoryStore::default());
    let (stage, ..) = ingest(&store, "a", limits);
    let budget = stage.budget();
    let _others = budget.hold(Some(&id(1)), Part::Batches, limits.memory_bytes);
    let (running, mut feed) = run(&stage, 0);
    let mut chunk = RecordChunk::new(id(0), Offset(0));
    chunk.push(Offset(0), 0, None, Some(&vec![b' '; 3 << 20]), []);
    feed.chunks.send(claimed(&budget, chunk).await).await.unwrap();
    assert_eq!(feed.durable.recv().await.unwrap(), (id(0), Offset(1)));
    drop(feed);
    assert_eq!(running.await.unwrap().unwrap(), LaneEnd::Done);
}
