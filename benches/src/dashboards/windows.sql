-- Windows of one width, as an aggregator writes them of a reading a second: `series` from {first_series} on, each with
-- {windows} windows from {from_s} on. Values swing around a mean of each series' own with the time of day; histograms
-- and sums have a noise of their own, so that nothing compresses that would not.
INSERT INTO stillwell.{table}
    (topic, partition, machine, sensor, start, version, kind, unit, count, sum, m2, min, max, first, first_time, last,
    last_time, area_last, area_linear, disordered, bad, late, score, histogram)
SELECT
    'readings',
    toInt32(machine_no % 8),
    concat('machine-', leftPad(toString(machine_no), 3, '0')),
    concat('s', leftPad(toString(sensor_no), 2, '0')),
    fromUnixTimestamp64Micro(at * 1000000, 'UTC'),
    at,
    ['temperature', 'vibration', 'pressure', 'current', 'flow'][sensor_no % 5 + 1],
    'u',
    {width},
    round(mean * {width}, 3),
    {width} * (0.04 + (chance % 1009) / 25225),
    round(mean - 0.6 - (chance % 313) / 1000, 3),
    round(mean + 0.6 + (chance % 317) / 1000, 3),
    round(mean + (toInt64(chance % 1201) - 600) / 1000, 3),
    fromUnixTimestamp64Micro(at * 1000000, 'UTC'),
    round(mean + (toInt64(chance % 1187) - 600) / 1000, 3),
    fromUnixTimestamp64Micro((at + {width} - 1) * 1000000, 'UTC'),
    (mean + (toInt64(chance % 101) - 50) / 10000) * ({width} - 1) * 1000000,
    (mean + (toInt64(chance % 103) - 50) / 10000) * ({width} - 1) * 1000000,
    0,
    chance % 2003 = 0 ? 1 : 0,
    chance % 211 = 0 ? chance % 7 : 0,
    toFloat32((chance % 997) / 1500),
    CAST((arrayConcat(arrayMap(offset -> bucket + offset, {offsets}), [bucket]),
        arrayConcat(counts, [toUInt64({width} - arraySum(counts))])), 'Map(Int32, UInt64)')
FROM
(
    SELECT
        {first_series} + intDiv(number, {windows}) AS series,
        intDiv(series, 50) AS machine_no,
        series % 50 AS sensor_no,
        toInt64({from_s} + number % {windows} * {width}) AS at,
        cityHash64(series, at, {width}) AS chance,
        20 + (cityHash64(series) % 4000) / 1000 + sin(at / 13751) + (chance % 2001) / 10000 AS mean,
        toInt32(ceil(log(mean) / log(1.01 / 0.99)) + 1100) AS bucket,
        arrayMap((count, place) -> count + bitShiftRight(chance, 7 * place) % (intDiv(count, {noise}) + 1),
            {counts}, range(length({counts}))) AS counts
    FROM numbers_mt({rows})
)
SETTINGS max_insert_threads = 2, max_partitions_per_insert_block = 0
