-- Series that the aggregator did not take in, as their machine or its process had too many: from offset `since`, where
-- the lane that counts them began. Their readings are in the archive.
CREATE TABLE IF NOT EXISTS {database}.refused_series (
    topic LowCardinality(String),
    partition Int32,
    machine String,
    version Int64,
    series UInt64,
    readings UInt64,
    since Int64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, partition, machine);

CREATE OR REPLACE VIEW {database}.series_refused AS
SELECT toString(topic) AS topic, partition, machine, series, readings, since, version AS until
FROM {database}.refused_series FINAL;
