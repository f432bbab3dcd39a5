//! End-to-end tests: the real binary with a real Kafka, a real ClickHouse and a real archive, asked only what
//! a user can ask. One test binary, so that the engines' weight is linked once.

mod browser;
mod bucket;
mod cluster;
mod crash;
mod dlq;
mod kinds;
mod lifecycle;
mod lineage;
mod machines;
mod malformed;
mod members;
mod outage;
mod panels;
mod plant;
mod producer;
mod rebuild;
mod reconcile;
mod recordings;
mod stack;
#[path = "../../../ingest/tests/support/versitygw.rs"]
mod versitygw;
mod views;
mod wire;
mod zombies;
