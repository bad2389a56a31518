//! `PUT`, `PATCH` and `DELETE /v1/target-groups/{group}/targets/{address}`:
//! register, adjust and deregister a target.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::{error, json_answer, not_found, wrong_method};
use super::query::decode;
use super::{Admin, target_groups};
use crate::config::{check_target, check_weight};
use crate::target::{Change, Group, Refused};

/// Far more than any of these needs.
const BODY_BYTES: usize = 4 * 1024;

/// The body of `PUT`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    weight: Option<u32>,
}

/// The body of `PATCH`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjust {
    state: Option<Wish>,
    weight: Option<u32>,
}

/// What a target can be asked to be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Draining,
    Active,
}

impl Admin {
    /// The group and the target that a path names; the target as it was written.
    pub(super) fn target_of(&self, path: &str) -> Option<(Arc<Group>, String)> {
        let (group, address) = path
            .strip_prefix("/v1/target-groups/")?
            .split_once("/targets/")?;
        Some((self.registry.find(group)?.clone(), address.to_owned()))
    }

    pub(super) async fn change_target(
        &self,
        group: Arc<Group>,
        address: String,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let Some(address) = decode(&address).and_then(|text| text.parse::<SocketAddr>().ok())
        else {
            return bad(
                "the target must be an address and port, such as 10.0.0.1:80; names are followed \
                 where the configuration file has them",
            );
        };
        let method = request.method().clone();
        let wanted = match method {
            Method::PUT => read(request).await.and_then(register(address)),
            Method::PATCH => read(request).await.and_then(adjust),
            Method::DELETE => Ok(Change::Deregister),
            Method::GET => return self.show(&group, address),
            _ => return wrong_method("GET, PUT, PATCH, DELETE"),
        };
        match wanted {
            Ok(change) => self.make(group, address, change).await,
            Err(message) => bad(&message),
        }
    }

    async fn make(
        &self,
        group: Arc<Group>,
        address: SocketAddr,
        change: Change,
    ) -> Response<Full<Bytes>> {
        let (registry, changed) = (self.registry.clone(), group.clone());
        // It waits for the disk, which must not hold up requests.
        let change = move || registry.change(&changed, address, change);
        match tokio::task::spawn_blocking(change).await {
            Ok(Ok(())) => self.show(&group, address),
            Ok(Err(refused @ Refused::Unknown(_))) => not_found(&refused.to_string()),
            Ok(Err(refused @ Refused::NotKept { .. })) => failed(&refused.to_string()),
            Err(panicked) => failed(&panicked.to_string()),
        }
    }

    fn show(&self, group: &Group, address: SocketAddr) -> Response<Full<Bytes>> {
        match target_groups::target(group, address, &self.tallies()) {
            Some(target) => json_answer(&target),
            None => not_found(&Refused::Unknown(address).to_string()),
        }
    }
}

fn register(address: SocketAddr) -> impl FnOnce(Register) -> Result<Change, String> {
    move |Register { weight }| {
        check_target(address)?;
        checked(weight).map(|weight| Change::Register { weight })
    }
}

fn adjust(Adjust { state, weight }: Adjust) -> Result<Change, String> {
    if state.is_none() && weight.is_none() {
        return Err("say state (\"draining\" or \"active\"), weight, or both".to_owned());
    }
    let draining = state.map(|wish| match wish {
        Wish::Draining => true,
        Wish::Active => false,
    });
    checked(weight).map(|weight| Change::Adjust { draining, weight })
}

fn checked(weight: Option<u32>) -> Result<Option<u32>, String> {
    match weight.map(check_weight) {
        Some(Err(message)) => Err(format!("weight {message}")),
        Some(Ok(())) | None => Ok(weight),
    }
}

/// The body's JSON; no body is an empty object.
async fn read<T: DeserializeOwned + Default>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), BODY_BYTES)
        .collect()
        .await;
    let bytes = body
        .map_err(|error| format!("the body cannot be read: {error}"))?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the body: {error}"))
}

fn bad(message: &str) -> Response<Full<Bytes>> {
    error(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn failed(message: &str) -> Response<Full<Bytes>> {
    error(StatusCode::INTERNAL_SERVER_ERROR, "not_changed", message)
}
