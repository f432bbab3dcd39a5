-- Operations of several steps, each of which can be resumed or undone: what was planned and what became of it.
-- Lines are only ever added; those of one saga are in the order of `seq`. `detail` is JSON.

CREATE TABLE IF NOT EXISTS {database}.saga_log (
    saga String,
    seq UInt64,
    step LowCardinality(String),
    event LowCardinality(String),
    detail String CODEC(ZSTD),
    by String,
    why String,
    at DateTime64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (saga, seq);

-- Who drives a saga, and when it was last seen alive; nobody where `owner` is empty.
CREATE TABLE IF NOT EXISTS {database}.saga_leases (
    saga String,
    owner String,
    beat UInt64,
    at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(beat)
ORDER BY saga;
