//! The admin API: what the daemon says of itself, and what it is told of targets,
//! in JSON.
//!
//! Doors: loopback, a unix socket, or a bearer token.

mod access;
mod answer;
mod change;
mod connections;
mod door;
mod ending;
mod events;
mod metrics;
mod names;
mod query;
mod status;
mod tally;
mod target_groups;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use serde_json::json;

pub(crate) use door::{bind, serve};
pub(crate) use names::Names;

use crate::config::{Listener, Secret};
use crate::connections::Connections;
use crate::dataplane::Dataplane;
use crate::ender::Ender;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::target::Registry;
use answer::{error, json_answer, text_answer};

/// An answer's body: whole, or events without an end.
type Reply = Either<Full<Bytes>, events::Stream>;

/// What the API can see.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) token: Option<Secret>,
    /// Bound to loopback over TCP: a browser could be tricked into calling.
    pub(crate) check_host: bool,
    pub(crate) started: Instant,
    pub(crate) ready: AtomicBool,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) names: Arc<Names>,
    pub(crate) dataplane: Dataplane,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ender: Ender,
    /// Many connections are ended spread over this.
    pub(crate) end_window: Duration,
    pub(crate) events: Events,
}

impl Admin {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Reply> {
        if let Some(refusal) = self.refuse(&request) {
            return refusal.map(Reply::Left);
        }
        if request.uri().path() == "/v1/events" && request.method() == Method::GET {
            return events::stream(&self.events).map(Reply::Right);
        }
        self.dispatch(request).await.map(Reply::Left)
    }

    /// Whether the caller may not call.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let path = request.uri().path();
        if self.check_host && !access::host_is_local(request.headers()) {
            let message = "Host is not this host";
            return Some(error(StatusCode::FORBIDDEN, "host", message));
        }
        // Probes carry no token, and learn nothing but yes or no.
        let probe = matches!(path, "/healthz" | "/readyz");
        if !probe && !access::has_token(request.headers(), self.token.as_ref()) {
            return Some(access::unauthorized());
        }
        None
    }

    async fn dispatch(self: &Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if let Some((group, address)) = self.target_of(path) {
            return self.change_target(group, address, request).await;
        }
        let query = request.uri().query().unwrap_or_default();
        let answer = match path.strip_prefix("/v1/connections") {
            Some(rest) => self.of_connections(request.method(), rest, query).await,
            None => self.read(request.method(), path),
        };
        answer.unwrap_or_else(|| answer::not_found("there is nothing here"))
    }

    /// What can only be read.
    fn read(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let get = |answer: &dyn Fn() -> Response<Full<Bytes>>| match *method {
            Method::GET | Method::HEAD => answer(),
            _ => answer::wrong_method("GET, HEAD"),
        };
        Some(match path {
            "/healthz" => get(&|| text_answer(StatusCode::OK, "ok\n")),
            "/readyz" => get(&|| self.readiness()),
            "/metrics" => get(&|| self.scrape()),
            "/v1/status" => get(&|| json_answer(&self.status())),
            "/v1/target-groups" => get(&|| json_answer(&self.target_groups())),
            _ => {
                let name = path.strip_prefix("/v1/target-groups/")?;
                let group = self.registry.find(name)?;
                get(&|| json_answer(&self.target_group(group)))
            }
        })
    }

    /// `/v1/connections` and what is below it.
    async fn of_connections(
        self: &Arc<Self>,
        method: &Method,
        rest: &str,
        query: &str,
    ) -> Option<Response<Full<Bytes>>> {
        Some(match (rest.strip_prefix('/'), method) {
            (None, _) if !rest.is_empty() => return None,
            (None, &Method::GET | &Method::HEAD) => self.list_connections(query).await,
            (None, &Method::DELETE) => self.end_connections(query).await,
            (None, _) => answer::wrong_method("GET, HEAD, DELETE"),
            (Some(id), &Method::DELETE) => self.end_connection(id).await,
            (Some(_), _) => answer::wrong_method("DELETE"),
        })
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        if self.ready.load(Ordering::Acquire) {
            text_answer(StatusCode::OK, "ready\n")
        } else {
            text_answer(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }

    async fn list_connections(self: &Arc<Self>, query: &str) -> Response<Full<Bytes>> {
        let filter = match query::parse(query) {
            Ok(filter) => filter,
            Err(message) => return error(StatusCode::BAD_REQUEST, "bad_query", &message),
        };
        let admin = Arc::clone(self);
        // A walk over the flow table is too long for a worker of the runtime.
        let page = tokio::task::spawn_blocking(move || admin.page(&filter)).await;
        match page.map_err(io::Error::other).flatten() {
            Ok(page) => json_answer(&page),
            Err(failed) => unread_table(&failed),
        }
    }

    fn scrape(&self) -> Response<Full<Bytes>> {
        match self.render_metrics() {
            Ok(text) => answer::metrics_answer(text),
            Err(failed) => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics",
                &json!(failed).to_string(),
            ),
        }
    }
}

fn unread_table(failed: &io::Error) -> Response<Full<Bytes>> {
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "flow_table",
        &format!("the flow table could not be read: {failed}"),
    )
}
