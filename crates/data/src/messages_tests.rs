//! Tests of `messages.rs`.

use serde_json::json;

use super::*;

fn read(list: Json) -> (Vec<Message>, Vec<String>) {
    let mut unused = UnusedKeys::default();
    let messages = messages_of(&Cell::Json(list), &mut unused).unwrap();
    (messages, unused.notes())
}

#[test]
fn lists_in_text_cells_are_read() {
    let text = r#"[{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]"#;
    assert_eq!(messages_of(&Cell::Text(text.to_owned()), &mut UnusedKeys::default()).unwrap().len(), 2);
    assert_eq!(message_list(&Cell::Text(text.to_owned())).unwrap().len(), 2);
    assert_eq!(message_list(&Cell::Json(json!({"from": "gpt", "value": "a"}))).unwrap().len(), 1);
    assert!(message_list(&Cell::Text("[1, 2]".to_owned())).is_none());
    assert!(message_list(&Cell::Text("[sic]".to_owned())).is_none());
}

#[test]
fn what_is_no_message_is_explained() {
    let reason = |list: Json| messages_of(&Cell::Json(list), &mut UnusedKeys::default()).unwrap_err();
    assert!(
        reason(json!([{"role": "narrator", "content": "x"}])).contains("message 1: the role \"narrator\"")
    );
    assert!(reason(json!([{"role": "user", "content": null}])).contains("no content"));
    assert!(reason(json!([{"content": "x"}])).contains("no role"));
    assert!(reason(json!(["x"])).contains("expected an object"));
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]);
    assert!(reason(image).contains("\"image_url\"; only text"));
    let call = json!([{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]);
    assert!(reason(call).contains("without a name"));
    assert!(reason(json!([{"from": "function_call", "value": "call it"}])).contains("no JSON"));
    assert!(reason(json!([{"role": "assistant", "content": "x", "weight": "low"}])).contains("weight is"));
    let text = messages_of(&Cell::Text("hello".to_owned()), &mut UnusedKeys::default()).unwrap_err();
    assert!(text.contains("no such list"));
    assert!(messages_of(&Cell::Missing, &mut UnusedKeys::default()).unwrap_err().contains("missing"));
}

/// Every key with a known meaning leaves a trace: in the message, or in a note.
#[test]
fn no_known_key_passes_silently() {
    for (key, key_use) in MESSAGE_KEYS {
        let value = match *key {
            "role" | "from" | "content" | "value" => continue,
            "weight" => json!(0),
            "train" | "training" | "loss" => json!(false),
            "function_call" | "tool_calls" => json!([{"name": "f", "arguments": {}}]),
            _ => json!("x"),
        };
        let mut entry = json!({"role": "assistant", "content": "a"});
        entry[*key] = value;
        let (messages, notes) = read(json!([entry]));
        let message = &messages[0];
        match key_use {
            KeyUse::Read => assert!(!message.is_plain(), "{key}"),
            KeyUse::Template(name) => assert!(message.keys.contains_key(*name), "{key}"),
            KeyUse::Noted => assert!(notes.len() == 1 && notes[0].contains(key), "{key}: {notes:?}"),
        }
        // Nulls, with which tables fill gaps, mean nothing.
        let mut entry = json!({"role": "assistant", "content": "a"});
        entry[*key] = Json::Null;
        let (messages, notes) = read(json!([entry]));
        assert!(messages[0].is_plain() && notes.is_empty(), "{key}");
    }
}

#[test]
fn unknown_keys_go_to_the_template_and_lists_of_messages_are_noted() {
    let list = json!([{"role": "user", "content": "a", "mood": "calm", "aside": [{"role": "user", "content": "?"}]}]);
    let (messages, notes) = read(list);
    assert_eq!(messages[0].keys["mood"], "calm");
    assert!(notes.len() == 1 && notes[0].contains("aside"), "{notes:?}");
}

#[test]
fn thoughts_have_one_name() {
    let (messages, _) = read(json!([
        {"role": "assistant", "content": "a", "thinking": "t"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]},
    ]));
    for message in messages {
        assert_eq!((message.text().as_str(), &message.keys[THOUGHT]), ("a", &json!("t")));
    }
}

#[test]
fn calls_and_tools_have_one_form() {
    let form = json!([{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]);
    let calls = |message: Json| read(json!([message])).0[0].keys["tool_calls"].clone();
    assert_eq!(
        calls(json!({"from": "function_call", "value": r#"{"name": "f", "arguments": {"a": 1}}"#})),
        form
    );
    assert_eq!(
        calls(json!({"role": "assistant", "function_call": {"name": "f", "arguments": r#"{"a":1}"#}})),
        form
    );
    assert_eq!(calls(json!({"role": "assistant", "tool_calls": form.clone()})), form);
    assert_eq!(
        calls(json!({"role": "assistant", "tool_calls": [{"name": "f", "parameters": {"a": 1}}]})),
        form
    );

    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let bare = json!([{"name": "f", "parameters": {}}]);
    for cell in [
        Cell::Json(tools.clone()),
        Cell::Json(bare.clone()),
        Cell::Text(bare.to_string()),
        Cell::Json(json!([bare[0].to_string()])),
    ] {
        assert_eq!(tools_of(&cell).unwrap().unwrap(), tools);
    }
    for nothing in [Cell::Missing, Cell::Text(" ".into()), Cell::Json(json!([]))] {
        assert_eq!(tools_of(&nothing).unwrap(), None);
    }
    assert!(tools_of(&Cell::Text("get_time".into())).unwrap_err().contains("no JSON"));
}

#[test]
fn what_tools_give_back_may_be_any_json() {
    let (messages, _) =
        read(json!([{"role": "tool", "content": {"t": 1}}, {"from": "observation", "value": "x"}]));
    assert_eq!(messages[0].content, json!({"t": 1}));
    assert_eq!((messages[1].role, messages[1].text().as_str()), (Role::Tool, "x"));
}
