//! `lb_cookie`: the balancer's own cookie, which says the target, sealed. What a
//! request's cookies say, and the cookie that starts a session.

use http::HeaderMap;
use http::header::HeaderValue;

use super::super::cookie;
use super::super::last_seal::LastSeal;
use super::super::seal::{Keyring, Nonce, Payload};
use super::{Answered, Verdict};
use crate::config::{self, Protocol, SameSite};

/// How far another balancer's clock may be ahead of ours, in seconds.
const SKEW: u64 = 300;

/// The cookie of one target group.
#[derive(Debug)]
pub(crate) struct LbCookie {
    name: String,
    attributes: String,
    /// Seconds that a seal is good for.
    duration: u64,
    keys: Keyring,
}

/// A cookie that opened and is of this group and this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) target: u64,
    /// More than half of its time is over.
    pub(super) is_aging: bool,
}

impl LbCookie {
    /// For the clients of one listener.
    pub(crate) fn new(config: &config::Stickiness, protocol: Protocol, keys: Keyring) -> Self {
        Self {
            name: config.cookie.clone(),
            attributes: attributes(config, protocol),
            duration: config.duration.as_secs(),
            keys,
        }
    }

    /// What the request's cookies say: the first that opens wins.
    pub(in super::super) fn read(
        &self,
        headers: &HeaderMap,
        last: &LastSeal,
        group: u64,
        now: u64,
    ) -> (Verdict, Option<u64>) {
        match self.open(headers, last, group, now) {
            Ok(opened) => (Verdict::Valid, Some(opened.target)),
            Err(verdict) => (verdict, None),
        }
    }

    /// The same; the error is why there is nothing to follow.
    pub(super) fn open(
        &self,
        headers: &HeaderMap,
        last: &LastSeal,
        group: u64,
        now: u64,
    ) -> Result<Opened, Verdict> {
        let mut verdict = Verdict::None;
        for value in cookie::values(headers, &self.name) {
            verdict = Verdict::Invalid;
            if let Some(payload) = last.open(&self.keys, value) {
                return self.judge(payload, group, now);
            }
        }
        Err(verdict)
    }

    /// Hides the cookie from targets.
    pub(crate) fn hide(&self, headers: &mut HeaderMap) {
        cookie::hide(headers, &self.name);
    }

    /// Sets the cookie that brings the client back to who has answered.
    pub(super) fn set(&self, by: Answered<'_>, headers: &mut HeaderMap) {
        let nonce = (by.nonce)();
        if let Some(value) = nonce.and_then(|nonce| self.issue(&by.payload(), &nonce)) {
            cookie::set(headers, value);
        }
    }

    /// The `Set-Cookie` value that starts a session on `target`.
    pub(crate) fn issue(&self, payload: &Payload, nonce: &Nonce) -> Option<HeaderValue> {
        let sealed = self.keys.seal(payload, nonce)?;
        HeaderValue::try_from(format!("{}={sealed}{}", self.name, self.attributes)).ok()
    }

    fn judge(&self, payload: Payload, group: u64, now: u64) -> Result<Opened, Verdict> {
        if payload.group != group || payload.created > now.saturating_add(SKEW) {
            return Err(Verdict::Invalid);
        }
        let age = now.saturating_sub(payload.created);
        if age > self.duration {
            return Err(Verdict::Expired);
        }
        Ok(Opened {
            target: payload.target,
            is_aging: age > self.duration / 2,
        })
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
    use crate::config::{Secret, StickinessMode};

    const GROUP: u64 = 5;
    const PAYLOAD: Payload = Payload {
        target: 9,
        group: GROUP,
        created: 1_000,
    };

    fn lb_cookie(same_site: SameSite, protocol: Protocol) -> LbCookie {
        let secrets = vec![Secret::new(vec![1; 16]).expect("long enough")];
        let config = config::Stickiness {
            mode: StickinessMode::LbCookie,
            cookie: "LIMPET".to_owned(),
            same_site,
            domain: String::new(),
            duration: Duration::from_secs(60),
            moves_while_draining: false,
            secrets: Vec::new(),
        };
        LbCookie::new(&config, protocol, Keyring::new(&secrets))
    }

    fn issued(payload: &Payload) -> String {
        let cookie = lb_cookie(SameSite::Lax, Protocol::Http)
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
        lb_cookie(SameSite::Lax, Protocol::Http).read(&headers, &LastSeal::default(), GROUP, now)
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
            let value = lb_cookie(same_site, protocol)
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
