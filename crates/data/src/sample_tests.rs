//! Ids and masks of both assemblies.

use tunesmith_formats::chat_template::ChatTemplate;

use super::*;
use crate::test_support::{
    bare_config, config, conversation, golden_tokenizer, number_tokenizer, shared_data,
};

/// Ids of the sample with "-" where a token is not learned.
pub(super) fn labels(sample: &TokenSample) -> String {
    let label = |(id, trained): (&u32, &bool)| if *trained { id.to_string() } else { "-".into() };
    sample.ids.iter().zip(&sample.trained).map(label).collect::<Vec<_>>().join(" ")
}

/// The texts of the runs of trained tokens.
pub(super) fn trained_texts(sample: &TokenSample, tokenizer: &Tokenizer) -> Vec<String> {
    let mut runs: Vec<Vec<u8>> = Vec::new();
    let mut was_trained = false;
    for (id, trained) in sample.ids.iter().zip(&sample.trained) {
        if *trained && !was_trained {
            runs.push(Vec::new());
        }
        if let (true, Some(run)) = (*trained, runs.last_mut()) {
            run.extend(tokenizer.token_bytes(*id));
        }
        was_trained = *trained;
    }
    runs.into_iter().map(|run| String::from_utf8(run).unwrap()).collect()
}

/// The worked example: prompts 1 2 and 5, answers 3 4 and 6 7.
#[test]
fn gv_3_10_two_rounds_and_their_masks() {
    let rounds = conversation(&[("", "1 2", "3 4"), ("", "5", "6 7")]);
    let check = |changes: &[(&str, &str)], ids: &[u32], expected: &str, prompt: &[u32], n_cut: usize| {
        let assembler = Assembler::new(&bare_config(changes), &number_tokenizer()).unwrap();
        let sample = assembler.sample(&rounds).unwrap();
        assert_eq!((sample.ids.as_slice(), labels(&sample).as_str()), (ids, expected), "{changes:?}");
        assert_eq!(assembler.prompt_ids(&rounds).unwrap(), prompt, "{changes:?}");
        assert_eq!((sample.n_cut, sample.row), (n_cut, 1));
    };
    let whole = [1, 2, 3, 4, 5, 6, 7];
    let nine = ("tokenizer.max_length", "9");
    check(&[nine], &whole, "- - 3 4 - 6 7", &[1, 2, 3, 4, 5], 0);
    check(&[nine, ("dataset.only_last_answer", "true")], &whole, "- - - - - 6 7", &[1, 2, 3, 4, 5], 0);
    check(&[nine, ("dataset.mask_prompt_labels", "false")], &whole, "1 2 3 4 5 6 7", &[1, 2, 3, 4, 5], 0);
    check(&[("tokenizer.max_length", "4")], &[4, 5, 6, 7], "4 - 6 7", &[2, 3, 4, 5], 3);
}

/// The worked example for a model with an encoder: earlier answers are part of the source.
#[test]
fn a_source_and_the_answer_to_it() {
    let rounds = conversation(&[("", "1 2", "3 4"), ("", "5", "6 7")]);
    // These tokens have no padding: the unknown one stands for it.
    let start = number_tokenizer().pad_id();
    let assembler = |changes: &[(&str, &str)]| {
        let mut config = bare_config(changes);
        config.problem_type = ProblemType::SequenceToSequenceModeling;
        Assembler::new(&config, &number_tokenizer()).unwrap()
    };
    let whole = assembler(&[]);
    let (sample, notes) = whole.sample_with_notes(&rounds).unwrap();
    assert_eq!((sample.ids.as_slice(), sample.n_source), (&[1, 2, 3, 4, 5, start, 6, 7][..], 5));
    assert_eq!(labels(&sample), "- - - - - - 6 7");
    assert_eq!(sample.texts().collect::<Vec<_>>(), [0..5, 5..8]);
    assert_eq!((sample.n_labels(), sample.n_cut, notes.lacks_end), (2, 0, true));
    assert_eq!(whole.prompt_ids(&rounds).unwrap(), [1, 2, 3, 4, 5]);

    // Prompts lose their beginning and answers their end, each for itself; learning prompts means nothing here.
    let changes = [
        ("tokenizer.max_length", "2"),
        ("dataset.mask_prompt_labels", "false"),
        ("dataset.add_eos_token_to_prompt", "true"),
        ("dataset.add_eos_token_to_answer", "true"),
    ];
    let (sample, notes) = assembler(&changes).sample_with_notes(&rounds).unwrap();
    assert_eq!((sample.ids.as_slice(), sample.n_source), (&[5, 31, start, 6, 7][..], 2));
    assert_eq!(labels(&sample), "- - - 6 7");
    assert_eq!((notes.n_prompt_cut, notes.n_answer_cut, sample.n_cut), (6, 1, 7));
    assert!(notes.lacks_end);
    let whole = assembler(&changes[2..]).sample_with_notes(&rounds).unwrap();
    assert_eq!(whole.0.ids, [1, 2, 31, 3, 4, 31, 5, 31, start, 6, 7, 31]);
    assert!(!whole.1.lacks_end);

    // Without a prompt the encoder reads the end-of-text token.
    let alone = assembler(&[]).sample(&conversation(&[("", "", "6")])).unwrap();
    assert_eq!((alone.ids.as_slice(), alone.n_source), (&[31, start, 6][..], 1));
    let nothing = assembler(&[]).sample(&conversation(&[("", "1", "")])).unwrap();
    assert!(!nothing.teaches());
}

/// The worked example with a last answer to be preferred less.
#[test]
fn gv_11_2_preferences_are_two_texts_whose_last_answers_are_learned() {
    let mut rounds = conversation(&[("", "1 2", "3 4"), ("", "5", "6 7")]);
    let prefer = |rejected_prompt: Option<&str>, rejected_answer: &str| Target::Preference {
        rejected_prompt: rejected_prompt.map(str::to_owned),
        rejected_answer: rejected_answer.to_owned(),
    };
    // Learning prompts and earlier answers makes no sense here, so these settings do not count.
    let changes = [("tokenizer.max_length", "9"), ("dataset.mask_prompt_labels", "false")];
    let assembler = Assembler::new(&bare_config(&changes), &number_tokenizer()).unwrap();
    rounds.rounds[1].target = prefer(None, "8");
    let sample = assembler.sample(&rounds).unwrap();
    assert_eq!(sample.ids, [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 8]);
    assert_eq!((labels(&sample).as_str(), sample.n_contrast), ("- - - - - 6 7 - - - - - 8", 6));
    rounds.rounds[1].target = prefer(Some("9 10"), "8");
    let sample = assembler.sample(&rounds).unwrap();
    assert_eq!((labels(&sample).as_str(), sample.n_contrast), ("- - - - - 6 7 - - - - - - 8", 7));
    // Each is cut for itself; without anything to compare there is nothing to learn.
    let short = Assembler::new(&bare_config(&[("tokenizer.max_length", "3")]), &number_tokenizer()).unwrap();
    let sample = short.sample(&rounds).unwrap();
    assert_eq!((labels(&sample).as_str(), sample.n_contrast, sample.n_cut), ("- 6 7 - - 8", 3, 4 + 4));
    assert!(sample.teaches());
    rounds.rounds[1].target = prefer(None, "");
    assert!(!assembler.sample(&rounds).unwrap().teaches());
}

#[test]
fn values_are_predicted_from_the_prompt_alone() {
    let mut rounds = conversation(&[("", "1 2 3 4", "2")]);
    rounds.rounds[0].target = Target::Values(vec![2.0]);
    let assembler =
        Assembler::new(&bare_config(&[("tokenizer.max_length", "3")]), &number_tokenizer()).unwrap();
    let (sample, notes) = assembler.sample_with_notes(&rounds).unwrap();
    assert_eq!((sample.ids.as_slice(), sample.values.as_slice()), (&[2, 3, 4][..], &[2.0][..]));
    assert!(sample.trained.iter().all(|trained| !trained) && sample.teaches());
    assert_eq!((notes.n_prompt_cut, notes.lacks_end), (1, false));
}

/// Two rounds a → b with an end token (9) after every part: four tokens are learned. An answer loses its end before the whole
/// loses its beginning.
#[test]
fn gv_11_2_an_answer_is_cut_before_the_whole() {
    let chain = conversation(&[("", "1 9", "2 9"), ("", "1 9", "2 9")]);
    let whole = Assembler::new(&bare_config(&[("tokenizer.max_length", "64")]), &number_tokenizer()).unwrap();
    assert_eq!(labels(&whole.sample(&chain).unwrap()), "- - 2 9 - - 2 9");
    let chain = conversation(&[("", "1 9", "2 9"), ("", "1 9", "1 2 9")]);
    let short = Assembler::new(&bare_config(&[("tokenizer.max_length", "2")]), &number_tokenizer()).unwrap();
    let sample = short.sample(&chain).unwrap();
    assert_eq!((sample.ids.as_slice(), labels(&sample).as_str()), ([1, 2].as_slice(), "1 2"));
}

#[test]
fn parts_are_cut_before_the_whole() {
    let assembler =
        Assembler::new(&bare_config(&[("tokenizer.max_length", "3")]), &number_tokenizer()).unwrap();
    // System and answer keep their first tokens, the prompt its last, the whole its last.
    let (sample, notes) =
        assembler.sample_with_notes(&conversation(&[("1 2 3 4", "5 6 7 8 9", "10 11 12 13 14")])).unwrap();
    assert_eq!((labels(&sample).as_str(), sample.n_cut), ("10 11 12", 1 + 2 + 2 + 6));
    assert_eq!((notes.n_prompt_cut, notes.n_answer_cut), (9, 2));
    assert_eq!(assembler.prompt_ids(&conversation(&[("1 2 3 4", "5 6 7 8 9", "")])).unwrap(), [7, 8, 9]);
    let (sample, notes) = assembler.sample_with_notes(&conversation(&[("", "1 2 3 4", "5")])).unwrap();
    assert_eq!(labels(&sample), "- - 5");
    assert_eq!((notes.n_prompt_cut, notes.n_answer_cut, sample.n_cut), (2, 0, 2));
}

#[test]
fn labels_can_be_lost_to_the_cut() {
    let assembler =
        Assembler::new(&bare_config(&[("tokenizer.max_length", "2")]), &number_tokenizer()).unwrap();
    let (sample, notes) =
        assembler.sample_with_notes(&conversation(&[("", "1", "2"), ("", "3 4", "")])).unwrap();
    assert_eq!((labels(&sample).as_str(), sample.n_labels(), notes.had_labels), ("- -", 0, true));
    // A first token is predicted by nothing.
    let (sample, notes) = assembler.sample_with_notes(&conversation(&[("", "", "9")])).unwrap();
    assert_eq!((labels(&sample).as_str(), sample.n_labels(), notes.had_labels), ("9", 0, false));
}

#[test]
fn gv_11_2_every_part_carries_its_marker_and_end_token() {
    let tokenizer = golden_tokenizer("bpe-smollm");
    let changes = [
        ("dataset.text_system_start", "System:"),
        ("dataset.text_prompt_start", "Prompt:"),
        ("dataset.text_answer_separator", "Answer:"),
        ("tokenizer.max_length", "513"),
    ];
    let rounds = [
        ("system 1", "prompt 1", "answer 1"),
        ("system 2", "prompt 2", "answer 2"),
        ("system 3", "prompt 3", "answer 3"),
    ];
    let assembler = Assembler::new(&config(&changes), &tokenizer).unwrap();
    let chain = conversation(&rounds);
    let sample = assembler.sample(&chain).unwrap();
    assert_eq!(
        tokenizer.decode(&sample.ids, true).unwrap(),
        "System:system 1Prompt:prompt 1Answer:answer 1Prompt:prompt 2Answer:answer 2Prompt:prompt 3Answer:answer 3"
    );
    let end = "<|im_end|>";
    let whole = format!(
        "System:system 1{end}Prompt:prompt 1{end}Answer:answer 1{end}Prompt:prompt 2{end}Answer:answer \
        2{end}Prompt:prompt 3{end}Answer:answer 3{end}"
    );
    assert_eq!(tokenizer.decode(&sample.ids, false).unwrap(), whole);
    assert_eq!(
        trained_texts(&sample, &tokenizer),
        ["answer 1<|im_end|>", "answer 2<|im_end|>", "answer 3<|im_end|>"]
    );
    let prompt = tokenizer.decode(&assembler.prompt_ids(&chain).unwrap(), true).unwrap();
    assert!(prompt.ends_with("Prompt:prompt 3Answer:"), "{prompt}");
    // Rows that stand alone keep their own system text.
    for (row, round) in rounds.iter().enumerate() {
        let sample = assembler.sample(&conversation(&[*round])).unwrap();
        let start = format!("System:system {}Prompt:", row + 1);
        assert!(tokenizer.decode(&sample.ids, true).unwrap().starts_with(&start));
    }
    // End tokens are three separate settings; without a system text its marker is gone, too.
    let changes = [&changes[..], &[("dataset.add_eos_token_to_prompt", "false")]].concat();
    let assembler = Assembler::new(&config(&changes), &tokenizer).unwrap();
    let sample = assembler.sample(&conversation(&[("", "p", "a")])).unwrap();
    assert_eq!(tokenizer.decode(&sample.ids, false).unwrap(), "Prompt:pAnswer:a<|im_end|>");
}

/// Chained rows a → b with the default markers and a SentencePiece vocabulary.
#[test]
fn sentencepiece_parts_have_no_space_of_their_own() {
    let tokenizer = golden_tokenizer("spm-llama");
    let changes = [("tokenizer.max_length", "64"), ("tokenizer.add_bos_token", "false")];
    let assembler = Assembler::new(&config(&changes), &tokenizer).unwrap();
    let sample = assembler.sample(&conversation(&[("", "a", "b"), ("", "a", "b")])).unwrap();
    let tokenizer = assembler.tokenizer();
    assert_eq!(
        tokenizer.decode(&sample.ids, false).unwrap(),
        "<|prompt|>a</s><|answer|>b</s><|prompt|>a</s><|answer|>b</s>"
    );
    let trained: Vec<String> = sample
        .ids
        .iter()
        .zip(&sample.trained)
        .filter(|(_, trained)| **trained)
        .map(|(id, _)| tokenizer.token_text(*id))
        .collect();
    assert_eq!(trained, ["b", "</s>", "b", "</s>"]);
    // The answer keeps its first two tokens and loses its end, then the whole keeps its last two.
    let left = [("tokenizer.max_length", "2"), ("dataset.truncate", "left")];
    let assembler = Assembler::new(&config(&left), tokenizer).unwrap();
    let (sample, notes) =
        assembler.sample_with_notes(&conversation(&[("", "a", "b"), ("", "a", "a b")])).unwrap();
    assert_eq!(tokenizer.decode(&sample.ids, false).unwrap(), "a b");
    assert!(notes.lacks_end && notes.n_answer_cut > 0);
}

#[test]
fn markers_are_unescaped_and_end_answers() {
    let changes = [
        ("dataset.text_prompt_start", r"\n### Ask:\n"),
        ("dataset.text_answer_separator", r"\n"),
        ("prediction.stop_tokens", "END,,\n### Ask:,### Ask:"),
    ];
    let tokenizer = golden_tokenizer("bpe-smollm");
    let assembler = Assembler::new(&config(&changes), &tokenizer).unwrap();
    let sample = assembler.sample(&conversation(&[("", "p", "a")])).unwrap();
    assert_eq!(tokenizer.decode(&sample.ids, true).unwrap(), "\n### Ask:\np\na");
    assert_eq!(assembler.stop_texts(), ["END", "\n### Ask:", "### Ask:", "<|system|>"]);
    assert_eq!(assembler.stop_ids(), [tokenizer.eos_id()]);
}

pub(super) fn chat_config(changes: &[(&str, &str)]) -> tunesmith_config::ExperimentConfig {
    config(&[&[("dataset.text_format", "chat_template")], changes].concat())
}

#[test]
fn chat_templates_train_exactly_the_answers() {
    let tokenizer = golden_tokenizer("bpe-smollm");
    let rounds = conversation(&[("Be brief.", "Hi", "Hello 12"), ("ignored", "Bye", " See you\n")]);
    let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
    let (sample, notes) = assembler.sample_with_notes(&rounds).unwrap();
    let whole = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello \
        12<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n See you\n<|im_end|>\n";
    assert_eq!(sample.ids, tokenizer.encode(whole).unwrap());
    assert_eq!(trained_texts(&sample, &tokenizer), ["Hello 12<|im_end|>\n", " See you\n<|im_end|>\n"]);
    assert_eq!(notes, SampleNotes { had_labels: true, ..SampleNotes::default() });
    let prompt = assembler.prompt_ids(&rounds).unwrap();
    assert_eq!(prompt, sample.ids[..prompt.len()]);
    assert!(tokenizer.decode(&prompt, false).unwrap().ends_with("Bye<|im_end|>\n<|im_start|>assistant\n"));
    assert_eq!(assembler.stop_ids(), [tokenizer.eos_id()]);
    assert!(assembler.stop_texts().is_empty());

    let only_last =
        Assembler::new(&chat_config(&[("dataset.only_last_answer", "true")]), &tokenizer).unwrap();
    assert_eq!(trained_texts(&only_last.sample(&rounds).unwrap(), &tokenizer), [" See you\n<|im_end|>\n"]);
    let all = Assembler::new(&chat_config(&[("dataset.mask_prompt_labels", "false")]), &tokenizer).unwrap();
    assert_eq!(trained_texts(&all.sample(&rounds).unwrap(), &tokenizer), [whole]);
    // H2O LLM Studio's way: the whole is cut to its last tokens, whatever part they belong to.
    let left = [("tokenizer.max_length", "20"), ("dataset.truncate", "left")];
    let short = Assembler::new(&chat_config(&left), &tokenizer).unwrap();
    let cut = short.sample(&rounds).unwrap();
    assert_eq!(
        (cut.ids.as_slice(), cut.n_cut),
        (&sample.ids[sample.ids.len() - 20..], sample.ids.len() - 20)
    );
}

#[test]
fn chat_templates_continue_sentencepiece_texts() {
    let tokenizer = golden_tokenizer("spm-llama");
    let rounds = conversation(&[("", "the sea", "and sun"), ("", "the river", "and story")]);
    let (sample, notes) =
        Assembler::new(&chat_config(&[]), &tokenizer).unwrap().sample_with_notes(&rounds).unwrap();
    let whole = "<s>[INST] the sea [/INST] and sun </s>[INST] the river [/INST] and story </s>";
    assert_eq!(sample.ids, tokenizer.encode(whole).unwrap());
    assert_eq!(trained_texts(&sample, &tokenizer), [" and sun </s>", " and story </s>"]);
    assert!(!notes.doubled_bos && !notes.lacks_end);
}

#[test]
fn what_a_template_does_wrong_is_noted() {
    let tokenizer = golden_tokenizer("spm-llama");
    let noted = |source: &str, rounds: &[(&str, &str, &str)]| {
        let tokenizer = tokenizer.clone().with_chat_template(Some(ChatTemplate::new(source.into())));
        let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
        assembler.sample_with_notes(&conversation(rounds))
    };
    let body = "{% for m in messages %}{{ m.content }};{% endfor %}";
    let (sample, notes) =
        noted(&format!("{{{{ bos_token }}}}{{{{ bos_token }}}}{body}"), &[("", "a", "b")]).unwrap();
    assert!(notes.doubled_bos && notes.lacks_end);
    assert_eq!(trained_texts(&sample, &tokenizer), ["b;"]);
    // Earlier answers disappear once others follow: each is learned in its own context.
    let forgetful = "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }};{% endif %}{% endfor %}";
    let (sample, notes) = noted(forgetful, &[("", "a", "b"), ("", "c", "d")]).unwrap();
    assert!(notes.is_one_of_several);
    assert_eq!(trained_texts(&sample, &tokenizer), ["d;"]);
    let error = noted("{{ raise_exception('no thanks') }}", &[("", "a", "b")]).unwrap_err().to_string();
    assert!(error.starts_with("row 0") && error.ends_with("no thanks"), "{error}");
}

#[test]
fn dates_do_not_change_with_the_day() {
    let source = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let tokenizer =
        golden_tokenizer("bpe-smollm").with_chat_template(Some(ChatTemplate::new(source.to_owned())));
    let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
    let sample = assembler.sample(&conversation(&[("", "a", "b")])).unwrap();
    assert_eq!(tokenizer.decode(&sample.ids, true).unwrap(), "26 Jul 2024ab");
    assert!(assembler.fixes_the_date());
}

#[test]
fn settings_that_cannot_be_met_are_refused() {
    let refused = |config: tunesmith_config::ExperimentConfig, tokenizer: &Tokenizer| {
        Assembler::new(&config, tokenizer).unwrap_err().to_string()
    };
    let without = golden_tokenizer("bpe-smollm").with_chat_template(None);
    assert!(
        refused(chat_config(&[]), &without).starts_with("dataset.text_format: chat_template is asked for")
    );
    let broken = without.clone().with_chat_template(Some(ChatTemplate::new("{% if %}".into())));
    assert!(refused(chat_config(&[]), &broken).contains("line 1"));
    let kwargs = |text: &str| {
        let mut config = config(&[]);
        config.tokenizer.tokenizer_kwargs = text.into();
        config
    };
    assert!(refused(kwargs("{"), &without).starts_with("tokenizer.tokenizer_kwargs"));
    assert!(
        refused(kwargs(r#"{"add_prefix_space": true}"#), &number_tokenizer())
            .contains("no space before a text")
    );
    assert!(Assembler::new(&kwargs(""), &without).is_ok());
}

#[test]
fn unknown_words_are_counted() {
    let assembler = Assembler::new(&bare_config(&[]), &number_tokenizer()).unwrap();
    let (sample, notes) =
        assembler.sample_with_notes(&conversation(&[("", "1 hello", "2 world again")])).unwrap();
    assert_eq!((sample.ids.as_slice(), notes.n_unknown), (&[1, 32, 2, 32, 32][..], 3));
}

/// Token ids and masks that transformers gives for a real model and template.
#[test]
fn smollm2_samples_are_those_of_transformers() {
    let golden = shared_data("smollm2-golden/golden.json");
    let cache = std::env::var_os("TUNESMITH_CACHE").map(std::path::PathBuf::from).unwrap_or_else(|| {
        std::path::PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/tunesmith")
    });
    let model = cache.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !model.exists() || !golden.exists() {
        eprintln!("skipped: needs {} and {}", model.display(), golden.display());
        return;
    }
    let file = tunesmith_formats::gguf::GgufFile::open(&model).unwrap();
    let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
    let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    for case in golden["losses"].as_array().unwrap() {
        let (user, answer) = (case["user"].as_str().unwrap(), case["answer"].as_str().unwrap());
        let sample = assembler.sample(&conversation(&[("", user, answer)])).unwrap();
        assert_eq!(sample.ids, ids(&case["ids"]));
        let n_prompt = usize::try_from(case["prompt_len"].as_u64().unwrap()).unwrap();
        let expected: Vec<bool> = (0..sample.ids.len()).map(|at| at >= n_prompt).collect();
        assert_eq!(sample.trained, expected);
    }
    for case in golden["generations"].as_array().unwrap() {
        let prompt =
            assembler.prompt_ids(&conversation(&[("", case["user"].as_str().unwrap(), "?")])).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]));
    }
}
