#!/usr/bin/env python3
"""Writes the .pt fixtures of this folder with the real torch.save:

    python make_pt.py

The files are as SGLang's expert distribution recorder writes them, with numbers made up here.
"""

from pathlib import Path

import torch

HERE = Path(__file__).parent


def stat():
    """Three steps, four layers of which the first is dense, three experts; the last step unused."""
    counts = torch.arange(36, dtype=torch.int32).reshape(3, 4, 3)
    counts[:, 0, :] = 0
    counts[2] = 0
    torch.save(
        {"rank": 0, "logical_count": counts, "average_utilization_rate_over_window": 0.5},
        HERE / "sglang_stat.pt",
    )


def record(forward_pass, rank, counts):
    """One pass over a dense layer and a layer of four slots, with the keys of mode per_token."""
    return {
        "forward_pass_id": forward_pass,
        "rank": rank,
        "gatherer_key": "primary",
        "input_ids": [1, 2, 300, 70000],
        "positions": [0, 1, 2, 3],
        "extend_seq_lens": None,
        "forward_mode": 1,
        "topk_ids_of_layer": torch.full((2, 4, 8), -1, dtype=torch.int32),
        "misc_objects": [],
        "global_physical_count": torch.tensor([[0, 0, 0, 0], counts], dtype=torch.int32),
    }


def per_pass():
    """Two ranks; the second recorded the first pass only."""
    slots = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 0]])
    ranks = [
        [record(8, 0, [5, 6, 7, 8]), record(7, 0, [1, 2, 3, 4])],
        [record(7, 1, [10, 20, 30, 40])],
    ]
    for rank, records in enumerate(ranks):
        torch.save(
            {"records": records, "last_physical_to_logical_map": slots},
            HERE / f"sglang_per_pass_{rank}.pt",
        )


def token_record(forward_pass, rank, positions, lengths, ids):
    """One pass over a dense layer and a layer of four slots; 8 columns, of which 2 are set."""
    topk = torch.full((2, len(positions), 8), -1, dtype=torch.int32)
    topk[1, :, :2] = torch.tensor(ids, dtype=torch.int32)
    return {
        "forward_pass_id": forward_pass,
        "rank": rank,
        "gatherer_key": "primary",
        "input_ids": [70000 + position for position in positions],
        "positions": positions,
        "extend_seq_lens": lengths,
        "forward_mode": 2 if lengths is None else 1,
        "topk_ids_of_layer": topk,
        "misc_objects": [],
        "global_physical_count": torch.zeros((2, 4), dtype=torch.int32),
    }


def per_token():
    """Two ranks: a prompt of two tokens and one of one, then a token each; rank 1 has one prompt."""
    slots = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 0]])
    ranks = [
        [
            token_record(7, 0, [0, 1, 0], [2, 1], [[0, 1], [1, 2], [2, 3]]),
            token_record(8, 0, [2, 1], None, [[1, 3], [2, 1]]),
        ],
        [token_record(7, 1, [0], [1], [[3, 2]])],
    ]
    for rank, records in enumerate(ranks):
        torch.save(
            {"records": records, "last_physical_to_logical_map": slots},
            HERE / f"sglang_per_token_{rank}.pt",
        )


stat()
per_pass()
per_token()
