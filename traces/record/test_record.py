"""Tiny randomly initialised models, built from configurations without a network.

The recorded experts and weights are compared with a second way to them: the
router_logits of the model itself (where it returns them) and the routing rule
of the architecture written out here, over one forward pass without padding.
"""

import json

import pytest

np = pytest.importorskip("numpy", reason="numpy is missing: pip install -r requirements.txt")
torch = pytest.importorskip("torch", reason="torch is missing: pip install -r requirements.txt")
transformers = pytest.importorskip("transformers", reason="transformers is missing: pip install -r requirements.txt")
safetensors = pytest.importorskip("safetensors", reason="safetensors is missing: pip install -r requirements.txt")

import record
from record import NONE, Recorder, Refused, Request
from record import record as run_record

SMALL = dict(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.3,  # wide: routing far from ties
    bos_token_id=None,
    eos_token_id=1,
    pad_token_id=0,
)
MLA = dict(q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, num_key_value_heads=4)
TIGHT = 2e-3  # weights are stored as F16


def softmax_topk(logits, k, norm):
    weights, ids = logits.float().softmax(-1).topk(k, dim=-1)
    return ids, weights / weights.sum(-1, keepdim=True) if norm else weights


def gpt_oss_rule(logits, k):
    top, ids = logits.topk(k, dim=-1)
    return ids, top.float().softmax(-1)


def deepseek_v3_rule(logits, bias, config):
    scores = logits.float().sigmoid()
    ids, weights = [], []
    size = config.n_routed_experts // config.n_group
    for row in scores:
        biased = row + bias
        rank = [(-sum(sorted(biased[g * size : (g + 1) * size].tolist())[-2:]), g) for g in range(config.n_group)]
        allowed = {g for _, g in sorted(rank)[: config.topk_group]}
        free = [e for e in range(len(row)) if e // size in allowed]
        best = sorted(free, key=lambda e: -biased[e].item())[: config.num_experts_per_tok]
        picked = row[best]
        ids.append(best)
        weights.append(picked / picked.sum() * config.routed_scaling_factor)
    return torch.tensor(ids), torch.stack(weights)


def mixtral():
    c = transformers.MixtralConfig(**SMALL, intermediate_size=24, num_local_experts=8, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(c), lambda l, _: softmax_topk(l, 2, True)


def qwen2_moe():
    c = transformers.Qwen2MoeConfig(
        **SMALL, intermediate_size=24, moe_intermediate_size=16, shared_expert_intermediate_size=16,
        num_experts=12, num_experts_per_tok=3, norm_topk_prob=False, decoder_sparse_step=1,
    )  # fmt: skip
    return transformers.Qwen2MoeForCausalLM(c), lambda l, _: softmax_topk(l, 3, False)


def qwen3_moe():
    c = transformers.Qwen3MoeConfig(
        **SMALL, intermediate_size=24, moe_intermediate_size=16, head_dim=8, num_experts=16,
        num_experts_per_tok=4, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1],
    )  # fmt: skip
    return transformers.Qwen3MoeForCausalLM(c), lambda l, _: softmax_topk(l, 4, True)


def olmoe():
    c = transformers.OlmoeConfig(**SMALL, intermediate_size=16, num_experts=16, num_experts_per_tok=4)
    return transformers.OlmoeForCausalLM(c), lambda l, _: softmax_topk(l, 4, False)


def deepseek_v2():
    c = transformers.DeepseekV2Config(
        **{**SMALL, **MLA}, intermediate_size=24, moe_intermediate_size=16, n_routed_experts=8, n_shared_experts=1,
        num_experts_per_tok=2, first_k_dense_replace=1, topk_method="greedy", routed_scaling_factor=1.0, n_group=1, topk_group=1,
    )  # fmt: skip
    return transformers.DeepseekV2ForCausalLM(c), lambda l, _: softmax_topk(l, 2, False)


def deepseek_v3():
    c = transformers.DeepseekV3Config(
        **{**SMALL, **MLA}, intermediate_size=24, moe_intermediate_size=16, n_routed_experts=16, n_shared_experts=1,
        num_experts_per_tok=3, first_k_dense_replace=1, n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True,
    )  # fmt: skip
    model = transformers.DeepseekV3ForCausalLM(c)
    for layer in model.model.layers[1:]:  # a bias that changes the picks
        layer.mlp.gate.e_score_correction_bias.copy_(torch.linspace(-0.4, 0.4, 16)[torch.randperm(16)])
    return model, lambda l, n: deepseek_v3_rule(l, model.model.layers[n].mlp.gate.e_score_correction_bias, c)


def gpt_oss():
    c = transformers.GptOssConfig(
        **SMALL, intermediate_size=16, head_dim=8, num_local_experts=8, num_experts_per_tok=4, sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    return transformers.GptOssForCausalLM(c), lambda l, _: gpt_oss_rule(l, 4)


ALL = [mixtral, qwen2_moe, qwen3_moe, olmoe, deepseek_v2, deepseek_v3, gpt_oss]
LAYERS = {qwen3_moe: [0, 2], deepseek_v2: [1, 2], deepseek_v3: [1, 2]}


def build(make):
    torch.manual_seed(5)
    try:
        model, rule = make()
    except AttributeError as error:  # "module transformers has no attribute GptOssConfig"
        if "module transformers" not in str(error):
            raise
        pytest.skip(f"this {error}")
    return model.float().eval(), rule


def prompts(lengths, seed=3):
    rng = np.random.default_rng(seed)
    return [Request(rng.integers(2, 97, n).tolist()) for n in lengths]


def router_logits(model, ids):
    """layer -> [tokens, experts], recomputed from the hidden states that enter the router."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in ("gate", "router"):
            layer = int(name.split(".layers.")[1].split(".")[0])

            def hook(m, args, output, layer=layer):
                hidden = args[0].reshape(-1, args[0].shape[-1]).float()
                seen[layer] = torch.nn.functional.linear(hidden, m.weight.float(), getattr(m, "bias", None))

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), use_cache=False)
    for h in handles:
        h.remove()
    return seen, out.logits[0]


def by_expert(ids, weights):
    order = np.argsort(ids, axis=-1)
    return np.take_along_axis(ids, order, -1), np.take_along_axis(weights, order, -1)


def check_against_rule(model, rule, result, request, ids):
    """Rows of a request equal the rule over one pass without padding or cache."""
    mine = result["request"] == request
    assert result["position"][mine].tolist() == list(range(len(ids)))
    logits, out = router_logits(model, ids)
    assert sorted(logits) == result["layers"]
    for n, layer in enumerate(result["layers"]):
        want, gate = rule(logits[layer], layer)
        want, gate = by_expert(want.numpy(), gate.detach().numpy())
        got, weights = by_expert(result["experts"][mine][:, n].astype(np.int64), result["weights"][mine][:, n].astype(np.float32))
        assert (got == want).all(), (layer, got, want)
        assert np.allclose(weights, gate, atol=TIGHT * max(1, gate.max()))
    return out


@pytest.mark.parametrize("make", ALL)
def test_matches_the_rule_of_the_architecture(make):
    model, rule = build(make)
    requests = prompts([7, 12, 3, 9, 1])
    result = run_record(model, requests, max_new_tokens=6, batch_size=3)
    assert result["layers"] == LAYERS.get(make, [0, 1, 2])
    assert result["experts"].dtype == np.uint16 and result["weights"].dtype == np.float16
    assert (result["experts"] < result["experts_per_layer"]).all()
    for n, request in enumerate(requests):
        # decode one request by hand, without cache, padding or batch
        ids = list(request.ids)
        for _ in range(5):
            _, out = router_logits(model, ids)
            ids.append(int(out[-1].argmax()))
        check_against_rule(model, rule, result, n, ids)


@pytest.mark.parametrize("make", ALL)
def test_matches_output_router_logits(make):
    model, rule = build(make)
    ids = prompts([17])[0].ids
    try:
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids]), output_router_logits=True, use_cache=False)
    except (TypeError, AttributeError):  # 4.51 trips over the dense layers of Qwen3-MoE
        out = None
    logits = getattr(out, "router_logits", None)
    if not logits:
        pytest.skip("the model returns no router_logits")
    result = run_record(model, [Request(ids)], max_new_tokens=1, batch_size=1)
    logits = [l for l in logits if l is not None]
    assert len(logits) == len(result["layers"])
    for n, layer in enumerate(result["layers"]):
        want, _ = rule(logits[n].reshape(len(ids), -1), layer)
        assert (np.sort(want.numpy(), -1) == np.sort(result["experts"][:, n], -1)).all()


@pytest.mark.parametrize("make", [mixtral, deepseek_v3, gpt_oss])
def test_batching_and_padding_change_nothing(make):
    model, _ = build(make)
    requests = prompts([5, 23, 11, 2])
    alone = run_record(model, requests, max_new_tokens=4, batch_size=1)
    padded = run_record(model, requests, max_new_tokens=4, batch_size=4)
    assert len(alone["request"]) == len(padded["request"]) == 5 + 23 + 11 + 2 + 4 * 3
    for result in (alone, padded):
        order = np.lexsort((result["position"], result["request"]))
        result["sorted"] = np.sort(result["experts"][order].astype(np.int64), -1)
    assert (alone["sorted"] == padded["sorted"]).all()


def test_rows_steps_and_phases():
    model, _ = build(mixtral)
    result = run_record(model, prompts([4, 2, 3]), max_new_tokens=3, batch_size=2)
    rows = list(zip(*(result[n].tolist() for n in ("step", "request", "position", "phase"))))
    want = [(0, 0, p, 0) for p in range(4)] + [(0, 1, p, 0) for p in range(2)]
    want += [(1, 0, 4, 1), (1, 1, 2, 1), (2, 0, 5, 1), (2, 1, 3, 1)]
    want += [(3, 2, p, 0) for p in range(3)] + [(4, 2, 3, 1), (5, 2, 4, 1)]
    assert rows == want
    assert rows == sorted(rows)


def test_a_request_stops_at_eos():
    model, rule = build(mixtral)
    requests = prompts([6, 8, 5])
    free = run_record(model, requests, max_new_tokens=8, batch_size=3)
    _, out = router_logits(model, requests[1].ids)
    token = int(out[-1].argmax())  # what request 1 says first
    ended = run_record(model, requests, max_new_tokens=8, batch_size=3, eos=[token])
    assert (ended["request"] == 1).sum() == 8
    assert ((ended["request"] == 1) & (ended["phase"] == 1)).sum() == 0
    for n in (0, 2):  # the others are what they were, as far as they go
        a, b = free["experts"][free["request"] == n], ended["experts"][ended["request"] == n]
        assert len(b) and (a[: len(b)] == b).all()
    assert run_record(model, requests, max_new_tokens=8, batch_size=3, eos=range(97))["step"].max() == 0


def test_sampling_follows_its_seed():
    model, _ = build(olmoe)
    runs = [run_record(model, prompts([6, 6]), max_new_tokens=9, temperature=2.0, seed=s)["experts"] for s in (1, 1, 2)]
    assert (runs[0] == runs[1]).all()
    assert not (runs[0] == runs[2]).all()


@pytest.mark.parametrize("make", [mixtral, qwen3_moe, olmoe])
def test_a_model_that_was_saved_while_training(make):
    model, _ = build(make)
    want = run_record(model, prompts([6, 9]), max_new_tokens=4)
    model.config.output_router_logits = True
    got = run_record(model, prompts([6, 9]), max_new_tokens=4)
    assert (got["experts"] == want["experts"]).all()


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_experts_implementations(implementation):
    model, _ = build(qwen3_moe)
    if not hasattr(model, "set_experts_implementation"):
        pytest.skip("this transformers has one experts implementation")
    want = run_record(model, prompts([9, 4]), max_new_tokens=3)
    model.set_experts_implementation(implementation)
    got = run_record(model, prompts([9, 4]), max_new_tokens=3)
    assert (np.sort(got["experts"], -1) == np.sort(want["experts"], -1)).all()


# Routers as other transformers versions have them, on a bare module tree.


class Bare(torch.nn.Module):
    def __init__(self, gate, kind, experts, k, **more):
        super().__init__()
        self.config = type("Config", (), {"model_type": kind, "num_experts": experts, "num_experts_per_tok": k, **more})()
        layer = torch.nn.Module()
        layer.mlp = torch.nn.Module()
        layer.mlp.gate = gate
        self.layers = torch.nn.ModuleList([layer])

    def forward(self, hidden):
        self.layers[0].mlp.gate(hidden)


class Returns(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, hidden):
        return self.function(hidden)


def route(gate, kind="made_up", experts=6, k=2, hidden=None, **more):
    model = Bare(gate, kind, experts, k, **more)
    with Recorder(model) as recorder:
        model(torch.randn(2, 3, 5) if hidden is None else hidden)
        return (*recorder.take(2, 3), recorder.remarks)


def test_gate_of_logits_in_transformers_4():
    torch.manual_seed(0)
    gate, hidden = torch.nn.Linear(5, 6, bias=False), torch.randn(2, 3, 5)
    logits = gate(hidden).detach()
    for kind, more, norm in [("mixtral", {}, True), ("qwen3_moe", {"norm_topk_prob": False}, False), ("olmoe", {"norm_topk_prob": True}, True)]:
        layers, experts, weights, _ = route(gate, kind, hidden=hidden, **more)
        want, gates = softmax_topk(logits, 2, norm)
        assert layers == [0] and (experts[:, :, 0] == want.numpy()).all()
        assert np.allclose(weights[:, :, 0], gates.numpy(), atol=1e-6)


def test_generic_gate_is_recorded_without_weights():
    torch.manual_seed(0)
    gate, hidden = torch.nn.Linear(5, 6), torch.randn(2, 3, 5)
    _, experts, weights, remarks = route(gate, hidden=hidden)
    assert (experts[:, :, 0] == gate(hidden).topk(2).indices.numpy()).all()
    assert weights is None and "made_up" in remarks[0]


def test_gate_of_ids_and_weights_in_either_order():
    ids, weights = torch.tensor([[1, 4]] * 6), torch.tensor([[0.75, 0.25]] * 6)
    for out in [(ids, weights), (weights, ids), (torch.randn(6, 6), weights, ids), (ids, weights, None)]:
        _, experts, gates, _ = route(Returns(lambda _: out))
        assert (experts == [1, 4]).all() and np.allclose(gates, [0.75, 0.25])


def test_gate_of_sparse_scores():
    scores = torch.zeros(6, 6)
    scores[:, [5, 2]] = torch.tensor([0.9, 0.1])
    ids = torch.tensor([[5, 2]] * 6)
    for out in [(scores, ids), (scores, torch.randn(6, 6))]:  # gpt-oss 4.55, Llama 4
        _, experts, gates, _ = route(Returns(lambda _: out))
        assert (experts == [5, 2]).all() and np.allclose(gates, [0.9, 0.1])


def test_null_experts_are_none():
    ids = torch.tensor([[1, 6]] * 6)  # id 6 of 6: an expert that is not there
    _, experts, gates, _ = route(Returns(lambda _: (ids, torch.full((6, 2), 0.5))))
    assert (experts == [1, NONE]).all() and np.allclose(gates, [0.5, 0])


def test_logits_with_a_correction_bias_are_refused():
    gate = torch.nn.Linear(5, 6, bias=False)
    gate.register_buffer("e_score_correction_bias", torch.zeros(6))
    with pytest.raises(Refused, match="correction_bias"):
        route(gate)


def test_a_dense_model_is_refused():
    c = transformers.LlamaConfig(**SMALL, intermediate_size=24)
    with pytest.raises(Refused, match="not a MoE model"):
        run_record(transformers.LlamaForCausalLM(c), prompts([3]))


# The command line and the file.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("models") / "tiny-olmoe"
    model, _ = build(olmoe)
    model.save_pretrained(folder)
    words = {w: n for n, w in enumerate(["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(90))])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return folder


def test_command_line(saved, tmp_path, capsys):
    file, out = tmp_path / "prompts.jsonl", tmp_path / "out.safetensors"
    entries = [{"text": "w1 w2 w3", "domain": "b"}, {"text": "w4", "domain": "a"}, {"text": "w5 w6\u2028w7 w8 w9"}]
    file.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries))
    argv = ["--model", str(saved), "--prompts", str(file), "-o", str(out), "--max-new-tokens", "4"]
    assert record.main([*argv, "--batch-size", "2", "--ignore-eos", "--max-prompt-tokens", "4"]) == 0
    with safetensors.safe_open(out, "np") as f:
        assert set(f.metadata()) == {"moecast.trace"}
        header = json.loads(f.metadata()["moecast.trace"])
        tensors = {n: f.get_tensor(n) for n in f.keys()}
    assert header["version"] == 1 and header["model"] == "tiny-olmoe" and header["source"] == "transformers"
    assert (header["experts"], header["top_k"], header["layers"]) == (16, 4, [0, 1, 2])
    assert header["synthetic"] is False and header["domains"] == ["a", "b", "unlabelled"]
    assert header["inputs"][0]["name"] == "prompts.jsonl" and header["inputs"][0]["bytes"] == file.stat().st_size
    assert len(header["inputs"][0]["sha256"]) == 64 and all(isinstance(r, str) for r in header["remarks"])
    kinds = {"experts": "uint16", "weights": "float16", "request": "uint32", "position": "uint32", "step": "uint32", "phase": "uint8", "domain": "uint16"}
    assert {n: str(t.dtype) for n, t in tensors.items()} == kinds
    rows = 3 + 1 + 4 + 3 * 3
    assert tensors["experts"].shape == tensors["weights"].shape == (rows, 3, 4)
    assert [tensors["domain"][tensors["request"] == n][0] for n in range(3)] == [1, 0, 2]
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    assert record.main([*argv, "--no-weights", "--limit", "1", "--temperature", "1"]) == 0
    with safetensors.safe_open(out, "np") as f:
        assert "weights" not in f.keys() and f.get_tensor("request").max() == 0


def test_plain_lines(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("one line\n\n  two\n")
    assert record.read_prompts(file) == [("one line", None), ("  two", None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no prompts"), ('{"text": 1}\n', ":1: wants"), ('{"text": "a"}\n{oops\n', ":2: not a JSON"), ('{"text": "a", "domain": 3}\n', "domain")],
)
def test_bad_prompts(tmp_path, capsys, text, said):
    file = tmp_path / "p.jsonl"
    file.write_text(text)
    assert record.main(["--model", "none", "--prompts", str(file), "-o", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err
    assert said in error and error.startswith("record.py: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "./no-such-model"], "--model"),
        (["--prompts", "no-such-file"], "No such file"),
        (["--out", "no-such-folder/x.safetensors"], "no such folder"),
        (["--max-new-tokens", "0"], "at least 1"),
        (["--max-new-tokens", "65"], "64 positions"),
        (["--max-new-tokens", "63"], "--max-prompt-tokens"),
        (["--dtype", "int3"], "--dtype"),
        (["--device", "cuda"], "no CUDA"),
    ],
)
def test_bad_arguments(saved, tmp_path, capsys, more, said):
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    file = tmp_path / "p.txt"
    file.write_text("w1 w2 w3\n")
    out = tmp_path / "o.safetensors"
    assert record.main(["--model", str(saved), "--prompts", str(file), "-o", str(out), *more]) == 1
    error = capsys.readouterr().err
    assert said in error and error.startswith("record.py: ") and error.count("\n") == 1
    assert not out.exists()
