"""Foreign readers on the archive's files: DuckDB, pyarrow, Polars and ClickHouse's file() read every file of readings.

  cargo build --release -p stillwell-ingest --example compact
  benches/peers/setup.sh
  benches/peers/.venv/bin/pip install duckdb polars chdb
  benches/peers/.venv/bin/python benches/peers/readers.py RECORDINGS target/release/examples/compact

Each set of recordings (see compaction.py) is archived in small commits and merged; the files of the commits and the
merged ones are then summed up per series by each reader and held against the sums of the recording itself. Prints one
line of JSON per set; fails where a reader sees anything else.
"""

import argparse
import collections
import glob
import json
import math
import os
import shutil
import subprocess
import tempfile

import chdb
import duckdb
import polars
import pyarrow.compute as pc
import pyarrow.parquet as pq

from compaction import records

# Sums of whole times overflow 64 bits.
MODULUS = 1_000_003

SUMS = """SELECT machine, sensor, count(*), count(value), sum(value), min(value), max(value), {micros}, sum("offset"),
 sum("index"), count(text) FROM {source} GROUP BY machine, sensor"""


def expected(rows):
    series = collections.defaultdict(lambda: [0, 0, [], 0, 0, 0, 0])
    for offset, (_, readings) in enumerate(rows):
        for index, reading in enumerate(readings):
            sums = series[(reading["machine"], reading["sensor"])]
            sums[0] += 1
            if "value" in reading:
                sums[1] += 1
                sums[2].append(reading["value"])
            sums[3] += reading["time"] * 1000 % MODULUS
            sums[4] += offset
            sums[5] += index
            sums[6] += "text" in reading
    return {
        key: (n, has, math.fsum(values), min(values, default=None), max(values, default=None), time, offset, index, text)
        for key, (n, has, values, time, offset, index, text) in series.items()
    }


def by_pyarrow(files):
    table = pq.ParquetDataset(files).read()
    micros = pc.cast(table["time"], "int64")
    rest = pc.subtract(micros, pc.multiply(pc.divide(micros, MODULUS), MODULUS))
    table = table.set_column(table.schema.get_field_index("time"), "time", rest)
    counted = [("value", "count"), ("value", "sum"), ("value", "min"), ("value", "max"), ("time", "sum")]
    counted += [("offset", "sum"), ("index", "sum"), ("text", "count"), ("quality", "count")]
    sums = table.group_by(["machine", "sensor"]).aggregate(counted).to_pylist()
    for row in sums:
        yield (row["machine"], row["sensor"], row["quality_count"], row["value_count"], row["value_sum"],
               row["value_min"], row["value_max"], row["time_sum"], row["offset_sum"], row["index_sum"], row["text_count"])


def by_duckdb(files):
    source = f"read_parquet({files!r})"
    return duckdb.sql(SUMS.format(source=source, micros=f"sum(epoch_us(time) % {MODULUS})")).fetchall()


def by_polars(files):
    column = polars.col
    sums = polars.scan_parquet(files).group_by("machine", "sensor").agg(
        polars.len(), column("value").count().alias("has"), column("value").sum().alias("sum"),
        column("value").min().alias("min"), column("value").max().alias("max"),
        (column("time").dt.epoch("us") % MODULUS).sum().alias("micros"), column("offset").sum(),
        column("index").cast(polars.Int64).sum(), column("text").count())
    return sums.collect().rows()


def by_clickhouse(files):
    source = f"file('{os.path.dirname(files[0])}/*.parquet', Parquet)"
    text = chdb.query(SUMS.format(source=source, micros=f"sum(toUnixTimestamp64Micro(time) % {MODULUS})"), "JSONCompact")
    for row in json.loads(str(text))["data"]:
        machine, sensor, *rest = row
        yield (machine, sensor, *[float(cell) if isinstance(cell, str) else cell for cell in rest])


READERS = {"pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars, "clickhouse": by_clickhouse}


def same(found, wanted):
    if wanted is None or found is None:
        return not wanted and not found
    return math.isclose(float(found), float(wanted), rel_tol=1e-9, abs_tol=1e-6)


def check(name, reader, files, wanted):
    found = {(row[0], row[1]): row[2:] for row in reader(files)}
    assert found.keys() == wanted.keys(), f"{name} sees other series: {found.keys() ^ wanted.keys()}"
    for series, sums in wanted.items():
        assert all(map(same, found[series], sums)), f"{name} sees {found[series]} of {series}, not {sums}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recordings")
    parser.add_argument("compact")
    parser.add_argument("--sets", default="skab,gecco,cnc")
    args = parser.parse_args()
    for name in args.sets.split(","):
        rows = list(records(os.path.join(args.recordings, name), jitter=True))
        text = "".join(f"{ms}\t{json.dumps(readings, separators=(',', ':'))}\n" for ms, readings in rows)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([args.compact, folder, "3"], input=text.encode(), check=True, stdout=subprocess.DEVNULL)
            files = sorted(glob.glob(f"{folder}/3/readings/readings/0/*.parquet"))
            merged = [file for file in files if "-act" in os.path.basename(file)]
            commits = [file for file in files if file not in merged]
            assert commits and merged, "there are commits' files and merged ones"
            wanted = expected(rows)
            for kind, members in (("commits", commits), ("merged", merged)):
                os.mkdir(f"{folder}/{kind}")
                paths = [shutil.copy(file, f"{folder}/{kind}") for file in members]
                for reader, read in READERS.items():
                    check(f"{name}, {kind}: {reader}", read, paths, wanted)
            readings = sum(sums[0] for sums in wanted.values())
            counts = {"commit_files": len(commits), "merged_files": len(merged)}
            print(json.dumps({"set": name, "readings": readings, **counts, "readers": list(READERS)}), flush=True)


if __name__ == "__main__":
    main()
