"""Runs AISimulate and moecast in turn and prints what both took and what both say.

Called by the script `aisimulate`, from the repository's root, with the version of AISimulate
and, unless it runs alone, the path of moecast and its scenario.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

RUNS = 3
PEERS = Path("target/peers")
# Of getrusage: KiB on Linux, bytes on macOS.
PER_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10


def fail(reason):
    sys.exit(f"aisimulate: {reason}")


def run(name, command, out):
    """One run: seconds, the peak memory of its largest process in MiB, and its JSON."""
    shutil.rmtree(out, ignore_errors=True)
    said = PEERS / f"{name}.json"
    complaints = PEERS / f"{name}.log"
    with said.open("wb") as stdout, complaints.open("wb") as stderr:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        fail(f"{name} ended with {child.returncode}; see {complaints}")
    try:
        answer = json.loads(said.read_bytes())
    except ValueError:
        fail(f"{name} printed no JSON; see {said}")
    return seconds, usage.ru_maxrss / PER_MIB, answer


def field(name, answer, *path):
    for key in path:
        if not isinstance(answer, dict) or key not in answer:
            fail(f"{name} does not report `{'.'.join(path)}`")
        answer = answer[key]
    return answer


def measures(name, answer):
    """Means of TTFT and TPOT in ms, output tokens per second, and seconds of its engine alone."""
    if name == "aisimulate":
        keys = ("mean_ttft_ms", "mean_tpot_ms", "output_throughput_tok_s")
        engine = field(name, answer, "wall_time_ms") / 1e3
        return *(field(name, answer, key) for key in keys), engine
    summary = field(name, answer, "summary")
    ttft = field(name, summary, "ttft_ms", "mean")
    tpot = field(name, summary, "tpot_ms", "mean")
    return ttft, tpot, field(name, summary, "output_tokens_per_second"), None


def main():
    version, *ours = sys.argv[1:]
    commands = {
        "aisimulate": (
            [str(Path(sys.executable).with_name("aisimulate")), "predict"]
            + ["--config", "benches/peers/aisimulate.yaml", "--format", "json"]
            + ["--output-dir", str(PEERS / "aisimulate-out")],
            PEERS / "aisimulate-out",
        )
    }
    if ours:
        moecast, scenario = ours
        out = PEERS / "moecast"
        commands["moecast"] = ([moecast, "serve", scenario, "--out", str(out), "--json"], out)

    runs = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, (command, out) in commands.items():
            runs[name].append(run(name, command, out))

    # A child's peak starts at ours: below that, only the bound is known.
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PER_MIB
    columns = []
    for name, of in runs.items():
        seconds = [taken for taken, _, _ in of]
        memory = max(peak for _, peak, _ in of)
        ttfts, tpots, throughputs, engines = zip(*(measures(name, answer) for *_, answer in of))
        columns.append(
            [
                name,
                f"{min(seconds):.3f}",
                " ".join(f"{taken:.3f}" for taken in seconds),
                "" if None in engines else f"{min(engines):.3f}",
                f"under {floor:.0f}" if memory <= floor else f"{memory:.0f}",
                f"{ttfts[-1]:,.1f}",
                f"{tpots[-1]:,.2f}",
                f"{throughputs[-1]:,.0f}",
            ]
        )

    print(f"AISimulate {version}; DeepSeek-V3 on 8 H200, attention DP 8, EP 8")
    print("1,024 requests of 4,000 and 1,000 tokens, closed loop of 256")
    print()
    labels = [
        "",
        f"wall time, best of {RUNS} (s)",
        "  each run (s)",
        "  its engine alone, best (s)",
        "memory, largest process (MiB)",
        "TTFT, mean (ms)",
        "TPOT, mean (ms)",
        "output tokens/s",
    ]
    for row in zip(labels, *columns):
        print((f"{row[0]:30}" + "".join(f"{cell:>24}" for cell in row[1:])).rstrip())
    if ours:
        best = {name: min(taken for taken, _, _ in of) for name, of in runs.items()}
        print()
        print(f"AISimulate takes {best['aisimulate'] / best['moecast']:.1f} times as long as moecast")


main()
