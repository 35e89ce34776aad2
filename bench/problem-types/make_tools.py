"""Conversations that call tools, in OpenAI's form: tools.jsonl to learn, tools_validation.jsonl to judge.

    python3 make_tools.py FOLDER

A row has `tools`, the schemas of two or three functions, and `messages`: a request, the call, its result, the answer; a quarter
of them has a second request. Rows to judge end with the call that is expected, and every place and label in them is one that no
row to learn has. Always the same rows; no network.
"""

import json
import random
import sys
from pathlib import Path

N_TRAIN, N_VALIDATION, SEED = 80, 30, 7

PLACES = [
    "Oslo Bergen Paris Lyon Rome Milan Madrid Lisbon Vienna Graz Berlin Hamburg Athens Dublin Cork Prague Warsaw Tokyo Osaka".split(),
    "Turin Porto Basel Ghent Krakow Kyoto Leeds Malmo".split(),
]
LABELS = [
    "tea eggs rice laundry nap bread pizza workout meeting dishes soup bath reading parking call walk".split(),
    "pasta coffee yoga oven homework stretching lunch garden".split(),
]
SKIES = ["sun", "rain", "snow", "fog", "clouds"]


def schema(name, description, **properties):
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


SCHEMAS = {
    "get_weather": schema("get_weather", "Weather of a place now.", place="string"),
    "add": schema("add", "Sum of two numbers.", a="integer", b="integer"),
    "set_timer": schema("set_timer", "Sets a timer.", minutes="integer", label="string"),
}


def weather(draw, part):
    place, sky, degrees = draw.choice(PLACES[part]), draw.choice(SKIES), draw.randint(-9, 35)
    request = draw.choice(
        ["What is the weather in {}?", "How warm is it in {} right now?", "Do I need an umbrella in {}?", "{}: weather, please."]
    )
    answer = f"In {place} there is {sky}, at {degrees} degrees."
    return request.format(place), {"place": place}, {"sky": sky, "degrees": degrees}, answer


def add(draw, part):
    a, b = draw.randint(100, 9999), draw.randint(100, 9999)
    request = draw.choice(
        ["What is {} plus {}?", "Add {} and {}.", "Sum of {} and {}, please.", "How much are {} and {} together?"]
    )
    return request.format(a, b), {"a": a, "b": b}, {"sum": a + b}, f"{a} and {b} are {a + b}."


def timer(draw, part):
    minutes, label = draw.randint(2, 90), draw.choice(LABELS[part])
    request = draw.choice(
        [
            "Set a timer of {m} minutes for {l}.",
            "{l}: remind me in {m} minutes.",
            "Start {m} minutes for {l}, please.",
            "Call it {l} and ring in {m} minutes.",
        ]
    )
    answer = f"The timer {label} rings in {minutes} minutes."
    return request.format(m=minutes, l=label), {"minutes": minutes, "label": label}, {"set": True}, answer


KINDS = {"get_weather": weather, "add": add, "set_timer": timer}


def conversation(draw, part):
    tools = draw.sample(sorted(SCHEMAS), draw.choice([2, 3]))
    messages = []
    n_requests = 2 if draw.random() < 0.25 else 1
    for number in range(n_requests):
        name = draw.choice(tools)
        request, arguments, result, answer = KINDS[name](draw, part)
        call_id = f"call_{number + 1}"
        function = {"name": name, "arguments": json.dumps(arguments)}
        messages += [
            {"role": "user", "content": request},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": call_id, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)},
            {"role": "assistant", "content": answer},
        ]
    return {"tools": [SCHEMAS[name] for name in tools], "messages": messages}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main(folder):
    draw = random.Random(SEED)
    write(folder / "tools.jsonl", [conversation(draw, 0) for _ in range(N_TRAIN)])
    validation = [conversation(draw, 1) for _ in range(N_VALIDATION)]
    for row in validation:
        # Result and answer go: what is judged is the call.
        row["messages"] = row["messages"][:-2]
    write(folder / "tools_validation.jsonl", validation)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
