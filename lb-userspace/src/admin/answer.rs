//! Answers of the admin API and their one shape of error.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

/// JSON, with status 200.
pub(super) fn json_answer(value: &Value) -> Response<Full<Bytes>> {
    typed(StatusCode::OK, "application/json", format!("{value}\n"))
}

/// JSON, with status 202: what was asked for goes on after the answer.
pub(super) fn accepted(value: &Value) -> Response<Full<Bytes>> {
    typed(
        StatusCode::ACCEPTED,
        "application/json",
        format!("{value}\n"),
    )
}

/// Plain text.
pub(super) fn text_answer(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

/// The Prometheus text format.
pub(super) fn metrics_answer(text: String) -> Response<Full<Bytes>> {
    typed(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    )
}

/// `{"error": {"code", "message"}}`.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let value = json!({"error": {"code": code, "message": message}});
    typed(status, "application/json", format!("{value}\n"))
}

/// 404.
pub(super) fn not_found(message: &str) -> Response<Full<Bytes>> {
    error(StatusCode::NOT_FOUND, "not_found", message)
}

/// 405: `allowed` is what is possible here.
pub(super) fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("only {allowed} is possible here"),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
