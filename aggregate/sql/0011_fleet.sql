-- Totals by machine and kind, so that questions over a whole plant need not read every series; and keys of windows whose
-- coarse times are as long as what one series is usually asked for: an hour, a day, 30 days. A condition on `start` is looked
-- up in the key by its coarse time where the key does not hold `start` itself, nor its plain microseconds.

-- What a migration that was cut off has left comes back first: rows are absolute.
CREATE TABLE IF NOT EXISTS {database}.windows_{width}_by_key AS {database}.windows_{width}
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine, sensor, start, topic, partition);

INSERT INTO {database}.windows_{width} SELECT * FROM {database}.windows_{width}_by_key;

DROP TABLE IF EXISTS {database}.windows_{width}_by_key;

CREATE TABLE IF NOT EXISTS {database}.windows_10s_by_key AS {database}.windows_10s
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 3600000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS {database}.windows_1m_by_key AS {database}.windows_1m
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 86400000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS {database}.windows_1h_by_key AS {database}.windows_1h
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 2592000000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 512;

CREATE TABLE IF NOT EXISTS {database}.windows_1d_by_key AS {database}.windows_1d
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (machine, sensor, start, topic, partition)
SETTINGS index_granularity = 512;

INSERT INTO {database}.windows_{width}_by_key SELECT * FROM {database}.windows_{width};

EXCHANGE TABLES {database}.windows_{width} AND {database}.windows_{width}_by_key;

-- What was written meanwhile.
INSERT INTO {database}.windows_{width}
SELECT * FROM {database}.windows_{width}_by_key WHERE written >= now() - INTERVAL 2 DAY;

DROP TABLE IF EXISTS {database}.windows_{width}_by_key;

-- Rows are those of windows, with a kind in the place of the sensor, and without what depends on the order of readings.
CREATE TABLE IF NOT EXISTS {database}.fleet_windows_1m AS {database}.windows_1m
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 3600000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS {database}.fleet_windows_1h AS {database}.windows_1h
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 86400000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 1024;

CREATE TABLE IF NOT EXISTS {database}.fleet_windows_1d AS {database}.windows_1d
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (intDiv(toUnixTimestamp64Micro(start), 2592000000000), machine, sensor, negate(toUnixTimestamp64Micro(start)), topic, partition)
SETTINGS index_granularity = 1024;

-- What there is already, with positions from before it: what comes again is in rows that know it. A row is complete up to
-- the latest version of its series' rows where the aggregator was stopped in order. Readings count for the kind that
-- their series had last in their window.
INSERT INTO {database}.lane_positions (topic, partition, table_name, position)
SELECT topic, partition, 'fleet_windows_1m', position
FROM {database}.lane_positions FINAL
WHERE table_name IN (SELECT table_name FROM {database}.shown_tables WHERE view = 'readings_1m');

INSERT INTO {database}.lane_positions (topic, partition, table_name, position)
SELECT topic, partition, 'fleet_windows_1h', position
FROM {database}.lane_positions FINAL
WHERE table_name IN (SELECT table_name FROM {database}.shown_tables WHERE view = 'readings_1h');

INSERT INTO {database}.lane_positions (topic, partition, table_name, position)
SELECT topic, partition, 'fleet_windows_1d', position
FROM {database}.lane_positions FINAL
WHERE table_name IN (SELECT table_name FROM {database}.shown_tables WHERE view = 'readings_1d');

INSERT INTO {database}.fleet_windows_1m
    (topic, partition, machine, sensor, start, version, kind, count, sum, min, max, bad, late, score)
SELECT
    topic, partition, machine, kind, start, max(version), kind, sum(count), sum(sum), min(min), max(max), sum(bad),
    sum(late), max(score)
FROM {database}.windows_1m_live
GROUP BY topic, partition, machine, kind, start
SETTINGS max_bytes_before_external_group_by = 400000000, max_partitions_per_insert_block = 0;

INSERT INTO {database}.fleet_windows_1h
    (topic, partition, machine, sensor, start, version, kind, count, sum, min, max, bad, late, score)
SELECT
    topic, partition, machine, kind, start, max(version), kind, sum(count), sum(sum), min(min), max(max), sum(bad),
    sum(late), max(score)
FROM {database}.windows_1h_live
GROUP BY topic, partition, machine, kind, start
SETTINGS max_bytes_before_external_group_by = 400000000, max_partitions_per_insert_block = 0;

INSERT INTO {database}.fleet_windows_1d
    (topic, partition, machine, sensor, start, version, kind, count, sum, min, max, bad, late, score)
SELECT
    topic, partition, machine, kind, start, max(version), kind, sum(count), sum(sum), min(min), max(max), sum(bad),
    sum(late), max(score)
FROM {database}.windows_1d_live
GROUP BY topic, partition, machine, kind, start
SETTINGS max_bytes_before_external_group_by = 400000000, max_partitions_per_insert_block = 0;

CREATE OR REPLACE VIEW {database}.fleet_1m AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS kind,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    sum_ / count_ AS avg,
    min_ AS min,
    max_ AS max,
    bad_ AS bad,
    late_ AS late,
    if(score_ < 0, NULL, toFloat64(score_)) AS score
FROM (
    SELECT
        machine, sensor, start,
        sum(count) AS count_,
        sum(sum) AS sum_,
        min(min) AS min_,
        max(max) AS max_,
        sum(bad) AS bad_,
        sum(late) AS late_,
        max(score) AS score_
    FROM {database}.fleet_windows_1m FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.fleet_1h AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS kind,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    sum_ / count_ AS avg,
    min_ AS min,
    max_ AS max,
    bad_ AS bad,
    late_ AS late,
    if(score_ < 0, NULL, toFloat64(score_)) AS score
FROM (
    SELECT
        machine, sensor, start,
        sum(count) AS count_,
        sum(sum) AS sum_,
        min(min) AS min_,
        max(max) AS max_,
        sum(bad) AS bad_,
        sum(late) AS late_,
        max(score) AS score_
    FROM {database}.fleet_windows_1h FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.fleet_1d AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS kind,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    sum_ / count_ AS avg,
    min_ AS min,
    max_ AS max,
    bad_ AS bad,
    late_ AS late,
    if(score_ < 0, NULL, toFloat64(score_)) AS score
FROM (
    SELECT
        machine, sensor, start,
        sum(count) AS count_,
        sum(sum) AS sum_,
        min(min) AS min_,
        max(max) AS max_,
        sum(bad) AS bad_,
        sum(late) AS late_,
        max(score) AS score_
    FROM {database}.fleet_windows_1d FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

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
    CROSS JOIN (
        SELECT view, table_name FROM {database}.shown_tables
        UNION ALL
        SELECT concat('fleet_', width) AS view, concat('fleet_windows_', width) AS table_name
        FROM (SELECT arrayJoin(['1m', '1h', '1d']) AS width)
    ) AS shown
) AS lanes
LEFT JOIN (
    SELECT toString(topic) AS topic, partition, toString(table_name) AS table_name, position, updated
    FROM {database}.lane_positions FINAL
) AS tables
    ON tables.topic = lanes.topic AND tables.partition = lanes.partition AND tables.table_name = lanes.table_name;
