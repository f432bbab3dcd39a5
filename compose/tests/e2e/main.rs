//! End-to-end tests: the real binary with a real Kafka, a real ClickHouse and a real archive, asked only what
//! a user can ask. One test binary, so that the engines' weight is linked once.

mod browser;
mod bucket;
mod crash;
mod dlq;
mod lifecycle;
mod malformed;
mod outage;
mod panels;
mod plant;
mod producer;
mod rebuild;
mod recordings;
mod stack;
#[path = "../../../ingest/tests/support/versitygw.rs"]
mod versitygw;
mod wire;
mod zombies;
