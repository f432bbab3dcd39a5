-- Series other than plain numbers, and means by time.
--
-- `area_last` and `area_linear` of a window are the areas under its values from its first reading to its last, value
-- times µs: held until the next, and by straight lines. `increase` is what a series of kind `counter` counted
-- between them, through its `resets`. All of them, and the times that states were held, are exact where no reading
-- came after a later one of the window (`disordered` is 0) and all came from one partition; views show NULL else.
-- Over several windows: the sums of the areas, and between two windows that follow each other the last value of
-- the one (or the mean of it and the first of the other) times the time from the one's last to the other's first.
-- A statement that names `{width}` is run for each of 10s, 1m, 1h and 1d.

ALTER TABLE {database}.windows_{width}
    ADD COLUMN IF NOT EXISTS increase Float64 CODEC(ZSTD) AFTER area_linear,
    ADD COLUMN IF NOT EXISTS resets UInt64 CODEC(ZSTD) AFTER increase,
    ADD COLUMN IF NOT EXISTS state_count UInt64 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS state_first String CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS state_first_time DateTime64(6, 'UTC') CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS state_last String CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS state_last_time DateTime64(6, 'UTC') CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS transitions UInt64 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS state_disordered UInt64 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS held Map(String, Int64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS written DateTime DEFAULT now() CODEC(Delta, ZSTD);

CREATE OR REPLACE VIEW {database}.windows_{width}_live AS SELECT * FROM {database}.windows_{width} FINAL;

CREATE OR REPLACE VIEW {database}.readings_{width} AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS sensor,
    toString(kind_) AS kind,
    toString(unit_) AS unit,
    start AS time,
    count_ AS count,
    sum_ AS sum,
    sum_ / count_ AS avg,
    sqrt((m2_ + arraySum(part -> part.1 * pow(part.2 / part.1 - sum_ / count_, 2), parts_)) / count_) AS stddev,
    min_ AS min,
    max_ AS max,
    first_ AS first,
    last_ AS last,
    greatest(min_, least(max_, sign(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.5 * count_)), buckets_.1, arrayCumSum(buckets_.2))) * exp((abs(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.5 * count_)), buckets_.1, arrayCumSum(buckets_.2))) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * ((arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.5 * count_)), buckets_.1, arrayCumSum(buckets_.2))) != 0))) AS p50,
    greatest(min_, least(max_, sign(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.95 * count_)), buckets_.1, arrayCumSum(buckets_.2))) * exp((abs(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.95 * count_)), buckets_.1, arrayCumSum(buckets_.2))) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * ((arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.95 * count_)), buckets_.1, arrayCumSum(buckets_.2))) != 0))) AS p95,
    greatest(min_, least(max_, sign(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.99 * count_)), buckets_.1, arrayCumSum(buckets_.2))) * exp((abs(arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.99 * count_)), buckets_.1, arrayCumSum(buckets_.2))) - 1100) * log(1.01 / 0.99)) * 2 / (1 + 1.01 / 0.99) * ((arrayFirst((key, seen) -> seen >= greatest(1, ceil(0.99 * count_)), buckets_.1, arrayCumSum(buckets_.2))) != 0))) AS p99,
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
        sumMap(mapKeys(histogram), mapValues(histogram)) AS buckets_
    FROM {database}.windows_{width}_live
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

-- One row for each state that a series was in within a window; `held_s` are the seconds from its readings to the
-- next ones of the window, 0 for a state that the window ends with.
CREATE OR REPLACE VIEW {database}.states_{width} AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS sensor,
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
    FROM {database}.windows_{width}_live
    WHERE state_count > 0
    GROUP BY machine, sensor, start
)
ARRAY JOIN if(has(spans_.1, last_), arrayZip(spans_.1, spans_.2), arrayPushBack(arrayZip(spans_.1, spans_.2), (last_, toInt64(0)))) AS held_;
