#!/usr/bin/env python3
"""Write chat templates in the styles found on model hubs, with the text (or the error) each must render.

Run: python tests/golden/make_templates.py   (needs transformers and tokenizers)

Every case is rendered by transformers' apply_chat_template. A case may also hold "tools" and "kwargs", further
variables of the template, and "now", the time that strftime_now must see.
"""
import datetime
import json
import shutil

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from common import HERE

OUT = HERE / "templates"
NOW = datetime.datetime(2024, 3, 9, 7, 5, 4)

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou answer briefly.<|im_end|>\\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set rest = messages %}\
{% set system_message = false %}{% endif %}{% for message in rest %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Roles must take turns: user, assistant, user, ...') }}{% endif %}\
{% if loop.index0 == 0 and system_message != false %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}\
{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}\
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}\
{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message, if any, is taken out first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim \
+ '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, user and assistant must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant messages are known, not " + message["role"]) }}
    {%- endif %}
{%- endfor %}
{{- "(" ~ user_messages|length ~ " of " ~ ns.index ~ ")" }}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

PHI3 = """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}\
{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}\
{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}\
{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('This model has no system role') }}{% endif %}{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Turns must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}\
{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

DANUBE = """{% for message in messages %}{% if message['role'] == 'user' %}\
{{ '<|prompt|>' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}\
{{ raise_exception('No system messages here') }}{% elif message['role'] == 'assistant' %}\
{{ '<|answer|>'  + message['content'] + eos_token }}{% endif %}\
{% if loop.last and add_generation_prompt %}{{ '<|answer|>' }}{% endif %}{% endfor %}"""

QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_user=messages|length - 1, open=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.open and message.role == "user" and message.content is string and \
not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.open = false %}
        {%- set ns.last_user = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_user and (loop.last or thoughts) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' \
+ content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if call.function %}
                    {%- set call = call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- call.name }}
                {{- '", "arguments": ' }}
                {%- if call.arguments is string %}
                    {{- call.arguments }}
                {%- else %}
                    {{- call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

FEATURES = """{%- macro turn(role, content, mark='#') -%}
    {{ mark }}{{ role | upper }}: {{ content }}{{ '\\n' }}
{%- endmacro -%}
{%- macro text_of(content) -%}
    {%- if content is string -%}
        {{- content | trim -}}
    {%- elif content is iterable and content is not mapping -%}
        {%- for part in content if part.type == 'text' -%}{{- part.text -}}{%- else -%}nothing{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{{ messages | length }} messages, roles {{ messages | map(attribute='role') | join('/') }}
{% for message in messages %}
{{- turn(message.role, text_of(message.content), mark='*' if loop.last else '#') }}
    {%- if message.name is defined %}
{{ message['name'] | default('nobody') ~ '!' }}
    {%- endif %}
{{ loop.index }}/{{ loop.length }} left {{ loop.revindex0 }}{{ ',' if not loop.last }}
{% endfor %}
{% set first = messages[0].content %}
{% if first is string and first.startswith(' Hi') %}{{ first.strip().split(' ') | tojson }}{% endif %}

{{ messages[-1].get('name', 'anonymous') }} {{ messages[-1]['missing'] is defined }} {{ style | default('plain') }}
{{ {'b': [1, 2.5, true, none], 'a': '"é" <b> & \\\\'} | tojson }}
{{ {'x': 1} | tojson(indent=2) }}
{% for k, v in {'k1': 'v1', 'k2': 'v2'}.items() %}{{ k }}={{ v }};{% endfor %}
{{ 7 // 2 }} {{ 7 % 3 }} {{ 2 * 3 - 1 }} {{ 'ab' * 2 }} {{ 'b' in 'abc' }} {{ 'role' in messages[0] }}
{{ (messages | selectattr('role', 'equalto', 'user') | list | length) == 1 and not false }}
{{ 'a-b-c'.replace('-', '+') }} {{ 'Title case'.title() }} {{ 'ab'.upper() }} {{ 'x,y'.split(',')[1] }} {{ 'abc'[1:] }}
{{ messages[1:] | length }} {{ (messages | first).role }} {{ (messages | last).role }} {{ range(3) | list | join }}
{{ '  both '.strip() }}|{{ '..dots..'.lstrip('.') }}|{{ 'abc' | replace('b', 'd') }}|{{ 'x' | string + 'y' }}
{%- set ns = namespace(seen=false, count=0) %}
{%- for m in messages %}{% set ns.count = ns.count + 1 %}{% if m.role == 'user' %}{% set ns.seen = true %}{% endif %}\
{% endfor %}
seen {{ ns.seen }} {{ ns.count }}{# a comment #}
"""

GENERATION = """{% for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SPACES = """{# comment lines vanish #}
  {% for m in messages %}
    {% if m.role == "user" %}
  U {{ m.content }}
    {%- elif m.role == "assistant" -%}
  A {{ m.content }}
    {% else %}
{{- m.content -}}
    {% endif %}
    tail	{%+ if true %}kept{% endif +%}
  {% endfor %}
  {%- if add_generation_prompt %}  A: {% endif %}


"""

LOOPS = """{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}\
{% if loop.index0 > 3 %}{% break %}{% endif %}[{{ m.role }}] {{ m.content }} {{ loop.cycle('odd', 'even') }}
{% endfor %}"""

USER, ASSISTANT, SYSTEM = ({"role": r} for r in ("user", "assistant", "system"))
ASK = [{**USER, "content": "What is 2+2?"}]
SPACED = [{**USER, "content": "  Hi there!\n"}, {**ASSISTANT, "content": " Hello. \n"},
          {**USER, "content": "Bye <b>\"é\"</b> 😀"}]
FULL = [{**SYSTEM, "content": " Be kind. "}, *SPACED]
WRONG = [{**USER, "content": "a"}, {**USER, "content": "b"}]
ANSWERED = [*ASK, {**ASSISTANT, "content": "4"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather in a place (°C)",
                                           "parameters": CITY}}]
CALLS = [{**SYSTEM, "content": "Use tools."}, {**USER, "content": "Weather in Zürich and Rome?"},
         {**ASSISTANT, "content": "<think>\nTwo calls.\n</think>\n\nLet me look.", "tool_calls": [
             {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}},
             {"type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]},
         {"role": "tool", "content": "12"}, {"role": "tool", "content": "20"},
         {**ASSISTANT, "content": "<think>\nGood.\n</think>\n\n12 and 20."}]
PARTS = [{**USER, "content": " Hi you", "name": "Ann"},
         {**ASSISTANT, "content": [{"type": "text", "text": "one "}, {"type": "image"},
                                   {"type": "text", "text": "two"}]},
         {**ASSISTANT, "content": []}]


def cases():
    """Name, template, messages, whether the answer is to be begun, and whatever differs from the usual."""
    im = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    yield "chatml-default-system", CHATML, ASK, True, im
    yield "chatml-full", CHATML, FULL, False, im
    yield "llama2", LLAMA2, SPACED, True, {}
    yield "llama2-system", LLAMA2, FULL, False, {}
    yield "llama2-wrong-order", LLAMA2, WRONG, False, {}
    yield "llama3-now", LLAMA3, FULL, True, {"now": NOW.isoformat()}
    yield "llama3-date", LLAMA3, ANSWERED, False, {"kwargs": {"date_string": "1 Jan 2020"}}
    yield "mistral", MISTRAL, SPACED, True, {}
    yield "mistral-system", MISTRAL, FULL, False, {}
    yield "mistral-wrong-order", MISTRAL, WRONG, False, {}
    judged = [*ANSWERED, {**USER, "content": "x"}, {"role": "judge", "content": "y"}]
    yield "mistral-wrong-role", MISTRAL, judged, False, {}
    yield "zephyr", ZEPHYR, FULL, True, {}
    yield "zephyr-answered", ZEPHYR, ANSWERED, False, {}
    yield "phi3", PHI3, FULL, True, {"bos_token": None, "eos_token": "<|endoftext|>"}
    yield "phi3-answered", PHI3, [{**SYSTEM, "content": ""}, *ANSWERED], False, {"eos_token": "<|endoftext|>"}
    yield "gemma", GEMMA, SPACED, True, {"bos_token": "<bos>", "eos_token": "<eos>"}
    yield "gemma-system", GEMMA, FULL, True, {"bos_token": "<bos>", "eos_token": "<eos>"}
    yield "danube", DANUBE, SPACED, True, {}
    yield "danube-system", DANUBE, FULL, True, {}
    yield "qwen-tools", QWEN_TOOLS, CALLS, False, {**im, "tools": TOOLS}
    yield "qwen-no-tools", QWEN_TOOLS, CALLS[:2], True, {**im, "kwargs": {"enable_thinking": False}}
    yield "qwen-plain", QWEN_TOOLS, FULL, True, im
    yield "features", FEATURES, PARTS, False, {}
    yield "features-styled", FEATURES, FULL, False, {"kwargs": {"style": "loud"}}
    yield "generation", GENERATION, [*SPACED, {**ASSISTANT, "content": "4"}], False, im
    yield "generation-prompt", GENERATION, SPACED, True, im
    yield "spaces", SPACES, FULL, True, {}
    yield "loops", LOOPS, [*FULL, *FULL], False, {}
    yield "no-bos", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}", ASK, True, {"bos_token": None}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(case):
    tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=case["bos_token"],
                                  eos_token=case["eos_token"])
    try:
        return {"rendered": tok.apply_chat_template(
            case["messages"], tools=case.get("tools"), chat_template=case["template"], tokenize=False,
            add_generation_prompt=case["add_generation_prompt"], **case.get("kwargs", {}))}
    except jinja2.TemplateError as e:
        return {"error": str(e)}


def main():
    chat_template_utils.datetime = FixedTime
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for name, template, messages, prompt, more in cases():
        case = {"name": name, "template": template, "messages": messages, "add_generation_prompt": prompt,
                "bos_token": "<s>", "eos_token": "</s>", **more}
        case.update(render(case))
        (OUT / f"{name}.json").write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        assert ("error" in case) == ("wrong" in name or name in ("gemma-system", "danube-system")), case


if __name__ == "__main__":
    main()
