#!/usr/bin/env python3
"""Records which experts a mixture-of-experts model picks for every token.

    python record.py --model PATH --prompts FILE -o OUT.safetensors

The prompts are run in batches: one forward pass over a batch of prompts
(prefill), then one pass per further token (decode), greedy or sampled. The file
written is a moecast trace, version 1; README.md says what is in it.
"""

import argparse
import hashlib
import inspect
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import numpy as np
    import torch
except ImportError as error:  # tests skip on this; the command line says it in a line
    np = torch = None
    missing = str(error)

NONE = 0xFFFF  # "no expert" in the file
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")
# Models whose router returns bare logits in some transformers versions, and what
# those versions make of them: "norm" divides the softmax of the picks by its sum,
# "plain" does not, "config" asks norm_topk_prob of the configuration.
FROM_LOGITS = {
    "mixtral": "norm",
    "qwen2_moe": "config",
    "qwen3_moe": "config",
    "olmoe": "config",
    "flex_olmo": "config",
    "jamba": "plain",
    "granitemoe": "norm",
    "granitemoeshared": "norm",
    "granitemoehybrid": "norm",
}


class Refused(Exception):
    """A reason to stop that the user can act on: one line, exit code 1."""


@dataclass
class Request:
    ids: list  # prompt tokens
    domain: str | None = None


def text_config(model):
    config = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def from_config(config, names):
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)) and value:
            value = max(value)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    for name in ("ffn_config", "moe_config"):  # DBRX keeps them one level deeper
        inner = getattr(config, name, None)
        if inner is not None and not isinstance(inner, dict):
            found = from_config(inner, names)
            if found:
                return found
    return None


def expert_counts(model):
    """(experts of a layer, experts of a token), as far as the configuration has them."""
    config = text_config(model)
    experts = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]
    picks = ["num_experts_per_tok", "top_k_experts", "moe_top_k", "moe_topk", "moe_k", "num_selected_experts", "top_k"]
    return from_config(config, experts), from_config(config, picks)


class Recorder:
    """Hooks on every MoE layer of a model; `take` gives what the last pass routed.

    Three sources, the first that a layer has:
    1. the experts module, where it is called with the picks and their weights
       (transformers 5, and the fused modules of version 4): what the model uses;
    2. the gate or router, where it returns the picks itself;
    3. the gate or router, where it returns logits: the picks are their top k, and
       the weights follow FROM_LOGITS (unknown models are recorded without weights).
    """

    def __init__(self, model):
        self.model = model
        self.experts, self.k = expert_counts(model)
        config = text_config(model)
        self.kind = getattr(config, "model_type", None) or "unknown"
        self.norm_topk_prob = bool(getattr(config, "norm_topk_prob", False))
        self.remarks = []
        self.seen = {}  # layer -> (rank of the source, experts [T, k], weights [T, k] or None)
        self.calls = {}  # (layer, rank) -> module, to notice two MoE blocks in a layer
        self.failure = None
        self.handles = []
        for name, module in model.named_modules():
            where = LAYER.search(name)
            if where is None:
                continue
            layer, last = int(where.group(1)), name.rsplit(".", 1)[-1]
            if last == "experts":
                hook = self.on_experts(layer, name, module)
                self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            elif last in ("gate", "router", "moe_gate"):
                parent = model.get_submodule(name.rsplit(".", 1)[0])
                hook = self.on_router(layer, name, module, parent)
                self.handles.append(module.register_forward_hook(hook))
        if not self.handles:
            raise Refused(f"no module called experts, gate or router in a layer of this {self.kind} model: not a MoE model?")

    def close(self):
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def put(self, layer, rank, name, ids, weights):
        first = self.calls.setdefault((layer, rank), name)
        if first != name:
            self.failure = f"layer {layer} has two MoE blocks, {first} and {name}; the trace format has one a layer"
            return
        held = self.seen.get(layer)
        if held is not None and held[0] == rank:
            self.failure = f"{name} ran twice in one forward pass"
            return
        if held is None or rank < held[0]:
            self.seen[layer] = (rank, ids.detach().clone(), None if weights is None else weights.detach().clone())

    def on_experts(self, layer, name, module):
        def hook(_, args, kwargs):
            first = 0 if "hidden_states" in kwargs else 1
            rest = [*args[first:], *(v for name, v in kwargs.items() if name != "hidden_states")]
            ids, weights = picks_of(rest, self.experts)
            if ids is not None:
                if self.experts is None:
                    self.experts = getattr(module, "num_experts", None)
                self.put(layer, 1, name, ids, weights)

        return hook

    def on_router(self, layer, name, module, parent):
        def hook(_, args, output):
            if layer in self.seen and self.seen[layer][0] == 1:
                return
            values = list(output) if isinstance(output, (tuple, list)) else [output]
            ids, weights = picks_of(values, self.experts)
            if ids is not None:
                self.put(layer, 2, name, ids, weights)
                return
            if self.experts is None or self.k is None:
                return
            wide = [
                v.reshape(-1, v.shape[-1])
                for v in values
                if torch.is_tensor(v) and v.is_floating_point() and v.ndim >= 2 and v.shape[-1] == self.experts
            ]
            if not wide:
                return  # some other gate
            for scores in wide:  # Llama 4: scores that are zero but for the picks
                if self.k < self.experts and bool(((scores != 0).sum(-1) == self.k).all()):
                    weights, ids = scores.topk(self.k, dim=-1)
                    self.put(layer, 2, name, ids, weights)
                    return
            owners = {id(m): m for m in (module, parent)}.values()
            bias = [n for m in owners for n, _ in (*m.named_parameters(), *m.named_buffers())]
            bias = [n for n in bias if re.search(r"correction_bias|expert_bias", n)]
            if bias:
                self.failure = (
                    f"{name} returns only logits and the layer has {bias[0]}: the picks of this "
                    f"{self.kind} model cannot be derived; use a newer transformers"
                )
                return
            ids, weights = self.from_logits(wide[-1])
            self.put(layer, 3, name, ids, weights)

        return hook

    def from_logits(self, logits):
        way = FROM_LOGITS.get(self.kind)
        ids = logits.topk(self.k, dim=-1).indices
        if way is None:
            self.remark(f"{self.kind}: experts are the top {self.k} of the router logits; no weights")
            return ids, None
        weights = logits.float().softmax(-1).gather(-1, ids)
        if way == "norm" or (way == "config" and self.norm_topk_prob):
            weights = weights / weights.sum(-1, keepdim=True)
        return ids, weights

    def remark(self, line):
        if line not in self.remarks:
            self.remarks.append(line)

    def take(self, batch, length):
        """Experts [batch, length, layers, k] (U16) and weights (F32, or None) of the
        last forward pass, which ran over batch x length tokens; layers ascending."""
        if self.failure:
            raise Refused(self.failure)
        seen, self.seen = self.seen, {}
        if not seen:
            raise Refused(
                f"no router of this {self.kind} model was called in a forward pass; where fused or "
                "quantised kernels replace the MoE block, load it without (--dequantize)"
            )
        if self.experts is None:
            raise Refused(f"the configuration of this {self.kind} model does not say how many experts a layer has")
        layers = sorted(seen)
        widest = max(ids.reshape(-1, ids.shape[-1]).shape[1] for _, ids, _ in seen.values())
        experts = np.full((batch, length, len(layers), widest), NONE, np.uint16)
        weights = np.zeros((batch, length, len(layers), widest), np.float32)
        weighted = all(w is not None for _, _, w in seen.values())
        for n, layer in enumerate(layers):
            _, ids, gate = seen[layer]
            k = ids.shape[-1]
            if ids.numel() != batch * length * k:
                raise Refused(f"layer {layer} routed {ids.numel() // k} tokens of a pass over {batch} x {length}")
            ids = ids.reshape(batch, length, k).to("cpu", torch.int64).numpy()
            used = (ids >= 0) & (ids < self.experts)  # null experts and the like are none
            experts[:, :, n, :k] = np.where(used, ids, NONE)
            if weighted:
                gate = gate.reshape(batch, length, k).to("cpu", torch.float32).numpy()
                weights[:, :, n, :k] = np.where(used, gate, 0)
        return layers, experts, weights if weighted else None


def picks_of(values, experts):
    """The expert ids [T, k] among some tensors, and the weights that go with them:
    of the same shape, or [T, experts] to gather from."""
    ids = None
    for v in values:
        if torch.is_tensor(v) and v.ndim >= 2 and v.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
            ids = v.reshape(-1, v.shape[-1])
            break
    if ids is None:
        return None, None
    rows, k = ids.shape
    floats = [v.reshape(-1, v.shape[-1]) for v in values if torch.is_tensor(v) and v.is_floating_point() and v.ndim >= 2]
    floats = [v for v in floats if v.shape[0] == rows]
    # A router that returns logits as well has them at width E; with E = k the
    # later one is the weights, since logits come first everywhere.
    narrow = [v for v in floats if v.shape[1] == k]
    if narrow:
        return ids, narrow[-1]
    wide = [v for v in floats if experts is not None and v.shape[1] == experts]
    if len(wide) == 1 and bool((wide[0] >= 0).all()):
        return ids, wide[0].gather(-1, ids.long().clamp(0, experts - 1))
    return ids, None


def pick_tokens(logits, temperature, generator):
    if temperature <= 0:
        return logits.argmax(-1)
    odds = (logits.float() / temperature).softmax(-1).cpu()
    return torch.multinomial(odds, 1, generator=generator).squeeze(-1).to(logits.device)


def record(model, requests, *, max_new_tokens=32, batch_size=8, temperature=0.0, seed=0, eos=(), pad=0, progress=None):
    """Runs the requests and returns the arrays of the trace as a dictionary, with
    "layers", "experts_per_layer" and "remarks" beside the tensors of the file.

    The last new token of a request is chosen but not run, so that a request has
    prompt + max_new_tokens - 1 rows (fewer where it ends early at an `eos` token).
    """
    if max_new_tokens < 0 or batch_size < 1:
        raise Refused("max_new_tokens must not be negative, the batch size must be positive")
    model.eval()
    # a model saved from training may ask for its balancing loss, which fails in decoding
    for config in {id(c): c for c in (model.config, text_config(model))}.values():
        if getattr(config, "output_router_logits", False):
            config.output_router_logits = False
    device = model.device
    accepts = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(seed)
    eos = torch.tensor(sorted(set(eos)), dtype=torch.int64)
    rows = {name: [] for name in ("experts", "weights", "request", "position", "step", "phase")}
    layers, weighted, step = None, True, 0

    with Recorder(model) as recorder, torch.inference_mode():

        def forward(ids, mask, positions, keep, cache, first):
            nonlocal layers, weighted, step
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device), "use_cache": True}
            if "position_ids" in accepts:
                inputs["position_ids"] = positions.to(device)
            if "logits_to_keep" in accepts:
                inputs["logits_to_keep"] = 1
            if cache is not None:
                inputs["past_key_values"] = cache
            try:
                out = model(**inputs)
            except torch.OutOfMemoryError as error:
                raise Refused(f"{first_line(error)} (a smaller --batch-size may fit)") from None
            found, experts, weights = recorder.take(*ids.shape)
            if layers is None:
                layers = found
            elif layers != found:
                raise Refused(f"MoE layers {found} ran in step {step}, {layers} before it")
            where = np.nonzero(keep.numpy())
            if weights is None:
                weighted = False
            elif not np.isfinite(weights[where]).all():
                raise Refused(f"a gate weight in step {step} is not finite: a broken model or dtype")
            rows["experts"].append(experts[where])
            rows["weights"].append(None if weights is None else weights[where].astype(np.float16))
            rows["request"].append(first + where[0])
            rows["position"].append(positions.numpy()[where])
            rows["step"].append(np.full(len(where[0]), step))
            rows["phase"].append(np.full(len(where[0]), 0 if cache is None else 1))
            step += 1
            if progress:
                progress(step)
            return out.logits[:, -1], getattr(out, "past_key_values", None)

        for first in range(0, len(requests), batch_size):
            batch = [r.ids for r in requests[first : first + batch_size]]
            longest = max(map(len, batch))
            # padded on the left, so that the last column is the last token of all
            ids = torch.tensor([[pad] * (longest - len(r)) + list(r) for r in batch])
            mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in batch])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            logits, cache = forward(ids, mask, positions, mask.bool(), None, first)
            if max_new_tokens > 1 and cache is None:
                raise Refused("the model returned no cache, which decoding needs")
            alive = torch.ones(len(batch), dtype=torch.bool)
            last = positions[:, -1:]
            for _ in range(max_new_tokens - 1):
                token = pick_tokens(logits, temperature, generator).cpu()
                alive &= ~torch.isin(token, eos)
                if not alive.any():
                    break
                # a request that has ended runs on unrecorded until its batch has
                token = torch.where(alive, token, pad)
                last = last + 1
                mask = torch.cat([mask, torch.ones(len(batch), 1, dtype=mask.dtype)], dim=1)
                logits, cache = forward(token[:, None], mask, last, alive[:, None], cache, first)

        result = {
            "experts": np.concatenate(rows["experts"]).astype(np.uint16),
            "request": np.concatenate(rows["request"]).astype(np.uint32),
            "position": np.concatenate(rows["position"]).astype(np.uint32),
            "step": np.concatenate(rows["step"]).astype(np.uint32),
            "phase": np.concatenate(rows["phase"]).astype(np.uint8),
            "layers": layers,
            "experts_per_layer": recorder.experts,
            "remarks": list(recorder.remarks),
        }
        if weighted:
            result["weights"] = np.concatenate(rows["weights"])
    domains = sorted({r.domain for r in requests if r.domain is not None})
    if domains:
        if any(r.domain is None for r in requests):
            domains.append("unlabelled")
        of_request = np.array([domains.index(r.domain or "unlabelled") for r in requests], dtype=np.uint16)
        result["domain"] = of_request[result["request"]]
    result["domains"] = domains
    return result


def write_trace(path, result, *, name, inputs=(), remarks=()):
    """Writes the trace beside its destination and renames it into place."""
    from safetensors.numpy import save

    header = {
        "version": 1,
        "model": name,
        "source": "transformers",
        "experts": int(result["experts_per_layer"]),
        "top_k": int(result["experts"].shape[2]),
        "layers": [int(n) for n in result["layers"]],
        "synthetic": False,
        "remarks": [*result["remarks"], *remarks],
        "inputs": list(inputs),
        "domains": list(result["domains"]),
    }
    names = ("experts", "weights", "request", "position", "step", "phase", "domain")
    tensors = {n: np.ascontiguousarray(result[n]) for n in names if n in result}
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(save(tensors, metadata={"moecast.trace": json.dumps(header)}))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return header


def read_prompts(path):
    """[(text, domain or None)] of a JSONL file or of plain lines."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    lines = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not lines:
        raise Refused(f"{path}: no prompts in it")
    if Path(path).suffix != ".jsonl" and not lines[0][1].lstrip().startswith("{"):
        return [(line, None) for _, line in lines]
    prompts = []
    for n, line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            raise Refused(f"{path}:{n}: not a JSON object") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str) or not entry["text"]:
            raise Refused(f'{path}:{n}: wants {{"text": "..."}} with a text that is not empty')
        domain = entry.get("domain")
        if domain is not None and (not isinstance(domain, str) or not domain):
            raise Refused(f'{path}:{n}: "domain" must be a string')
        prompts.append((entry["text"], domain))
    return prompts


def load(args):
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise Refused("--device cuda: this torch sees no CUDA device")
    options = {"trust_remote_code": args.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(args.model, **options)
    except Exception as error:
        raise Refused(f"--model {args.model}: {first_line(error)}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise Refused(f"--model {args.model}: an encoder-decoder model; decoder-only models are recorded")
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.model, **options)
    except Exception as error:
        raise Refused(f"--model {args.model}: no tokenizer: {first_line(error)}") from None
    dtype = args.dtype if args.dtype == "auto" else getattr(torch, args.dtype)
    major, minor = (int(v) for v in re.findall(r"\d+", transformers.__version__)[:2])
    options["dtype" if (major, minor) >= (4, 56) else "torch_dtype"] = dtype
    if args.device == "auto":
        options["device_map"] = "auto"
    if args.dequantize:
        from transformers import Mxfp4Config

        options["quantization_config"] = Mxfp4Config(dequantize=True)
    try:
        model = AutoModelForCausalLM.from_pretrained(args.model, **options)
        if args.device != "auto":
            model = model.to(args.device)
    except Exception as error:
        raise Refused(f"--model {args.model}: {first_line(error)}") from None
    return model, tokenizer, transformers.__version__


def first_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def tokenize(prompts, tokenizer, limit, room):
    requests = []
    for n, (text, domain) in enumerate(prompts):
        ids = tokenizer(text)["input_ids"]
        ids = ids[:limit] if limit else ids
        if not ids:
            raise Refused(f"prompt {n} has no tokens")
        if room is not None and len(ids) > room:
            raise Refused(f"prompt {n} has {len(ids)} tokens, and the model has room for {room}: --max-prompt-tokens shortens it")
        requests.append(Request(ids, domain))
    return requests


def arguments(argv):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            raise Refused(message)

    parser = Parser(prog="record.py", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder (or hub name) of a transformers MoE model")
    parser.add_argument("--prompts", required=True, type=Path, help='JSONL of {"text", "domain"}, or plain lines')
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--name", help="name of the model in the trace (default: the folder's)")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--max-prompt-tokens", type=int, default=0, help="shorten prompts to this (0: do not)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--limit", type=int, default=0, help="only the first N prompts")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 decodes greedily")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ignore-eos", action="store_true", help="decode all new tokens")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, or auto (spread by accelerate)")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--dequantize", action="store_true", help="gpt-oss: load the MXFP4 experts as plain tensors")
    parser.add_argument("--no-weights", action="store_true", help="leave the gate weights out")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch decides)")
    parser.add_argument("--remark", action="append", default=[], help="a line for the trace's header")
    parser.add_argument("--trust-remote-code", action="store_true")
    args = parser.parse_args(argv)
    if args.max_new_tokens < 1:
        raise Refused("--max-new-tokens must be at least 1")
    if args.batch_size < 1:
        raise Refused("--batch-size must be at least 1")
    if not args.out.absolute().parent.is_dir():
        raise Refused(f"{args.out}: no such folder")
    if args.out.is_dir():
        raise Refused(f"{args.out}: is a folder")
    return args


def run(argv):
    args = arguments(argv)
    prompts = read_prompts(args.prompts)
    if args.limit > 0:
        prompts = prompts[: args.limit]
    if torch is None:
        raise Refused(f"{missing}: see requirements.txt")
    if args.threads:
        torch.set_num_threads(args.threads)
    model, tokenizer, version = load(args)
    places = getattr(text_config(model), "max_position_embeddings", None)
    room = places - args.max_new_tokens + 1 if places else None
    if room is not None and room < 1:
        raise Refused(f"--max-new-tokens {args.max_new_tokens}: the model has {places} positions")
    requests = tokenize(prompts, tokenizer, args.max_prompt_tokens, room)
    eos = getattr(model.generation_config, "eos_token_id", None)
    eos = [] if eos is None or args.ignore_eos else eos if isinstance(eos, list) else [eos]
    pad = next((t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id) if t is not None), 0)

    def progress(step):
        if sys.stderr.isatty():
            print(f"\rstep {step}", end="", file=sys.stderr)

    result = record(
        model,
        requests,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        temperature=args.temperature,
        seed=args.seed,
        eos=eos,
        pad=pad,
        progress=progress,
    )
    if args.no_weights:
        result.pop("weights", None)
    how = "greedy" if args.temperature <= 0 else f"temperature {args.temperature:g}, seed {args.seed}"
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    data = args.prompts.read_bytes()
    header = write_trace(
        args.out,
        result,
        name=args.name or Path(args.model).resolve().name,
        inputs=[{"name": args.prompts.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}],
        remarks=[
            f"record.py, transformers {version}, torch {torch.__version__}, {dtype} on {model.device.type}",
            f"{len(requests)} requests in batches of {args.batch_size}, up to {args.max_new_tokens} new tokens, {how}",
            *args.remark,
        ],
    )
    tokens, layers, k = result["experts"].shape
    print(
        f"{args.out}: {tokens} tokens of {len(requests)} requests in {int(result['step'][-1]) + 1} steps, "
        f"{layers} MoE layers, {k} of {header['experts']} experts, "
        f"{'with' if 'weights' in result else 'without'} weights, {args.out.stat().st_size} bytes"
    )


def main(argv=None):
    try:
        run(sys.argv[1:] if argv is None else argv)
    except Refused as error:
        print(f"record.py: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError) as error:
        print(f"record.py: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
