//! The modes as a client meets them: what an answer leaves behind, and where the next
//! request goes.

use std::net::{IpAddr, SocketAddr};

use http::header::{COOKIE, HeaderName, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode, request};
use proptest::prelude::*;

use super::*;
use crate::config::{TargetConfig, TargetGroup};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// As long as `TargetGroup::sticky` says.
const DURATION: u64 = 100;

/// A group of targets with these last octets.
fn route(mode: StickinessMode, targets: impl IntoIterator<Item = u8>) -> Route {
    let target = |number| TargetConfig {
        address: SocketAddr::from(([10, 0, 0, number], 80)),
        weight: 1,
    };
    let group = TargetGroup {
        targets: targets.into_iter().map(target).collect(),
        ..TargetGroup::sticky("chat", mode)
    };
    Route::sticky(&group)
}

fn app() -> StickinessMode {
    StickinessMode::AppCookie("JSESSIONID".to_owned())
}

fn header() -> StickinessMode {
    StickinessMode::Header(HeaderName::from_static("x-session"))
}

fn query() -> StickinessMode {
    StickinessMode::Query("sid".to_owned())
}

fn request(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a request").into_parts().0
}

fn answer(status: StatusCode, headers: &[(&str, &str)]) -> Response<()> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("an answer")
}

fn read(route: &Route, head: &request::Parts, now: u64) -> Claim {
    let stickiness = route.stickiness.as_ref().expect("stickiness");
    stickiness.read(Asked {
        head,
        source: CLIENT,
        last_seal: &LastSeal::default(),
        route,
        targets: &route.group.snapshot(),
        now,
    })
}

/// `target` answers the request with `answer`.
fn mark(route: &Route, claim: &Claim, target: u64, now: u64, answer: &mut Response<()>) {
    let stickiness = route.stickiness.as_ref().expect("stickiness");
    stickiness.mark(claim, by(route, target, now), answer);
}

fn by(route: &Route, target: u64, now: u64) -> Answered<'_> {
    Answered {
        route,
        target,
        now,
        nonce: || Some([3; 24]),
    }
}

/// The balancer's cookie among those that are set.
fn own_cookie(headers: &HeaderMap) -> Option<String> {
    let mut set = headers.get_all(SET_COOKIE).iter();
    let own = set.find_map(|value| {
        value
            .to_str()
            .ok()
            .filter(|text| text.starts_with("LIMPET="))
    });
    own.and_then(|text| text.split(';').next())
        .map(str::to_owned)
}

const NEW: [(&str, &str); 1] = [("set-cookie", "JSESSIONID=a1; Path=/")];

#[test]
fn ours_goes_out_when_the_application_sets_its_cookie() {
    let route = route(app(), 1..=3);
    let claim = read(&route, &request("/", &[]), 0);
    let mut plain = answer(StatusCode::OK, &[("set-cookie", "theme=JSESSIONID")]);
    mark(&route, &claim, 7, 0, &mut plain);
    assert_eq!(own_cookie(plain.headers()), None);
    let mut begins = answer(StatusCode::OK, &NEW);
    mark(&route, &claim, 7, 0, &mut begins);
    assert!(own_cookie(begins.headers()).is_some());
    assert_eq!(claim.verdict, Verdict::None);
}

#[test]
fn ours_counts_only_beside_the_applications() {
    let route = route(app(), 1..=3);
    let mut begins = answer(StatusCode::OK, &NEW);
    mark(&route, &Claim::default(), 7, 0, &mut begins);
    let own = own_cookie(begins.headers()).expect("a cookie");
    let both = format!("JSESSIONID=a1; {own}");
    let seen = |cookies: &str, now| {
        let claim = read(&route, &request("/", &[(COOKIE.as_str(), cookies)]), now);
        (claim.verdict, claim.target)
    };
    assert_eq!(seen(&both, 0), (Verdict::Valid, Some(7)));
    assert_eq!(seen(&own, 0), (Verdict::None, None));
    assert_eq!(seen("JSESSIONID=a1", 0), (Verdict::None, None));
    assert_eq!(seen("JSESSIONID=a1; LIMPET=x", 0), (Verdict::Invalid, None));
    assert_eq!(seen(&both, DURATION), (Verdict::Valid, Some(7)));
    assert_eq!(seen(&both, DURATION + 1), (Verdict::Expired, None));
}

#[test]
fn ours_is_renewed_while_the_session_lasts_and_replaced_when_it_moves() {
    let route = route(app(), 1..=3);
    let mut begins = answer(StatusCode::OK, &NEW);
    mark(&route, &Claim::default(), 7, 0, &mut begins);
    let own = own_cookie(begins.headers()).expect("a cookie");
    let both = format!("JSESSIONID=a1; {own}");
    let after = |cookies: &str, now, target| {
        let claim = read(&route, &request("/", &[(COOKIE.as_str(), cookies)]), now);
        let mut head = answer(StatusCode::OK, &[]);
        mark(&route, &claim, target, now, &mut head);
        own_cookie(head.headers())
    };
    assert_eq!(after(&both, DURATION / 2, 7), None);
    assert!(after(&both, DURATION / 2 + 1, 7).is_some());
    // Lost, tampered with, or never there: the next target has the session.
    let moved = after("JSESSIONID=a1", 0, 8).expect("a fresh cookie");
    let both = format!("JSESSIONID=a1; {moved}");
    let claim = read(&route, &request("/", &[(COOKIE.as_str(), &both)]), 0);
    assert_eq!(claim.target, Some(8));
}

#[test]
fn only_ours_is_hidden() {
    let route = route(app(), 1..=3);
    let mut head = request("/", &[("cookie", "JSESSIONID=a1; LIMPET=x; b=c")]);
    let stickiness = route.stickiness.as_ref().expect("stickiness");
    stickiness.hide(&mut head.headers);
    assert_eq!(head.headers[COOKIE], "JSESSIONID=a1; b=c");
}

#[test]
fn an_id_belongs_to_who_answered_with_it() {
    let route = route(header(), 1..=3);
    let claim = read(&route, &request("/", &[]), 0);
    assert_eq!((claim.verdict, claim.target), (Verdict::None, None));
    let mut head = answer(StatusCode::OK, &[("x-session", "abc")]);
    mark(&route, &claim, 7, 0, &mut head);
    assert!(own_cookie(head.headers()).is_none());
    let again = |now| {
        let claim = read(&route, &request("/", &[("x-session", "abc")]), now);
        (claim.verdict, claim.target)
    };
    // Each use makes it last.
    assert_eq!(again(DURATION), (Verdict::Valid, Some(7)));
    assert_eq!(again(2 * DURATION), (Verdict::Valid, Some(7)));
    assert_eq!(again(3 * DURATION + 1), (Verdict::Expired, None));
}

#[test]
fn an_unknown_id_belongs_to_who_accepts_it() {
    for (mode, head) in [
        (header(), request("/", &[("x-session", "a/b")])),
        (query(), request("/socket.io/?EIO=4&sid=a%2Fb&t=1", &[])),
    ] {
        let route = route(mode, 1..=3);
        for (status, learned) in [
            (StatusCode::BAD_REQUEST, None),
            (StatusCode::BAD_GATEWAY, None),
            (StatusCode::SWITCHING_PROTOCOLS, Some(7)),
        ] {
            let claim = read(&route, &head, 0);
            assert_eq!(claim.verdict, Verdict::Invalid);
            mark(&route, &claim, 7, 0, &mut answer(status, &[]));
            assert_eq!(read(&route, &head, 0).target, learned);
        }
    }
}

#[test]
fn an_id_in_a_handshake_is_heard_before_the_client_has_it() {
    let route = route(query(), 1..=3);
    let stickiness = route.stickiness.as_ref().expect("stickiness");
    let claim = read(
        &route,
        &request("/socket.io/?EIO=4&transport=polling", &[]),
        0,
    );
    let head = answer(StatusCode::OK, &[]);
    let mut ear = stickiness
        .ear(&claim, by(&route, 7, 0), &head)
        .expect("an ear");
    assert!(ear.hear(b"0{\"sid\":\"ab"));
    let come_back = request("/socket.io/?EIO=4&transport=polling&sid=abc", &[]);
    assert_eq!(read(&route, &come_back, 0).target, None);
    assert!(!ear.hear(b"c\",\"upgrades\":[]}"));
    let claim = read(&route, &come_back, 0);
    assert_eq!((claim.verdict, claim.target), (Verdict::Valid, Some(7)));
    // Of a session that has begun, and of what cannot be read, nothing is heard.
    assert!(stickiness.ear(&claim, by(&route, 7, 0), &head).is_none());
    for other in [
        answer(StatusCode::NOT_FOUND, &[]),
        answer(StatusCode::OK, &[("content-encoding", "gzip")]),
    ] {
        let ear = stickiness.ear(&Claim::default(), by(&route, 7, 0), &other);
        assert!(ear.is_none());
    }
}

#[test]
fn an_ear_does_not_listen_for_ever() {
    let route = route(query(), 1..=3);
    let stickiness = route.stickiness.as_ref().expect("stickiness");
    let head = answer(StatusCode::OK, &[]);
    let mut ear = stickiness
        .ear(&Claim::default(), by(&route, 7, 0), &head)
        .expect("an ear");
    assert!(ear.hear(b"0{\"a\":\""));
    let pieces = (0..).take_while(|_| ear.hear(&[b'x'; 100])).count();
    assert!(pieces < 50, "{pieces}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Addresses belong to targets whatever the order of the list, and hardly any moves
    /// between two others when a target goes or comes.
    #[test]
    fn addresses_move_only_with_their_target(
        numbers in prop::collection::hash_set(any::<u8>(), 2..12),
    ) {
        let mut numbers: Vec<u8> = numbers.into_iter().collect();
        let before = owners(&numbers);
        numbers.reverse();
        prop_assert_eq!(&before, &owners(&numbers));
        let gone = numbers.pop().expect("two at least");
        let gone = SocketAddr::from(([10, 0, 0, gone], 80));
        let after = owners(&numbers);
        prop_assert!(after.iter().all(|owner| *owner != gone));
        let both = before.iter().zip(&after);
        let moved = both.filter(|(before, after)| **before != gone && before != after);
        let moved = moved.count();
        prop_assert!(moved < SOURCES as usize / 10, "{moved} moved between others");
    }
}

const SOURCES: u32 = 5_000;

/// Whose so many addresses are.
fn owners(numbers: &[u8]) -> Vec<SocketAddr> {
    let route = route(StickinessMode::SourceIp, numbers.iter().copied());
    let snapshot = route.group.snapshot();
    let owner = |source| {
        let source = std::net::Ipv4Addr::from_bits(source);
        snapshot.owner_of(source.into()).expect("an owner").address
    };
    (0..SOURCES).map(owner).collect()
}
