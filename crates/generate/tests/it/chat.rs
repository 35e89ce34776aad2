//! Conversations: assembly, streaming, and what is used again between turns.

use std::ops::ControlFlow;

use tunesmith_formats::chat_template::ChatTemplate;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{ChatLayout, ChatMarkers, ChatReply, ChatSession, FinishReason, GenerationSettings};
use tunesmith_models::CausalLm;

use crate::support::*;

fn settings() -> GenerationSettings {
    GenerationSettings { max_new_tokens: 8, ..Default::default() }
}

fn markers() -> ChatLayout {
    ChatLayout::Markers(ChatMarkers {
        system_start: "S:".into(),
        prompt_start: "Q:".into(),
        answer_separator: "\nA:".into(),
        add_eos_to_answer: true,
        ..Default::default()
    })
}

/// Says something and checks that the pieces make up the answer.
#[track_caller]
fn say(session: &mut ChatSession<'_>, text: &str) -> ChatReply {
    let mut shown = String::new();
    let reply = session.say(text, &mut |piece| {
        assert!(!piece.is_empty());
        shown.push_str(piece);
        ControlFlow::Continue(())
    });
    let reply = reply.unwrap();
    assert_eq!(shown, reply.text);
    reply
}

#[track_caller]
fn check_turns_equal_generation_from_scratch(model: &CausalLm, tokenizer: &Tokenizer, layout: ChatLayout) {
    let mut session = ChatSession::new(model, tokenizer, layout, settings()).unwrap();
    session.set_system("be brief");
    let mut known = 0;
    for question in ["one", "two words", "and three words"] {
        let reply = say(&mut session, question);
        // Generated again without a cache from the prompt of that turn.
        let mut settings = settings();
        settings.stop_texts = session.settings_mut().stop_texts.clone();
        let prompt = {
            // The session's prompt now holds the answer, too: take it off by its length.
            let mut again =
                ChatSession::new(model, tokenizer, layout_of(&session), settings.clone()).unwrap();
            again.set_system("be brief");
            again.restore(&session.messages()[..session.messages().len() - 1]);
            again.prompt_ids().unwrap()
        };
        assert_eq!(prompt.len(), reply.n_prompt);
        let fresh = run(model, tokenizer, &[prompt], &settings).remove(0);
        assert_eq!(fresh.ids, reply.ids);
        // Bytes that never become a character may be shown otherwise in a stream.
        let valid = |text: &str| text.replace(|c: char| !c.is_ascii_graphic(), "");
        assert_eq!(valid(&fresh.text), valid(&reply.text));
        assert!(reply.n_reused >= known, "{} of {} known tokens reused", reply.n_reused, known);
        assert!(reply.n_reused < reply.n_prompt);
        known = reply.n_reused;
    }
    assert!(known > 0);
    assert_eq!(session.messages().len(), 6);
}

fn layout_of(session: &ChatSession<'_>) -> ChatLayout {
    session.layout().clone()
}

#[test]
fn turns_by_markers_reuse_the_cache_without_a_difference() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    check_turns_equal_generation_from_scratch(&model, &tokenizer, markers());
}

#[test]
fn turns_by_template_reuse_the_cache_without_a_difference() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}[assistant]";
    let tokenizer = tokenizer.with_chat_template(Some(ChatTemplate::new(source.to_owned())));
    let layout = ChatLayout::of_tokenizer(&tokenizer).unwrap();
    check_turns_equal_generation_from_scratch(&model, &tokenizer, layout);
}

#[test]
fn an_answer_can_be_broken_off_and_the_conversation_goes_on() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let mut session = ChatSession::new(&model, &tokenizer, markers(), settings()).unwrap();
    let mut shown = String::new();
    let reply = session.say("one", &mut |piece| {
        shown.push_str(piece);
        ControlFlow::Break(())
    });
    let reply = reply.unwrap();
    assert_eq!(reply.finish, FinishReason::Cancelled);
    assert_eq!(reply.text, shown);
    assert_eq!(session.messages()[1].content, reply.text);
    assert!(say(&mut session, "two").n_reused > 0);
    session.clear();
    assert!(session.messages().is_empty());
    let again = say(&mut session, "one");
    assert_eq!(again.ids[..reply.ids.len()], reply.ids);
}

#[test]
fn history_can_be_limited_to_the_last_rounds() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let lengths = |limit| {
        let mut session = ChatSession::new(&model, &tokenizer, markers(), settings()).unwrap();
        session.set_history_rounds(limit);
        ["one", "one", "one"].map(|question| say(&mut session, question).n_prompt)
    };
    let [first, second, third] = lengths(None);
    assert!(first < second && second < third);
    let [first_alone, second_alone, third_alone] = lengths(Some(0));
    assert_eq!([first_alone, second_alone, third_alone], [first; 3]);
    let [.., third_of_two] = lengths(Some(1));
    assert!(third_of_two < third);
}

#[test]
fn a_failed_question_leaves_the_conversation_as_it_was() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let mut session = ChatSession::new(&model, &tokenizer, markers(), settings()).unwrap();
    let before = say(&mut session, "one");
    let error = session.say(&"long ".repeat(500), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("is longer than the context of 256"), "{error}");
    assert_eq!(session.messages().len(), 2);
    session.clear();
    assert_eq!(say(&mut session, "one").ids, before.ids);
}

#[test]
fn a_tokenizer_without_a_template_says_so() {
    let tokenizer = any_tokenizer().with_chat_template(None);
    let error = ChatLayout::of_tokenizer(&tokenizer).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the model's tokenizer has no chat template");
    assert!(error.hint().is_some());
}
