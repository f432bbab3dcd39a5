#!/usr/bin/env python3
"""Checks an audit pack of Stillwell without Stillwell: python3 check.py [FOLDER] [--key PUBLIC-KEY.PEM]

Needs Python 3.8 and nothing else. It shows that each record in proofs.jsonl is, byte for byte, one that the holder of
the key signed for, and that each line of readings.csv names such a record. It does not decode records, and of
readings.parquet and records.parquet it checks the SHA-256 alone: `stillwell verify-proof` reads them. Without --key it
takes the key that lies in the pack: compare that with one which you have from elsewhere, or it shows nothing.
"""
import argparse, base64, csv, hashlib, json, pathlib, struct, sys

GENESIS = "0" * 64
wrong = 0


def fault(where, what):
    global wrong
    wrong += 1
    print("WRONG ", ascii(f"{where}: {what}")[1:-1])


def sha256(data):
    return hashlib.sha256(data).digest()


# Ed25519 as in RFC 8032, section 6: points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, point):
    out = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            out = add(out, point)
        point, scalar = add(point, point), scalar >> 1
    return out


def point_of(data):
    y, sign = int.from_bytes(data, "little") & (1 << 255) - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT % P
    if y >= P or (x * x - square) % P != 0 or (x == 0 and sign):
        raise ValueError("is no point of the curve")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed_by(key, signature, message):
    """Key and signature are hex, with lower-case digits only."""
    try:
        public, signature = bytes.fromhex(key), bytes.fromhex(signature)
        if (public.hex(), len(public), len(signature)) != (key, 32, 64):
            return False
        minus = point_of(public)
    except ValueError:
        return False
    minus = P - minus[0], minus[1], 1, P - minus[3]
    s = int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    x, y, z, _ = add(times(s, BASE), times(h, minus))
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return s < Q and (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def signed(line):
    """An object is {"body":…,"signature":"<128 hex digits>"}; the signature is of the bytes of the body."""
    head, body, signature = line[:8], line[8:-144], line[-130:-2].decode()
    if head != b'{"body":' or line[-144:-130] != b',"signature":"' or line[-2:] != b'"}':
        raise ValueError("is not in canonical form")
    parsed = json.loads(body)
    if not signed_by(parsed["key"], signature, body):
        raise ValueError("its signature does not match its body")
    return parsed


def field(data):
    return b"\xff\xff\xff\xff" if data is None else struct.pack(">I", len(data)) + data


def leaf(record):
    """RFC 6962: SHA-256 of a zero byte and the record, integers big-endian, texts and bytes with their length first."""
    decode = lambda text: None if text is None else base64.b64decode(text, validate=True)
    data = struct.pack(">iqq", record["partition"], record["offset"], record["timestamp_ms"])
    data += field(record["topic"].encode()) + field(decode(record["key"])) + field(decode(record["value"]))
    for name, value in record["headers"]:
        data += field(name.encode()) + field(decode(value))
    return sha256(b"\x00" + data)


def root(node, place, leaves, path):
    """RFC 9162, section 2.1.3.2."""
    last = leaves - 1
    if not 0 <= place <= last:
        return None
    for sibling in path:
        if last == 0:
            return None
        if place % 2 == 1 or place == last:
            node = sha256(b"\x01" + sibling + node)
            while place % 2 == 0 and place != 0:
                place, last = place // 2, last // 2
        else:
            node = sha256(b"\x01" + node + sibling)
        place, last = place // 2, last // 2
    return node if last == 0 else None


def lines(path):
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            yield f"{path.name} line {number}", line[:-1] if line.endswith(b"\n") else line


def trusted_keys(pack, key):
    """Each change of key is signed by the old key and accepted by the new one; whoever trusts one trusts all."""
    ring, previous = [], GENESIS
    for seq, (where, line) in enumerate(lines(pack / "keys.jsonl")):
        change = signed(line)
        ring = ring or [change["key"]]
        message = f"stillwell key change {seq} after {previous}: {change['key']} to {change['new']}".encode()
        follows = change["seq"] == seq and change["previous"] == previous and change["key"] == ring[-1]
        if not follows or change["new"] in ring or not signed_by(change["new"], change["accepted"], message):
            sys.exit(f"{where}: does not follow")
        ring.append(change["new"])
        previous = sha256(line).hex()
    ring = ring or [key]
    if key not in ring:
        sys.exit(f"the pack's changes of key do not lead to {key}")
    return ring


class Keys:
    """The keys of the chains of some lanes: within one, none is used again after a later one."""

    def __init__(self, ring):
        self.ring, self.lane, self.newest = ring, None, 0

    def check(self, lane, key):
        if key not in self.ring:
            raise ValueError(f"is signed by {key}, which the trusted key does not lead to")
        place = self.ring.index(key)
        if self.lane == lane and place < self.newest:
            raise ValueError(f"is signed by {key}, which a later key had replaced")
        self.lane, self.newest = lane, place


def check_entry(entry, sha, before, mark):
    """What does not fit together of an entry, the one before it in its lane, and the checkpoint's mark of the lane."""
    seq, span = entry["seq"], entry["range"]
    now = seq, entry["previous"], span["first"]
    if before and now != before:
        return "does not follow the entry before it"
    if not before and seq == 0 and entry["previous"] != GENESIS:
        return "is the first entry of its lane, and names one before it"
    if mark and seq + 1 == mark["entries"] and (sha, span["next"]) != (mark["head"], mark["next"]):
        return "the checkpoint attests another entry here"
    if mark and seq == mark["entries"] and now[1:] != (mark["head"], mark["next"]):
        return "the checkpoint attests another entry before this one"
    return None


def entries(pack, ring, marks):
    """The sound entries, each with its place: lanes in order, each lane's entries chained without a hole."""
    before, lane_before, keys = None, None, Keys(ring)
    for where, line in lines(pack / "entries.jsonl"):
        try:
            entry, sha = signed(line), sha256(line).hex()
            lane, seq = (entry["topic"], entry["partition"]), entry["seq"]
            if lane_before and lane < lane_before:
                raise ValueError("stands after an entry of a later lane")
            keys.check(lane, entry["key"])
            what = check_entry(entry, sha, before if lane == lane_before else None, marks.get(lane))
            before, lane_before = (seq + 1, sha, entry["range"]["next"]), lane
        except (ValueError, KeyError, TypeError) as error:
            fault(where, error)
            continue
        if what:
            fault(where, what)
        yield (*lane, seq), entry


def check_proofs(pack, ring, marks):
    """Returns the lanes, each with the offsets that are proven."""
    proven, last, found = {}, None, entries(pack, ring, marks)
    place, entry = next(found, (None, None))
    for where, line in lines(pack / "proofs.jsonl"):
        try:
            proof = json.loads(line)
            record = proof["record"]
            wanted = record["topic"], record["partition"], proof["seq"]
            at = record["topic"], record["partition"], record["offset"]
            if last and at <= last:
                fault(where, "does not come after the record before it")
                continue
            last = at
            while place is not None and place < wanted:
                place, entry = next(found, (None, None))
            if place != wanted:
                fault(where, f"entries.jsonl has no sound entry {wanted} at its place")
                continue
            path = [bytes.fromhex(node) for node in proof["path"]]
            inside = entry["range"]["first"] <= record["offset"] < entry["range"]["next"]
            if not inside or proof["leaves"] != entry["records"]["rows"]:
                fault(where, "the entry does not cover the record")
            elif root(leaf(record), proof["leaf"], proof["leaves"], path) != bytes.fromhex(entry["merkle_root"]):
                fault(where, "the record is not under the Merkle root of its entry")
            else:
                proven.setdefault(at[:2], set()).add(at[2])
        except (ValueError, KeyError, TypeError, struct.error) as error:
            fault(where, f"is no proof: {error}")
    for _ in found:
        pass
    return proven


def check_csv(pack, proven):
    """Every reading names a proven record."""
    csv.field_size_limit(1 << 30)
    with open(pack / "readings.csv", newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            try:
                known = int(row["offset"]) in proven.get((row["topic"], int(row["partition"])), ())
            except (KeyError, TypeError, ValueError):
                known = False
            if not known:
                fault(f"readings.csv reading {number}", "is of no proven record")


def check_others(pack, ring):
    """Checks tombstones and checkpoint; returns what the checkpoint marks of each lane."""
    keys, marks = Keys(ring), {}
    for where, line in lines(pack / "erasures.jsonl"):
        try:
            act = signed(line)
            keys.check((act["topic"], act["partition"]), act["key"])
            if "erase" not in act["deed"]:
                raise ValueError("is no tombstone")
        except (ValueError, KeyError, TypeError) as error:
            fault(where, error)
    for where, line in lines(pack / "checkpoint.json") if (pack / "checkpoint.json").exists() else ():
        try:
            checkpoint = signed(line)
            Keys(ring).check(None, checkpoint["key"])
            marks = {(mark["topic"], mark["partition"]): mark for mark in checkpoint["lanes"]}
        except (ValueError, KeyError, TypeError) as error:
            fault(where, error)
    return marks


def public_key(path):
    """A PEM: base64 of a fixed head (RFC 8410) and the key's 32 bytes."""
    text = path.read_text().split("-----")
    data = base64.b64decode("".join(text[2].split())) if len(text) == 5 else b""
    if len(data) != 44 or data[:12].hex() != "302a300506032b6570032100":
        sys.exit(f"{path} is no Ed25519 public key in PEM form")
    return data[12:].hex()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", default=pathlib.Path(__file__).parent, type=pathlib.Path)
    options.add_argument("--key", type=pathlib.Path, help="the public key that you trust, PEM")
    args = options.parse_args()
    pack, key = args.folder, public_key(args.key or args.folder / "public-key.pem")
    print(f"key    {key}" + ("" if args.key else "  (of the pack itself: is it the one that you know?)"))
    manifest = json.loads((pack / "manifest.json").read_bytes())
    for file in manifest["files"]:
        digest = hashlib.sha256()
        with open(pack / pathlib.PurePath(file["name"]).name, "rb") as data:
            for chunk in iter(lambda: data.read(1 << 20), b""):
                digest.update(chunk)
        if digest.hexdigest() != file["sha256"]:
            fault(file["name"], "does not have the SHA-256 that manifest.json states")
    ring = trusted_keys(pack, key)
    proven = check_proofs(pack, ring, check_others(pack, ring))
    check_csv(pack, proven)
    count = sum(len(offsets) for offsets in proven.values())
    if count != manifest["records"]:
        fault("manifest.json", f"states {manifest['records']} records, where {count} are proven")
    print(f"{count} records proven" + (f", {wrong} THINGS ARE WRONG" if wrong else ", nothing is wrong"))
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"cannot read {error.filename}: {error.strerror}; name the folder of a pack")
