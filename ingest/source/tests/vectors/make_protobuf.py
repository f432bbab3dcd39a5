"""Writes protobuf-*.bin with Google's protobuf and Confluent's serializer (protobuf 7.36.2, confluent-kafka 2.16.1).

Needs `reading_pb2.py`, made of `../../proto/reading.proto` by protoc (grpcio-tools 1.85.1).
"""

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import reading_pb2

T = 1_795_000_000_123_456


def reading(i):
    value = reading_pb2.Reading(machine="press-07", sensor=["oil", "bearing-1", "state"][i % 3], time=T + i)
    if i % 3 == 0:
        value.unit, value.value = "°C", 61.5 + i
    elif i % 3 == 1:
        value.kind, value.value, value.quality = "vibration", -0.25, 0x40000000
    else:
        value.text = "größer"
    return value


def framed(message):
    """As Confluent's client frames it, with the registry that it has in itself; the schema's id is 1."""
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    serialize = ProtobufSerializer(type(message), client, {"use.deprecated.format": False})
    return serialize(message, SerializationContext("readings", MessageField.VALUE))


if __name__ == "__main__":
    batch = reading_pb2.ReadingBatch(readings=[reading(i) for i in range(6)])
    files = {
        "protobuf-reading.bin": reading(0).SerializeToString(),
        "protobuf-batch.bin": batch.SerializeToString(),
        "protobuf-reading-framed.bin": framed(reading(1)),
        "protobuf-batch-framed.bin": framed(batch),
    }
    for name, content in files.items():
        with open(name, "wb") as file:
            file.write(content)
