#!/usr/bin/env python3
"""Makes the recordings of this folder, as the engines write them: a model of 4 layers x 16
experts, top-2. Needs numpy, safetensors and torch; run it in this folder."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

LAYERS, EXPERTS, TOP_K, TOKENS, STEPS = 4, 16, 2, 64, 6
generator = torch.Generator().manual_seed(1)
popularity = torch.exp(torch.randn(LAYERS, EXPERTS, generator=generator))


def choose(tokens):
    """[tokens, LAYERS, TOP_K] distinct experts by popularity."""
    layers = [
        torch.multinomial(popularity[layer].repeat(tokens, 1), TOP_K, generator=generator)
        for layer in range(LAYERS)
    ]
    return torch.stack(layers, dim=1)


def counts(tokens):
    """[LAYERS, EXPERTS] tokens per expert of one forward pass."""
    chosen = choose(tokens)
    rows = [
        torch.bincount(chosen[:, layer].flatten(), minlength=EXPERTS) for layer in range(LAYERS)
    ]
    return torch.stack(rows).to(torch.int32)


# SGLang's recorder in mode stat.
steps = torch.stack([counts(TOKENS) for _ in range(STEPS)])
torch.save(
    {"rank": 0, "logical_count": steps, "average_utilization_rate_over_window": None},
    "expert_distribution_recorder.pt",
)

# What a stranger might send: a pickle that calls a function when it is loaded.
class Stranger:
    def __reduce__(self):
        return (os.getcwd, ())


torch.save({"rank": 0, "logical_count": Stranger()}, "foreign_global.pt")

# vLLM's routed experts, one file per request.
Path("routed_experts").mkdir(exist_ok=True)
for request in range(6):
    np.save(f"routed_experts/request-{request}.npy", choose(24).numpy().astype(np.int16))

# TensorRT-LLM's EXPERT_STATISTIC_PATH.
Path("expert_statistic").mkdir(exist_ok=True)
meta = {"num_experts": EXPERTS, "num_experts_per_token": TOP_K}
Path("expert_statistic/meta_info.json").write_text(json.dumps(meta))
tensors = {}
for iteration in range(STEPS):
    for layer, row in enumerate(counts(TOKENS)):
        tensors[f"{iteration}_{layer}"] = row.contiguous()
save_file(tensors, "expert_statistic/rank0.safetensors")
