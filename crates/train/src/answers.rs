//! Answers that a model gives to conversations, as validation compares them with the expected ones.

use std::ops::ControlFlow;

use tunesmith_config::{ExperimentConfig, Prediction};
use tunesmith_data::{Assembler, Conversation};
use tunesmith_generate::{Generated, GenerationSettings, generate};
use tunesmith_models::CausalLm;

use crate::error::TrainError;
use crate::stop::StopFlag;

/// How a run's configuration has answers generated, in validation and in conversations. A temperature of 0 means the most
/// likely token, whatever else is set.
pub fn generation_settings(prediction: &Prediction, seed: u64) -> GenerationSettings {
    let does_sample = prediction.do_sample && 0.0 < prediction.temperature;
    let stop_texts = prediction.stop_tokens.split(',').map(str::to_owned).filter(|text| !text.is_empty());
    GenerationSettings {
        min_new_tokens: prediction.min_length_inference,
        max_new_tokens: prediction.max_length_inference,
        do_sample: does_sample,
        temperature: if does_sample { prediction.temperature as f32 } else { 1.0 },
        top_k: prediction.top_k,
        top_p: prediction.top_p as f32,
        min_p: prediction.min_p as f32,
        repetition_penalty: prediction.repetition_penalty as f32,
        num_beams: prediction.num_beams,
        seed,
        stop_texts: stop_texts.collect(),
        stop_ids: Vec::new(),
        max_time_secs: prediction.max_time,
    }
}

/// The answers to the last prompt of each conversation, without what the chat template itself writes in front of one, `n_at_once` together (0 counts as 1; speed and memory only).
///
/// `progress` is told how many are done. `None` when `stop` was raised meanwhile.
///
/// # Errors
/// When a conversation cannot become a prompt or the model cannot continue it.
pub fn answer_all(
    model: &CausalLm,
    config: &ExperimentConfig,
    assembler: &Assembler,
    conversations: &[&Conversation],
    seed: u64,
    n_at_once: usize,
    stop: &StopFlag,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<String>>, TrainError> {
    let settings = GenerationSettings {
        stop_texts: assembler.stop_texts().to_vec(),
        stop_ids: assembler.stop_ids(),
        ..generation_settings(&config.prediction, seed)
    };
    let mut answers = Vec::with_capacity(conversations.len());
    for portion in conversations.chunks(n_at_once.max(1)) {
        let prompts = portion.iter().map(|one| prompt(assembler, one)).collect::<Result<Vec<_>, _>>()?;
        let mut go_on = |_: usize, _: u32| {
            if stop.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let generated = generate(model, assembler.tokenizer(), &prompts, &settings, &mut go_on)?;
        if stop.is_raised() {
            return Ok(None);
        }
        let expected = portion.iter().map(|one| one.rounds.last().map_or("", |round| round.answer.as_str()));
        let spoken =
            |(answer, expected): (Generated, &str)| assembler.spoken(&answer.text, expected).to_owned();
        answers.extend(generated.into_iter().zip(expected).map(spoken));
        progress(answers.len());
    }
    Ok(Some(answers))
}

/// The tokens to continue: the prompt, or where there is none the end of the text before.
fn prompt(assembler: &Assembler, conversation: &Conversation) -> Result<Vec<u32>, TrainError> {
    let ids = assembler.prompt_ids(conversation)?;
    Ok(if ids.is_empty() { vec![assembler.tokenizer().eos_id()] } else { ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prediction_settings_are_passed_on() {
        let prediction = Prediction {
            do_sample: true,
            temperature: 0.5,
            stop_tokens: "a,,b".to_owned(),
            max_length_inference: 9,
            min_p: 0.25,
            num_beams: 3,
            ..Prediction::default()
        };
        let settings = generation_settings(&prediction, 3);
        assert!(settings.do_sample);
        assert_eq!((settings.min_p, settings.num_beams), (0.25, 3));
        assert_eq!((settings.temperature, settings.max_new_tokens, settings.seed), (0.5, 9, 3));
        assert_eq!(settings.stop_texts, ["a", "b"]);
        let greedy = generation_settings(&Prediction { temperature: 0.0, ..prediction }, 3);
        assert!(!greedy.do_sample && greedy.check().is_ok());
    }
}
