//! Rows in the manner of the data sets people have: what becomes of them.

use serde_json::json;
use tunesmith_config::ExperimentConfig;

use super::*;
use crate::layouts::lay_out;
use crate::table::read_table;

/// Reads lines of JSON with changed settings: the conversations and the notes.
fn read(
    lines: &[Json],
    changes: &[(&str, &str)],
) -> std::result::Result<(Vec<Conversation>, Vec<String>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let mut config = ExperimentConfig::default();
    for (key, value) in changes {
        config.set(key, value).unwrap();
    }
    let table = read_table(&path, None).unwrap();
    let laid_out = lay_out(&table, &config, Purpose::Train).map_err(|error| error.to_string())?;
    let conversations = laid_out.conversations(&laid_out.all(), false).map_err(|error| error.to_string())?;
    Ok((conversations, laid_out.notes))
}

fn user(text: &str) -> Json {
    json!({"role": "user", "content": text})
}

fn answer(text: &str) -> Json {
    json!({"role": "assistant", "content": text})
}

/// System, prompt and answer of each round.
fn texts(conversation: &Conversation) -> Vec<[&str; 3]> {
    conversation.rounds.iter().map(|r| [r.system.as_str(), &r.prompt, &r.answer]).collect()
}

const DPO: &[(&str, &str)] = &[("problem_type", "text_dpo_modeling"), ("training.loss_function", "DPOLoss")];
const KTO: &[(&str, &str)] = &[("problem_type", "text_dpo_modeling"), ("training.loss_function", "KTOLoss")];

fn rejected(conversation: &Conversation) -> &str {
    match conversation.target() {
        Target::Preference { rejected_answer, .. } => rejected_answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn prompt_and_completion_as_texts_and_as_lists() {
    let rows = [
        json!({"prompt": [user("say one")], "completion": [answer("one")]}),
        json!({"prompt": "say two", "completion": "two"}),
        json!({"prompt": [user("a"), answer("b"), user("c")], "completion": [answer("d")]}),
    ];
    // Found by the names, and named by the settings.
    let named = [("dataset.prompt_column", "prompt"), ("dataset.answer_column", "completion")];
    for changes in [&[][..], &named[..]] {
        let (found, notes) = read(&rows, changes).unwrap();
        assert_eq!(texts(&found[0]), [["", "say one", "one"]]);
        assert_eq!(texts(&found[1]), [["", "say two", "two"]]);
        assert_eq!(texts(&found[2]), [["", "a", "b"], ["", "c", "d"]]);
        // What stands in the prompt is not learned.
        let learned: Vec<bool> = found[2].rounds.iter().map(|round| round.is_learned()).collect();
        assert_eq!(learned, [false, true]);
        assert!(notes[0].contains("columns prompt, completion"), "{notes:?}");
    }
}

#[test]
fn preferences_as_lists_of_messages() {
    let with_prompt =
        json!({"prompt": [user("say one")], "chosen": [answer("one")], "rejected": [answer("won")]});
    let whole = json!({
        "prompt": "say one", "chosen": [user("say one"), answer("one")], "rejected": [user("say one"), answer("won")]
    });
    let implicit =
        json!({"chosen": [user("say one"), answer("one")], "rejected": [user("say one"), answer("won")]});
    let named = json!({
        "chosen_messages": [user("say one"), answer("one")], "rejected_messages": [user("say one"), answer("won")]
    });
    let sharegpt = json!({
        "conversations": [{"from": "human", "value": "say one"}],
        "chosen": {"from": "gpt", "value": "one"},
        "rejected": {"from": "gpt", "value": "won"},
    });
    let hh = json!({
        "chosen": "\n\nHuman: say one\n\nAssistant: one", "rejected": "\n\nHuman: say one\n\nAssistant: won"
    });
    for row in [with_prompt, whole, implicit, named, sharegpt, hh] {
        let (found, _) = read(std::slice::from_ref(&row), DPO).unwrap();
        assert_eq!(texts(&found[0]), [["", "say one", "one"]], "{row}");
        assert_eq!(rejected(&found[0]), "won", "{row}");
        let other = found[0].contrast().unwrap();
        assert_eq!(texts(&other), [["", "say one", "won"]], "{row}");
    }
}

#[test]
fn answers_that_follow_different_conversations_are_left_out_and_named() {
    let good = json!({"chosen": [user("p"), answer("a")], "rejected": [user("p"), answer("b")]});
    let bad = json!({
        "chosen": [user("p"), answer("x"), user("q"), answer("a")], "rejected": [user("p"), answer("y"), user("q"), answer("b")]
    });
    let (found, notes) = read(&[good, bad.clone()], DPO).unwrap();
    assert_eq!(found.len(), 1);
    assert!(notes.iter().any(|note| note.contains("1 of 2 row was left out: line 2")), "{notes:?}");
    assert!(read(&[bad], DPO).unwrap_err().contains("do not follow the same conversation"));
}

#[test]
fn preferred_calls_of_tools_keep_their_keys() {
    let call = |name: &str| json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": name, "arguments": "{}"}}]});
    let row = json!({"prompt": [user("p")], "chosen": [call("f")], "rejected": [call("g")]});
    let (found, _) = read(&[row], DPO).unwrap();
    let names = |conversation: &Conversation| {
        conversation.rounds[0].answer_message()["tool_calls"][0]["function"]["name"].clone()
    };
    assert_eq!(names(&found[0]), "f");
    let other = found[0].contrast().unwrap();
    assert_eq!((names(&other), &other.rounds[0].answer_message()["content"]), (json!("g"), &Json::Null));
}

#[test]
fn judged_answers_as_messages_or_completions() {
    let rows = [
        json!({"messages": [user("p"), answer("a")], "label": true}),
        json!({"messages": [user("q"), answer("b")], "label": false}),
    ];
    let judged = |found: &[Conversation]| -> Vec<bool> {
        let is_good = |c: &Conversation| matches!(c.target(), Target::Judged { is_good: true, .. });
        found.iter().map(is_good).collect()
    };
    let (found, _) = read(&rows, KTO).unwrap();
    assert_eq!((judged(&found), texts(&found[1])), (vec![true, false], vec![["", "q", "b"]]));
    let rows = [
        json!({"prompt": "p", "completion": "a", "label": true}),
        json!({"prompt": "q", "completion": "b", "label": false}),
    ];
    let (found, _) = read(&rows, KTO).unwrap();
    assert_eq!((judged(&found), texts(&found[1])), (vec![true, false], vec![["", "q", "b"]]));
}

#[test]
fn system_and_tools_beside_the_messages_are_used() {
    let tools = json!([{"name": "f", "description": "d", "parameters": {}}]);
    let turns = json!([{"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}]);
    let row = json!({
        "system": "Be terse.", "tools": tools.to_string(), "conversations": turns, "images": ["x.png"],
        "chat_template_kwargs": {"enable_thinking": false},
    });
    let (found, notes) = read(std::slice::from_ref(&row), &[]).unwrap();
    assert_eq!(texts(&found[0]), [["Be terse.", "p", "a"]]);
    assert_eq!(found[0].variables["tools"][0]["function"]["name"], "f");
    assert_eq!(found[0].variables["enable_thinking"], json!(false));
    assert!(notes.iter().any(|note| note.contains("the column images is not used")), "{notes:?}");
    let (found, notes) = read(&[row], &[("dataset.system_column", "None")]).unwrap();
    assert_eq!(texts(&found[0]), [["", "p", "a"]]);
    assert!(notes.iter().any(|note| note.contains("the column system is not used")), "{notes:?}");
}

#[test]
fn alpaca_with_history_is_a_conversation() {
    let row = json!({
        "instruction": "c", "input": "", "output": "d", "system": "s", "history": [["a", "b"]]
    });
    let (found, notes) = read(&[row], &[]).unwrap();
    assert_eq!(texts(&found[0]), [["s", "a", "b"], ["", "c", "d"]]);
    assert!(found[0].rounds.iter().all(|round| round.is_learned()));
    assert!(notes[0].contains("alpaca"), "{notes:?}");
}

#[test]
fn empty_inputs_leave_no_trace() {
    let rows = [
        json!({"instruction": "Count.", "input": "", "output": "1"}),
        json!({"instruction": "Count.", "input": "to 2", "output": "1 2"}),
    ];
    let (found, _) = read(&rows, &[]).unwrap();
    let prompts: Vec<&str> = found.iter().map(|c| c.rounds[0].prompt.as_str()).collect();
    assert_eq!(prompts, ["Count.", "Count.\n\nto 2"]);
}

#[test]
fn json_that_is_no_list_of_messages_is_refused_by_name() {
    let rows = [json!({"instruction": "p", "input": "", "output": {"a": 1}})];
    let reason = read(&rows, &[]).unwrap_err();
    assert!(reason.contains("column output holds JSON that is no list of messages"), "{reason}");
    let changes = [
        ("problem_type", "text_causal_classification_modeling"),
        ("dataset.prompt_column", "text"),
        ("dataset.answer_column", "label"),
    ];
    let reason = read(&[json!({"text": [user("p")], "label": 1})], &changes).unwrap_err();
    assert!(reason.contains("column text holds a list"), "{reason}");
}

#[test]
fn unused_lists_of_messages_are_noted() {
    let row = json!({"instruction": "p", "input": "", "output": "a", "other": [user("x"), answer("y")]});
    let (_, notes) = read(&[row], &[]).unwrap();
    assert!(notes.iter().any(|note| note.contains("column other holds lists of messages")), "{notes:?}");
}

#[test]
fn odd_rows_are_left_out_counted_and_named() {
    let good = json!({"messages": [user("p"), answer("a")]});
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, answer("a")]});
    let narrator = json!({"messages": [{"role": "narrator", "content": "x"}, answer("a")]});
    let rows = [good, image.clone(), narrator];
    let (found, notes) = read(&rows, &[]).unwrap();
    assert_eq!(found.len(), 1);
    let note = notes.iter().find(|note| note.contains("rows were left out")).unwrap();
    assert!(
        note.contains("line 2: message 1: has a part") && note.contains("line 3: message 1: the role"),
        "{note}"
    );
    let error = read(&rows, &[("dataset.on_bad_row", "error")]).unwrap_err();
    assert!(error.contains(":2: message 1"), "{error}");
    assert!(read(&[image], &[]).unwrap_err().contains("image_url"));
}
