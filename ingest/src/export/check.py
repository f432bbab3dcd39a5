#!/usr/bin/env python3
"""Checks an audit pack of Stillwell without Stillwell: python3 check.py [FOLDER] [--key PUBLIC-KEY.PEM]

Needs Python 3.8 and the package `cryptography`. It shows that each record in proofs.jsonl is, byte for byte, one that
the holder of the key signed for. Without --key it takes the key that lies in the pack: compare that with one which
you have from elsewhere, or it shows nothing.
"""
import argparse, base64, hashlib, json, pathlib, struct, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

GENESIS = "0" * 64
wrong = 0


def fault(where, what):
    global wrong
    wrong += 1
    print(f"WRONG  {where}: {what}")


def sha256(data):
    return hashlib.sha256(data).digest()


def signed_by(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
        return True
    except (InvalidSignature, ValueError):
        return False


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
            yield f"{path.name} line {number}", line.rstrip(b"\n")


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


def entries(pack, keys):
    """The entries in order, each with its place; neighbours of one lane are chained."""
    before, chain = None, None
    for where, line in lines(pack / "entries.jsonl"):
        try:
            entry = signed(line)
        except (ValueError, KeyError, TypeError) as error:
            fault(where, error)
            continue
        if entry["key"] not in keys:
            fault(where, f"is signed by {entry['key']}, which the trusted key does not lead to")
            continue
        lane = entry["topic"], entry["partition"]
        now = lane, entry["seq"], entry["previous"], entry["range"]["first"]
        if before and before[0] == lane and now != (lane, before[1] + 1, chain, before[2]):
            fault(where, "does not follow the entry before it")
        before, chain = (lane, entry["seq"], entry["range"]["next"]), sha256(line).hex()
        yield (*lane, entry["seq"]), entry


def check_proofs(pack, keys):
    proven, found = 0, entries(pack, keys)
    place, entry = next(found, (None, None))
    for where, line in lines(pack / "proofs.jsonl"):
        try:
            proof = json.loads(line)
            record = proof["record"]
            wanted = record["topic"], record["partition"], proof["seq"]
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
                proven += 1
        except (ValueError, KeyError, TypeError, struct.error) as error:
            fault(where, f"is no proof: {error}")
    for _ in found:
        pass
    return proven


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", default=pathlib.Path(__file__).parent, type=pathlib.Path)
    options.add_argument("--key", type=pathlib.Path, help="the public key that you trust, PEM")
    args = options.parse_args()
    pack, key_file = args.folder, args.key or args.folder / "public-key.pem"
    key = load_pem_public_key(key_file.read_bytes()).public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    print(f"key    {key}" + ("" if args.key else "  (of the pack itself: is it the one that you know?)"))
    for file in json.loads((pack / "manifest.json").read_bytes())["files"]:
        digest = hashlib.sha256()
        with open(pack / pathlib.PurePath(file["name"]).name, "rb") as data:
            for chunk in iter(lambda: data.read(1 << 20), b""):
                digest.update(chunk)
        if digest.hexdigest() != file["sha256"]:
            fault(file["name"], "does not have the SHA-256 that manifest.json states")
    keys = trusted_keys(pack, key)
    proven = check_proofs(pack, keys)
    others = list(lines(pack / "erasures.jsonl"))
    others += list(lines(pack / "checkpoint.json")) if (pack / "checkpoint.json").exists() else []
    for where, line in others:
        try:
            if signed(line)["key"] not in keys:
                fault(where, "is signed by a key which the trusted one does not lead to")
        except (ValueError, KeyError, TypeError) as error:
            fault(where, error)
    print(f"{proven} records proven" + (f", {wrong} THINGS ARE WRONG" if wrong else ", nothing is wrong"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
