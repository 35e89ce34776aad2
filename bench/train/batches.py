"""Question-and-answer rows as token batches for the PyTorch peer.

The batches are those the experiment files in bench/gsm8k make: the model's chat template around each question, loss on
the answers only, rows in file order. Two layouts:

- pack: everything end to end, cut into blocks of exactly `seq` tokens, whatever row they belong to;
- pad: one row a block, filled up with padding to `seq` tokens.
"""
import json
from dataclasses import dataclass
from typing import Any, Iterator

IGNORED = -100  # the label that the loss leaves out


@dataclass
class Block:
    """`ids` and `labels` have `seq` items each; the first `n_real` of them are no padding."""

    ids: list[int]
    labels: list[int]
    n_real: int


def read_rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def tokens_of(tokenizer: Any, row: dict[str, str]) -> tuple[list[int], list[int]]:
    """Ids and labels of one row."""
    chat = [{"role": "user", "content": row["question"]}]
    before = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer.encode(before, add_special_tokens=False)
    answer = tokenizer.encode(f"{row['answer']}{tokenizer.eos_token}\n", add_special_tokens=False)
    return prompt + answer, [IGNORED] * len(prompt) + answer


def packed(tokenizer: Any, rows: list[dict[str, str]], seq: int) -> Iterator[tuple[int, Block]]:
    """Full blocks, each with the number of rows that had to be read for it."""
    ids: list[int] = []
    labels: list[int] = []
    for n_rows, row in enumerate(rows, 1):
        row_ids, row_labels = tokens_of(tokenizer, row)
        ids += row_ids
        labels += row_labels
        while len(ids) >= seq:
            yield n_rows, Block(ids[:seq], labels[:seq], seq)
            del ids[:seq], labels[:seq]


def padded(tokenizer: Any, rows: list[dict[str, str]], seq: int) -> Iterator[tuple[int, Block]]:
    """One block a row; rows of more than `seq` tokens lose their end."""
    for n_rows, row in enumerate(rows, 1):
        ids, labels = (items[:seq] for items in tokens_of(tokenizer, row))
        n_padding = seq - len(ids)
        filled = ids + [tokenizer.pad_token_id] * n_padding
        yield n_rows, Block(filled, labels + [IGNORED] * n_padding, len(ids))


def blocks(tokenizer: Any, rows: list[dict[str, str]], layout: str, seq: int, n_blocks: int) -> tuple[list[Block], int]:
    """The first `n_blocks` blocks, and how many rows they take. All rows are tokenised, as a trainer would."""
    made = list((packed if layout == "pack" else padded)(tokenizer, rows, seq))
    if len(made) < n_blocks:
        raise SystemExit(f"the data make {len(made)} blocks of {seq} tokens; {n_blocks} are needed")
    n_rows = made[n_blocks - 1][0] if n_blocks else 0
    return [block for _, block in made[:n_blocks]], n_rows
