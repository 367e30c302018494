#!/usr/bin/env python3
"""Prints expert load and domain statistics of a trace: python stats.py FILE"""

import json
import sys

import numpy as np
from safetensors import safe_open


def main():
    with safe_open(sys.argv[1], "np") as f:
        header = json.loads(f.metadata()["moecast.trace"])
        t = {name: f.get_tensor(name) for name in f.keys()}
    experts, E = t["experts"], header["experts"]
    tokens, layers, k = experts.shape
    decode = t["phase"] == 1
    print(f"{tokens} tokens ({(~decode).sum()} prefill, {decode.sum()} decode), {len(set(t['request'].tolist()))} requests, "
          f"{t['step'].max() + 1} steps, {layers} layers, top {k} of {E}")  # fmt: skip

    def load(rows):
        return np.stack([np.bincount(rows[:, n].ravel(), minlength=E) for n in range(layers)]).astype(float)

    whole = load(experts)
    share = whole / whole.sum(1, keepdims=True)
    entropy = -(share * np.log2(np.maximum(share, 1e-12))).sum(1)
    parts = {d: load(experts[t["domain"] == n]) for n, d in enumerate(header["domains"])}
    names = list(parts)
    print("\nmax/mean load per layer: all tokens, then each domain")
    print("| layer | all | least used / mean | entropy, bits of", f"{np.log2(E):.0f} |", " | ".join(names), "|")
    print("|---" * (4 + len(names)) + "|")
    for n, layer in enumerate(header["layers"]):
        row = [f"{whole[n].max() / whole[n].mean():.2f}", f"{whole[n].min() / whole[n].mean():.2f}", f"{entropy[n]:.2f}"]
        row += [f"{p[n].max() / p[n].mean():.2f}" for p in parts.values()]
        print(f"| {layer} |", " | ".join(row), "|")
    print("\ntotal variation distance of the load of two domains, mean over layers (0 same, 1 disjoint)")
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            p, q = (parts[names[i]] / parts[names[i]].sum(1, keepdims=True) for i in (a, b))
            print(f"{names[a]} / {names[b]}: {(abs(p - q).sum(1) / 2).mean():.2f}")
    # how far the experts of a token foretell those of the next row of its request
    order = np.lexsort((t["position"], t["request"]))
    e, r = experts[order], t["request"][order]
    same = r[1:] == r[:-1]
    hit = (e[1:, :, :, None] == e[:-1, :, None, :]).any(-1).mean((1, 2))[same].mean()
    chance = (share**2).sum(1).mean() * k
    print(f"\na pick was also a pick of the token before: {hit:.2f} of the time (about {chance:.2f} by load alone)")
    if "weights" in t:
        w = t["weights"].astype(np.float32)
        print(f"gate weights: mean by slot {[round(float(v), 3) for v in w.mean((0, 1))]}, mean sum {w.sum(-1).mean():.3f}")


if __name__ == "__main__":
    main()
