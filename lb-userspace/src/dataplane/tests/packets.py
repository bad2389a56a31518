"""An independent opinion on rewritten packets, by scapy.

    packets.py build        writes one JSON object a line: name, direction, frame
    packets.py check FILE   reads {"frame", "out", "direction", "shifts", ...} a line

Nothing is shared with the code under test: scapy builds the frames, dissects what
came out and sums its checksums, and what must be in it is reckoned here.
"""

import json
import random
import sys

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.volatile import RandString

MODULUS = 1 << 32
MACS = {"src": "02:00:00:00:00:02", "dst": "02:00:00:00:00:01"}
NOP = ("NOP", None)


def options(rng):
    """Name and options as scapy writes them."""
    number = lambda: rng.randrange(MODULUS)
    stamps = lambda: ("Timestamp", (number(), number()))
    sack = lambda blocks: ("SAck", tuple(number() for _ in range(2 * blocks)))
    yield "none", []
    yield "timestamps", [NOP, NOP, stamps()]
    yield "timestamps odd", [NOP, stamps(), NOP]
    yield "timestamps first", [stamps(), NOP, NOP]
    for blocks in (1, 2, 3):
        yield f"timestamps and {blocks}", [NOP, NOP, stamps(), NOP, NOP, sack(blocks)]
        yield f"{blocks} odd and timestamps", [NOP, sack(blocks), stamps(), NOP]
    yield "four blocks", [NOP, NOP, sack(4)]
    yield "end", [stamps(), ("EOL", None)]
    yield "unknown", [(253, b"abc"), stamps(), (254, b"")]
    yield "all NOPs", [NOP] * 40


def build():
    rng = random.Random(20)
    for line in sys.stdin:
        flow = json.loads(line)
        for direction in ("client_to_target", "target_to_client"):
            source, dest = flow[direction]
            for name, chosen in options(rng):
                for length in (0, 1, 7, 64, 1001):
                    frame = segment(rng, flow["family"], source, dest, chosen, length)
                    row = {"family": flow["family"], "direction": direction}
                    row["name"] = f"{name}, {length} bytes"
                    print(json.dumps(row | {"frame": bytes(frame).hex()}))


def segment(rng, family, source, dest, chosen, length):
    number = lambda bits=32: rng.randrange(1 << bits)
    layer = IP if family == 4 else IPv6
    head = layer(src=source[0], dst=dest[0])
    head.fields["ttl" if family == 4 else "hlim"] = rng.randrange(2, 256)
    tcp = TCP(
        sport=source[1], dport=dest[1], seq=number(), ack=number(), window=number(16),
        flags=rng.choice(["A", "PA", "FA", "R", "RA", "PAU", "PAEC"]),
        urgptr=number(16), options=chosen,
    )
    data = Raw(bytes(RandString(length))) if length else b""
    return Ether(**MACS) / head / tcp / data


def check():
    count = 0
    for line in sys.stdin:
        row = json.loads(line)
        try:
            compare(row)
        except AssertionError as wrong:
            sys.exit(f"{row['family']} {row['direction']} {row['name']}, {row['by']}: {wrong}")
        count += 1
    print(count)


def compare(row):
    before, after = (Ether(bytes.fromhex(row[key])) for key in ("frame", "out"))
    layer = IP if row["family"] == 4 else IPv6
    same("the frame's length", len(after), len(before))
    same("checksums", summed(after, layer), bytes.fromhex(row["out"]))
    ip, was_ip, tcp, was = after[layer], before[layer], after[TCP], before[TCP]
    (source, sport), (dest, dport) = row["leg"]
    same("addresses", (ip.src, ip.dst, tcp.sport, tcp.dport), (source, dest, sport, dport))
    hops = "ttl" if layer is IP else "hlim"
    same(hops, getattr(ip, hops), getattr(was_ip, hops) - 1)
    near, far = row["near"], row["far"]
    same("seq", tcp.seq, (was.seq + near["seq"]) % MODULUS)
    acks = "A" in was.flags
    same("ack", tcp.ack, (was.ack - far["seq"]) % MODULUS if acks else was.ack)
    wide = (was.window << near["sent"]) >> far["announced"]
    same("window", tcp.window, min(max(wide, 1 if was.window else 0), 0xFFFF))
    same("options", tcp.options, [option(one, near, far) for one in was.options])
    keep = lambda tcp: (tcp.flags, tcp.urgptr, tcp.dataofs, tcp.reserved, bytes(tcp.payload))
    same("the rest", keep(tcp), keep(was))


def option(one, near, far):
    kind, value = one
    if kind == "Timestamp":
        return kind, ((value[0] + near["stamp"]) % MODULUS, (value[1] - far["stamp"]) % MODULUS)
    if kind == "SAck":
        return kind, tuple((edge - far["seq"]) % MODULUS for edge in value)
    return one


def summed(frame, layer):
    """The frame with checksums made anew."""
    again = frame.copy()
    if layer is IP:
        del again[IP].chksum
    del again[TCP].chksum
    return bytes(again)


def same(what, found, expected):
    assert found == expected, f"{what}: {found!r}, expected {expected!r}"


{"build": build, "check": check}[sys.argv[1]]()
