"""Writes sparkplug-tahu.json or sparkplug-pysparkplug.json, whichever of the two encoders is installed.

Kept are those of tahu 0.1.2 (with protobuf 3.19.1), the Eclipse project's own, and of pysparkplug 0.6.1.
Each is a list of messages in the order in which a bridge hands them on: MQTT topic and payload.
"""

import json

T = 1_795_000_000_000


def tahu():
    from tahu import sparkplug_b as spb
    from tahu.sparkplug_b import MetricDataType as D, addMetric, addNullMetric

    def timed(payload, at):
        payload.timestamp = at
        for metric in payload.metrics:
            metric.timestamp = at
        return payload

    def prop(metric, key, kind, field, value):
        metric.properties.keys.append(key)
        item = metric.properties.values.add()
        item.type = kind
        setattr(item, field, value)

    messages = []

    def send(topic, payload):
        messages.append({"topic": topic, "hex": payload.SerializeToString().hex()})

    def bits(value, kind):
        """This encoder takes negative integers as their bits."""
        return value % (1 << (64 if kind == D.Int64 else 32)) if isinstance(value, int) and value < 0 else value

    death = spb.getNodeDeathPayload()
    death.metrics[0].ClearField("timestamp")
    birth = spb.getNodeBirthPayload()
    # The two must be the same, which this encoder misses by one.
    birth.metrics[0].long_value = death.metrics[0].long_value
    addMetric(birth, "Node Control/Rebirth", None, D.Boolean, False)
    send("spBv1.0/plant/NBIRTH/edge-1", timed(birth, T))

    device = spb.getDeviceBirthPayload()
    kinds = [("i8", D.Int8, -8), ("i16", D.Int16, -16), ("i32", D.Int32, -32), ("i64", D.Int64, -64),
             ("u8", D.UInt8, 200), ("u16", D.UInt16, 60_000), ("u32", D.UInt32, 4_000_000_000),
             ("u64", D.UInt64, 1 << 40), ("f32", D.Float, 0.5), ("f64", D.Double, 61.5), ("bool", D.Boolean, True),
             ("text", D.String, "warm"), ("when", D.DateTime, T)]
    for alias, (name, kind, value) in enumerate(kinds):
        metric = addMetric(device, name, alias, kind, bits(value, kind))
        if name == "f64":
            prop(metric, "engUnit", D.String, "string_value", "°C")
            prop(metric, "Quality", D.Int32, "int_value", 192)
    spb.initDatasetMetric(device, "table", 90, ["a"], [D.Int32])
    addNullMetric(device, "nothing", 91, D.Double)
    send("spBv1.0/plant/DBIRTH/edge-1/press-07", timed(device, T + 1))

    for step, (value, quality) in enumerate([(62.5, None), (63.5, 0), (64.5, 500)]):
        data = spb.getDdataPayload()
        metric = addMetric(data, None, 9, D.Double, value)
        metric.ClearField("datatype")
        if quality is not None:
            prop(metric, "Quality", D.Int32, "int_value", quality)
        negative = addMetric(data, None, 0, D.Int8, bits(-1 - step, D.Int8))
        negative.ClearField("datatype")
        send("spBv1.0/plant/DDATA/edge-1/press-07", timed(data, T + 10 + step))

    spb.getSeqNum()  # a message that is lost
    data = spb.getDdataPayload()
    addMetric(data, None, 9, D.Double, 65.5).ClearField("datatype")
    addMetric(data, "f64", None, D.Double, 66.5)
    send("spBv1.0/plant/DDATA/edge-1/press-07", timed(data, T + 20))

    data = spb.getDdataPayload()
    addMetric(data, None, 77, D.Double, 1.0)
    send("spBv1.0/plant/DDATA/edge-1/press-07", timed(data, T + 30))
    send("spBv1.0/plant/NDEATH/edge-1", death)
    return messages


def pysparkplug():
    import pysparkplug as psp

    def metric(name, kind, value, alias=None, at=T):
        return psp.Metric(timestamp=at, name=name, datatype=kind, value=value, alias=alias)

    D = psp.DataType
    messages = []

    def send(topic, payload, **options):
        messages.append({"topic": topic, "hex": payload.encode(**options).hex()})

    send("spBv1.0/plant/NBIRTH/edge-2",
         psp.NBirth(timestamp=T, seq=0, metrics=(metric("bdSeq", D.INT64, 3), metric("speed", D.INT16, -7, 1))),
         include_dtypes=True)
    send("spBv1.0/plant/DBIRTH/edge-2/mill",
         psp.DBirth(timestamp=T, seq=1, metrics=(
             metric("load", D.FLOAT, 0.25, 2), metric("state", D.STRING, "RUN", 3), metric("id", D.UUID, "u-1", 4),
             metric("raw", D.BYTES, b"\x00\xff", 5))),
         include_dtypes=True)
    send("spBv1.0/plant/NDATA/edge-2",
         psp.NData(timestamp=T + 5, seq=2, metrics=(metric(None, D.INT16, -8, 1, T + 5),)))
    send("spBv1.0/plant/DDATA/edge-2/mill",
         psp.DData(timestamp=T + 6, seq=3, metrics=(metric(None, D.STRING, "STOP", 3, T + 6),
                                                   metric(None, D.FLOAT, None, 2, T + 6))))
    send("spBv1.0/plant/DDEATH/edge-2/mill", psp.DDeath(timestamp=T + 7, seq=4))
    return messages


if __name__ == "__main__":
    for make in (tahu, pysparkplug):
        try:
            messages = make()
        except ModuleNotFoundError as error:
            print(f"{make.__name__}: {error}")
            continue
        with open(f"sparkplug-{make.__name__}.json", "w") as file:
            json.dump(messages, file, indent=0)
            file.write("\n")
