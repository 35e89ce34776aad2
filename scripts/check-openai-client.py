"""Talks to a studio with OpenAI's own Python client: check-openai-client.py http://localhost:10101 MODEL

Needs the package `openai`. Fails with a message where an answer is not what the client expects.
"""

import sys

import openai


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
    try:
        client.chat.completions.create(model=model, messages=messages, n=2)
    except openai.BadRequestError as error:
        assert error.body["param"] == "n", error
    else:
        raise AssertionError("two answers should be refused")
    print(f"openai {openai.__version__}: all well")


if __name__ == "__main__":
    main()
