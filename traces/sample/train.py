#!/usr/bin/env python3
"""Trains the small OLMoE model whose routing is the sample trace.

    python prepare.py --out DIR
    python train.py --data DIR

Writes DIR/model (a transformers checkpoint with its tokenizer, what record.py
takes), DIR/loss.csv, DIR/loss.svg and DIR/train.json. Ends after --steps steps or
--minutes minutes, whichever comes first; the learning rate follows the further
advanced of the two, so that a slow machine ends with a low rate as well. Every
worker process computes the gradient of its share of a batch on one thread: next to
other work on the machine that is several times faster than two OpenMP threads,
which wait for each other after every operation.
"""

import argparse
import csv
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
os.environ["OMP_NUM_THREADS"] = "1"  # processes work side by side instead of threads
import torch
import torch.multiprocessing as mp
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast
from transformers import logging as transformers_logging


def experts_forward(self, hidden, index, weights):
    """The experts of OLMoE, tokens sorted by expert: the same sums as in
    transformers, faster on a CPU. The rows of every expert are padded to a
    multiple of 128, since oneDNN compiles a kernel for every new shape."""
    tokens, k = index.shape
    flat = index.reshape(-1)
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=self.num_experts)
    padded = (counts + 127) // 128 * 128
    ends = padded.cumsum(0)
    shift = (ends - padded) - (counts.cumsum(0) - counts)
    place = torch.arange(flat.numel()) + shift[flat[order]]  # row of each sorted pick
    source = torch.full((int(ends[-1]),), tokens)  # padding reads the zero row
    source[place] = order // k
    row = torch.empty_like(order)
    row[order] = place
    x = torch.cat([hidden.to(torch.bfloat16), hidden.new_zeros(1, hidden.shape[1], dtype=torch.bfloat16)])
    x = x.index_select(0, source)
    gate_up = self.gate_up_proj.to(torch.bfloat16).transpose(-2, -1)
    down = self.down_proj.to(torch.bfloat16).transpose(-2, -1)
    ends = ends.to(torch.int32)
    gate, up = torch.nn.functional.grouped_mm(x, gate_up, offs=ends).chunk(2, dim=-1)
    out = torch.nn.functional.grouped_mm(self.act_fn(gate) * up, down, offs=ends)
    out = out.index_select(0, row).view(tokens, k, -1)
    return (out * weights.to(out.dtype).unsqueeze(-1)).sum(1).to(hidden.dtype)


def balance(logits, k):
    """The load-balancing loss of one layer, k where the load is even. That of
    transformers pools all layers, which leaves each of them free to be uneven."""
    odds = logits.float().softmax(-1)
    load = torch.bincount(odds.topk(k).indices.reshape(-1), minlength=odds.shape[1]) / odds.shape[0]
    return odds.shape[1] * (load * odds.mean(0)).sum()


def windows(stream, count, length, rng):
    starts = rng.integers(0, len(stream) - length, count)
    return np.stack([stream[s : s + length] for s in starts]).astype(np.int64)


@torch.no_grad()
def evaluate(model, sets, experts):
    """Held-out loss per domain (nats per token, without the balancing term) and
    the load of the most used expert over the mean, per layer."""
    model.eval()
    losses, load = {}, 0
    for domain, ids in sets.items():
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=ids, use_cache=False)
        logits = out.logits[:, :-1].float().reshape(-1, out.logits.shape[-1])
        losses[domain] = torch.nn.functional.cross_entropy(logits, ids[:, 1:].reshape(-1)).item()
        picks = [r.float().topk(model.config.num_experts_per_tok).indices for r in out.router_logits]
        load = load + torch.stack([torch.bincount(p.reshape(-1), minlength=experts) for p in picks])
    model.train()
    load = load.double()
    return losses, (load.max(1).values / load.mean(1)).tolist(), (load == 0).sum().item()


def plot(rows, domains, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "moecast"
    import matplotlib.pyplot as plt

    train = [(int(r["step"]), float(r["train"])) for r in rows if r["train"]]
    held = [r for r in rows if r["heldout"]]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(*zip(*train), color="0.7", linewidth=0.8, label="train (mean of 10 steps)")
    for domain in domains:
        axes.plot([int(r["step"]) for r in held], [float(r[domain]) for r in held], label=f"held-out {domain}")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy, nats per token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--batch", type=int, default=32, help="sequences a step")
    parser.add_argument("--length", type=int, default=96, help="tokens of a sequence")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    torch.manual_seed(args.seed)
    corpus = json.loads((args.data / "corpus.json").read_text())
    domains = list(corpus["domains"])
    train = {d: np.load(args.data / f"train.{d}.npy") for d in domains}
    fixed = np.random.default_rng(0)
    held = {
        d: torch.from_numpy(windows(np.load(args.data / f"heldout.{d}.npy"), 40, args.length, fixed))
        for d in domains
    }
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.data / "tokenizer")

    config = OlmoeConfig(
        vocab_size=corpus["vocab"],
        hidden_size=256,
        intermediate_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=32,
        num_experts_per_tok=4,
        max_position_embeddings=512,
        output_router_logits=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # at this length faster than the fused one on a CPU
    )
    model = OlmoeForCausalLM(config)
    experts = type(model.model.layers[0].mlp.experts)
    plain, experts.forward = experts.forward, experts_forward
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.95),
        fused=True,
    )
    rows, recent = [], []
    if args.batch % (args.workers * len(domains)):
        sys.exit("train.py: --batch must be a multiple of workers x domains")
    share = args.batch // args.workers // len(domains)
    parameters = list(model.parameters())
    model.share_memory()
    grads = [[torch.zeros_like(p).share_memory_() for p in parameters] for _ in range(args.workers)]
    for parameter, grad in zip(parameters, grads[0]):
        parameter.grad = grad
    told = torch.zeros(args.workers, 2).share_memory_()

    def work(n, rng):
        ids = torch.from_numpy(np.concatenate([windows(train[d], share, args.length, rng) for d in domains]))
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=ids, use_cache=False)
        logits = out.logits[:, :-1].reshape(-1, config.vocab_size).float()
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:].reshape(-1))
        even = torch.stack([balance(r, config.num_experts_per_tok) for r in out.router_logits]).mean()
        total = loss + config.router_aux_loss_coef * even
        for mine, grad in zip(grads[n], torch.autograd.grad(total, parameters)):
            mine.copy_(grad)
        told[n] = torch.tensor([loss.item(), even.item()])

    def worker(n, go, done):
        rng = np.random.default_rng([args.seed, n])
        while True:
            go.acquire()
            work(n, rng)
            done.release()

    context = mp.get_context("fork")
    gates = [(context.Semaphore(0), context.Semaphore(0)) for _ in range(1, args.workers)]
    for n, gate in enumerate(gates, 1):
        context.Process(target=worker, args=(n, *gate), daemon=True).start()
    rng = np.random.default_rng([args.seed, 0])
    log = open(args.data / "loss.csv", "w", newline="")
    writer = csv.DictWriter(log, ["step", "seconds", "lr", "train", "balance", "heldout", *domains, "load_max_over_mean"])
    writer.writeheader()
    began, step, progress = time.time(), 0, 0.0

    def save():
        model.save_pretrained(args.data / "model")
        tokenizer.save_pretrained(args.data / "model")

    while True:
        if step % 100 == 0 or progress >= 1.0:
            losses, load, dead = evaluate(model, held, config.num_experts)
            row = {"step": step, "seconds": round(time.time() - began), "heldout": round(float(np.mean(list(losses.values()))), 4)}
            row |= {d: round(v, 4) for d, v in losses.items()}
            row["load_max_over_mean"] = round(float(np.mean(load)), 3)
            rows.append(row)
            writer.writerow(row)
            log.flush()
            print(row, "never used:", dead, flush=True)
            if step and step % 100 == 0:
                save()
        if progress >= 1.0:
            break
        rate = min(1.0, (step + 1) / 80) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        for go, _ in gates:
            go.release()
        work(0, rng)
        for _, done in gates:
            if not done.acquire(timeout=600):
                sys.exit("train.py: a worker process is gone")
        for others in grads[1:]:
            torch._foreach_add_(grads[0], others)
        torch._foreach_div_(grads[0], float(args.workers))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        progress = min(1.0, max(step / args.steps, (time.time() - began) / 60 / args.minutes))
        recent.append(told.mean(0).tolist())
        if not math.isfinite(recent[-1][0]):
            sys.exit(f"train.py: the loss is not finite at step {step}")
        if step % 10 == 0:
            mean = np.mean(recent, axis=0)
            recent = []
            row = {"step": step, "seconds": round(time.time() - began), "lr": f"{args.lr * rate:.3g}", "train": round(float(mean[0]), 4), "balance": round(float(mean[1]), 4)}
            rows.append({"heldout": "", **row})
            writer.writerow(row)
            log.flush()
            if step % 50 == 0:
                print(row, flush=True)

    experts.forward = plain
    save()
    rows = [{**dict.fromkeys(writer.fieldnames, ""), **r} for r in rows]
    plot(rows, domains, args.data / "loss.svg")
    last = [float(r["train"]) for r in rows if r["train"]][-10:]
    note = {
        "steps": step,
        "tokens": step * args.batch * args.length,
        "seconds": round(time.time() - began),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_last_100_steps": round(float(np.mean(last)), 4),
        "heldout": {d: round(v, 4) for d, v in losses.items()},
        "load_max_over_mean": [round(v, 2) for v in load],
        "experts_never_used": dead,
    }
    (args.data / "train.json").write_text(json.dumps(note, indent=1) + "\n")
    print(json.dumps(note, indent=1))


if __name__ == "__main__":
    main()
