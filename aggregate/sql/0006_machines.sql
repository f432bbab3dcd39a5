-- The machine registry's copy: one row per version of a machine, as the last record of its key says. `version` is that
-- record's offset, `deleted` whether it took the machine's version back, `sensors` their JSON, an object by name.
CREATE TABLE IF NOT EXISTS {database}.machine_rows (
    topic LowCardinality(String),
    machine String,
    valid_from DateTime64(6, 'UTC'),
    version Int64,
    partition Int32,
    site String,
    line String,
    model String,
    sensors String CODEC(ZSTD),
    deleted UInt8,
    updated DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, machine, valid_from);

-- How far the topic was read: everything below `position` was in the copy at `updated`, and there was nothing more.
CREATE TABLE IF NOT EXISTS {database}.machine_registry_state (
    topic LowCardinality(String),
    partition Int32,
    position Int64,
    updated DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (topic, partition);

-- Every version, until the machine's next one takes its place. Of several topics the one that was read last counts.
CREATE OR REPLACE VIEW {database}.machines_history AS
SELECT
    machine, site, line, model, valid_from,
    any(toNullable(valid_from)) OVER (PARTITION BY machine ORDER BY valid_from ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS valid_until,
    sensors
FROM (
    SELECT machine, site, line, model, valid_from, sensors
    FROM {database}.machine_rows FINAL
    WHERE deleted = 0 AND topic = (SELECT argMax(topic, updated) FROM {database}.machine_registry_state)
);

-- The version of each machine that is valid now, with the number of its sensors.
CREATE OR REPLACE VIEW {database}.machines AS
SELECT machine, site, line, model, valid_from, toInt64(JSONLength(json)) AS sensors
FROM (SELECT machine, site, line, model, valid_from, valid_until, sensors AS json FROM {database}.machines_history)
WHERE valid_from <= now64(6) AND (valid_until IS NULL OR valid_until > now64(6));

-- The sensors of every version.
CREATE OR REPLACE VIEW {database}.machine_sensors AS
SELECT
    machine,
    pair.1 AS sensor,
    JSONExtractString(pair.2, 'unit') AS unit,
    JSONExtract(pair.2, 'low', 'Nullable(Float64)') AS low,
    JSONExtract(pair.2, 'high', 'Nullable(Float64)') AS high,
    JSONExtractString(pair.2, 'description') AS description,
    valid_from,
    valid_until
FROM (
    SELECT machine, valid_from, valid_until, arrayJoin(JSONExtractKeysAndValuesRaw(sensors)) AS pair
    FROM {database}.machines_history
);

-- One row: how many versions there are, what tells that none of them has changed, and when the topic was last read to
-- its end.
CREATE OR REPLACE VIEW {database}.machines_registry AS
SELECT versions, fingerprint, read_until
FROM (
    SELECT toInt64(count()) AS versions, sum(cityHash64(topic, machine, valid_from, version)) AS fingerprint
    FROM {database}.machine_rows FINAL
    WHERE deleted = 0 AND topic = (SELECT argMax(topic, updated) FROM {database}.machine_registry_state)
) AS held
CROSS JOIN (
    SELECT minOrNull(updated) AS read_until
    FROM {database}.machine_registry_state FINAL
    WHERE topic = (SELECT argMax(topic, updated) FROM {database}.machine_registry_state)
) AS state;
