//! How fast a model reads a prompt and writes an answer.
//!
//!     cargo run --profile quick --example decode_speed -- MODEL [prompt tokens] [new tokens] [sequences]

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use tunesmith_formats::model_source::ModelSource;
use tunesmith_generate::{GenerationSettings, generate};
use tunesmith_models::CausalLm;
use tunesmith_ops::{ChosenDevice, describe, open_device};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().ok_or("give the path of a model")?;
    let number =
        |place: usize, default: usize| arguments.get(place).map_or(Ok(default), |text| text.parse::<usize>());
    let (n_prompt, n_new, n_sequences) = (number(1, 64)?, number(2, 64)?, number(3, 1)?);

    let device = open_device("auto")?;
    let start = Instant::now();
    let source = ModelSource::open(Path::new(path))?;
    let model = CausalLm::load(&source, &device)?;
    println!("{:?}, loaded in {:.1} s", describe(ChosenDevice::CPU), start.elapsed().as_secs_f64());

    let tokenizer = source.tokenizer()?;
    let vocab_size = model.config().vocab_size;
    let prompt = |i: usize| (0..n_prompt).map(|t| ((t * 7919 + i * 104_729) % vocab_size) as u32).collect();
    let prompts: Vec<Vec<u32>> = (0..n_sequences).map(prompt).collect();
    let settings = GenerationSettings { min_new_tokens: n_new, max_new_tokens: n_new, ..Default::default() };
    let answers = generate(&model, &tokenizer, &prompts, &settings, &mut |_, _| ControlFlow::Continue(()))?;

    let longest = |secs: &mut dyn Iterator<Item = f64>| secs.fold(0.0, f64::max);
    let prompt_secs = longest(&mut answers.iter().map(|a| a.first_token_secs));
    let all_secs = longest(&mut answers.iter().map(|a| a.secs));
    println!("prompts: {:.1} tokens/s", (n_prompt * n_sequences) as f64 / prompt_secs);
    let n_decoded = (n_new - 1) * n_sequences;
    println!("answers: {:.1} tokens/s", n_decoded as f64 / (all_secs - prompt_secs));
    Ok(())
}
