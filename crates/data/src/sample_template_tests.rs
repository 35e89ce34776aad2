//! Templates in the manner of well-known models, each with a way of its own.

use serde_json::json;

use super::*;
use crate::conversation::RoundDetails;

const SPECIAL: &[&str] =
    &["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"];

/// ChatML that drops the thoughts of earlier answers and writes an empty one in the last.
const QWEN: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.last %}\
    {{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/// An end that is written only at the end of the conversation, after that of the turn.
const PHI: &str = "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}";
/// The system text stands at the last turn of the user, if that is the last message.
const MISTRAL: &str = "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}\
    {% else %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for m in rest %}{% if m.role == 'user' %}\
    {% if loop.last and system is defined %}{{ '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}\
    {% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}\
    {% endfor %}";
/// The generation prompt opens a thought, and answers lose theirs.
const R1: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}\
    {{ '<|assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% else %}{{ '<|user|>' + m.content }}{% endif %}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}";
/// No system text, and turns in turn.
const GEMMA: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}\
    {{ raise_exception('System role not supported') }}{% endif %}\
    {% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}\
    {{ '<|' + m.role + '|>' + m.content | trim + '<|end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

fn reader(source: &str) -> TemplateReader {
    let special: Vec<String> = SPECIAL.iter().map(|text| (*text).to_owned()).collect();
    TemplateReader::new(ChatTemplate::new(source.to_owned()), "<s>", "</s>", &special)
}

fn conversation(system: &str, rounds: &[(&str, &str)]) -> Conversation {
    let rounds = rounds.iter().enumerate().map(|(row, (prompt, answer))| Round {
        system: if row == 0 { system.into() } else { "later ones do not count".into() },
        prompt: (*prompt).into(),
        answer: (*answer).into(),
        row,
        ..Round::default()
    });
    Conversation::new(rounds.collect()).unwrap()
}

/// Prompt and answer of every turn, and what is noted.
fn turns(source: &str, conversation: &Conversation) -> (Vec<(String, String)>, SampleNotes) {
    let all: Vec<usize> = (0..conversation.rounds.len()).collect();
    let (turns, notes) = reader(source).turns(conversation, &all).unwrap();
    (turns.into_iter().map(|turn| (turn.prompt, turn.answer)).collect(), notes)
}

#[test]
fn thoughts_that_history_drops_are_learned_in_every_turn() {
    let shape = reader(QWEN).shape().clone();
    assert_eq!((shape.lead.as_str(), shape.opening.as_str()), ("<think>\n\n</think>\n\n", ""));
    let (found, _) = turns(QWEN, &conversation("", &[("a", "b"), ("c", "d")]));
    assert_eq!(found[0].0, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(found[0].1, "<think>\n\n</think>\n\nb<|im_end|>\n");
    let second = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n\
                  <|im_start|>assistant\n";
    assert_eq!(found[1], (second.to_owned(), "<think>\n\n</think>\n\nd<|im_end|>\n".to_owned()));
}

#[test]
fn a_thought_beside_the_answer_reaches_the_template() {
    let mut chat = conversation("", &[("a", "b")]);
    let mut keys = Map::new();
    keys.insert(THOUGHT.to_owned(), json!("hm"));
    let details = RoundDetails {
        before: vec![json!({"role": "user", "content": "a"})],
        answer_keys: keys,
        ..RoundDetails::default()
    };
    chat.rounds[0].details = Some(Box::new(details));
    let (found, notes) = turns(QWEN, &chat);
    assert_eq!(found[0].1, "<think>\nhm\n</think>\n\nb<|im_end|>\n");
    assert!(!notes.has_unread_thought);
    // Where the generation prompt opens it, it goes on from there.
    let (found, notes) = turns(R1, &chat);
    assert_eq!(
        found[0],
        ("<s><|user|>a<|assistant|><think>\n".to_owned(), "hm\n</think>\n\nb</s>".to_owned())
    );
    assert!(!notes.has_unread_thought && !notes.has_empty_thought);
    // Another name for the same.
    let (found, _) = turns(&QWEN.replace("reasoning_content", "thinking"), &chat);
    assert_eq!(found[0].1, "<think>\nhm\n</think>\n\nb<|im_end|>\n");
    // No place for it.
    let (found, notes) = turns(PHI, &chat);
    assert_eq!((found[0].1.as_str(), notes.has_unread_thought), ("b<|end|>\n", true));
}

#[test]
fn an_end_of_the_conversation_belongs_to_no_answer() {
    let shape = reader(PHI).shape().clone();
    assert_eq!((shape.end.as_str(), shape.conversation_end.as_str()), ("<|end|>\n", "</s>"));
    let (found, notes) = turns(PHI, &conversation("s", &[("a", "b"), ("c", "d")]));
    assert_eq!(found[0].1, "b<|end|>\n");
    assert_eq!(found[1].1, "d<|end|>\n");
    assert!(found[1].0.starts_with(&format!("{}{}", found[0].0, found[0].1)));
    assert_eq!(notes, SampleNotes::default());
    // Unless nothing else ends an answer.
    let only = PHI.replace("<|end|>", "");
    let (found, _) = turns(&only, &conversation("", &[("a", "b"), ("c", "d")]));
    assert_eq!([found[0].1.as_str(), &found[1].1], ["b\n</s>", "d\n</s>"]);
}

#[test]
fn a_system_text_at_the_last_turn_stays_there() {
    let (found, notes) = turns(MISTRAL, &conversation("s", &[("a", "b"), ("c", "d")]));
    assert_eq!(found[0], ("<s>[INST] s\n\na[/INST]".to_owned(), " b</s>".to_owned()));
    assert_eq!(found[1], ("<s>[INST] a[/INST] b</s>[INST] s\n\nc[/INST]".to_owned(), " d</s>".to_owned()));
    assert_eq!(notes, SampleNotes::default());
}

#[test]
fn a_thought_that_the_prompt_opens_is_closed() {
    let (found, notes) = turns(R1, &conversation("", &[("a", "<think>\nt\n</think>\n\nb"), ("c", "d")]));
    assert_eq!(
        found[0],
        ("<s><|user|>a<|assistant|><think>\n".to_owned(), "t\n</think>\n\n\n\nb</s>".to_owned())
    );
    assert_eq!(found[1].1, "\n</think>\n\nd</s>");
    assert!(found[1].0.ends_with("<|user|>c<|assistant|><think>\n"));
    assert!(notes.has_empty_thought);
}

#[test]
fn a_system_text_without_a_place_goes_into_the_first_message() {
    let (found, notes) = turns(GEMMA, &conversation("s", &[("a", "b")]));
    assert_eq!(found[0], ("<s><|user|>s\n\na<|end|>\n<|assistant|>".to_owned(), "b<|end|>\n".to_owned()));
    assert!(notes.folds_system && !notes.merges_roles);
    // One that is left out without a word is as good as refused.
    let silent = "{% for m in messages if m.role != 'system' %}{{ m.content }};{% endfor %}";
    let (found, notes) = turns(silent, &conversation("s", &[("a", "b")]));
    assert_eq!((found[0].0.as_str(), notes.folds_system), ("s\n\na;", true));
}

#[test]
fn messages_in_a_row_are_joined_where_the_template_wants_turns() {
    let mut chat = conversation("", &[("", "b")]);
    let before = vec![json!({"role": "user", "content": "a"}), json!({"role": "user", "content": "c"})];
    chat.rounds[0].details = Some(Box::new(RoundDetails { before, ..RoundDetails::default() }));
    let (found, notes) = turns(GEMMA, &chat);
    assert_eq!((found[0].0.as_str(), notes.merges_roles), ("<s><|user|>a\n\nc<|end|>\n<|assistant|>", true));
    let (found, notes) = turns(PHI, &chat);
    assert_eq!(
        (found[0].0.as_str(), notes.merges_roles),
        ("<|user|>\na<|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n", false)
    );
}

#[test]
fn what_a_template_leaves_out_is_refused_by_name() {
    let refused = |source: &str, chat: &Conversation| reader(source).turns(chat, &[0]).unwrap_err();
    let chat = conversation("", &[("a", "b")]);
    let mut tools = Map::new();
    tools.insert("tools".to_owned(), json!([{"type": "function", "function": {"name": "look_up"}}]));
    let reason = refused(PHI, &chat.clone().with_variables(tools));
    assert!(reason.contains("does not write the tool look_up"), "{reason}");
    let mut calling = chat.clone();
    let mut keys = Map::new();
    keys.insert(
        "tool_calls".to_owned(),
        json!([{"type": "function", "function": {"name": "look_up", "arguments": {}}}]),
    );
    let details = RoundDetails {
        before: vec![json!({"role": "user", "content": "a"})],
        answer_content: Some(Json::Null),
        answer_keys: keys,
        ..RoundDetails::default()
    };
    calling.rounds[0].details = Some(Box::new(details));
    let reason = refused(PHI, &calling);
    assert!(reason.contains("does not write the call of the tool look_up"), "{reason}");
    // What is left out is told even where the template fails on the null beside the call first.
    let mut with_tools = calling.clone();
    with_tools
        .variables
        .insert("tools".to_owned(), json!([{"type": "function", "function": {"name": "look_up"}}]));
    with_tools.rounds.push(Round { prompt: "c".into(), answer: "d".into(), ..Round::default() });
    let reason = refused(PHI, &with_tools);
    assert!(reason.contains("does not write the tool look_up"), "{reason}");
    let reason = refused("{{ raise_exception('no thanks') }}", &chat);
    assert!(reason.ends_with("no thanks"), "{reason}");
    let muddled =
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>>{% endif %}";
    assert!(refused(muddled, &chat).contains("\">>\""), "{}", refused(muddled, &chat));
}

#[test]
fn what_the_template_marks_is_what_is_learned() {
    let marked = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}{% generation %}\
                  {{ m.content + '<|end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}{{ m.content + '<|end|>\\n' }}{% endif %}\
                  {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
    let chat = conversation("", &[("a", "b"), ("c", "d")]);
    let (found, _) = reader(marked).turns(&chat, &[0, 1]).unwrap();
    for turn in found {
        assert_eq!(turn.learned.len(), 1);
        assert!(["b<|end|>", "d<|end|>"].contains(&&turn.answer[turn.learned[0].clone()]), "{turn:?}");
        assert!(turn.answer.ends_with("<|end|>\n"));
    }
}
