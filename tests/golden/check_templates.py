#!/usr/bin/env python3
"""Holds the masks of training samples to what the chat templates of other people's models write.

    check_templates.py PROGRAM [FOLDER_OF_TEMPLATES]

For every template (by default those in the wheel of TRL, which pip fetches) and twelve kinds of conversation the program
previews the samples it would train on. Each trained span must stand after exactly the text that generation starts from,
as jinja2 with transformers' settings renders it; every answer must be trained once, with its calls and thoughts; and
what is trained must be what the template writes for the answer. What the program refuses is listed with the reason.

Needs jinja2, transformers and tokenizers from PyPI.
"""

import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.utils.chat_template_utils import _compile_jinja_template

BOS, EOS = "<s>", "</s>"
NOW = datetime.datetime(2024, 7, 26, 12)

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Where."}},
            "required": ["place"],
        },
    },
}


def call(**arguments):
    function = {"name": "get_weather", "arguments": arguments}
    return {"id": "abc123def", "type": "function", "function": function}


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def answer(text, **keys):
    return {"role": "assistant", "content": text, **keys}


def tool(text):
    return {"role": "tool", "name": "get_weather", "tool_call_id": "abc123def", "content": text}


CONVERSATIONS = {
    "one round": dict(messages=[user("Name a color."), answer("Blue, as ever.")]),
    "three rounds": dict(
        messages=[
            user("One plus one?"), answer("It is 2."),
            user("Plus one?"), answer("It is 3."),
            user("And now?"), answer("Still 3, friend."),
        ]
    ),
    "system": dict(
        messages=[
            system("Answer like a pirate."),
            user("Who are you?"), answer("A mate, arr."),
            user("Where to?"), answer("The high seas."),
        ]
    ),
    "thoughts": dict(
        messages=[
            user("Is 7 prime?"), answer("Yes, it is.", reasoning_content="Nothing but 1 and 7 divides it."),
            user("And 9?"), answer("No, 3 divides it.", reasoning_content="Three times three is nine."),
        ]
    ),
    "thoughts in the content": dict(
        messages=[
            user("Is 7 prime?"), answer("<think>\nOnly 1 and 7.\n</think>\n\nYes indeed."),
            user("And 9?"), answer("<think>\nThree threes.\n</think>\n\nNot at all."),
        ]
    ),
    "tools": dict(
        messages=[
            user("Weather in Oslo?"),
            answer("", tool_calls=[call(place="Oslo")]),
            tool('{"sky": "clear"}'),
            answer("Clear skies in Oslo."),
            user("And in Rome?"),
            answer("", tool_calls=[call(place="Rome")]),
            tool("rain"),
            answer("Rain in Rome."),
        ],
        tools=[TOOL],
    ),
    "a thought before a call": dict(
        messages=[
            user("Weather in Oslo?"),
            answer("", reasoning_content="I have to look it up.", tool_calls=[call(place="Oslo")]),
            tool("clear"),
            answer("Clear skies.", reasoning_content="It says clear."),
        ],
        tools=[TOOL],
    ),
    "tools unused": dict(messages=[user("Say hi."), answer("Hi there.")], tools=[TOOL]),
    "users in a row": dict(messages=[user("First part."), user("Second part."), answer("Both read.")]),
    "a late system text": dict(
        messages=[user("Hello?"), answer("Hello!"), system("From now on in French."), user("Bye?"), answer("Au revoir.")]
    ),
    "odd texts": dict(
        messages=[
            user('Quote "this" & <that>'), answer("  indented\n\n\tcode \u00e9\u2028 end"),
            user("{{ braces }} {% tags %}"), answer("\U0001f600 }} %}"),
        ]
    ),
    "an answer that is not learned": dict(
        messages=[user("Capital of France?"), answer("Lyon, surely.", weight=0), user("Sure?"), answer("Paris, sorry.")]
    ),
}


def byte_tokenizer(source):
    """Bytes are tokens, and so are the tags of the template: every text can be read back from its tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tags = re.findall(r"<[|\uff5c][^>\s'\"{}]+[|\uff5c]>|<(?:bos|eos|start_of_turn|end_of_turn|end_of_utterance|turn\|)>|<\|turn>|<turn\|>|\[/?INST\]", source)
    special = [BOS, EOS] + sorted(set(tags) - {BOS, EOS})
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer


class Jinja:
    def __init__(self, source):
        self.source = source
        self.template = _compile_jinja_template(source)
        self.template.globals["strftime_now"] = lambda form: NOW.strftime(form)

    def thought_key(self):
        """Where the template looks for what was thought; the content where it reads no key."""
        for key in ("reasoning_content", "thinking", "reasoning", "thought"):
            try:
                text = self.render([user("q"), {"role": "assistant", "content": "a", key: "probe of a thought"}], None, False)
            except Exception:
                continue
            if "probe of a thought" in text:
                return key
        return None

    def render(self, messages, tools, opens):
        text = self.template.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=opens, bos_token=BOS, eos_token=EOS
        )
        return text


def with_thoughts(messages, key):
    """Thoughts under the name that the template reads, or in the content."""
    out = []
    for message in messages:
        message = dict(message)
        thought = message.pop("reasoning_content", None)
        if thought and key:
            message[key] = thought
        elif thought:
            message["content"] = f"<think>\n{thought}\n</think>\n\n{message['content']}"
        out.append(message)
    return out


def as_parts(messages):
    return [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]


def with_quoted_arguments(messages):
    out = json.loads(json.dumps(messages))
    for message in out:
        for one in message.get("tool_calls", []):
            one["function"]["arguments"] = json.dumps(one["function"]["arguments"], separators=(",", ":"))
    return out


def joined(messages):
    out = []
    for message in messages:
        message = dict(message)
        if message["role"] == "system" and out:
            message["role"] = "user"
        if out and out[-1]["role"] == message["role"] == "user":
            out[-1]["content"] += "\n\n" + message["content"]
        else:
            out.append(message)
    return out


def folded(messages):
    out = [dict(message) for message in messages]
    if out[0]["role"] == "system":
        text = out.pop(0)["content"]
        out[0]["content"] = text + "\n\n" + out[0]["content"]
    return out


def adjusted(messages, key):
    """The messages as they are, then the changes the program may make, and must say."""
    bare = [{k: v for k, v in message.items() if k != "reasoning_content"} for message in messages]
    bases = [("", with_thoughts(messages, key)), ("", messages), ("thoughts left out", bare)]
    for what, base in bases:
        yield what, base
        yield what, as_parts(base)
        yield what, with_quoted_arguments(base)
        yield what + "; system text in the first message", folded(base)
        yield what + "; system text in the first message", as_parts(folded(base))
        yield what + "; messages joined", joined(base)
        yield what + "; system text in the first message, messages joined", joined(folded(base))


def spans(tokens, decode):
    """The text of a sample and its trained spans as character ranges."""
    text, out, start = "", [], None
    pending, trained_now = [], False
    runs = []
    for token in tokens:
        if not runs or runs[-1][0] != token["trained"]:
            runs.append((token["trained"], []))
        runs[-1][1].append(token["id"])
    for trained, ids in runs:
        piece = decode(ids)
        if trained:
            out.append((len(text), len(text) + len(piece)))
        text += piece
    return text, out


def check(name, conversation, samples, warnings, jinja, decode):
    """What is wrong, as sentences."""
    tools = conversation.get("tools")
    first = None
    trained = []
    for sample in samples:
        text, found = spans(sample["tokens"], decode)
        joined = []
        for start, end in found:
            # Spans of one answer: the template may mark less than all of it.
            joined.append((text[:start], text[start:end], text))
        trained.extend(joined)
    for what, messages in adjusted(conversation["messages"], jinja.thought_key()):
        problems = []
        first = problems if first is None else first
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant" and message.get("weight") != 0]
        clean = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        try:
            prompts = [jinja.render(clean[:i], tools, True) for i in answers]
        except Exception as error:  # The template refuses these messages; the next change may please it.
            problems.append(f"[{what}] {error}")
            continue
        marked = "{% generation" in jinja.source or "{%- generation" in jinja.source
        matched = []
        for i, prompt in zip(answers, prompts):
            fits = [entry for entry in trained if (entry[0].startswith(prompt) if marked else entry[0] == prompt)]
            if not fits:
                problems.append(f"[{what}] no trained span after the prompt of message {i}: {prompt[-60:]!r}")
                break
            # With marks the span may begin later; it is the nearest one.
            entry = min(fits, key=lambda entry: len(entry[0]))
            matched.append(entry)
            message = clean[i]
            rest = entry[1]
            content = message["content"]
            content = content if isinstance(content, str) else content[0]["text"]
            said = content.split("</think>")[-1].strip()
            wanted = [said] if said and not message.get("tool_calls") else []
            wanted += [one["function"]["name"] for one in message.get("tool_calls", [])]
            for part in wanted:
                if part not in rest and json.dumps(part, ensure_ascii=False)[1:-1] not in rest:
                    problems.append(f"[{what}] {part!r} is not trained in {rest!r}")
            thought = conversation["messages"][i].get("reasoning_content") if len(messages) == len(conversation["messages"]) else None
            if thought and thought not in rest and not any("thoughts that are not learned" in w for w in warnings):
                problems.append(f"[{what}] the thought is not trained in {rest!r}, without a word")
            try:
                whole = jinja.render(clean[: i + 1], tools, False)
            except Exception as error:
                problems.append(f"[{what}] {error}")
                break
            closed = prompt.rstrip().endswith("</think>")
            if whole.startswith(prompt) and not marked and not closed and not whole[len(prompt):].startswith(rest):
                problems.append(f"[{what}] trained {rest!r}, and the template writes {whole[len(prompt):]!r}")
        else:
            if len(set(matched)) != len(trained) and not marked:
                problems.append(f"[{what}] {len(trained)} trained spans for {len(answers)} answers")
                continue
            if not problems:
                return what, []
    return None, first[:6]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if len(sys.argv) > 2:
            templates = pathlib.Path(sys.argv[2])
        else:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "trl"], check=True)
            wheel = next(folder.glob("trl-*.whl"))
            subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, folder / "trl"], check=True)
            templates = folder / "trl" / "trl" / "chat_templates"
        n_right, n_adjusted, wrong, refused = 0, 0, [], []
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 8,
                  "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "rms_norm_eps": 1e-5,
                  "max_position_embeddings": 65536, "tie_word_embeddings": True, "hidden_act": "silu"}
        (folder / "base.yaml").write_text(
            "experiment_name: templates\nproblem_type: text_causal_language_modeling\n"
            "dataset: {layout: messages, text_format: chat_template}\n"
            "tokenizer: {max_length: 65536}\n"
        )
        files = sorted(templates.glob("*.jinja"))
        for file in files:
            source = file.read_text()
            tokenizer = byte_tokenizer(source)
            model = folder / "model" / file.stem
            model.mkdir(parents=True)
            tokenizer.save(str(model / "tokenizer.json"))
            (model / "tokenizer_config.json").write_text(json.dumps({"bos_token": BOS, "eos_token": EOS, "tokenizer_class": "PreTrainedTokenizerFast"}))
            (model / "config.json").write_text(json.dumps(config))
            (model / "chat_template.jinja").write_text(source)
            (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
            jinja = Jinja(source)
            decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=False)
            for name, conversation in CONVERSATIONS.items():
                rows = folder / "rows.jsonl"
                rows.write_text(json.dumps(conversation) + "\n")
                run = subprocess.run(
                    [program, "data", "preview", rows, "-Y", folder / "base.yaml", "--model", model, "--samples", "9", "--json"],
                    capture_output=True, text=True,
                )
                if run.returncode != 0:
                    reason = run.stderr.strip().splitlines()
                    refused.append((file.stem, name, reason[0] if reason else "?"))
                    continue
                page = json.loads(run.stdout)
                what, problems = check(name, conversation, page["samples"], page["warnings"], jinja, decode)
                if what is None:
                    wrong.append((file.stem, name, problems))
                else:
                    n_right += 1
                    n_adjusted += bool(what)
    for template, name, reason in refused:
        print(f"refused  {template} | {name}: {reason}")
    for template, name, problems in wrong:
        print(f"WRONG    {template} | {name}")
        for problem in problems:
            print(f"         {problem}")
    print(f"{len(files)} templates, {len(CONVERSATIONS)} conversations: {n_right} as jinja2 renders them "
          f"({n_adjusted} after a change that is told), {len(refused)} refused, {len(wrong)} differences")
    sys.exit(bool(wrong))


main()
