-- How late each machine's readings come and how far its clock is off: absolute, complete up to `version`, as
-- windows are. `lag` counts the late readings by how far they are behind the machine's largest time, ms; `skew` the
-- records by their Kafka timestamp less the machine's newest time in them, ms; both in the buckets of 0002_views.
-- While `skew` is empty, `skew_min_us` and `skew_last_us` say nothing.

CREATE TABLE IF NOT EXISTS {database}.machine_lateness_rows (
    topic LowCardinality(String),
    partition Int32,
    machine LowCardinality(String),
    version Int64,
    readings UInt64,
    late UInt64,
    lag Map(Int32, UInt64) CODEC(ZSTD),
    lag_max_us Int64,
    skew_min_us Int64,
    skew_last_us Int64,
    skew Map(Int32, UInt64) CODEC(ZSTD),
    high Nullable(DateTime64(6, 'UTC')),
    updated DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (machine, topic, partition);

-- One row per machine, whatever the number of its partitions. What a machine has not shown is NULL: lags without a
-- late reading, skews without a Kafka timestamp. `skew_s` is that of the last record; negative is ahead.
CREATE OR REPLACE VIEW {database}.machine_lateness AS
SELECT
    toString(machine) AS machine,
    readings_ AS readings,
    late_ AS late,
    late_ / readings_ AS late_share,
    if(late_ = 0, NULL, least(lag_max_, sign(lag_p50_) * exp((abs(lag_p50_) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) / 1e3)) AS lag_p50_s,
    if(late_ = 0, NULL, least(lag_max_, sign(lag_p99_) * exp((abs(lag_p99_) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) / 1e3)) AS lag_p99_s,
    if(late_ = 0, NULL, lag_max_) AS lag_max_s,
    if(samples_ = 0, NULL, skew_last_) AS skew_s,
    if(samples_ = 0, NULL, skew_min_) AS skew_min_s,
    if(samples_ = 0, NULL, greatest(skew_min_, sign(skew_p50_) * exp((abs(skew_p50_) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) / 1e3)) AS skew_p50_s,
    last_time_ AS last_time,
    updated_ AS updated
FROM (
    SELECT
        machine,
        readings_, late_, lag_max_, skew_last_, skew_min_, last_time_, updated_,
        arraySum(skews_.2) AS samples_,
        arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.5 * late_)), lags_.1, arrayCumSum(lags_.2)) AS lag_p50_,
        arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.99 * late_)), lags_.1, arrayCumSum(lags_.2)) AS lag_p99_,
        arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.5 * arraySum(skews_.2))), skews_.1, arrayCumSum(skews_.2)) AS skew_p50_
    FROM (
        SELECT
            machine,
            sum(readings) AS readings_,
            sum(late) AS late_,
            max(lag_max_us) / 1e6 AS lag_max_,
            argMaxIf(skew_last_us, updated, notEmpty(mapKeys(skew))) / 1e6 AS skew_last_,
            minIf(skew_min_us, notEmpty(mapKeys(skew))) / 1e6 AS skew_min_,
            max(high) AS last_time_,
            max(updated) AS updated_,
            sumMap(mapKeys(lag), mapValues(lag)) AS lags_,
            sumMap(mapKeys(skew), mapValues(skew)) AS skews_
        FROM {database}.machine_lateness_rows FINAL
        GROUP BY machine
    )
);

-- The table that each view shows now.
CREATE OR REPLACE VIEW {database}.shown_tables AS
SELECT
    replaceOne(replaceOne(name, 'windows_', 'readings_'), '_live', '') AS view,
    extract(as_select, '`?([A-Za-z0-9_]+)`?\\s+FINAL') AS table_name
FROM system.tables
WHERE database = replaceAll('{database}', '`', '') AND match(name, '^windows_[0-9]+[smhd]_live$');

-- How far each view is, partition by partition: everything below `visible` is in the table that it shows.
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
