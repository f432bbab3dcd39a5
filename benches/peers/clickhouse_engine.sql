-- ClickHouse's own way from Kafka: its Kafka engine, a raw table, and one view per minute.
CREATE DATABASE peer ENGINE = Atomic;
CREATE TABLE peer.raw
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    kind LowCardinality(String),
    unit LowCardinality(String),
    time Int64,
    value Float64
)
ENGINE = MergeTree ORDER BY (machine, sensor, time);
CREATE TABLE peer.by_minute
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    minute DateTime,
    readings AggregateFunction(count),
    total AggregateFunction(sum, Float64),
    smallest AggregateFunction(min, Float64),
    largest AggregateFunction(max, Float64),
    quantiles AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Float64)
)
ENGINE = AggregatingMergeTree ORDER BY (machine, sensor, minute);
CREATE MATERIALIZED VIEW peer.to_minute TO peer.by_minute AS
SELECT
    machine,
    sensor,
    toStartOfMinute(fromUnixTimestamp64Milli(time)) AS minute,
    countState() AS readings,
    sumState(value) AS total,
    minState(value) AS smallest,
    maxState(value) AS largest,
    quantilesTDigestState(0.5, 0.95, 0.99)(value) AS quantiles
FROM peer.raw
GROUP BY machine, sensor, minute;
CREATE TABLE peer.stream
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    kind LowCardinality(String),
    unit LowCardinality(String),
    time Int64,
    value Float64
)
ENGINE = Kafka
SETTINGS kafka_broker_list = '{brokers}', kafka_topic_list = '{topic}', kafka_group_name = '{group}',
    kafka_format = 'JSONEachRow', kafka_num_consumers = 2, kafka_thread_per_consumer = 1,
    kafka_max_block_size = 1000000, kafka_poll_max_batch_size = 65536, kafka_flush_interval_ms = 1000;
CREATE MATERIALIZED VIEW peer.to_raw TO peer.raw AS
SELECT machine, sensor, kind, unit, time, value FROM peer.stream;
