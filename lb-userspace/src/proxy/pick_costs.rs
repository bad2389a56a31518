//! What stickiness costs a request in processor time: measured, not tested.
//! `cargo xtask bench pick` runs it, built for release, alone and on one thread.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};

use super::*;
use crate::balance;
use crate::config::{Algorithm, StickinessMode, TargetConfig, TargetGroup};
use crate::proxy::seal::Keyring;

const ROUNDS: usize = 9;
const CALLS: u32 = 20_000;

/// Prints the middle of several rounds, and their range, in nanoseconds a call.
fn measure(what: &str, mut call: impl FnMut(u32)) {
    let mut rounds: Vec<f64> = (0..=ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..CALLS).for_each(&mut call);
            begun.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        // The first fills the caches.
        .skip(1)
        .collect();
    rounds.sort_by(f64::total_cmp);
    let (least, most) = (rounds[0], rounds[ROUNDS - 1]);
    println!(
        "    {what:<44} {:>6.0} ns ({least:.0}-{most:.0})",
        rounds[ROUNDS / 2]
    );
}

fn route(targets: u32, algorithm: Algorithm, mode: StickinessMode) -> Route {
    let target = |number: u32| TargetConfig {
        address: SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + number), 80)),
        weight: 1,
    };
    let group = TargetGroup {
        algorithm,
        targets: (0..targets).map(target).collect(),
        ..TargetGroup::sticky("chat", mode)
    };
    Route::sticky(&group)
}

fn source(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b9)).into()
}

/// A request of nobody yet: its way to a target, and the cookie of the answer.
fn begin(route: &Route, number: u32) -> Option<http::HeaderValue> {
    let (mut head, ()) = Request::new(()).into_parts();
    let session = Session::open(route, &mut head, source(number), &LastSeal::default());
    let Turn::Target(target, _) = session.turn() else {
        return None;
    };
    let mut answer = Response::new(());
    session.mark(&target, &mut answer);
    answer.headers_mut().remove(SET_COOKIE)
}

fn measure_group(targets: u32) {
    println!("\n{targets} targets");
    let sticky = route(targets, Algorithm::RoundRobin, StickinessMode::LbCookie);
    let cookie = begin(&sticky, 0).expect("a cookie");
    let cookie = cookie
        .to_str()
        .expect("text")
        .split(';')
        .next()
        .expect("a pair");
    measure("cookie opened, its target found", |number| {
        let mut head = Request::new(()).into_parts().0;
        head.headers
            .insert(COOKIE, cookie.parse().expect("a value"));
        let session = Session::open(&sticky, &mut head, source(number), &LastSeal::default());
        assert!(matches!(black_box(session.turn()), Turn::Target(..)));
    });
    measure("no cookie: round robin, cookie sealed", |number| {
        black_box(begin(&sticky, number));
    });
    for (what, algorithm) in [
        ("pick, round_robin", Algorithm::RoundRobin),
        ("pick, least_outstanding", Algorithm::LeastOutstanding),
        ("pick, weighted_random", Algorithm::WeightedRandom),
        ("pick, source_hash", Algorithm::SourceHash),
    ] {
        let snapshot = route(targets, algorithm, StickinessMode::LbCookie)
            .group
            .snapshot();
        let now = tokio::time::Instant::now();
        measure(what, |number| {
            let request = balance::Request {
                source: source(number),
                random: balance::mix(number.into()),
                now,
            };
            black_box(snapshot.balance(request, &[]));
        });
    }
    let owners = route(targets, Algorithm::RoundRobin, StickinessMode::SourceIp);
    let snapshot = owners.group.snapshot();
    measure("owner of an address, source_ip", |number| {
        black_box(snapshot.owner_of(source(number)));
    });
    let begun = Instant::now();
    drop(black_box(route(
        targets,
        Algorithm::RoundRobin,
        StickinessMode::LbCookie,
    )));
    println!(
        "    a snapshot made anew: {:.0} us",
        begun.elapsed().as_secs_f64() * 1e6
    );
}

#[test]
#[ignore = "a measurement, which `cargo xtask bench pick` runs"]
fn pick_costs() {
    let keys = Keyring::new(
        &TargetGroup::sticky("chat", StickinessMode::LbCookie)
            .stickiness
            .expect("stickiness")
            .secrets,
    );
    let payload = crate::proxy::seal::Payload {
        target: 1,
        group: 2,
        created: 3,
    };
    let sealed = keys.seal(&payload, &[7; 24]).expect("sealed");
    println!();
    measure("a cookie's seal opened", |_| {
        assert!(black_box(keys.open(sealed.as_bytes())).is_some());
    });
    measure("a cookie sealed, nonce included", |_| {
        let nonce = nonce().expect("randomness");
        black_box(keys.seal(&payload, &nonce));
    });
    measure_group(10);
    measure_group(10_000);
}
