#!/usr/bin/env python3
"""Writes the fixtures of NumPy, safetensors and GGUF in this folder with the real libraries:

    python make_arrays.py

The files are as vLLM's `routed_experts` (saved by the caller), TensorRT-LLM's expert statistics and
llama.cpp's importance matrices are, with numbers made up here. GGUF needs the package `gguf`.
"""

import json
from pathlib import Path

import numpy
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file

HERE = Path(__file__).parent


def vllm():
    """Four layers of which the first is dense, k = 2 of 5 experts; requests of 3, 1 and 2 tokens."""

    def request(tokens, first):
        ids = numpy.zeros((tokens, 4, 2), dtype=numpy.int32)
        for token in range(tokens):
            for layer in range(1, 4):
                one = (first + token + layer) % 5
                ids[token, layer] = [one, (one + 2) % 5]
        return ids

    numpy.save(HERE / "vllm_routed_experts.npy", request(3, 0))
    numpy.savez_compressed(
        HERE / "vllm_routed_experts.npz",
        second=request(2, 4).astype(numpy.int16),
        first=request(1, 3),
    )


def trtllm():
    """Two ranks, two iterations, MoE layers 1 and 2 of 3 experts; rank 1 idles in iteration 101."""
    folder = HERE / "trtllm_statistics"
    folder.mkdir(exist_ok=True)
    (folder / "meta_info.json").write_text(
        json.dumps({"num_experts": 3, "num_experts_per_token": 2})
    )
    for rank, iterations in enumerate([[100, 101], [100]]):
        tensors = {
            f"{iteration}_{layer}": torch.bincount(
                torch.tensor([layer - 1, rank, iteration % 3, 2]), minlength=3
            )
            for iteration in iterations
            for layer in (1, 2)
        }
        file = folder / f"rank{rank}.safetensors"
        save_file(tensors, file)
        file.chmod(0o644)


def imatrix():
    """Layer 0 is dense, layers 1 and 2 have three experts; gate, up and down agree."""
    writer = GGUFWriter(HERE / "imatrix.gguf", "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 512)

    def tensor(name, counts, width):
        counts = numpy.array(counts, dtype=numpy.float32).reshape(-1, 1)
        sums = numpy.ones((len(counts), width), dtype=numpy.float32)
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", counts)

    tensor("blk.0.ffn_down.weight", [1024], 2)
    for layer, counts in [(1, [1000, 24, 1024]), (2, [0, 2047, 1])]:
        for projection in ("down", "gate", "up"):
            tensor(f"blk.{layer}.ffn_{projection}_exps.weight", counts, 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


vllm()
trtllm()
imatrix()
