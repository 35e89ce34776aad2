//! The machine, its events, models, storage and the description of the interface.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tunesmith_server::jobs::{JobKind, JobState};
use tunesmith_server::{openapi_json, router};

use crate::harness::Studio;

#[tokio::test]
async fn the_machine_is_described() {
    let studio = Studio::new();
    let machine = studio.get("/machine").await.ok();
    assert_eq!(
        (&machine["devices"][0]["name"], &machine["devices"][0]["is_default"]),
        (&json!("cpu"), &json!(true))
    );
    for path in ["/memory/total_bytes", "/memory/available_bytes", "/disk/total_bytes", "/disk/free_bytes"] {
        assert!(machine.pointer(path).unwrap().as_u64().unwrap() > 0, "{path}");
    }
    let share = machine["load"]["cpu_share"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&share), "{share}");
}

/// The next message of a stream of events.
async fn next(
    stream: &mut (impl StreamExt<Item = Result<axum::body::Bytes, axum::Error>> + Unpin),
) -> String {
    let piece = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().unwrap();
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn listeners_hear_what_happens_and_what_they_missed() {
    let studio = Studio::new();
    let listen = |last: &str| {
        let request = studio.request("GET", "/events").header("last-event-id", last);
        router(studio.state.clone()).oneshot(request.body(Body::empty()).unwrap())
    };
    let mut stream = listen("99").await.unwrap().into_body().into_data_stream();
    let hello = next(&mut stream).await;
    // A number that this server never gave: everything may be different.
    assert!(hello.contains("event: hello") && hello.contains(r#""missed":1"#), "{hello}");
    let job = studio.state.jobs.start(JobKind::Cleanup, "nothing", |context| {
        context.say("working");
        Ok(json!(7))
    });
    let heard = next(&mut stream).await;
    assert!(heard.contains("event: job") && heard.contains("\"state\":\"running\""), "{heard}");
    assert_eq!(studio.ended(&json!(job)).await["result"], 7);

    // A listener that sleeps is told how much it slept through, and the server keeps no more for it.
    for _ in 0..2_000 {
        studio.state.events.dataset("x", tunesmith_server::events::Change::Changed);
    }
    let mut heard = String::new();
    while !heard.contains("event: missed") {
        heard = next(&mut stream).await;
    }
    let mut stream = listen("nonsense").await.unwrap().into_body().into_data_stream();
    assert!(next(&mut stream).await.contains(r#""missed":0"#));
    studio.state.shutdown.trigger();
    assert!(tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn gv_11_2_a_job_ends_when_it_is_told_to() {
    let studio = Studio::new();
    let job = studio.state.jobs.start(JobKind::Import, "endless", |context| {
        loop {
            context.check()?;
            context.bytes(1, Some(4));
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    studio.post(&format!("/jobs/{}/cancel", job.id), json!({})).await.ok();
    assert_eq!(studio.ended(&json!(job)).await["state"], "cancelled");
    let job = studio.state.jobs.start(JobKind::Import, "broken", |_| panic!("a defect"));
    assert_eq!(studio.ended(&json!(job)).await["state"], "failed");
    assert!(studio.state.jobs.list().iter().all(|job| job.state != JobState::Running));
    studio.post("/jobs/99/cancel", json!({})).await.refused(404);
}

#[tokio::test]
async fn storage_is_counted_and_only_what_comes_again_is_cleaned() {
    let studio = Studio::new();
    let items = studio.get("/storage").await.ok();
    assert_eq!(items.as_array().unwrap().len(), 5);
    studio.post("/storage/datasets/clean", json!({})).await.refused(409);
    studio.post("/storage/nonsense/clean", json!({})).await.refused(404);
    let job = studio.post("/storage/uploads/clean", json!({})).await.ok();
    assert_eq!(studio.ended(&job).await["result"]["freed_bytes"], 0);
}

#[tokio::test]
async fn the_description_names_every_address() {
    let description: Value = serde_json::from_str(&openapi_json()).unwrap();
    let studio = Studio::new();
    assert_eq!(studio.get("/openapi.json").await.ok(), description);
    for path in [
        "/session",
        "/machine",
        "/events",
        "/imports/{id}/check",
        "/datasets/{id}",
        "/config/parse",
        "/secrets/{name}",
    ] {
        assert!(description["paths"].get(path).is_some(), "{path}");
    }
}
