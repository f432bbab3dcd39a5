-- Absolute window states: one row per series, window and source partition, complete up to `version`, the next
-- offset of that partition. A newer version replaces an older one; nothing is ever added up in place.
-- `m2` is the sum of the squared deviations from the mean. A window of bad readings without a value has count 0;
-- its values and times then say nothing.

CREATE TABLE IF NOT EXISTS {database}.windows_10s (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    sensor LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    version Int64 CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    unit LowCardinality(String),
    count UInt64 CODEC(ZSTD),
    sum Float64 CODEC(ZSTD),
    m2 Float64 CODEC(ZSTD),
    min Float64 CODEC(ZSTD),
    max Float64 CODEC(ZSTD),
    first Float64 CODEC(ZSTD),
    first_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    last Float64 CODEC(ZSTD),
    last_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    area_last Float64 CODEC(ZSTD),
    area_linear Float64 CODEC(ZSTD),
    disordered UInt64 CODEC(ZSTD),
    bad UInt64 CODEC(ZSTD),
    late UInt64 CODEC(ZSTD),
    score Float32 CODEC(ZSTD),
    histogram Map(Int32, UInt64) CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (machine, sensor, start, topic, partition);

CREATE TABLE IF NOT EXISTS {database}.windows_1m (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    sensor LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    version Int64 CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    unit LowCardinality(String),
    count UInt64 CODEC(ZSTD),
    sum Float64 CODEC(ZSTD),
    m2 Float64 CODEC(ZSTD),
    min Float64 CODEC(ZSTD),
    max Float64 CODEC(ZSTD),
    first Float64 CODEC(ZSTD),
    first_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    last Float64 CODEC(ZSTD),
    last_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    area_last Float64 CODEC(ZSTD),
    area_linear Float64 CODEC(ZSTD),
    disordered UInt64 CODEC(ZSTD),
    bad UInt64 CODEC(ZSTD),
    late UInt64 CODEC(ZSTD),
    score Float32 CODEC(ZSTD),
    histogram Map(Int32, UInt64) CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (machine, sensor, start, topic, partition);

CREATE TABLE IF NOT EXISTS {database}.windows_1h (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    sensor LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    version Int64 CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    unit LowCardinality(String),
    count UInt64 CODEC(ZSTD),
    sum Float64 CODEC(ZSTD),
    m2 Float64 CODEC(ZSTD),
    min Float64 CODEC(ZSTD),
    max Float64 CODEC(ZSTD),
    first Float64 CODEC(ZSTD),
    first_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    last Float64 CODEC(ZSTD),
    last_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    area_last Float64 CODEC(ZSTD),
    area_linear Float64 CODEC(ZSTD),
    disordered UInt64 CODEC(ZSTD),
    bad UInt64 CODEC(ZSTD),
    late UInt64 CODEC(ZSTD),
    score Float32 CODEC(ZSTD),
    histogram Map(Int32, UInt64) CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (machine, sensor, start, topic, partition);

CREATE TABLE IF NOT EXISTS {database}.windows_1d (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    sensor LowCardinality(String),
    start DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),
    version Int64 CODEC(Delta, ZSTD),
    kind LowCardinality(String),
    unit LowCardinality(String),
    count UInt64 CODEC(ZSTD),
    sum Float64 CODEC(ZSTD),
    m2 Float64 CODEC(ZSTD),
    min Float64 CODEC(ZSTD),
    max Float64 CODEC(ZSTD),
    first Float64 CODEC(ZSTD),
    first_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    last Float64 CODEC(ZSTD),
    last_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    area_last Float64 CODEC(ZSTD),
    area_linear Float64 CODEC(ZSTD),
    disordered UInt64 CODEC(ZSTD),
    bad UInt64 CODEC(ZSTD),
    late UInt64 CODEC(ZSTD),
    score Float32 CODEC(ZSTD),
    histogram Map(Int32, UInt64) CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (machine, sensor, start, topic, partition);

-- The last reading of each series, by source partition. `early_from` and `early_until` are the times of early
-- readings (more than a day past their record's Kafka timestamp) that are past all others: the last reading is
-- one of them only where there are no others.
CREATE TABLE IF NOT EXISTS {database}.latest_rows (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    sensor LowCardinality(String),
    version Int64,
    kind LowCardinality(String),
    unit LowCardinality(String),
    time DateTime64(6, 'UTC'),
    value Nullable(Float64),
    text Nullable(String),
    quality UInt32,
    score Nullable(Float64),
    early_from Nullable(DateTime64(6, 'UTC')),
    early_until Nullable(DateTime64(6, 'UTC'))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine, sensor, topic, partition);

-- One row per event above the threshold; a later version closes it.
CREATE TABLE IF NOT EXISTS {database}.anomaly_rows (
    id String,
    version Int64,
    time DateTime64(6, 'UTC'),
    until Nullable(DateTime64(6, 'UTC')),
    machine LowCardinality(String),
    sensors Array(String),
    score Float64,
    peak_score Float64,
    threshold Float64,
    model String,
    topic LowCardinality(String),
    partition Int32,
    offset Int64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine, time, id);

-- Where each lane's views stand: everything below `position` is in them. Moved after all else is written.
CREATE TABLE IF NOT EXISTS {database}.positions (
    topic LowCardinality(String),
    partition Int32,
    position Int64,
    received Int64,
    end_offset Int64,
    readings UInt64,
    late UInt64,
    updated DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(position)
ORDER BY (topic, partition);

-- The scorer's state of each machine, complete up to `version`.
CREATE TABLE IF NOT EXISTS {database}.scorer_states (
    topic LowCardinality(String),
    partition Int32,
    machine String,
    version Int64,
    rows UInt64,
    phase LowCardinality(String),
    model String,
    state String CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, machine);

-- Rows that a machine's model is trained on: those number `first` up to `next`, of the intervals in force since
-- the record at `since`.
CREATE TABLE IF NOT EXISTS {database}.commissioning (
    topic LowCardinality(String),
    partition Int32,
    machine String,
    since Int64,
    first Int64,
    next Int64,
    rows String CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, machine, since, first);

-- Trained models; `effective` is the offset of the record that ended commissioning.
CREATE TABLE IF NOT EXISTS {database}.models (
    topic LowCardinality(String),
    partition Int32,
    machine String,
    effective Int64,
    hash String,
    threshold Float64,
    rows UInt64,
    created DateTime64(6, 'UTC'),
    bytes String CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(effective)
ORDER BY (topic, partition, machine);
