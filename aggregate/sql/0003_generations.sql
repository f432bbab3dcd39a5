-- Which table holds the windows of each width, and how far each of them is.
--
-- Lanes write the windows of a width into the table that the highest generation names; without a row, into the
-- one of its own name. Readers see the windows through `windows_<width>_live`, which is moved to another table in
-- one step. So a width can be built anew beside the one in use, and nobody who still writes to the old one harms it.

CREATE TABLE IF NOT EXISTS {database}.generations (
    width LowCardinality(String),
    generation UInt64,
    table_name String,
    saga String,
    changed DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(generation)
ORDER BY width;

-- Everything below `position` of a lane is in the windows of that table. Moved after they are written.
CREATE TABLE IF NOT EXISTS {database}.lane_positions (
    topic LowCardinality(String),
    partition Int32,
    table_name LowCardinality(String),
    position Int64,
    updated DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(position)
ORDER BY (topic, partition, table_name);

-- The largest time of each series, but for early readings, where the windows of all widths are complete up to
-- `version`: by it, a lane that goes on from there tells what is late. Where a table was built from the archive, the
-- rows of its name say it at the position up to which it was built; those without a name are the lane's own.
CREATE TABLE IF NOT EXISTS {database}.series_highs (
    topic LowCardinality(String),
    partition Int32,
    table_name LowCardinality(String),
    machine LowCardinality(String),
    sensor LowCardinality(String),
    version Int64 CODEC(Delta, ZSTD),
    high DateTime64(6, 'UTC') CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, table_name, machine, sensor);

INSERT INTO {database}.series_highs (topic, partition, table_name, machine, sensor, version, high)
SELECT topic, partition, '', machine, sensor, version, time
FROM {database}.latest_rows FINAL
WHERE (early_until IS NULL OR time < early_until)
    AND (topic, partition) NOT IN (SELECT topic, partition FROM {database}.lane_positions);

INSERT INTO {database}.lane_positions (topic, partition, table_name, position, updated)
SELECT topic, partition, arrayJoin(['windows_10s', 'windows_1m', 'windows_1h', 'windows_1d']), position, updated
FROM {database}.positions FINAL
WHERE (topic, partition) NOT IN (SELECT topic, partition FROM {database}.lane_positions);
