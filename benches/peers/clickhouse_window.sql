-- The windows of {width} as ClickHouse aggregates them; quantiles to the same relative error as ours.
CREATE TABLE peer_views.by_{width}
(
    machine LowCardinality(String),
    sensor LowCardinality(String),
    kind_of SimpleAggregateFunction(any, LowCardinality(String)),
    unit_of SimpleAggregateFunction(any, LowCardinality(String)),
    start DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    readings AggregateFunction(count),
    total AggregateFunction(sum, Float64),
    deviation AggregateFunction(stddevPop, Float64),
    smallest AggregateFunction(min, Float64),
    largest AggregateFunction(max, Float64),
    earliest AggregateFunction(argMin, Float64, DateTime64(3, 'UTC')),
    newest AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    quantiles AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64)
)
ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(start) ORDER BY (machine, sensor, start);
CREATE MATERIALIZED VIEW peer_views.to_{width} TO peer_views.by_{width} AS
SELECT
    machine,
    sensor,
    any(kind) AS kind_of,
    any(unit) AS unit_of,
    toStartOfInterval(fromUnixTimestamp64Milli(time, 'UTC'), INTERVAL {interval}, 'UTC') AS start,
    countState() AS readings,
    sumState(value) AS total,
    stddevPopState(value) AS deviation,
    minState(value) AS smallest,
    maxState(value) AS largest,
    argMinState(value, fromUnixTimestamp64Milli(time, 'UTC')) AS earliest,
    argMaxState(value, fromUnixTimestamp64Milli(time, 'UTC')) AS newest,
    quantilesDDState(0.01, 0.5, 0.95, 0.99)(value) AS quantiles
FROM peer_views.raw
GROUP BY machine, sensor, start;
CREATE VIEW peer_views.readings_{width} AS
SELECT
    machine,
    sensor,
    any(kind_of) AS kind,
    any(unit_of) AS unit,
    start AS time,
    countMerge(readings) AS count,
    sumMerge(total) AS sum,
    sum / count AS avg,
    stddevPopMerge(deviation) AS stddev,
    minMerge(smallest) AS min,
    maxMerge(largest) AS max,
    argMinMerge(earliest) AS first,
    argMaxMerge(newest) AS last,
    quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(quantiles) AS levels,
    levels[1] AS p50,
    levels[2] AS p95,
    levels[3] AS p99
FROM peer_views.by_{width}
GROUP BY machine, sensor, start;
