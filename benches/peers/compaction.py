"""Bytes per reading of compacted `readings` files beside pyarrow's default zstd on the same rows in arrival order.

  cargo build --release -p stillwell-ingest --example compact
  benches/peers/setup.sh
  benches/peers/.venv/bin/python benches/peers/compaction.py RECORDINGS target/release/examples/compact

Each row of a recording is one record with all its sensors; its Kafka time is the row's time and up to 20 ms of jitter,
or just the row's time with --no-jitter. Prints one line of JSON per set and level, and the geometric means.
"""

import argparse
import csv
import datetime
import glob
import gzip
import io
import json
import math
import os
import random
import subprocess
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq


def records(folder, jitter):
    noise = random.Random(1)
    for path in sorted(glob.glob(f"{folder}/*.csv.gz")):
        machine = f"{os.path.basename(folder)}-{os.path.basename(path)[:-7]}"
        with gzip.open(path) as packed:
            rows = csv.reader(io.TextIOWrapper(packed))
            names = next(rows)
            for row in rows:
                moment = datetime.datetime.fromisoformat(row[0]).replace(tzinfo=datetime.timezone.utc)
                ms = round(moment.timestamp() * 1000)
                readings = []
                for name, cell in zip(names, row):
                    if name in ("time", "phase", "label") or cell in ("", "nan"):
                        continue
                    reading = {"machine": machine, "sensor": name, "time": ms}
                    try:
                        reading["value"] = float(cell)
                    except ValueError:
                        reading["text"] = cell
                    readings.append(reading)
                yield ms + (noise.randrange(20) if jitter else 0), readings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recordings")
    parser.add_argument("compact")
    parser.add_argument("--sets", default="skab,gecco,smd,asd,cnc")
    parser.add_argument("--levels", default="1,3,6,9")
    parser.add_argument("--no-jitter", action="store_true")
    args = parser.parse_args()
    ratios = {}
    for name in args.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            lines = io.StringIO()
            for ms, readings in records(f"{args.recordings}/{name}", not args.no_jitter):
                lines.write(f"{ms}\t{json.dumps(readings)}\n")
            command = [args.compact, folder, *args.levels.split(",")]
            done = subprocess.run(command, input=lines.getvalue(), text=True, capture_output=True, check=True)
            base = None
            for line in done.stdout.splitlines():
                result = json.loads(line)
                merged = result["merged"]
                if base is None:
                    paths = glob.glob(f"{folder}/{result['level']}/readings/readings/0/*-act*.parquet")
                    table = pa.concat_tables(pq.ParquetFile(path).read() for path in paths)
                    assert table.num_rows == merged["readings"], "pyarrow reads other rows"
                    table = table.sort_by([("offset", "ascending"), ("index", "ascending")])
                    sink = pa.BufferOutputStream()
                    pq.write_table(table, sink, compression="zstd")
                    base = sink.getvalue().size
                ratio = merged["readings_bytes_after"] / base
                ratios.setdefault(result["level"], []).append(ratio)
                per = 1 / merged["readings"]
                print(json.dumps({
                    "set": name,
                    "level": result["level"],
                    "readings": merged["readings"],
                    "pyarrow_bytes_per_reading": round(base * per, 3),
                    "bytes_per_reading": round(merged["readings_bytes_after"] * per, 3),
                    "ratio": round(ratio, 3),
                    "small_files_bytes_per_reading": round(merged["readings_bytes_before"] * per, 3),
                    "records_bytes_per_reading": round((merged["bytes_after"] - merged["readings_bytes_after"]) * per, 3),
                    "seconds_per_million": round(result["seconds"] * per * 1e6, 2),
                }), flush=True)
    for level, all_ratios in ratios.items():
        mean = math.exp(sum(map(math.log, all_ratios)) / len(all_ratios))
        print(json.dumps({"level": level, "geometric_mean_of_ratios": round(mean, 3)}))


if __name__ == "__main__":
    main()
