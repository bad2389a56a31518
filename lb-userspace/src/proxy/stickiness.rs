//! Stickiness by the balancer's own cookie: what a request's cookies say, and
//! the cookie that starts a session. No I/O, no clock.

use http::HeaderMap;
use http::header::HeaderValue;

use super::cookie;
use super::seal::{Keyring, Nonce, Payload};
use crate::config::{self, Protocol, SameSite};

/// How far another balancer's clock may be ahead of ours, in seconds.
const SKEW: u64 = 300;

/// What became of the cookie; the label of `stickiness_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was none.
    None,
    /// Followed.
    Valid,
    /// Tampered with, or sealed for something else.
    Invalid,
    /// Older than the stickiness duration.
    Expired,
    /// Its target could not be connected to.
    Down,
    /// Its target is not registered any more, or drains and gives up its clients.
    Unused,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Down => "down",
            Self::Unused => "unused",
        }
    }
}

/// Stickiness of one target group.
#[derive(Debug)]
pub(crate) struct Stickiness {
    name: String,
    attributes: String,
    duration: u64,
    moves_while_draining: bool,
    keys: Keyring,
}

impl Stickiness {
    /// Stickiness for the clients of one listener.
    pub(crate) fn new(config: &config::Stickiness, protocol: Protocol, keys: Keyring) -> Self {
        Self {
            name: config.cookie.clone(),
            attributes: attributes(config, protocol),
            duration: config.duration.as_secs(),
            moves_while_draining: config.moves_while_draining,
            keys,
        }
    }

    /// Whether the holders of a draining target's cookies are balanced anew.
    pub(crate) fn moves_while_draining(&self) -> bool {
        self.moves_while_draining
    }

    /// What the request's cookies say: the first that opens wins.
    pub(crate) fn read(&self, headers: &HeaderMap, group: u64, now: u64) -> (Verdict, Option<u64>) {
        let mut seen = false;
        for value in cookie::values(headers, &self.name) {
            seen = true;
            if let Some(payload) = self.keys.open(value) {
                return self.judge(payload, group, now);
            }
        }
        (
            if seen {
                Verdict::Invalid
            } else {
                Verdict::None
            },
            None,
        )
    }

    /// Hides the cookie from targets.
    pub(crate) fn hide(&self, headers: &mut HeaderMap) {
        cookie::hide(headers, &self.name);
    }

    /// The `Set-Cookie` value that starts a session on `target`.
    pub(crate) fn issue(&self, payload: &Payload, nonce: &Nonce) -> Option<HeaderValue> {
        let sealed = self.keys.seal(payload, nonce)?;
        HeaderValue::try_from(format!("{}={sealed}{}", self.name, self.attributes)).ok()
    }

    fn judge(&self, payload: Payload, group: u64, now: u64) -> (Verdict, Option<u64>) {
        if payload.group != group || payload.created > now.saturating_add(SKEW) {
            return (Verdict::Invalid, None);
        }
        if now.saturating_sub(payload.created) > self.duration {
            return (Verdict::Expired, None);
        }
        (Verdict::Valid, Some(payload.target))
    }
}

fn attributes(config: &config::Stickiness, protocol: Protocol) -> String {
    let mut text = format!("; Path=/; Max-Age={}; HttpOnly", config.duration.as_secs());
    text.push_str(match config.same_site {
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
    });
    // Browsers refuse SameSite=None without Secure.
    if protocol == Protocol::Https || config.same_site == SameSite::None {
        text.push_str("; Secure");
    }
    if !config.domain.is_empty() {
        text.push_str("; Domain=");
        text.push_str(&config.domain);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::COOKIE;

    use super::*;
    use crate::config::Secret;

    const GROUP: u64 = 5;
    const PAYLOAD: Payload = Payload {
        target: 9,
        group: GROUP,
        created: 1_000,
    };

    fn stickiness(same_site: SameSite, protocol: Protocol) -> Stickiness {
        let secrets = vec![Secret::new(vec![1; 16]).expect("long enough")];
        let config = config::Stickiness {
            cookie: "LIMPET".to_owned(),
            same_site,
            domain: String::new(),
            duration: Duration::from_secs(60),
            moves_while_draining: false,
            secrets: Vec::new(),
        };
        Stickiness::new(&config, protocol, Keyring::new(&secrets))
    }

    fn issued(payload: &Payload) -> String {
        let cookie = stickiness(SameSite::Lax, Protocol::Http)
            .issue(payload, &[1; 24])
            .expect("issued");
        cookie
            .to_str()
            .expect("text")
            .split(';')
            .next()
            .expect("a pair")
            .to_owned()
    }

    fn verdict(cookies: &str, now: u64) -> (Verdict, Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookies.parse().expect("a header value"));
        stickiness(SameSite::Lax, Protocol::Http).read(&headers, GROUP, now)
    }

    #[test]
    fn verdicts() {
        let good = issued(&PAYLOAD);
        let foreign = issued(&Payload {
            group: 6,
            ..PAYLOAD
        });
        let forged = format!("{good}x");
        assert_eq!(verdict("a=b", 1_000), (Verdict::None, None));
        assert_eq!(verdict(&good, 1_060), (Verdict::Valid, Some(9)));
        assert_eq!(verdict(&good, 1_061), (Verdict::Expired, None));
        assert_eq!(verdict(&good, 699), (Verdict::Invalid, None));
        assert_eq!(verdict(&forged, 1_000), (Verdict::Invalid, None));
        assert_eq!(verdict(&foreign, 1_000), (Verdict::Invalid, None));
        assert_eq!(
            verdict(&format!("{forged}; {good}"), 1_000),
            (Verdict::Valid, Some(9))
        );
    }

    #[test]
    fn attributes_as_promised() {
        let text = |same_site, protocol| {
            let value = stickiness(same_site, protocol)
                .issue(&PAYLOAD, &[1; 24])
                .expect("issued");
            value
                .to_str()
                .expect("text")
                .split_once(';')
                .expect("attributes")
                .1
                .to_owned()
        };
        assert_eq!(
            text(SameSite::Lax, Protocol::Http),
            " Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            text(SameSite::Lax, Protocol::Https),
            " Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        for protocol in [Protocol::Http, Protocol::Https] {
            assert_eq!(
                text(SameSite::None, protocol),
                " Path=/; Max-Age=60; HttpOnly; SameSite=None; Secure"
            );
        }
    }
}
