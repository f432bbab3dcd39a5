//! Where the time of the archive goes, phase by phase, on the yardstick's kind of records.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use stillwell_ingest::writer::{Batch, encode};
use stillwell_schema::merkle::{self, LeafRecord};
use stillwell_schema::{Offset, TopicPartition};
use stillwell_source::chunk::RecordChunk;
use stillwell_source::decode::{decode_chunk, decoder_for};
use stillwell_source::original::{Originals, Readings};
use stillwell_source::series::SeriesTable;
use stillwell_source::settings::TopicSettings;

fn main() {
    let per: usize = std::env::args().nth(1).map_or(1000, |a| a.parse().unwrap());
    let readings = 600_000usize;
    let rounds: usize = std::env::args().nth(2).map_or(5, |a| a.parse().unwrap());
    let kinds = ["temperature", "vibration", "pressure", "current", "flow"];
    let mut state = 1u64;
    let mut n = 0usize;
    let mut records = Vec::new();
    for i in 0..readings / per {
        let mut text = String::new();
        for j in 0..per {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = 20.0 + (((state >> 33) % 5000) as f64) / 1000.0;
            let sep = if j > 0 { "," } else { "" };
            let s = (n + j) % 50;
            let t = 1_795_000_000_000usize + n / 10 + j / 50;
            let v = if value.fract() == 0.0 { format!("{value}.0") } else { value.to_string() };
            text += &format!(
                "{sep}{{\"machine\":\"machine-{:03}\",\"sensor\":\"s{s:02}\",\"kind\":\"{}\",\"unit\":\"u\",\"time\":{t},\"value\":{v}}}",
                i % 200,
                kinds[(n + j) % 5]
            );
        }
        n += per;
        records.push((format!("machine-{:03}", i % 200), if per > 1 { format!("[{text}]") } else { text }));
    }
    let chunks = || {
        let lane = TopicPartition::new("t", 0);
        let mut chunks = Vec::new();
        let mut chunk = RecordChunk::new(lane.clone(), Offset(0));
        for (i, (key, value)) in records.iter().enumerate() {
            chunk.push(
                Offset(i as i64),
                1_795_000_000_000 + i as i64,
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                [],
            );
            if chunk.payload_bytes() > 1 << 20 {
                let next = chunk.range().next;
                chunks.push(std::mem::replace(&mut chunk, RecordChunk::new(lane.clone(), next)));
            }
        }
        chunks.push(chunk);
        chunks
    };
    let topic = TopicSettings::new("t");
    let mut sums = [Duration::ZERO; 6];
    let mut sizes = Vec::new();
    for _ in 0..rounds {
        let t = Instant::now();
        let all = chunks();
        sums[0] += t.elapsed();
        let mut decoder = decoder_for(&topic);
        let mut table = SeriesTable::default();
        let t = Instant::now();
        let decoded: Vec<_> =
            all.iter().map(|c| decode_chunk(&mut *decoder, c, &mut table).unwrap()).collect();
        sums[1] += t.elapsed();
        let t = Instant::now();
        for chunk in &all {
            for r in chunk.records() {
                std::hint::black_box(merkle::leaf(LeafRecord {
                    topic: "t",
                    partition: 0,
                    offset: r.offset.0,
                    timestamp_ms: r.timestamp_ms,
                    key: r.key,
                    value: r.value,
                    headers: r.headers(),
                }));
            }
        }
        sums[2] += t.elapsed();
        let t = Instant::now();
        let mut originals = Originals::default();
        let mut found = 0;
        for (chunk, decoded) in all.iter().zip(&decoded) {
            let mut next = 0;
            for (i, r) in chunk.records().enumerate() {
                let first = next;
                next += decoded.columns.record[first..].iter().take_while(|of| **of == i as u32).count();
                found += usize::from(
                    originals
                        .find(
                            r.value.unwrap(),
                            Readings { columns: &decoded.columns, first, next, table: &table },
                        )
                        .is_some(),
                );
            }
        }
        sums[3] += t.elapsed();
        assert_eq!(found, records.len());
        drop((all, decoded));
        let all = chunks();
        let mut batch = Batch::new(TopicPartition::new("t", 0), Offset(0));
        let mut decoder = decoder_for(&topic);
        let t = Instant::now();
        for chunk in all {
            batch.push(&mut *decoder, chunk).unwrap();
        }
        sums[4] += t.elapsed();
        let t = Instant::now();
        let encoded = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap()
            .install(|| encode(&batch, "u").unwrap());
        sums[5] += t.elapsed();
        sizes = encoded.files.iter().map(|f| f.bytes.len()).collect();
    }
    for (name, sum) in ["chunks", "decode", "leaves", "templates", "push", "encode"].iter().zip(sums) {
        println!("{name:10} {:.3} s per million", sum.as_secs_f64() / (readings * rounds) as f64 * 1e6);
    }
    println!("bytes per reading {:?}", sizes.iter().map(|s| *s as f64 / readings as f64).collect::<Vec<_>>());
}
