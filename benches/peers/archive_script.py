"""The script a team would write to archive a topic: confluent-kafka in, pyarrow's JSON reader, Parquet out.

At least once, the decoded columns only, no originals and no proof. It commits after a file is on disk.
Usage: archive_script.py BROKERS TOPIC FOLDER READINGS; prints one line of JSON with what it took.
"""

import io
import json
import os
import resource
import sys
import time
import uuid

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from confluent_kafka import Consumer

FILE_BYTES = 32 * 1024 * 1024

SCHEMA = pa.schema(
    [
        ("machine", pa.string()),
        ("sensor", pa.string()),
        ("kind", pa.string()),
        ("unit", pa.string()),
        ("time", pa.int64()),
        ("value", pa.float64()),
    ]
)


def lines_of(value):
    """A record's readings as JSON lines: the values hold no braces, so the array can be cut as text."""
    if value.startswith(b"["):
        return value[1:-1].replace(b"},{", b"}\n{")
    return value


def read_table(values):
    text = io.BytesIO(b"\n".join(map(lines_of, values)))
    return pyarrow.json.read_json(
        text,
        read_options=pyarrow.json.ReadOptions(block_size=16 * 1024 * 1024),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=SCHEMA),
    )


def write_file(table, folder):
    path = os.path.join(folder, f"{uuid.uuid4()}.parquet")
    pyarrow.parquet.write_table(table, path, compression="zstd")
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def main(brokers, topic, folder, readings):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"archive-script-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
        }
    )
    consumer.subscribe([topic])
    first = None
    done, waiting, waiting_bytes = 0, [], 0
    while done < readings:
        messages = consumer.consume(100_000, timeout=0.2)
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
            first = first or time.monotonic()
            waiting.append(message.value())
            waiting_bytes += len(waiting[-1])
        if waiting_bytes >= FILE_BYTES or (waiting and not messages):
            table = read_table(waiting)
            write_file(table, folder)
            consumer.commit(asynchronous=False)
            done += table.num_rows
            waiting, waiting_bytes = [], 0
    seconds = time.monotonic() - first
    consumer.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "readings": done,
        "seconds": round(seconds, 3),
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "peak_rss_mib": round(used.ru_maxrss / 1024),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
