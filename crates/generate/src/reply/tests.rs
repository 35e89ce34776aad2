//! Whole answers and answers letter by letter, in the forms of several models.

use super::*;

/// The parts of a text, equal ones joined; the same however it is cut.
fn parts(text: &str, is_reasoning: bool, tools: Option<ToolFormat>) -> Vec<ReplyPart> {
    let split = |pieces: &[&str]| {
        let mut splitter = ReplySplitter::new(is_reasoning, tools);
        let mut all: Vec<ReplyPart> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
        all.extend(splitter.finish());
        joined(all)
    };
    let letters: Vec<&str> = text.split_inclusive(|_| true).collect();
    let whole = split(&[text]);
    assert_eq!(split(&letters), whole, "{text:?} letter by letter");
    let by_seven: Vec<String> = letters.chunks(7).map(<[&str]>::concat).collect();
    assert_eq!(split(&by_seven.iter().map(String::as_str).collect::<Vec<_>>()), whole, "{text:?} in pieces");
    whole
}

fn joined(parts: Vec<ReplyPart>) -> Vec<ReplyPart> {
    let mut all: Vec<ReplyPart> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(ReplyPart::Content(before)), ReplyPart::Content(text))
            | (Some(ReplyPart::Reasoning(before)), ReplyPart::Reasoning(text)) => before.push_str(&text),
            (_, part) => all.push(part),
        }
    }
    all
}

fn content(text: &str) -> ReplyPart {
    ReplyPart::Content(text.to_owned())
}

fn reasoning(text: &str) -> ReplyPart {
    ReplyPart::Reasoning(text.to_owned())
}

fn call(name: &str, arguments: &str) -> ReplyPart {
    ReplyPart::Call(ToolCall { name: name.to_owned(), arguments: arguments.to_owned() })
}

#[test]
fn thoughts_are_told_from_content() {
    assert_eq!(
        parts("<think>\na b\n\nc\n</think>\n\nd  e", false, None),
        [reasoning("a b\n\nc"), content("d  e")]
    );
    assert_eq!(parts("\na\n</think>\n\nb", true, None), [reasoning("a"), content("b")]);
    assert_eq!(parts("<think>\n\n</think>\n\nb", false, None), [content("b")]);
    // Cut in the middle of the thoughts.
    assert_eq!(parts("<think>a </thi", false, None), [reasoning("a </thi")]);
    assert_eq!(parts("<think", false, None), [content("<think")]);
    assert_eq!(parts("<thinner> a", false, None), [content("<thinner> a")]);
    // Later tags are what the answer speaks of.
    assert_eq!(parts("use <think>x</think>", false, None), [content("use <think>x</think>")]);
    assert_eq!(parts("", false, None), []);
}

#[test]
fn hermes_and_qwen_write_calls_between_tags() {
    let tools = Some(ToolFormat::Hermes);
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Paris\", \"n\": 2}}\n</tool_call>";
    assert_eq!(parts(one, false, tools), [call("f", r#"{"city":"Paris","n":2}"#)]);
    let two = format!(
        "<think>\nhm\n</think>\n\nI look.\n{one}\n<tool_call>\n{{\"name\": \"g\", \"arguments\": {{}}}}\n</tool_call>"
    );
    assert_eq!(
        parts(&two, false, tools),
        [reasoning("hm"), content("I look."), call("f", r#"{"city":"Paris","n":2}"#), call("g", "{}")]
    );
    // Hermes 2 writes the arguments first; the last tag may be missing; `<` alone is no tag.
    assert_eq!(
        parts("a < b\n<tool_call>\n{\"arguments\": {}, \"name\": \"f\"}", false, tools),
        [content("a < b"), call("f", "{}")]
    );
    let broken = "<tool_call>{\"name\": \"f\", \"arguments\": }</tool_call>";
    assert_eq!(parts(broken, false, tools), [content(broken)]);
    assert_eq!(parts("no call", false, tools), [content("no call")]);
    // Without tools in the request nothing is a call.
    assert_eq!(parts(one, false, None), [content(one)]);
}

#[test]
fn llama_writes_a_call_as_the_whole_answer() {
    let tools = Some(ToolFormat::Llama);
    let one = r#"{"name": "f", "parameters": {"city": "Paris"}}"#;
    let expected = call("f", r#"{"city":"Paris"}"#);
    assert_eq!(parts(one, false, tools), std::slice::from_ref(&expected));
    assert_eq!(parts(&format!("<|python_tag|>{one}"), false, tools), std::slice::from_ref(&expected));
    assert_eq!(parts(&format!("{one}; {one}"), false, tools), [expected.clone(), expected]);
    assert_eq!(parts("{a set}", false, tools), [content("{a set}")]);
    assert_eq!(parts(r#"{"temperature": 3}"#, false, tools), [content(r#"{"temperature": 3}"#)]);
    assert_eq!(parts("<|py", false, tools), [content("<|py")]);
    assert_eq!(parts("It is {warm}.", false, tools), [content("It is {warm}.")]);
}

#[test]
fn mistral_writes_calls_after_a_marker() {
    let list = r#"[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1, 2]}}, {"name": "g", "arguments": {}}]"#;
    let expected = [call("f", r#"{"a":[1,2]}"#), call("g", "{}")];
    assert_eq!(parts(list, false, Some(ToolFormat::MistralList)), expected);
    let args = r#"[TOOL_CALLS]f[ARGS]{"a": [1, 2]}[TOOL_CALLS]g[CALL_ID]abc123def[ARGS]{}"#;
    assert_eq!(parts(args, false, Some(ToolFormat::MistralArgs)), expected);
    assert_eq!(
        parts(&format!("Let me see. {args}"), false, Some(ToolFormat::MistralArgs))[..2],
        [content("Let me see."), expected[0].clone()]
    );
    let broken = "[TOOL_CALLS] [{\"name\": \"f\"";
    assert_eq!(parts(broken, false, Some(ToolFormat::MistralList)), [content(broken)]);
}

#[test]
fn arguments_in_a_text_are_taken_and_others_are_not_a_call() {
    let of = |arguments: &str| {
        ToolFormat::Hermes.parse(&format!("{{\"name\": \"f\", \"arguments\": {arguments}}}"))
    };
    assert_eq!(of(r#""{\"a\": 1}""#).unwrap()[0].arguments, r#"{"a": 1}"#);
    assert_eq!(of("null").unwrap()[0].arguments, "{}");
    assert_eq!((of("3"), of("\"x\""), of("[1]")), (None, None, None));
    assert_eq!(ToolFormat::Hermes.parse("{\"name\": \"\", \"arguments\": {}}"), None);
    assert_eq!(ToolFormat::Hermes.parse(""), None);
}
