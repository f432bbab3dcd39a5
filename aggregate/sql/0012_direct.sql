-- Views that answer within the time of a dashboard.
--
-- They are over their tables themselves, as each view between costs a question milliseconds; quantiles are found by one
-- aggregate over the buckets; columns are as they are stored. The coarse times of totals by minute are half hours, so
-- that little more is read than the last hour.

CREATE OR REPLACE VIEW {database}.readings_{width} AS
SELECT
    machine,
    sensor,
    kind_ AS kind,
    unit_ AS unit,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    sum_ / count_ AS avg,
    sqrt((m2_ + arraySum(part -> part.1 * pow(part.2 / part.1 - sum_ / count_, 2), parts_)) / count_) AS stddev,
    min_ AS min,
    max_ AS max,
    first_ AS first,
    last_ AS last,
    greatest(min_, least(max_, sign(keys_[1]) * exp((abs(keys_[1]) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * (keys_[1] != 0))) AS p50,
    greatest(min_, least(max_, sign(keys_[2]) * exp((abs(keys_[2]) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * (keys_[2] != 0))) AS p95,
    greatest(min_, least(max_, sign(keys_[3]) * exp((abs(keys_[3]) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * (keys_[3] != 0))) AS p99,
    bad_ AS bad,
    late_ AS late,
    if(score_ < 0, NULL, toFloat64(score_)) AS score,
    first_time_ AS first_time,
    last_time_ AS last_time,
    if(is_exact, area_last_, NULL) AS area_held,
    if(is_exact, area_linear_, NULL) AS area_linear,
    if(is_exact, if(span_ > 0, area_last_ / span_, last_), NULL) AS avg_held,
    if(is_exact, if(span_ > 0, area_linear_ / span_, last_), NULL) AS avg_linear,
    if(is_exact AND kind_ = 'counter', increase_, NULL) AS increase,
    if(is_exact AND kind_ = 'counter' AND span_ > 0, increase_ * 1e6 / span_, NULL) AS rate,
    if(is_exact AND kind_ = 'counter', toInt64(resets_), NULL) AS resets
FROM (
    SELECT
        machine, sensor, start,
        argMax(kind, last_time) AS kind_,
        argMax(unit, last_time) AS unit_,
        sum(count) AS count_,
        sum(sum) AS sum_,
        sum(m2) AS m2_,
        groupArrayIf((count, sum), count > 0) AS parts_,
        min(min) AS min_,
        max(max) AS max_,
        argMinIf(first, first_time, count > 0) AS first_,
        argMaxIf(last, last_time, count > 0) AS last_,
        sum(bad) AS bad_,
        sum(late) AS late_,
        max(score) AS score_,
        minIf(first_time, count > 0) AS first_time_,
        maxIf(last_time, count > 0) AS last_time_,
        sum(area_last) AS area_last_,
        sum(area_linear) AS area_linear_,
        sum(increase) AS increase_,
        sum(resets) AS resets_,
        toFloat64(toUnixTimestamp64Micro(last_time_) - toUnixTimestamp64Micro(first_time_)) AS span_,
        length(parts_) = 1 AND sum(disordered) = 0 AS is_exact,
        quantilesExactWeightedArray(0.5, 0.95, 0.99)(mapKeys(histogram), mapValues(histogram)) AS keys_
    FROM {database}.{shown_{width}} FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.states_{width} AS
SELECT
    machine,
    sensor,
    start AS time,
    held_.1 AS state,
    if(is_exact, held_.2 / 1e6, NULL) AS held_s,
    readings_ AS readings,
    if(is_exact, toInt64(transitions_), NULL) AS transitions,
    first_ AS first,
    last_ AS last
FROM (
    SELECT
        machine, sensor, start,
        sum(state_count) AS readings_,
        sum(transitions) AS transitions_,
        argMin(state_first, state_first_time) AS first_,
        argMax(state_last, state_last_time) AS last_,
        sumMap(mapKeys(held), mapValues(held)) AS spans_,
        count() = 1 AND sum(state_disordered) = 0 AS is_exact
    FROM {database}.{shown_{width}} FINAL
    WHERE state_count > 0
    GROUP BY machine, sensor, start
)
ARRAY JOIN if(has(spans_.1, last_), arrayZip(spans_.1, spans_.2), arrayPushBack(arrayZip(spans_.1, spans_.2), (last_, toInt64(0)))) AS held_;

-- What a migration that was cut off has left comes back first: rows are absolute.
CREATE TABLE IF NOT EXISTS {database}.fleet_windows_1m_by_key AS {database}.fleet_windows_1m
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine, sensor, start, topic, partition);

INSERT INTO {database}.fleet_windows_1m SELECT * FROM {database}.fleet_windows_1m_by_key;

DROP TABLE IF EXISTS {database}.fleet_windows_1m_by_key;

CREATE TABLE IF NOT EXISTS {database}.fleet_windows_1m_by_key AS {database}.fleet_windows_1m
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 1800000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 256;

INSERT INTO {database}.fleet_windows_1m_by_key SELECT * FROM {database}.fleet_windows_1m;

EXCHANGE TABLES {database}.fleet_windows_1m AND {database}.fleet_windows_1m_by_key;

-- What was written meanwhile.
INSERT INTO {database}.fleet_windows_1m
SELECT * FROM {database}.fleet_windows_1m_by_key WHERE written >= now() - INTERVAL 2 DAY;

DROP TABLE IF EXISTS {database}.fleet_windows_1m_by_key;

-- The totals of each source partition. Counts and sums of several rows add up, and their extremes are those of all: what
-- is asked for machines, kinds or longer times together needs no total of each machine, kind and window first. A row
-- without a value has bad readings, and its extremes are NULL.
CREATE OR REPLACE VIEW {database}.fleet_parts_{longer} AS
SELECT
    machine,
    sensor AS kind,
    start AS time,
    count,
    sum,
    if(count > 0, min, NULL) AS min,
    if(count > 0, max, NULL) AS max,
    bad,
    late,
    if(score < 0, NULL, toFloat64(score)) AS score,
    topic,
    partition
FROM {database}.fleet_windows_{longer} FINAL
WHERE count > 0 OR bad > 0;

-- The same, one row for each machine, kind and window.
CREATE OR REPLACE VIEW {database}.fleet_{longer} AS
SELECT
    machine,
    kind_ AS kind,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    if(count_ > 0, sum_ / count_, NULL) AS avg,
    if(count_ > 0, min_, NULL) AS min,
    if(count_ > 0, max_, NULL) AS max,
    bad_ AS bad,
    late_ AS late,
    if(score_ < 0, NULL, toFloat64(score_)) AS score
FROM (
    SELECT
        machine, sensor AS kind_, start,
        sum(count) AS count_,
        sum(sum) AS sum_,
        minIf(min, count > 0) AS min_,
        maxIf(max, count > 0) AS max_,
        sum(bad) AS bad_,
        sum(late) AS late_,
        max(score) AS score_
    FROM {database}.fleet_windows_{longer} FINAL
    WHERE count > 0 OR bad > 0
    GROUP BY machine, kind_, start
);

-- The table that each view shows now, as the view itself says it.
CREATE OR REPLACE VIEW {database}.shown_tables AS
SELECT name AS view, extract(as_select, '`?([A-Za-z0-9_]+)`?\\s+FINAL') AS table_name
FROM system.tables
WHERE database = replaceAll('{database}', '`', '') AND match(name, '^(readings|fleet)_[0-9]+[smhd]$');

CREATE OR REPLACE VIEW {database}.pipeline_watermarks AS
SELECT
    lanes.topic AS topic,
    lanes.partition AS partition,
    lanes.view AS view,
    lanes.received AS received,
    if(tables.table_name = '', NULL, tables.position) AS visible,
    lanes.end_offset AS end_offset,
    if(tables.table_name = '', lanes.updated, tables.updated) AS updated
FROM (
    SELECT
        toString(positions.topic) AS topic,
        positions.partition AS partition,
        positions.received AS received,
        positions.end_offset AS end_offset,
        positions.updated AS updated,
        shown.view AS view,
        shown.table_name AS table_name
    FROM (SELECT * FROM {database}.positions FINAL) AS positions
    CROSS JOIN {database}.shown_tables AS shown
) AS lanes
LEFT JOIN (
    SELECT toString(topic) AS topic, partition, toString(table_name) AS table_name, position, updated
    FROM {database}.lane_positions FINAL
) AS tables
    ON tables.topic = lanes.topic AND tables.partition = lanes.partition AND tables.table_name = lanes.table_name;
