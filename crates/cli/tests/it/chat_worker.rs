//! The worker that answers over pipes, and the forecast: what the studio asks of the program.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::harness::{QUICK_TRAINING, Sandbox, experiment, rows, tiny_model};

struct Worker {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(sandbox: &Sandbox, model: &str) -> (Self, Value) {
        let mut command = sandbox.command(&["chat-worker", "--model", model, "--device", "cpu"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut worker = Self { child, input, output };
        let first = worker.hear();
        (worker, first)
    }

    fn say(&mut self, line: &Value) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        serde_json::from_str(&self.output.next().unwrap().unwrap()).unwrap()
    }

    /// Asks, and returns the pieces of the answer and its end.
    fn ask(&mut self, id: &str, mut line: Value) -> (Vec<String>, Value) {
        line["id"] = json!(id);
        self.say(&line);
        let mut pieces = Vec::new();
        loop {
            let heard = self.hear();
            assert_eq!(heard["id"], id);
            match heard.get("text") {
                Some(text) => pieces.push(text.as_str().unwrap().to_owned()),
                None => return (pieces, heard),
            }
        }
    }

    fn end(self) -> Option<i32> {
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait().unwrap().code()
    }
}

fn question(text: &str, settings: Value) -> Value {
    json!({"chat": {"messages": [{"role": "user", "content": text}], "settings": settings}})
}

#[test]
fn a_worker_answers_as_the_chat_command_does() {
    let sandbox = Sandbox::new();
    let model = tiny_model().display().to_string();
    let (mut worker, ready) = Worker::start(&sandbox, &model);
    assert_eq!((&ready["event"], &ready["device"]), (&json!("ready"), &json!("cpu")), "{ready}");
    assert!(0 < ready["context"].as_u64().unwrap());

    let chat =
        sandbox.run(&["chat", &model, "--max-new-tokens", "6", "--prompt", "say 3", "--json"]).success();
    let expected: Value = serde_json::from_str(&chat.stdout).unwrap();
    let (pieces, end) = worker.ask("a", question("say 3", json!({"max_length_inference": 6})));
    assert_eq!(pieces.concat(), expected["text"].as_str().unwrap());
    assert_eq!(end["done"]["n_prompt_tokens"], expected["n_prompt_tokens"]);
    assert_eq!((&end["done"]["finish"], &end["done"]["n_new_tokens"]), (&json!("max_new_tokens"), &json!(6)));

    // Settings do not leak into the next answer, and the same seed draws the same.
    let drawn = json!({"max_length_inference": 6, "temperature": 1.5, "seed": 7});
    let (first, _) = worker.ask("b", question("say 3", drawn.clone()));
    let (greedy, _) = worker.ask("c", question("say 3", json!({"max_length_inference": 6})));
    let (again, _) = worker.ask("d", question("say 3", drawn));
    assert_eq!((first, greedy), (again, pieces));

    let (_, end) =
        worker.ask("e", json!({"complete": {"prompt": "say", "settings": {"max_length_inference": 3}}}));
    assert_eq!(end["done"]["n_new_tokens"], 3, "{end}");
    let (_, end) = worker.ask("f", json!({"chat": {"messages": []}}));
    assert!(end["error"]["message"].as_str().unwrap().contains("user"), "{end}");
    let (_, end) = worker.ask("g", question("hi", json!({"repetition_penalty": -1})));
    assert!(end["error"]["message"].as_str().unwrap().contains("repetition_penalty"), "{end}");
    let (_, end) = worker.ask("h", question("hi", json!({"temperature": "hot"})));
    assert!(
        end["error"]["message"].as_str().unwrap().contains("'settings.temperature' must be a number"),
        "{end}"
    );
    let (_, end) = worker.ask("i", json!({"chat": "hi"}));
    assert!(end["error"]["message"].as_str().unwrap().contains("'chat'"), "{end}");
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_model_with_an_encoder_answers_each_question_by_itself() {
    let sandbox = crate::sequence_to_sequence::sandbox();
    let (mut worker, ready) = Worker::start(&sandbox, "base");
    assert_eq!((&ready["context"], &ready["has_chat_template"]), (&Value::Null, &json!(true)), "{ready}");
    let settings = json!({"max_length_inference": 5, "num_history": 6});
    let (first, end) = worker.ask("a", question("the sea", settings.clone()));
    let turns = json!({"chat": {"settings": settings, "messages": [
        {"role": "user", "content": "the river"}, {"role": "assistant", "content": "boxes"},
        {"role": "user", "content": "the sea"}]}});
    let (again, end_again) = worker.ask("b", turns);
    assert_eq!(first, again);
    assert_eq!(end["done"]["n_prompt_tokens"], end_again["done"]["n_prompt_tokens"]);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn an_answer_can_be_broken_off_and_the_next_one_is_whole() {
    let sandbox = Sandbox::new();
    let (mut worker, _) = Worker::start(&sandbox, &tiny_model().display().to_string());
    let long = json!({"max_length_inference": 100_000, "min_length_inference": 100_000, "temperature": 1.0});
    let mut line = question("go on", long.clone());
    line["id"] = json!("long");
    worker.say(&line);
    let first = worker.hear();
    if first.get("text").is_some() {
        worker.say(&json!({"cancel": "long"}));
        let end = loop {
            let heard = worker.hear();
            if heard.get("text").is_none() {
                break heard;
            }
        };
        assert!(["cancelled", "max_new_tokens"].contains(&end["done"]["finish"].as_str().unwrap()), "{end}");
    }
    // One that is cancelled before its turn is not begun.
    let mut line = question("go on", long);
    line["id"] = json!("never");
    worker.say(&json!({"cancel": "never"}));
    worker.say(&line);
    assert_eq!(
        worker.hear(),
        json!({"id": "never", "done": {"finish": "cancelled", "n_prompt_tokens": 0,
        "n_new_tokens": 0, "secs": 0.0, "tokens_per_sec": null}})
    );
    let (_, end) = worker.ask("next", question("say 1", json!({"max_length_inference": 2})));
    assert_eq!(end["done"]["n_new_tokens"], 2);
    writeln!(worker.input, "no json").unwrap();
    assert!(worker.hear()["error"]["message"].as_str().unwrap().contains("not a question"));
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_in_the_first_line() {
    let sandbox = Sandbox::new();
    let (worker, first) = Worker::start(&sandbox, "./nowhere");
    assert_eq!(first["event"], "failed");
    assert!(first["message"].as_str().unwrap().contains("nowhere") && first["hint"].is_string(), "{first}");
    assert_eq!(worker.end(), Some(4));
}

#[test]
fn a_forecast_has_the_steps_of_the_run_and_parts_that_add_up() {
    let sandbox = Sandbox::new();
    sandbox.write("rows.jsonl", rows(20));
    sandbox.write("cfg.yaml", experiment(QUICK_TRAINING));
    let forecast = sandbox.run(&["forecast", "-Y", "cfg.yaml", "--device", "cpu", "--json"]).success();
    let forecast: Value = serde_json::from_str(&forecast.stdout).unwrap();
    assert_eq!(forecast["time"]["steps"], 16, "as the run has: {forecast}");
    assert!(0.0 < forecast["time"]["secs"].as_f64().unwrap());
    let memory = &forecast["memory"];
    let sum: u64 =
        memory["parts"].as_array().unwrap().iter().map(|part| part["n_bytes"].as_u64().unwrap()).sum();
    assert_eq!((memory["total_bytes"].as_u64(), &memory["fits"]), (Some(sum), &json!(true)));
    assert!(memory["least_bytes"].as_u64().unwrap() <= sum);
    for suggestion in forecast["suggestions"].as_array().unwrap() {
        let (field, value) = suggestion["changes"].as_object().unwrap().iter().next().unwrap();
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let change = format!("{field}={value}");
        let args = ["forecast", "-Y", "cfg.yaml", "--device", "cpu", "--json", "--set", &change];
        let changed: Value = serde_json::from_str(&sandbox.run(&args).success().stdout).unwrap();
        assert!(changed["memory"]["total_bytes"].as_u64().unwrap() < sum, "{suggestion}");
    }
    let text = sandbox.run(&["forecast", "-Y", "cfg.yaml", "--device", "cpu"]).success().stdout;
    assert!(text.contains("16 steps") && text.contains("GFLOP/s"), "{text}");
    sandbox.run(&["forecast", "-Y", "cfg.yaml", "--model", "./nowhere"]).failure(4, &["nowhere"]);
}
