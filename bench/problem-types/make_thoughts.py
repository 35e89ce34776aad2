"""Conversations whose answers were thought about: thoughts.jsonl to learn, thoughts_validation.jsonl to judge.

    python3 make_thoughts.py FOLDER

Sums in two or three rounds, each on top of the one before. An answer says the sum alone; how it comes about, digit by digit, stands
beside it as `reasoning_content`. No sum that a row to judge ends with is in a row to learn. Always the same rows; no network.
"""

import json
import random
import sys
from pathlib import Path

N_TRAIN, N_VALIDATION, SEED = 160, 40, 11

FIRST = ["What is {} + {}?", "Add {} and {}.", "{} and {} make how much?"]
FURTHER = ["And {} more?", "Add {} to that.", "Now {} on top of it."]


def thought(a, b):
    """A sum of two numbers as on paper."""
    ones = a % 10 + b % 10
    carry = ones // 10
    tens = a // 10 + b // 10 + carry
    text = f"{a} + {b}. Ones: {a % 10} + {b % 10} = {ones}"
    text += f", write {ones % 10}, carry {carry}. " if carry else ". "
    text += f"Tens: {a // 10} + {b // 10}" + (f" + {carry}" if carry else "") + f" = {tens}."
    return f"{text} Together {a + b}."


def conversation(draw, is_held_out):
    total = draw.randint(11, 49)
    messages = []
    for number in range(draw.choice([2, 3])):
        more = draw.randint(11, 49)
        # A twelfth of all sums is kept for validation, and is what its rows end with.
        while (total * 7 + more) % 12 == 0:
            more = draw.randint(11, 49)
        request = draw.choice(FURTHER).format(more) if number else draw.choice(FIRST).format(total, more)
        messages += turn(request, total, more)
        total += more
    if is_held_out:
        before = total - more
        more = draw.choice([n for n in range(11, 50) if (before * 7 + n) % 12 == 0])
        messages[-2:] = turn(draw.choice(FURTHER).format(more), before, more)
    return {"messages": messages}


def turn(request, total, more):
    return [
        {"role": "user", "content": request},
        {"role": "assistant", "reasoning_content": thought(total, more), "content": f"It is {total + more}."},
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(folder):
    draw = random.Random(SEED)
    write(folder / "thoughts.jsonl", [conversation(draw, False) for _ in range(N_TRAIN)])
    write(folder / "thoughts_validation.jsonl", [conversation(draw, True) for _ in range(N_VALIDATION)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
