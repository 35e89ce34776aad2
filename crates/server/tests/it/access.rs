//! Who is let in, and what pages of other origins cannot do.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;
use tunesmith_server::{ServerError, serve};

use crate::harness::{Studio, options};

fn bare(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn foreign_names_of_this_machine_are_not_answered_to() {
    let studio = Studio::new();
    for host in
        ["evil.example:10101", "192.168.1.5:10101", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        let answer = studio.send(bare("GET", "/api/v1/machine", &[("host", host)])).await;
        assert_eq!(answer.refused(403)["code"], "wrong_host", "{host}");
        // Pages and the other interface no less.
        assert_eq!(studio.send(bare("GET", "/", &[("host", host)])).await.status, 403);
        let answer = studio.send(bare("GET", "/v1/models", &[("host", host)])).await;
        assert_eq!(answer.refused(403)["type"], "invalid_request_error");
    }
    for host in ["localhost:10101", "127.0.0.1:10101", "[::1]:10101", "LOCALHOST"] {
        assert_eq!(
            studio.send(bare("GET", "/api/v1/session", &[("host", host)])).await.status,
            200,
            "{host}"
        );
    }
    assert_eq!(studio.send(bare("GET", "/api/v1/session", &[])).await.status, 403);
}

#[tokio::test]
async fn other_origins_and_requests_without_the_header_change_nothing() {
    let studio = Studio::new();
    let host = ("host", "localhost:10101");
    let answer = studio.send(bare("POST", "/api/v1/datasets/sample", &[host])).await;
    assert_eq!(answer.refused(403)["code"], "missing_header");
    for origin in ["http://evil.example", "null", "http://localhost:3000"] {
        let headers = [host, ("x-tunesmith", "1"), ("origin", origin)];
        let answer = studio.send(bare("DELETE", "/api/v1/datasets/x", &headers)).await;
        assert_eq!(answer.refused(403)["code"], "wrong_origin", "{origin}");
    }
    let headers = [host, ("x-tunesmith", "1"), ("origin", "http://localhost:10101")];
    let answer = studio.send(bare("DELETE", "/api/v1/datasets/x", &headers)).await;
    assert_eq!(answer.refused(404)["code"], "not_found");
}

#[tokio::test]
async fn a_password_opens_a_session_that_can_be_ended() {
    let mut studio = Studio::with_password(Some("right"));
    assert_eq!(studio.get("/datasets").await.refused(401)["code"], "not_authenticated");
    let session = studio.get("/session").await.ok();
    assert_eq!((&session["password_required"], &session["authenticated"]), (&json!(true), &json!(false)));
    studio.post("/session", json!({"password": "wrong"})).await.refused(401);
    let answer = studio.post("/session", json!({"password": "right"})).await;
    answer.ok();
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    studio.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    assert_eq!(studio.get("/datasets").await.ok(), json!([]));
    studio.with("DELETE", "/session", json!({})).await.ok();
    studio.get("/datasets").await.refused(401);
    // Programs send it with each request; a name of their choice is fine then.
    let headers = [("host", "studio.example"), ("authorization", "Bearer right")];
    assert_eq!(studio.send(bare("GET", "/api/v1/datasets", &headers)).await.status, 200);
    // The page that asks for the password is free.
    assert_eq!(studio.send(bare("GET", "/", &[("host", "studio.example")])).await.status, 200);
}

#[tokio::test]
async fn after_five_wrong_passwords_the_right_one_waits_too() {
    let studio = Studio::with_password(Some("right"));
    for _ in 0..5 {
        studio.post("/session", json!({"password": "wrong"})).await.refused(401);
    }
    let error = studio.post("/session", json!({"password": "right"})).await.refused(429);
    assert_eq!(error["code"], "too_many_attempts");
}

#[tokio::test]
async fn an_address_for_others_needs_a_password() {
    let folder = tempfile::tempdir().unwrap();
    for host in ["0.0.0.0", "::", "192.168.1.5", "studio.example"] {
        let mut options = options(folder.path(), None);
        options.host = host.to_owned();
        let error = serve(options, |_| panic!("it must not listen")).await.unwrap_err();
        assert!(matches!(error, ServerError::NoPassword { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--password"));
    }
}

#[tokio::test]
async fn pages_allow_no_third_party() {
    let studio = Studio::new();
    for path in ["/", "/experiments/some-run", "/api/v1/session"] {
        let answer = studio.send(bare("GET", path, &[("host", "localhost")])).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("http"), "{policy}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    assert_eq!(studio.send(bare("GET", "/assets/none.js", &[("host", "localhost")])).await.status, 404);
    let answer = studio.get("/none").await;
    assert_eq!(answer.refused(404)["code"], "not_found");
}
