"""Writes avro-evolution.json and avro-*.bin with fastavro (1.13.1 wrote those that are kept).

avro-evolution.json: pairs of schemas, a datum written by the first, and what fastavro reads of it by the second.
avro-*.bin: records of a factory, framed for a schema registry; the schemas are avro-schemas.json.
"""

import datetime
import decimal
import io
import json
import math
import random
import struct

import fastavro
from fastavro import schemaless_reader, schemaless_writer

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
rng = random.Random(20261125)


def shown(value):
    """What was read, in the words of the test."""
    if isinstance(value, datetime.datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return {"$us": (value - EPOCH) // datetime.timedelta(microseconds=1)}
    if isinstance(value, datetime.date):
        return {"$us": (value - datetime.date(1970, 1, 1)).days * 86_400_000_000}
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": True}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": {"inf": "inf", "-inf": "-inf"}.get(str(value), "NaN")}
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


class Maker:
    """Makes schemas, data and their successors."""

    def __init__(self):
        self.names = 0

    def name(self, kind):
        self.names += 1
        return f"{kind}{self.names}"

    def schema(self, depth):
        kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "millis", "micros", "date",
                 "decimal", "fixed", "enum"]
        if depth > 0:
            kinds += ["array", "map", "union", "record", "record"]
        kind = rng.choice(kinds)
        if kind == "millis":
            return {"type": "long", "logicalType": "timestamp-millis"}
        if kind == "micros":
            return {"type": "long", "logicalType": "timestamp-micros"}
        if kind == "date":
            return {"type": "int", "logicalType": "date"}
        if kind == "decimal":
            return {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": rng.randrange(0, 5)}
        if kind == "fixed":
            return {"type": "fixed", "name": self.name("F"), "size": rng.randrange(0, 5)}
        if kind == "enum":
            return {"type": "enum", "name": self.name("E"), "symbols": ["A", "B", "C"][: rng.randrange(1, 4)]}
        if kind == "array":
            return {"type": "array", "items": self.schema(depth - 1)}
        if kind == "map":
            return {"type": "map", "values": self.schema(depth - 1)}
        if kind == "union":
            return ["null", self.plain(self.schema(depth - 1))]
        if kind == "record":
            return self.record(depth)
        return kind

    def plain(self, schema):
        """A type that may stand beside null in a union."""
        return "string" if isinstance(schema, list) or schema == "null" else schema

    def record(self, depth):
        fields = [{"name": f"f{i}", "type": self.schema(depth - 1)} for i in range(rng.randrange(1, 5))]
        return {"type": "record", "name": self.name("R"), "fields": fields}

    def datum(self, schema):
        if isinstance(schema, list):
            return self.datum(rng.choice(schema))
        kind = schema if isinstance(schema, str) else schema["type"]
        logical = schema.get("logicalType") if isinstance(schema, dict) else None
        if logical in ("timestamp-millis", "timestamp-micros"):
            ms = rng.randrange(-10**12, 2 * 10**12)
            return EPOCH + datetime.timedelta(milliseconds=ms)
        if logical == "date":
            return datetime.date(1970, 1, 1) + datetime.timedelta(days=rng.randrange(-10_000, 40_000))
        if logical == "decimal":
            return decimal.Decimal(rng.randrange(-10**11, 10**11)).scaleb(-schema["scale"])
        if kind == "null":
            return None
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "int":
            return rng.choice([0, -1, 1, 2**31 - 1, -(2**31), rng.randrange(-(2**31), 2**31)])
        if kind == "long":
            return rng.choice([0, -1, 2**53, -(2**53), rng.randrange(-(2**53), 2**53)])
        if kind in ("float", "double"):
            value = rng.choice([0.0, -0.5, 1e300 if kind == "double" else 1e30, math.inf, rng.uniform(-1e6, 1e6)])
            return struct.unpack("<f", struct.pack("<f", value))[0] if kind == "float" else value
        if kind == "bytes":
            return rng.randbytes(rng.randrange(0, 5))
        if kind == "string":
            return rng.choice(["", "a", "press-07", "größe", "\U0001f600"])
        if kind == "fixed":
            return rng.randbytes(schema["size"])
        if kind == "enum":
            return rng.choice(schema["symbols"])
        if kind == "array":
            return [self.datum(schema["items"]) for _ in range(rng.randrange(0, 4))]
        if kind == "map":
            return {key: self.datum(schema["values"]) for key in ["k", "ü", "z"][: rng.randrange(0, 4)]}
        return {field["name"]: self.datum(field["type"]) for field in schema["fields"]}

    def evolve(self, schema):
        """A reader's schema that may read what `schema` writes."""
        if isinstance(schema, list):
            branches = [self.evolve(branch) for branch in schema]
            # A union holds no union, which fastavro does not mind.
            return [branch[1] if isinstance(branch, list) else branch for branch in branches]
        if isinstance(schema, str):
            # Not to a float: fastavro keeps digits that a float does not have.
            wider = {"int": ["int", "long", "double"], "long": ["long", "double"],
                     "float": ["float", "double"], "string": ["string", "bytes"]}
            # A rare change that cannot be read.
            other = ["boolean"] if rng.random() < 0.03 else []
            kind = rng.choice(wider.get(schema, [schema]) + other)
            return ["null", kind] if rng.random() < 0.15 and kind != "null" else kind
        schema = dict(schema)
        if schema["type"] == "array":
            schema["items"] = self.evolve(schema["items"])
        elif schema["type"] == "map":
            schema["values"] = self.evolve(schema["values"])
        elif schema["type"] == "enum":
            if rng.random() < 0.3:
                schema["symbols"] = ["B", "D"]
                schema["default"] = "D"
        elif schema["type"] == "record":
            fields = []
            for field in schema["fields"]:
                if rng.random() < 0.2:
                    continue
                field = dict(field, type=self.evolve(field["type"]))
                if rng.random() < 0.2:
                    field.update(name=field["name"] + "x", aliases=[field["name"]])
                fields.append(field)
            if rng.random() < 0.5:
                kind, value = rng.choice([("int", 7), ("string", "dflt"), ("double", 1.5), (["null", "int"], None),
                                          ({"type": "array", "items": "int"}, [1, 2]), ("boolean", True),
                                          ({"type": "map", "values": "string"}, {"k": "v"})])
                fields.append({"name": "added", "type": kind, "default": value})
            if rng.random() < 0.05:
                fields.append({"name": "missing", "type": "int"})
            rng.shuffle(fields)
            schema["fields"] = fields
        return schema


def evolution():
    vectors = []
    maker = Maker()
    while len(vectors) < 300:
        writer = maker.record(3)
        datum = maker.datum(writer)
        reader = maker.evolve(writer) if rng.random() < 0.85 else None
        out = io.BytesIO()
        schemaless_writer(out, fastavro.parse_schema(writer), datum)
        vector = {"writer": writer, "reader": reader, "hex": out.getvalue().hex()}
        if len(out.getvalue()) > 120 or len(json.dumps(vector)) > 1500:
            continue
        try:
            parsed = fastavro.parse_schema(reader) if reader else None
            value = schemaless_reader(io.BytesIO(out.getvalue()), fastavro.parse_schema(writer), parsed)
            vector["value"] = shown(value)
        except Exception as error:  # whatever fastavro refuses is to be refused
            vector["error"] = type(error).__name__
        vectors.append(vector)
    with open("avro-evolution.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors) + "\n]\n")


READING = {
    "type": "record", "name": "Reading", "namespace": "plant", "fields": [
        {"name": "machine", "type": "string"}, {"name": "sensor", "type": "string"},
        {"name": "unit", "type": ["null", "string"], "default": None},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "value", "type": ["null", "double", "string"]},
        {"name": "quality", "type": "long", "default": 0},
        {"name": "line", "type": "int", "default": 0},
    ],
}
BATCH = {"type": "record", "name": "Batch", "namespace": "plant", "fields": [
    {"name": "site", "type": "string"}, {"name": "readings", "type": {"type": "array", "items": "plant.Reading"}},
]}
FOREIGN = {"type": "record", "name": "Tag", "namespace": "mes", "fields": [
    {"name": "asset", "type": {"type": "record", "name": "Asset", "fields": [{"name": "id", "type": "string"}]}},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "tags", "type": {"type": "map", "values": ["null", "double", "boolean", "string"]}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["RUN", "STOP"]}},
]}


def factory():
    at = datetime.datetime(2026, 11, 18, 10, 26, 40, 123456, tzinfo=UTC)

    def reading(i):
        return {"machine": "press-07", "sensor": ["oil", "bearing-1", "state"][i % 3],
                "unit": ["°C", "mm/s", None][i % 3], "time": at + datetime.timedelta(milliseconds=i),
                "value": [61.5, None, "warm"][i % 3], "quality": [0, 0x80000000, 0][i % 3], "line": 4}

    def framed(number, schema, datum, named=()):
        out = io.BytesIO()
        names = {}
        for other in named:
            fastavro.parse_schema(other, named_schemas=names)
        schemaless_writer(out, fastavro.parse_schema(schema, named_schemas=names), datum)
        return struct.pack(">bI", 0, number) + out.getvalue()

    tags = {"asset": {"id": "press-07"}, "ts": at, "tags": {"oil": 61.5, "on": True, "mode": "auto", "off": None},
            "price": decimal.Decimal("-12.34"), "state": "STOP"}
    files = {
        "avro-reading.bin": framed(1, READING, reading(0)),
        "avro-batch.bin": framed(2, BATCH, {"site": "north", "readings": [reading(i) for i in range(6)]}, [READING]),
        "avro-foreign.bin": framed(3, FOREIGN, tags),
    }
    for name, content in files.items():
        with open(name, "wb") as file:
            file.write(content)
    with open("avro-schemas.json", "w") as file:
        json.dump({"reading": READING, "batch": BATCH, "foreign": FOREIGN}, file, indent=1)


if __name__ == "__main__":
    evolution()
    factory()
