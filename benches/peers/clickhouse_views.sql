-- ClickHouse's own way from Kafka to the same answers: its Kafka engine, a materialized view a width into an
-- AggregatingMergeTree (clickhouse_window.sql, for each of the widths), and the last reading of each series. The readings
-- themselves are not kept.
CREATE DATABASE peer_views ENGINE = Atomic;
CREATE TABLE peer_views.raw
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    kind LowCardinality(String),
    unit LowCardinality(String),
    time Int64,
    value Float64
)
ENGINE = Null;
{windows}
CREATE TABLE peer_views.last_readings
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    kind_of SimpleAggregateFunction(any, LowCardinality(String)),
    unit_of SimpleAggregateFunction(any, LowCardinality(String)),
    newest AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    newest_time SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree ORDER BY (machine, sensor);
CREATE MATERIALIZED VIEW peer_views.to_last_readings TO peer_views.last_readings AS
SELECT
    machine,
    sensor,
    any(kind) AS kind_of,
    any(unit) AS unit_of,
    argMaxState(value, fromUnixTimestamp64Milli(time, 'UTC')) AS newest,
    max(fromUnixTimestamp64Milli(time, 'UTC')) AS newest_time
FROM peer_views.raw
GROUP BY machine, sensor;
CREATE VIEW peer_views.latest AS
SELECT
    machine,
    sensor,
    any(kind_of) AS kind,
    any(unit_of) AS unit,
    max(newest_time) AS time,
    argMaxMerge(newest) AS value
FROM peer_views.last_readings
GROUP BY machine, sensor;
CREATE TABLE peer_views.stream
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
    kafka_max_block_size = 131072, kafka_poll_max_batch_size = 65536, kafka_flush_interval_ms = 1000;
CREATE MATERIALIZED VIEW peer_views.to_raw TO peer_views.raw AS
SELECT machine, sensor, kind, unit, time, value FROM peer_views.stream;
