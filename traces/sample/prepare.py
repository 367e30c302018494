#!/usr/bin/env python3
"""Collects text that a Debian machine carries anyway, splits it by file into
train and held-out, trains a byte-level BPE tokenizer and writes token arrays.

    python prepare.py --out DIR

DIR then holds tokenizer/, corpus.json (what was read), train.<domain>.npy,
heldout.<domain>.npy, and prompts.jsonl (held-out text for record.py).
The text stays in DIR; nothing of it belongs in the repository.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import sys
from pathlib import Path

# domain -> (roots, pattern of the path below the root, pattern to leave out)
DOMAINS = {
    "c-headers": (["/usr/include"], r"\.h$", r"^(node|c\+\+|llvm-\d|llvm-c-\d+|valgrind)/|/c\+\+/"),
    "python": (["/usr/lib/python3.11", "/usr/lib/python3"], r"\.py$", r"/(test|tests|idle_test|lib2to3)/"),
    "changelogs": (["/usr/share/doc"], r"changelog\.Debian(\.[a-z0-9_]+)?(\.gz)?$", r"^$"),
    "man-pages": (["/usr/share/man"], r"^man[1-8]/.*\.gz$", r"^$"),
}


def read(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode("utf-8")


def collect(domain, limit, seed, taken):
    """Files of a domain in a fixed random order, up to `limit` characters.

    Files whose beginning was already seen are left out: a Debian machine
    carries the same changelog under the names of all packages of one source.
    """
    roots, want, leave = DOMAINS[domain]
    want, leave = re.compile(want), re.compile(leave)
    found = []
    for root in roots:
        for folder, dirs, names in os.walk(root):
            dirs.sort()
            for name in sorted(names):
                path = Path(folder) / name
                rel = str(path.relative_to(root))
                if want.search(rel) and not leave.search(rel) and not path.is_symlink():
                    found.append(path)
    random.Random(seed).shuffle(found)
    files, total = [], 0
    for path in found:
        try:
            text = read(path)
        except (OSError, UnicodeDecodeError, EOFError, gzip.BadGzipFile):
            continue
        text = text[:60_000]  # no single file may dominate
        if len(text) < 600:
            continue
        # lines of the file, in part: near-identical files count once
        body = "\n".join(text.splitlines()[5:60])
        key = hashlib.sha256(body.encode()).hexdigest()
        if key in taken:
            continue
        taken.add(key)
        files.append((path, text))
        total += len(text)
        if total >= limit:
            break
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--megabytes", type=float, default=5.0, help="text per domain, held-out included")
    parser.add_argument("--heldout", type=float, default=0.08, help="share of the files of a domain held out")
    parser.add_argument("--requests", type=int, default=64, help="prompts per domain")
    parser.add_argument("--prompt-tokens", default="32:64", help="LOW:HIGH tokens of a prompt")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    import numpy as np
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    args.out.mkdir(parents=True, exist_ok=True)
    taken, split = set(), {}
    for domain in DOMAINS:
        files = collect(domain, args.megabytes * 1e6, args.seed, taken)
        if len(files) < 40:
            sys.exit(f"prepare.py: only {len(files)} files for domain {domain}; see DOMAINS")
        cut = max(16, int(len(files) * args.heldout))
        split[domain] = {"heldout": files[:cut], "train": files[cut:]}

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocab,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((t for d in split.values() for _, t in d["train"]), trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>"
    ).save_pretrained(args.out / "tokenizer")

    end = bpe.token_to_id("<|end|>")
    summary = {"seed": args.seed, "vocab": bpe.get_vocab_size(), "domains": {}}
    prompts = []
    low, high = (int(v) for v in args.prompt_tokens.split(":"))
    for domain, parts in split.items():
        note = {}
        for part, files in parts.items():
            encoded = bpe.encode_batch([text for _, text in files])
            ids = [i for e in encoded for i in (*e.ids, end)]
            np.save(args.out / f"{part}.{domain}.npy", np.array(ids, dtype=np.uint16))
            note[part] = {
                "files": len(files),
                "characters": sum(len(t) for _, t in files),
                "tokens": len(ids),
            }
        summary["domains"][domain] = note
        rng = random.Random(f"{args.seed} {domain}")
        usable = [text for _, text in parts["heldout"] if len(text) > 2000]
        for n in range(args.requests):
            text = usable[n % len(usable)]
            # begin at a line start anywhere in the file, past its first lines
            at = text.find("\n", rng.randrange(300, len(text) - 1200)) + 1
            piece = bpe.encode(text[at : at + 1200]).ids[: rng.randint(low, high)]
            prompts.append({"domain": domain, "text": bpe.decode(piece, skip_special_tokens=False)})
    random.Random(args.seed).shuffle(prompts)  # requests of all domains arrive mixed
    with open(args.out / "prompts.jsonl", "w") as f:
        for p in prompts:
            f.write(json.dumps(p) + "\n")
    (args.out / "corpus.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
