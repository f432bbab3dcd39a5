-- The keys of windows begin with a coarse time, so that both what one series was over many windows and what all were in
-- the last few lie together.

CREATE TABLE IF NOT EXISTS {database}.windows_10s_by_time AS {database}.windows_10s
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (toStartOfHour(start), machine, sensor, start, topic, partition)
SETTINGS index_granularity = 2048;

CREATE TABLE IF NOT EXISTS {database}.windows_1m_by_time AS {database}.windows_1m
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start)
ORDER BY (toStartOfHour(start), machine, sensor, start, topic, partition)
SETTINGS index_granularity = 2048;

CREATE TABLE IF NOT EXISTS {database}.windows_1h_by_time AS {database}.windows_1h
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (toDate(start), machine, sensor, start, topic, partition)
SETTINGS index_granularity = 2048;

CREATE TABLE IF NOT EXISTS {database}.windows_1d_by_time AS {database}.windows_1d
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(start)
ORDER BY (toStartOfMonth(start), machine, sensor, start, topic, partition)
SETTINGS index_granularity = 2048;

INSERT INTO {database}.windows_{width}_by_time SELECT * FROM {database}.windows_{width};

EXCHANGE TABLES {database}.windows_{width} AND {database}.windows_{width}_by_time;

DROP TABLE IF EXISTS {database}.windows_{width}_by_time;
