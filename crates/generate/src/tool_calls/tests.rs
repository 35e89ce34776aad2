//! The forms of templates, and that the grammar of a form makes what its parser reads.

use std::path::Path;

use super::*;
use crate::grammar::GrammarFactory;

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/bpe-smollm");
    Tokenizer::from_folder(&folder).unwrap()
}

fn found(source: &str) -> Result<ToolFormat, ToolProblem> {
    ToolFormat::from_template(&ChatTemplate::new(source.to_owned()), &tokenizer())
}

/// The essence of the templates of Llama 3.1 and 3.2.
const LLAMA: &str = r#"{%- for message in messages %}
{%- if 'tool_calls' in message %}
{%- if not message.tool_calls|length == 1 %}{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}
{%- set tool_call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{{- '{"name": "' + tool_call.name + '", ' }}
{{- '"parameters": ' }}
{{- tool_call.arguments | tojson }}
{{- "}" }}
{{- "<|eot_id|>" }}
{%- elif message.role == 'user' and tools %}
{{- '<|start_header_id|>user<|end_header_id|>\n\n' }}
{{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\n\n" }}{%- endfor %}
{{- message['content'] | trim + "<|eot_id|>"}}
{%- else %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}"#;

/// The essence of those of Mistral 7B Instruct v0.3, which insists on ids of nine characters.
const MISTRAL_LIST: &str = r#"{{- bos_token }}{%- for message in messages %}
{%- if message["role"] == "user" %}
{%- if tools is not none %}{{- "[AVAILABLE_TOOLS] [" }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- "][/AVAILABLE_TOOLS]" }}{%- endif %}
{{- "[INST] " + message["content"] + "[/INST]" }}
{%- elif message.tool_calls is defined and message.tool_calls is not none %}
{{- "[TOOL_CALLS] [" }}
{%- for tool_call in message.tool_calls %}
{%- set out = tool_call.function|tojson %}{{- out[:-1] }}
{%- if not tool_call.id is defined or tool_call.id|length != 9 %}{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
{{- ', "id": "' + tool_call.id + '"}' }}
{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
{%- endfor %}
{%- endif %}{%- endfor %}"#;

const MISTRAL_ARGS_TEMPLATE: &str = r#"{%- for message in messages %}
{%- if message["role"] == "user" %}{%- if tools %}{{- "[AVAILABLE_TOOLS]" + (tools|tojson) + "[/AVAILABLE_TOOLS]" }}{%- endif %}{{- "[INST]" + message["content"] + "[/INST]" }}
{%- elif message.tool_calls %}{%- for c in message.tool_calls %}{{- "[TOOL_CALLS]" + c.function.name + "[ARGS]" + (c.function.arguments|tojson) }}{%- endfor %}
{%- endif %}{%- endfor %}"#;

/// Qwen 2.5 and 3, Hermes.
const HERMES: &str = r#"{%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}{%- if message.content %}{{- message.content }}{%- endif %}
{%- for tool_call in message.tool_calls or [] %}{{- '\n<tool_call>\n{"name": "' + tool_call.function.name + '", "arguments": ' + (tool_call.function.arguments | tojson) + '}\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\n' }}{%- endfor %}"#;

#[test]
fn the_template_shows_the_form() {
    assert_eq!(found(HERMES), Ok(ToolFormat::Hermes));
    assert_eq!(found(LLAMA), Ok(ToolFormat::Llama));
    assert_eq!(found(MISTRAL_LIST), Ok(ToolFormat::MistralList));
    assert_eq!(found(MISTRAL_ARGS_TEMPLATE), Ok(ToolFormat::MistralArgs));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/templates/qwen-tools.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    assert_eq!(found(golden["template"].as_str().unwrap()), Ok(ToolFormat::Hermes));
}

#[test]
fn templates_without_tools_or_of_unknown_forms_are_told() {
    let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    assert_eq!(found(plain), Err(ToolProblem::NoTools));
    let silent = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    assert_eq!(found(silent), Err(ToolProblem::UnknownFormat));
    let coder = HERMES.replace(
        r#"{"name": "' + tool_call.function.name + '", "arguments": '"#,
        "<function=' + tool_call.function.name + '>'",
    );
    assert_eq!(found(&coder), Err(ToolProblem::UnknownFormat));
    let strict = "{% if tools %}{{ raise_exception('no tools here') }}{% endif %}";
    assert!(matches!(found(strict), Err(ToolProblem::Refused(reason)) if reason.contains("no tools here")));
}

#[test]
fn ids_are_what_templates_take() {
    assert_eq!(ToolFormat::MistralList.call_id([0xab; 12]), "ababababa");
    assert_eq!(ToolFormat::Hermes.call_id([1; 12]), "call_010101010101010101010101");
}

/// Follows the grammar by choosing among the allowed tokens at random, as a model that knows nothing would.
fn random_answer(grammar: &Grammar, tokenizer: &Tokenizer, seed: u64) -> String {
    let mut matcher = GrammarFactory::new(tokenizer).unwrap().matcher(grammar).unwrap();
    let (eos, mut state, mut ids) = (tokenizer.eos_id(), seed, Vec::new());
    for _ in 0..600 {
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        matcher.restrict(&mut logits, &[eos]).unwrap();
        let allowed: Vec<u32> = (0..).zip(&logits).filter(|(_, l)| l.is_finite()).map(|(id, _)| id).collect();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The end is taken as soon as it may be: several calls would otherwise go on for long.
        let id = if allowed.contains(&eos) { eos } else { allowed[(state >> 33) as usize % allowed.len()] };
        if id == eos {
            return tokenizer.decode(&ids, false).unwrap();
        }
        matcher.consume(id).unwrap();
        ids.push(id);
    }
    panic!("no end: {}", tokenizer.decode(&ids, false).unwrap());
}

#[test]
fn what_a_grammar_allows_is_read_as_calls_with_valid_arguments() {
    let tokenizer = tokenizer();
    let schema = json!({"type": "object", "required": ["city", "days"], "additionalProperties": false, "properties": {
        "city": {"enum": ["Paris", "Rome"]}, "days": {"$ref": "#/$defs/days"}, "note": {"type": "string", "maxLength": 6}},
        "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 14}}});
    let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let tools = [
        Tool { name: "weather".to_owned(), parameters: schema },
        Tool { name: "time-now".to_owned(), parameters: none },
    ];
    for format in [ToolFormat::Hermes, ToolFormat::Llama, ToolFormat::MistralList, ToolFormat::MistralArgs] {
        for seed in 0..12 {
            let is_parallel = seed % 2 == 0;
            let grammar = format.grammar(&tools, is_parallel, false, &tokenizer);
            let text = random_answer(&grammar, &tokenizer, seed);
            let mut splitter = crate::reply::ReplySplitter::new(false, Some(format));
            let mut parts = splitter.push(&text);
            parts.extend(splitter.finish());
            assert!(!parts.is_empty() && (is_parallel || parts.len() == 1), "{format:?}: {text}");
            for part in parts {
                let crate::reply::ReplyPart::Call(call) = part else {
                    panic!("{format:?}: {text}: {part:?}")
                };
                let arguments: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap();
                match call.name.as_str() {
                    "weather" => {
                        assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()), "{text}");
                        assert!((1..=14).contains(&arguments["days"].as_i64().unwrap()), "{text}");
                    }
                    "time-now" => assert!(arguments.is_empty(), "{text}"),
                    other => panic!("{other}"),
                }
            }
        }
    }
}

#[test]
fn a_grammar_behind_its_opening_leaves_that_out() {
    let tokenizer = tokenizer();
    let tools = [Tool {
        name: "f".to_owned(),
        parameters: json!({"type": "object", "properties": {}, "additionalProperties": false}),
    }];
    let grammar = ToolFormat::Hermes.grammar(&tools, true, true, &tokenizer);
    let text = random_answer(&grammar, &tokenizer, 3);
    assert!(text.starts_with("\n{\"name\": \"f\", \"arguments\": {"), "{text}");
    assert!(text.trim_end().ends_with("</tool_call>"), "{text}");
    // The tags are no tokens of this vocabulary, so nothing could begin the grammar exactly behind one.
    assert_eq!(ToolFormat::Hermes.opening(&tokenizer), None);
    assert_eq!(ToolFormat::Llama.opening(&tokenizer), None);
}
