-- What readers see: plain types, one row per series and window whatever the number of source partitions.
-- Quantiles come from the log-bucket histogram: bucket k > 0 holds values around gamma^(k - 1100), k < 0 their
-- negatives, 0 what is nearer to zero than 1e-9; gamma = 1.01 / 0.99 gives a relative error of at most 1 %.
-- `stddev` is the population's (divided by count): the deviations within each source partition, and those of
-- the partitions' means, after Chan, Golub, LeVeque (1979).
-- Windows without a value are left out, whose statistics would be NULL.

CREATE OR REPLACE VIEW {database}.readings_10s AS
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
    if(score_ < 0, NULL, toFloat64(score_)) AS score
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
        sumMap(mapKeys(histogram), mapValues(histogram)) AS buckets_
    FROM {database}.windows_10s FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.readings_1m AS
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
    if(score_ < 0, NULL, toFloat64(score_)) AS score
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
        sumMap(mapKeys(histogram), mapValues(histogram)) AS buckets_
    FROM {database}.windows_1m FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.readings_1h AS
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
    if(score_ < 0, NULL, toFloat64(score_)) AS score
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
        sumMap(mapKeys(histogram), mapValues(histogram)) AS buckets_
    FROM {database}.windows_1h FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.readings_1d AS
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
    if(score_ < 0, NULL, toFloat64(score_)) AS score
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
        sumMap(mapKeys(histogram), mapValues(histogram)) AS buckets_
    FROM {database}.windows_1d FINAL
    GROUP BY machine, sensor, start
    HAVING count_ > 0
);

CREATE OR REPLACE VIEW {database}.latest AS
SELECT
    toString(machine) AS machine,
    toString(sensor) AS sensor,
    toString(argMax(kind, t)) AS kind,
    toString(argMax(unit, t)) AS unit,
    max(t) AS time,
    tupleElement(argMax(tuple(value), t), 1) AS value,
    tupleElement(argMax(tuple(text), t), 1) AS text,
    argMax(quality, t) AS quality,
    tupleElement(argMax(tuple(score), t), 1) AS score
FROM (SELECT machine, sensor, kind, unit, time AS t, value, text, quality, score FROM {database}.latest_rows FINAL)
GROUP BY machine, sensor;

CREATE OR REPLACE VIEW {database}.anomalies AS
SELECT
    time, until, toString(machine) AS machine, sensors, score, peak_score, threshold, model,
    toString(topic) AS topic, partition, offset, id
FROM {database}.anomaly_rows FINAL;

CREATE OR REPLACE VIEW {database}.machines_scored AS
SELECT
    states.machine AS machine,
    states.model AS model,
    states.rows AS rows,
    models.threshold AS threshold,
    models.created AS since
FROM (SELECT * FROM {database}.scorer_states FINAL) AS states
LEFT JOIN (SELECT * FROM {database}.models FINAL) AS models
    ON models.topic = states.topic AND models.partition = states.partition AND models.machine = states.machine;

CREATE OR REPLACE VIEW {database}.pipeline_positions AS
SELECT toString(topic) AS topic, partition, position, received, end_offset, readings, late, updated
FROM {database}.positions FINAL;
