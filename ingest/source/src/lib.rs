//! Kafka in: what every stage that reads a topic shares.
//!
//! Reading order, as the data flows: [`consumer`] polls Kafka and cuts each partition's records into
//! [`chunk`]s within the [`budget`]; a [`lane`] carries them in order to a stage; [`decode`] turns their
//! bytes into [`columns`], over the [`series`] they name, foreign shapes by a [`mapping`] and with the schemas of a
//! [`registry`], and what rebuilds an [`original`] need not be kept; [`dead_letters`] sends out what cannot be read, unless it is so much that the lane is to [`halt`].
//! Aside from all lanes, [`scan`] reads stretches of a topic again, and [`machines`] the registry of the machines.
//!
//! A stage implements [`lane::Stage`]: where a lane starts, and what to do with its chunks. What is away for a
//! while is waited for as [`backoff`] says, and [`waiting`] keeps the records that cannot be decoded meanwhile.

pub mod backoff;
pub mod budget;
pub mod chunk;
pub mod columns;
pub mod compute;
pub mod consumer;
pub mod dead_letters;
pub mod decode;
pub mod halt;
pub mod lane;
pub mod machines;
pub mod mapping;
pub mod original;
pub mod registry;
pub mod scan;
pub mod series;
pub mod settings;
pub mod waiting;
