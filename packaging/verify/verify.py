"""Checks Ringfence's proofs with Python's standard library alone, anywhere: that records are in a ledger which the hub has signed.

  python3 verify.py acme-7.tlog-proof acme-7.record --key KEY      one record (c2sp.org/tlog-proof)
  python3 verify.py audit.jsonl.proof audit.jsonl --key KEY        an export: every record of it, at once

KEY is the hub's public key in base64. Hashes are those of RFC 6962, signatures those of RFC 8032; exit code 1 where one is wrong.
"""

import argparse
import base64
import csv
import hashlib
import json
import sys
from pathlib import Path

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point(data):
    """A point of the curve from its 32 bytes."""
    y, sign = int.from_bytes(data, "little") & ((1 << 255) - 1), data[31] >> 7
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if x * x % P == x2 else x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != x2 or y >= P:
        raise ValueError("a point is not on the curve")
    return (P - x if x & 1 != sign else x, y)


def add(a, b):
    """The sum of two points."""
    k = D * a[0] * b[0] * a[1] * b[1]
    return (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, P) % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, P) % P


def times(n, a):
    """A point n times."""
    result = (0, 1)
    while n:
        result, a, n = add(result, a) if n & 1 else result, add(a, a), n >> 1
    return result


def checkpoint(note, key, name="ringfence-hub"):
    """The log, size and root that this key has signed."""
    text, _, lines = note.rpartition("\n\n")
    for line in lines.splitlines():
        blob = base64.b64decode(line.split(" ")[2])
        if line.startswith(f"— {name} ") and blob[:4] == hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]:
            r, s, message = blob[4:36], int.from_bytes(blob[36:], "little"), (text + "\n").encode()
            h = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
            base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
            if len(blob) == 68 and s < L and times(s, base) == add(point(r), times(h, point(key))):
                origin, size, root = text.split("\n")[:3]
                return origin, int(size), base64.b64decode(root)
    raise ValueError("the checkpoint is not signed by this key")


def root_of(leaves, low, high, hashes, nearest_first):
    """The root of these leaves with the hashes of everything between them, which are used up."""
    if not leaves or high - low == 1:
        return hashes.pop(0) if not leaves else leaves[low]
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    parts = {i: h for i, h in leaves.items() if i < middle}, {i: h for i, h in leaves.items() if i >= middle}
    first = 0 if parts[0] or not nearest_first else 1  # a proof of one leaf begins beside it, one of many at the left
    sides = [(parts[0], low, middle), (parts[1], middle, high)]
    done = {side: root_of(*sides[side], hashes, nearest_first) for side in (first, 1 - first)}
    return hashlib.sha256(b"\x01" + done[0] + done[1]).digest()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("proof"), options.add_argument("records"), options.add_argument("--key", required=True)
    asked = options.parse_args()
    (head, _, note), data = Path(asked.proof).read_text("utf-8").partition("\n\n"), Path(asked.records).read_bytes()
    origin, size, root = checkpoint(note, base64.b64decode(asked.key))
    places = [list(map(int, line.split(" ")[1:])) for line in head.split("\n") if line.startswith(("index ", "leaves "))]
    hashes = [base64.b64decode(line) for line in head.split("\n")[1:] if not line.startswith(("index ", "leaves "))]
    rows = csv.DictReader(data.decode().splitlines()) if asked.records.endswith(".csv") else []
    if not asked.records.endswith((".record", ".csv")):
        rows = map(json.loads, data.decode().splitlines())
    records = [base64.b64decode(row.get("entry") or row["ringfenceentry"]) for row in rows] or [data]
    links = [record if len(record) == 32 else hashlib.sha256(b"\x00" + record).digest() for record in records]
    indexes = [index for place in places for index in range(place[0], place[-1] + (len(place) == 1))]
    if len(indexes) != len(links) or sorted(set(indexes)) != indexes or indexes[-1] >= size:
        raise ValueError(f"the proof is for {len(indexes)} records, and there are {len(links)}")
    if root_of(dict(zip(indexes, links)), 0, size, hashes, len(places[0]) == 1) != root or hashes:  # noqa: B905
        raise ValueError("the records are not in the tree that the hub signed")
    print(f"{len(links)} records are in {origin}, which the hub signed with {size} records.")


try:
    main()
except (ValueError, KeyError, IndexError, OSError) as error:
    sys.exit(f"NOT PROVED: {error or type(error).__name__}")
