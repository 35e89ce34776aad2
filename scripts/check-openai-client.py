"""Talks to a studio with OpenAI's own Python client: check-openai-client.py http://localhost:10101 MODEL [MODEL_WITH_TOOLS]

Needs the package `openai`. Fails with a message where an answer is not what the client expects.
"""

import json
import sys
from typing import Literal

import openai
import pydantic


class Command(pydantic.BaseModel):
    """What an answer has to be."""

    light: Literal["on", "off"]
    level: Literal[1, 2, 3]


def check_tools(client: openai.OpenAI, model: str) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    messages = [{"role": "user", "content": "say 3"}]
    # Without the penalty a model that knows nothing fills its context with the white space that JSON allows.
    sampling = {"temperature": 0, "frequency_penalty": 2, "max_tokens": 180}
    wanted = {"model": model, "messages": messages, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(**wanted, **sampling)
    (call,) = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == "tool_calls" and call.function.name == "weather", whole
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome"), call

    with client.chat.completions.stream(**wanted, **sampling) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert streamed.function.arguments == call.function.arguments, (streamed, call)

    messages += [whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "12"}]
    client.chat.completions.create(model=model, messages=messages, tools=tools, max_tokens=4, temperature=0)


def main() -> None:
    url, model = sys.argv[1], sys.argv[2]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    names = [entry.id for entry in client.models.list()]
    assert model in names, names
    assert client.models.retrieve(model).id == model

    messages = [{"role": "user", "content": "say 3"}]
    whole = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=6)
    text = whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 6 and whole.choices[0].finish_reason in ("length", "stop"), whole

    chunks = list(
        client.chat.completions.create(
            model=model, messages=messages, temperature=0, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == text, (streamed, text)
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens, chunks[-1]

    plain = client.completions.create(model=model, prompt="say", max_tokens=3, temperature=0)
    assert plain.usage.completion_tokens <= 3, plain
    streamed = "".join(
        chunk.choices[0].text
        for chunk in client.completions.create(model=model, prompt="say", max_tokens=3, temperature=0, stream=True)
    )
    assert streamed == plain.choices[0].text, (streamed, plain)

    try:
        client.chat.completions.create(model="nobody", messages=messages)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("a model that is not there should be an error")
    several = client.chat.completions.create(
        model=model, messages=messages, n=2, temperature=1, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert len(several.choices) == 2, several
    for choice in several.choices:
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in choice.logprobs.content), choice

    echoed = client.completions.create(model=model, prompt="say", max_tokens=0, echo=True, logprobs=1)
    assert echoed.choices[0].text == "say" and echoed.choices[0].logprobs.token_logprobs[0] is None, echoed

    parsed = client.chat.completions.parse(
        model=model, messages=messages, response_format=Command, temperature=0, frequency_penalty=2, max_tokens=200
    )
    assert isinstance(parsed.choices[0].message.parsed, Command), parsed

    try:
        client.chat.completions.create(model=model, messages=messages, store=True)
    except openai.BadRequestError as error:
        assert error.body["param"] == "store", error
    else:
        raise AssertionError("what is not built should be refused")
    for model_with_tools in sys.argv[3:]:
        check_tools(client, model_with_tools)
    print(f"openai {openai.__version__}: all well")


if __name__ == "__main__":
    main()
