//! Answers graded by another model: a server of the test's own that grades, fails, is slow, or talks rubbish.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tunesmith_data::{Cell, read_table};
use tunesmith_train::{
    Evaluation, EventBody, JudgeEndpoint, NoObserver, NoteLevel, Observer, RunSummary, StopFlag, TrainError,
    run,
};

use crate::stub::{Reply, Request, Stub};
use crate::support::Bench;

const KEY: &str = "sk-topsecret-of-the-test";

/// Keeps what a run says.
#[derive(Default)]
struct Notes(Vec<(NoteLevel, String)>);

impl Observer for Notes {
    fn event(&mut self, _event: &tunesmith_train::Event) {}

    fn note(&mut self, level: NoteLevel, text: &str) {
        self.0.push((level, text.to_owned()));
    }
}

impl Notes {
    /// Fails unless there is a warning with all these words.
    #[track_caller]
    fn assert_warning(&self, words: &[&str]) {
        let mut warnings = self.0.iter().filter(|(level, _)| *level == NoteLevel::Warning);
        assert!(
            warnings.any(|(_, text)| words.iter().all(|word| text.contains(word))),
            "{words:?} in {:?}",
            self.0
        );
    }
}

/// Runs of one bench, judged by a server.
struct Judged {
    bench: Bench,
    stub: Stub,
}

impl Judged {
    fn by(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self { bench: Bench::new(), stub: Stub::start(handler) }
    }

    fn endpoint(&self, more: &[(&str, &str)]) -> JudgeEndpoint {
        let base = format!("{}/v1", self.stub.endpoint);
        let prompts = self.bench.path("prompts").display().to_string();
        let usual = [
            ("OPENAI_API_BASE", base.as_str()),
            ("OPENAI_API_KEY", KEY),
            ("LLM_RETRY_ATTEMPTS", "1"),
            ("LLM_TIMEOUT", "5"),
            ("TUNESMITH_PROMPTS", &prompts),
        ];
        let variable = |name: &str| {
            let value = more.iter().chain(&usual).find(|(known, _)| *known == name);
            value.map(|(_, value)| (*value).to_owned())
        };
        JudgeEndpoint::from_variables(variable).unwrap().unwrap()
    }

    /// One evaluation of a model that then learns nothing: quick, and the same answers everywhere.
    fn run(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        changes: &[(&str, &str)],
    ) -> (Result<RunSummary, TrainError>, Notes) {
        let usual = [
            ("prediction.metric", "GPT"),
            ("prediction.metric_gpt_model", "judge-1"),
            ("prediction.max_length_inference", "3"),
            ("training.epochs", "0"),
        ];
        let changes: Vec<(&str, &str)> = usual.iter().chain(changes).copied().collect();
        let mut request = self.bench.request(name, self.bench.config(&changes));
        request.judge = Some(self.endpoint(variables));
        let mut notes = Notes::default();
        (run(&request, &mut notes, &StopFlag::new()), notes)
    }

    fn evaluations(&self, name: &str) -> Vec<Evaluation> {
        let evaluation = |event| match event {
            EventBody::Evaluation(evaluation) => Some(evaluation),
            _ => None,
        };
        self.bench.events(name).into_iter().filter_map(|event| evaluation(event.body)).collect()
    }

    /// The cells of a column of the predictions.
    fn column(&self, name: &str, column: &str) -> Vec<String> {
        let table = read_table(&self.bench.folder(name).predictions(), None).unwrap();
        let column = table.column_idx(column).unwrap();
        table.rows.iter().map(|row| Cell::text(&row[column])).collect()
    }
}

/// What an OpenAI-compatible server answers.
fn completion(text: &str) -> Reply {
    Reply::ok(json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string())
}

/// What the server was asked: the body and the user's message in it.
fn asked(request: &Request) -> (Value, String) {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let text = body["messages"][1]["content"].as_str().unwrap().to_owned();
    (body, text)
}

/// Every file of a run folder, to look for what must not be there.
fn everything_in(folder: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() { everything_in(&path) } else { std::fs::read(path).unwrap() });
    }
    bytes
}

#[test]
fn scores_reasons_and_their_mean_are_kept_and_the_key_is_not() {
    let n = AtomicUsize::new(0);
    let judged = Judged::by(move |_| {
        completion(&format!(
            "EXPLANATION: so, \"it\" is\nSCORE: 0.{}",
            n.fetch_add(1, Ordering::SeqCst) % 2 + 3
        ))
    });
    let (summary, notes) = judged.run("run", &[], &[]);
    let summary = summary.unwrap();
    let evaluation = &judged.evaluations("run")[0];
    let scores: Vec<f64> = judged.column("run", "GPT").iter().map(|text| text.parse().unwrap()).collect();
    assert!(scores.len() >= 4 && scores.iter().all(|score| [0.3, 0.4].contains(score)), "{scores:?}");
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    assert!((evaluation.metric_value.unwrap() - mean).abs() < 1e-12);
    assert_eq!((evaluation.metric.as_str(), evaluation.higher_is_better), ("GPT", true));
    assert_eq!(summary.validation_metric, evaluation.metric_value);
    assert_eq!(evaluation.grading.as_ref().unwrap().n_failed, 0);
    assert!(evaluation.metrics.contains_key("BLEU") && evaluation.perplexity.is_some());
    assert!(judged.column("run", "explanation").iter().all(|text| text == "so, \"it\" is"));

    let requests = judged.stub.requests();
    assert_eq!(requests.len(), scores.len());
    for request in &requests {
        let (body, text) = asked(request);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
        assert_eq!(
            (&body["model"], &body["temperature"], &body["max_tokens"]),
            (&json!("judge-1"), &json!(0), &json!(1024))
        );
        assert!(text.contains("What is ") && text.contains("It is "), "{text}");
    }
    assert!(
        notes.0.iter().any(|(_, text)| text.contains("graded by judge-1 at http://127.0.0.1")),
        "{:?}",
        notes.0
    );
    let files = everything_in(&judged.bench.path("run"));
    assert!(!files.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
    assert!(notes.0.iter().all(|(_, text)| !text.contains(KEY)));
}

#[test]
fn failed_answers_are_left_out_or_count_zero_as_asked() {
    // Whether a row fails depends on the row, so that both runs see the same.
    let fails = |text: &str| text.contains("What is 2") || text.contains("What is 1");
    let handler = move |request: &Request| {
        let (_, text) = asked(request);
        if fails(&text) { completion("I would rather not say.") } else { completion("SCORE: 0.5") }
    };
    let judged = Judged::by(handler);
    let (outcome, notes) = judged.run("left_out", &[], &[]);
    outcome.unwrap();
    let left_out = &judged.evaluations("left_out")[0];
    let grading = left_out.grading.as_ref().unwrap();
    assert!(0 < grading.n_failed && grading.n_failed < grading.n_asked, "{grading:?}");
    assert_eq!(left_out.metric_value, Some(0.5));
    assert_eq!(
        judged.column("left_out", "GPT").iter().filter(|cell| cell.is_empty()).count(),
        grading.n_failed
    );
    notes.assert_warning(&["did not grade", "left out", "SCORE:"]);

    let (outcome, notes) = judged.run("zero", &[], &[("prediction.metric_gpt_failures", "zero")]);
    outcome.unwrap();
    let share = 1.0 - grading.n_failed as f64 / grading.n_asked as f64;
    let zero = judged.evaluations("zero")[0].metric_value.unwrap();
    assert!((zero - 0.5 * share).abs() < 1e-12, "{zero}");
    notes.assert_warning(&["counted as 0"]);
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let n = AtomicUsize::new(0);
    let judged = Judged::by(move |_| match n.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new("429 Too Many Requests", "slowly").with("Retry-After", "0"),
        1 => Reply::new("500 Internal Server Error", ""),
        2 => completion("SCORE: 1").cut_after(10),
        _ => completion("SCORE: 1"),
    });
    judged.run("run", &[("LLM_RETRY_ATTEMPTS", "4")], &[]).0.unwrap();
    let evaluation = &judged.evaluations("run")[0];
    assert_eq!((evaluation.metric_value, evaluation.grading.as_ref().unwrap().n_failed), (Some(1.0), 0));
}

#[test]
fn a_server_that_never_answers_costs_time_and_the_metric_but_not_the_run() {
    let judged = Judged::by(|_| {
        thread::sleep(Duration::from_secs(30));
        completion("SCORE: 1")
    });
    let started = Instant::now();
    let changes =
        [("training.epochs", "1"), ("training.evaluation_epochs", "1"), ("training.save_checkpoint", "best")];
    let (summary, notes) = judged.run("run", &[("LLM_TIMEOUT", "1")], &changes);
    let summary = summary.unwrap();
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    assert!(summary.adapter_dir.unwrap().join("adapter_model.safetensors").is_file());
    assert_eq!((summary.validation_metric, summary.best_metric), (None, None));
    let evaluation = &judged.evaluations("run")[0];
    let grading = evaluation.grading.as_ref().unwrap();
    assert_eq!((evaluation.metric_value, grading.n_failed), (None, grading.n_asked));
    assert!(evaluation.loss.is_finite() && !evaluation.metrics.contains_key("GPT"));
    notes.assert_warning(&["did not grade", "timeout"]);
    notes.assert_warning(&["GPT has no value"]);
}

#[test]
fn a_wrong_key_is_noticed_at_once_and_not_repeated() {
    let judged = Judged::by(|_| {
        Reply::new("401 Unauthorized", json!({"error": {"message": format!("wrong key {KEY}")}}).to_string())
    });
    let (outcome, notes) = judged.run("run", &[("LLM_RETRY_ATTEMPTS", "9")], &[]);
    outcome.unwrap();
    notes.assert_warning(&["401", "wrong key …"]);
    assert!(notes.0.iter().all(|(_, text)| !text.contains(KEY)));
    assert!(judged.stub.requests().len() <= 8, "the first answers say it all");
}

#[test]
fn rubbish_is_no_score() {
    let n = AtomicUsize::new(0);
    let judged = Judged::by(move |_| match n.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => Reply::ok("<html>"),
        1 => Reply::ok("{\"choices\": []}"),
        2 => Reply::ok("[1, 2"),
        _ => completion("SCORE: much"),
    });
    judged.run("run", &[], &[]).0.unwrap();
    let evaluation = &judged.evaluations("run")[0];
    let grading = evaluation.grading.as_ref().unwrap();
    assert_eq!((evaluation.metric_value, grading.n_failed), (None, grading.n_asked));
}

#[test]
fn servers_that_want_the_limit_under_another_name_get_it() {
    let judged = Judged::by(|request| {
        let (body, _) = asked(request);
        if body["max_tokens"].is_null()
            && body["max_completion_tokens"] == 1024
            && body["temperature"].is_null()
        {
            return completion("SCORE: 1");
        }
        let message = "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens'";
        Reply::new("400 Bad Request", json!({"error": {"message": message}}).to_string())
    });
    judged.run("run", &[], &[]).0.unwrap();
    assert_eq!(judged.evaluations("run")[0].metric_value, Some(1.0));
}

#[test]
fn azure_is_asked_at_its_own_path_with_its_own_header() {
    let judged = Judged::by(|_| completion("SCORE: 1"));
    let base = judged.stub.endpoint.clone();
    let variables = [
        ("OPENAI_API_TYPE", "azure"),
        ("OPENAI_API_BASE", base.as_str()),
        ("OPENAI_API_DEPLOYMENT_ID", "mine"),
        ("OPENAI_API_VERSION", "2024-06-01"),
    ];
    judged.run("run", &variables, &[]).0.unwrap();
    let request = &judged.stub.requests()[0];
    assert_eq!(request.path, "/openai/deployments/mine/chat/completions?api-version=2024-06-01");
    assert_eq!((request.header("api-key"), request.header("authorization")), (KEY, ""));
}

#[test]
fn no_more_rows_are_graded_than_asked_for() {
    let judged = Judged::by(|_| completion("SCORE: 1"));
    judged.run("run", &[("GPT_EVAL_MAX", "2")], &[]).0.unwrap();
    assert_eq!(judged.stub.requests().len(), 2);
    let cells = judged.column("run", "GPT");
    assert_eq!(cells.iter().filter(|cell| !cell.is_empty()).count(), 2);
    // Spread over the rows, not the first two.
    let rows: Vec<usize> = judged.column("run", "row").iter().map(|row| row.parse().unwrap()).collect();
    let mut by_row: Vec<(usize, &String)> = rows.into_iter().zip(&cells).collect();
    by_row.sort();
    let graded: Vec<usize> = (0..by_row.len()).filter(|idx| !by_row[*idx].1.is_empty()).collect();
    assert_eq!(graded, [0, by_row.len() / 2]);
    assert_eq!(judged.evaluations("run")[0].metric_value, Some(1.0));
}

#[test]
fn limited_chains_are_graded_once_for_each_sample() {
    let judged = Judged::by(|_| completion("SCORE: 1"));
    let mut rows = "instruction,output,id,parent_id\n".to_owned();
    for chain in 0..6 {
        rows +=
            &format!("first {chain},a {chain},{chain}-1,\nsecond {chain},b {chain},{chain}-2,{chain}-1\n");
    }
    std::fs::write(judged.bench.path("rows.csv"), rows).unwrap();
    let changes = [
        ("dataset.parent_id_column", "parent_id"),
        ("dataset.id_column", "id"),
        ("dataset.limit_chained_samples", "true"),
        ("dataset.validation_size", "0.4"),
    ];
    judged.run("run", &[], &changes).0.unwrap();
    let requests = judged.stub.requests();
    let cells = judged.column("run", "GPT");
    assert!(!cells.is_empty() && cells.len() == requests.len() && cells.iter().all(|cell| cell == "1"));
    // The prompt is the last question alone.
    assert!(requests.iter().all(|request| !asked(request).1.contains("first ")));
}

#[test]
fn any_column_can_be_asked_about() {
    let judged = Judged::by(|_| completion("SCORE: 1"));
    std::fs::create_dir(judged.bench.path("prompts")).unwrap();
    std::fs::write(judged.bench.path("prompts/mine.txt"), "{{}} {topic}: {_PROMPT} {_PREDICTED_TEXT}")
        .unwrap();
    let template = [("prediction.metric_gpt_template", "mine")];
    let refused = judged.run("missing", &[], &template).0.unwrap_err();
    assert!(refused.to_string().contains("\"topic\""), "{refused}");

    let mut rows = "instruction,output,topic\n".to_owned();
    for row in 0..20 {
        rows += &format!("question {row},answer,topic {row}\n");
    }
    std::fs::write(judged.bench.path("rows.csv"), rows).unwrap();
    judged.run("run", &[], &template).0.unwrap();
    for request in judged.stub.requests() {
        let (_, text) = asked(&request);
        let number = text.strip_prefix("{} topic ").unwrap().split(':').next().unwrap();
        assert!(text.contains(&format!(": question {number} ")), "{text}");
    }
    let unknown = judged.run("unknown", &[], &[("prediction.metric_gpt_template", "none")]).0.unwrap_err();
    assert!(unknown.to_string().contains("general, mine, mt-bench, rag"), "{unknown}");
}

#[test]
fn questions_with_categories_take_the_place_of_the_validation_rows() {
    let judged = Judged::by(|request| {
        let (_, text) = asked(request);
        let score = if text.contains("a correct result") { 2 } else { 8 };
        completion(&format!("SCORE: {score}"))
    });
    let template = [("prediction.metric_gpt_template", "mt-bench")];
    let refused = judged.run("missing", &[], &template).0.unwrap_err();
    assert!(refused.to_string().contains("question.jsonl"), "{refused}");
    std::fs::create_dir_all(judged.bench.path("prompts/mt-bench")).unwrap();
    let questions = "{\"category\": \"math\", \"turns\": [\"1 + 1?\", \"again\"], \"reference\": [\"2\"]}\n\
                     {\"category\": \"writing\", \"turns\": [\"A poem.\"]}\n";
    std::fs::write(judged.bench.path("prompts/mt-bench/question.jsonl"), questions).unwrap();
    judged.run("run", &[], &template).0.unwrap();
    let metrics = &judged.evaluations("run")[0].metrics;
    assert_eq!([metrics["GPT"], metrics["GPT-math"], metrics["GPT-writing"]], [5.0, 2.0, 8.0]);
    assert_eq!(judged.column("run", "prompt"), ["1 + 1?", "A poem."]);
}

#[test]
fn nobody_to_grade_means_perplexity_and_a_run_keeps_its_judge() {
    let judged = Judged::by(|_| completion("SCORE: 1"));
    let changes = [("prediction.metric", "GPT"), ("training.epochs", "1")];
    let request = judged.bench.request("alone", judged.bench.config(&changes));
    let mut notes = Notes::default();
    let summary = run(&request, &mut notes, &StopFlag::new()).unwrap();
    assert_eq!(summary.metric.as_deref(), Some("Perplexity"));
    notes.assert_warning(&["prediction.metric", "OPENAI_API_KEY"]);
    assert!(judged.stub.requests().is_empty());

    // A run that was graded cannot go on with another measure of what is best.
    let stop = StopFlag::new();
    let mut request = judged.bench.request(
        "run",
        judged.bench.config(&[("prediction.metric", "GPT"), ("prediction.max_length_inference", "3")]),
    );
    request.judge = Some(judged.endpoint(&[]));
    struct StopAfter(StopFlag);
    impl Observer for StopAfter {
        fn event(&mut self, event: &tunesmith_train::Event) {
            if matches!(event.body, EventBody::Evaluation(_)) {
                self.0.raise();
            }
        }
    }
    run(&request, &mut StopAfter(stop.clone()), &stop).unwrap();
    request.resume = true;
    let judge = request.judge.take();
    let refused = run(&request, &mut NoObserver, &StopFlag::new()).unwrap_err().to_string();
    assert!(refused.contains("judged by (was GPT, is Perplexity)"), "{refused}");
    request.judge = judge;
    let summary = run(&request, &mut NoObserver, &StopFlag::new()).unwrap();
    assert_eq!(summary.best_metric, Some(1.0));
}
