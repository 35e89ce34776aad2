//! Every field of both requests: what is used changes what is asked, what is not built is refused by its name, and nothing of
//! the wrong type gets through.

use super::*;
use crate::openai::fields::{Field, Treatment, chat_fields, completion_fields};

fn chat(more: &Value) -> Result<Plan, OpenAiError> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    chat_plan(with(body, more).to_string().as_bytes())
}

fn completion(more: &Value) -> Result<Plan, OpenAiError> {
    completion_plan(with(json!({"model": "m", "prompt": "a"}), more).to_string().as_bytes())
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// All that a plan says, to see whether a field changed anything. The seed is drawn where none is given.
fn described(plan: Plan) -> String {
    let (asked, mut settings, api) = match plan.question {
        Question::Chat { messages, settings, api } => (json!(messages), settings, api),
        Question::Complete { prompt, settings, api } => (prompt, settings, api),
    };
    if settings["seed"] != json!(77) {
        settings.remove("seed");
    }
    format!(
        "{} {asked} {} {:?} {} {} {} {}",
        plan.model,
        json!(settings),
        api,
        plan.n_choices,
        plan.is_streamed,
        plan.has_usage,
        plan.has_logprobs
    )
}

/// A value of each used field that asks for something, and what else it needs beside it.
fn example(name: &str) -> (Value, Value) {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let nothing = json!({});
    match name {
        "model" => (json!("other"), nothing),
        "messages" => (json!([{"role": "user", "content": "b"}]), nothing),
        "prompt" => (json!(["b", "c"]), nothing),
        "n" => (json!(2), nothing),
        "logprobs" => (json!(1), nothing),
        "top_logprobs" => (json!(3), json!({"logprobs": true})),
        "max_tokens" | "max_completion_tokens" | "min_tokens" | "top_k" => (json!(5), nothing),
        "seed" => (json!(77), nothing),
        "stop" => (json!("x"), nothing),
        "stream" | "echo" => (json!(true), nothing),
        "add_special_tokens" => (json!(false), nothing),
        "stream_options" => (json!({"include_usage": true}), json!({"stream": true})),
        "logit_bias" => (json!({"5": -1}), nothing),
        "tools" => (json!([tool]), nothing),
        "tool_choice" => (json!("required"), json!({"tools": [tool]})),
        "parallel_tool_calls" => (json!(false), json!({"tools": [tool]})),
        "response_format" => (json!({"type": "json_object"}), nothing),
        "chat_template_kwargs" => (json!({"enable_thinking": false}), nothing),
        "reasoning_effort" => (json!("low"), nothing),
        // Numbers of sampling.
        _ => (json!(0.5), nothing),
    }
}

fn check_fields(
    fields: impl Iterator<Item = &'static Field>,
    plan: impl Fn(&Value) -> Result<Plan, OpenAiError>,
    is_chat: bool,
) {
    let mut n_fields = 0;
    for Field { name, treatment } in fields {
        n_fields += 1;
        let one = |value: &Value, more: &Value| plan(&with(more.clone(), &json!({*name: value})));
        match treatment {
            Treatment::Used => {
                let (mut value, more) = example(name);
                if *name == "logprobs" && is_chat {
                    value = json!(true);
                }
                let without = described(plan(&more).unwrap());
                let described_with = described(one(&value, &more).unwrap());
                assert_ne!(described_with, without, "{name} changes nothing");
                let mut n_refused = 0;
                for wrong in [json!([[3.5]]), json!({"a": {"b": 1}}), json!("hot?"), json!(-3.5), json!(true)]
                {
                    if let Err(error) = one(&wrong, &more) {
                        n_refused += 1;
                        assert_eq!(error.status, 400);
                        let param = error.param.as_deref().unwrap_or_default();
                        assert!(param.starts_with(name), "{name}: {error:?}");
                        assert!(error.message.contains(&format!("'{name}")), "{error:?}");
                        for serdes in ["expected", "invalid type", "untagged", "variant"] {
                            assert!(!error.message.contains(serdes), "{error:?}");
                        }
                    }
                }
                assert!(3 <= n_refused, "{name} takes {n_refused} of 5 wrong values");
                if !matches!(*name, "model" | "messages" | "prompt") {
                    assert_eq!(described(one(&Value::Null, &more).unwrap()), without, "{name} null");
                }
            }
            Treatment::Refused(neutral) => {
                let nothing = described(plan(&json!({})).unwrap());
                for text in neutral.iter().chain(&["null"]) {
                    let value: Value = serde_json::from_str(text).unwrap();
                    assert_eq!(described(one(&value, &json!({})).unwrap()), nothing, "{name}: {text}");
                }
                for value in [json!(["x"]), json!({"a": 1}), json!("other"), json!(7)] {
                    let error = one(&value, &json!({})).unwrap_err();
                    assert_eq!(
                        (error.status, error.param.as_deref(), error.code.as_str()),
                        (400, Some(*name), "unsupported_parameter")
                    );
                }
            }
            Treatment::Ignored => {
                let nothing = described(plan(&json!({})).unwrap());
                for value in [json!("x"), json!({"a": "b"}), json!(1), Value::Null] {
                    assert_eq!(described(one(&value, &json!({})).unwrap()), nothing, "{name}");
                }
            }
        }
    }
    assert!(40 < n_fields);
    let error = plan(&json!({"temprature": 1})).unwrap_err();
    assert_eq!(error.message, "Unrecognized request argument supplied: temprature");
    assert_eq!((error.status, error.param.as_deref()), (400, Some("temprature")));
}

#[test]
fn every_field_of_a_conversation_is_used_refused_or_no_concern_of_answers() {
    check_fields(chat_fields(), chat, true);
}

#[test]
fn every_field_of_a_completion_is_used_refused_or_no_concern_of_answers() {
    check_fields(completion_fields(), completion, false);
}

/// The fields of OpenAI's description of both requests in 2026.
#[test]
fn every_field_that_openai_describes_has_an_entry() {
    let of_chat = "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens \
        metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort \
        response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs \
        top_p user verbosity web_search_options";
    for name in of_chat.split_whitespace() {
        assert_eq!(chat_fields().filter(|field| field.name == name).count(), 1, "{name}");
    }
    let of_completion = "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop \
        stream stream_options suffix temperature top_p user";
    for name in of_completion.split_whitespace() {
        assert_eq!(completion_fields().filter(|field| field.name == name).count(), 1, "{name}");
    }
}

#[test]
fn the_documentation_names_every_field() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/studio.md");
    let page = std::fs::read_to_string(path).unwrap();
    for field in chat_fields().chain(completion_fields()) {
        assert!(page.contains(&format!("`{}`", field.name)), "docs/studio.md does not name `{}`", field.name);
    }
}

#[test]
fn settings_get_their_names_here() {
    let plan = chat(&json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        "temperature": 0.5, "min_p": 0.1, "top_k": -1, "repetition_penalty": 1.5, "min_tokens": 2, "max_completion_tokens": 4,
        "stop": "x", "seed": 7, "stream": true, "user": "u"}))
    .unwrap();
    assert!(plan.is_streamed && !plan.has_usage && !plan.has_logprobs);
    let Question::Chat { messages, settings, api } = plan.question else { panic!("a conversation") };
    assert_eq!(messages[0]["content"], "ab");
    let expected = json!({"temperature": 0.5, "top_k": 0, "min_p": 0.1, "repetition_penalty": 1.5, "min_length_inference": 2,
        "seed": 7, "stop": ["x"], "max_length_inference": 4});
    assert_eq!((json!(settings), json!(api)), (expected, json!({"n": 1})));
}

#[test]
fn who_says_how_to_draw_gets_draws() {
    let do_sample = |more: &Value| match chat(more).unwrap().question {
        Question::Chat { settings, .. } => settings.get("do_sample").cloned(),
        Question::Complete { .. } => None,
    };
    assert_eq!(do_sample(&json!({})), None);
    assert_eq!(do_sample(&json!({"top_p": 0.9})), Some(json!(true)));
    assert_eq!(do_sample(&json!({"n": 3})), Some(json!(true)));
    assert_eq!(do_sample(&json!({"n": 3, "temperature": 0})), None);
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    for (more, param) in [
        (json!({"temperature": 3}), "temperature"),
        (json!({"min_p": -1}), "min_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": 3, "max_completion_tokens": 4}), "max_tokens"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias"),
        (json!({"logit_bias": {"1": "2"}}), "logit_bias.1"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"stream": true, "stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
        (json!({"stream": true, "stream_options": {"other": true}}), "stream_options.other"),
        (json!({"stop": ["a", 1]}), "stop"),
        (json!({"response_format": {"type": "grammar"}}), "response_format.type"),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            "response_format.json_schema.schema",
        ),
        (json!({"response_format": {"type": "json_object"}, "tools": [tool]}), "response_format"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "tools[0].function.name"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]}),
            "tools[0].function.parameters",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": "maybe", "tools": [tool]}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [tool]}),
            "tool_choice",
        ),
        (json!({"tool_choice": {"type": "custom"}, "tools": [tool]}), "tool_choice"),
        (json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs.messages"),
    ] {
        let error = chat(&more).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{more}: {error:?}");
    }
    for (more, param) in [
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", 1]}), "prompt"),
        (json!({"prompt": [-1]}), "prompt"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"suffix": "b"}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
    ] {
        let error = completion(&more).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{more}: {error:?}");
    }
    let error = chat(&json!({"temperature": "hot"})).unwrap_err();
    assert_eq!(error.message, "'temperature' must be a number, is a string");
    for (body, param) in [
        (json!({"model": "m"}), Some("messages")),
        (json!({"messages": []}), Some("messages")),
        (json!([]), None),
    ] {
        assert_eq!(chat_plan(body.to_string().as_bytes()).unwrap_err().param.as_deref(), param);
    }
    let no_model = json!({"messages": [{"role": "user", "content": "a"}]}).to_string();
    assert_eq!(chat_plan(no_model.as_bytes()).unwrap_err().param.as_deref(), Some("model"));
    let error = chat_plan(b"{").unwrap_err();
    assert_eq!(error.message, "the body of the request is not valid JSON (line 1, column 1)");
}

#[test]
fn tools_and_forms_reach_the_model() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": null, "parameters": {"type": "object"}}});
    let api = |more: &Value| match chat(more).unwrap().question {
        Question::Chat { api, .. } => json!(api),
        Question::Complete { .. } => Value::Null,
    };
    let tools = json!([tool("f"), tool("g")]);
    let asked = api(&json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "g"}}}));
    assert_eq!(asked["tool_choice"], json!({"function": "g"}));
    assert_eq!(
        asked["tools"][0],
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})
    );
    assert_eq!(api(&json!({"tools": tools}))["tool_choice"], "auto");
    let none = api(&json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(none.get("tools"), None);
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "array"}}});
    assert_eq!(api(&json!({"response_format": format}))["json_schema"], json!({"type": "array"}));
    assert_eq!(
        api(&json!({"response_format": {"type": "json_object"}}))["json_schema"],
        json!({"type": "object"})
    );
    assert_eq!(api(&json!({"response_format": {"type": "text"}})), json!({"n": 1}));
}
