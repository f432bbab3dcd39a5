-- What stands beside the windows: last readings, a year of anomalies, models in force, positions.
INSERT INTO stillwell.latest_rows
    (topic, partition, machine, sensor, version, kind, unit, time, value, text, quality, score)
SELECT
    'readings',
    toInt32(machine_no % 8),
    concat('machine-', leftPad(toString(machine_no), 3, '0')),
    concat('s', leftPad(toString(number % 50), 2, '0')),
    {until_s},
    ['temperature', 'vibration', 'pressure', 'current', 'flow'][number % 5 + 1],
    'u',
    fromUnixTimestamp64Micro(({until_s} - 1) * 1000000, 'UTC'),
    20 + (cityHash64(number) % 4000) / 1000,
    NULL,
    0,
    (cityHash64(number) % 997) / 1500
FROM (SELECT number, intDiv(number, 50) AS machine_no FROM numbers({series}));
INSERT INTO stillwell.anomaly_rows
    (id, version, time, until, machine, sensors, score, peak_score, threshold, model, topic, partition, offset)
SELECT
    hex(chance),
    number,
    fromUnixTimestamp64Micro(at, 'UTC'),
    number % 1000 = 0 ? NULL : fromUnixTimestamp64Micro(at + (chance % 600 + 5) * 1000000, 'UTC'),
    concat('machine-', leftPad(toString(chance % {machines}), 3, '0')),
    [concat('s', leftPad(toString(chance % 50), 2, '0'))],
    1 + (chance % 9000) / 1000,
    1 + (chance % 9000) / 1000 + (chance % 7001) / 1000,
    1,
    repeat('ab', 32),
    'readings',
    toInt32(chance % {machines} % 8),
    number
FROM
(
    SELECT
        number,
        cityHash64(number) AS chance,
        toInt64({until_s} - intDiv({days} * 86400 * number, {anomalies}) - 1) * 1000000 AS at
    FROM numbers({anomalies})
);
INSERT INTO stillwell.scorer_states (topic, partition, machine, version, rows, phase, model, state)
SELECT
    'readings',
    toInt32(number % 8),
    concat('machine-', leftPad(toString(number), 3, '0')),
    {until_s},
    {days} * 86400,
    'scoring',
    repeat('ab', 32),
    ''
FROM numbers({machines});
INSERT INTO stillwell.models (topic, partition, machine, effective, hash, threshold, rows, created, bytes)
SELECT
    'readings',
    toInt32(number % 8),
    concat('machine-', leftPad(toString(number), 3, '0')),
    400,
    repeat('ab', 32),
    1,
    400,
    fromUnixTimestamp64Micro(({until_s} - {days} * 86400) * 1000000, 'UTC'),
    ''
FROM numbers({machines});
INSERT INTO stillwell.positions
    (topic, partition, position, received, end_offset, readings, late, updated)
SELECT
    'readings',
    toInt32(number),
    {until_s},
    {until_s},
    {until_s},
    {until_s} * 1000,
    0,
    fromUnixTimestamp64Micro({until_s} * 1000000, 'UTC')
FROM numbers(8);
