#!/usr/bin/env python3
"""libCacheSim and `moecast trace cache` on the same single look-ups, one thread each, in turn."""

import csv
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "peers" / "libcachesim"
MOECAST = ROOT / "target" / "release" / "moecast"
PACKAGE = "libcachesim==0.3.5"
SLOTS = 256
RUNS = 3
POLICIES = {
    "lru": "LRU",
    "belady": "Belady",
    "s3-fifo": "S3FIFO",
    "arc": "ARC",
    "lfu": "LFU",
    "sieve": "Sieve",
}


def inside_environment():
    """Runs this script again with the package at hand."""
    python = WORK / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True)
    sys.exit(subprocess.run([python, __file__, "--inside", *sys.argv[1:]]).returncode)


def moecast(*arguments):
    binary = sys.argv[2] if len(sys.argv) > 2 else str(MOECAST)
    return subprocess.run([binary, *map(str, arguments)], check=True, capture_output=True).stdout


def look_ups(trace):
    """The picks of a trace in the order of tokens, layers and slots."""
    table = WORK / "trace.csv"
    moecast("trace", "export", "csv", trace, "-o", table)
    with table.open() as file:
        rows = csv.reader(file)
        names = next(rows)
        layer = names.index("layer")
        experts = [place for place, name in enumerate(names) if name.startswith("expert_")]
        return [
            int(row[layer]) * 4096 + int(row[place]) for row in rows for place in experts
            if row[place]
        ]


def oracle_general(uses, path):
    """Time, object, size and next use: the format that Belady needs."""
    following, after = {}, [0] * len(uses)
    for index in range(len(uses) - 1, -1, -1):
        after[index] = following.get(uses[index], -1)
        following[uses[index]] = index
    with path.open("wb") as file:
        for index, (use, then) in enumerate(zip(uses, after)):
            file.write(struct.pack("<IQIq", index, use + 1, 1, then))


def peer(name, path):
    """Hit rate and requests a second, the best of some runs."""
    import libcachesim

    best, rate = 0.0, 0.0
    for _ in range(RUNS):
        reader = libcachesim.TraceReader(
            trace=str(path),
            trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE,
            reader_init_params=libcachesim.ReaderInitParam(ignore_obj_size=True),
        )
        cache = getattr(libcachesim, name)(cache_size=SLOTS)
        start = time.perf_counter()
        misses, _ = cache.process_trace(reader)
        best = max(best, path.stat().st_size / 24 / (time.perf_counter() - start))
        rate = 1.0 - misses
    return rate, best


def ours(name, trace):
    best, rate = 0.0, 0.0
    for _ in range(RUNS):
        answer = moecast(
            "trace", "cache", trace, "--granularity", "access", "--policy", name,
            "--slots", SLOTS, "--threads", 1, "--json",
        )
        found = json.loads(answer)["results"][0]
        best, rate = max(best, found["lookups_per_second"]), found["hit_rate"]
    return rate, best


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    trace, stream = WORK / "trace.safetensors", WORK / "trace.oracleGeneral"
    moecast(
        "trace", "synth", "--like", "olmoe-1b-7b", "--requests", 16, "--tokens", 512,
        "--generated", 512, "--batch", 1, "-o", trace,
    )
    uses = look_ups(trace)
    oracle_general(uses, stream)
    print(f"{len(uses)} look-ups, {SLOTS} slots, one thread, best of {RUNS}")
    print("policy   hits: peer  moecast   M/s: peer  moecast  ratio")
    differ = False
    for name, theirs in POLICIES.items():
        (rate, speed), (our_rate, our_speed) = peer(theirs, stream), ours(name, trace)
        differ |= abs(rate - our_rate) >= 1e-5
        print(
            f"{name:8} {rate:10.5f} {our_rate:8.5f} {speed / 1e6:11.2f} {our_speed / 1e6:8.2f} "
            f"{our_speed / speed:6.1f}"
        )
    sys.exit(int(differ))


if __name__ == "__main__":
    if "--inside" in sys.argv:
        main()
    else:
        inside_environment()
