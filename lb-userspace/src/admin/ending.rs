//! `DELETE /v1/connections`: ends connections, whatever carries them.

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;
use tracing::{info, warn};

use super::Admin;
use super::answer::{accepted, error, json_answer};
use super::query;
use crate::dataplane::EndCause;

impl Admin {
    /// Ends one, now.
    pub(super) async fn end_connection(&self, id: &str) -> Response<Full<Bytes>> {
        let Ok(number) = u64::from_str_radix(id, 16) else {
            let message = "an id is 16 hexadecimal digits";
            return error(StatusCode::BAD_REQUEST, "bad_id", message);
        };
        match self.ender.end_one(number, EndCause::Asked).await {
            Ok(true) => {
                info!(id, "a connection is ended, as was asked for");
                json_answer(&json!({"connections": 1}))
            }
            Ok(false) => error(
                StatusCode::NOT_FOUND,
                "no_such_connection",
                &format!("there is no connection {id}"),
            ),
            Err(failed) => super::unread_table(&failed),
        }
    }

    /// Ends all that match, spread over `end_window`; answers how many they are.
    pub(super) async fn end_connections(&self, query: &str) -> Response<Full<Bytes>> {
        let selection = match query::parse_ending(query) {
            Ok(selection) => selection,
            Err(message) => return error(StatusCode::BAD_REQUEST, "bad_query", &message),
        };
        let ending = match self.ender.select(selection).await {
            Ok(ending) => ending,
            Err(failed) => return super::unread_table(&failed),
        };
        let (count, window) = (ending.count, self.end_window);
        info!(
            query,
            connections = count,
            ?window,
            "connections are ended, as was asked for"
        );
        tokio::spawn(async move {
            if let Err(error) = ending.run(EndCause::Asked, window).await {
                warn!(%error, "not all connections were ended: the flow table could not be read");
            }
        });
        accepted(&json!({"connections": count, "window_seconds": window.as_secs_f64()}))
    }
}
