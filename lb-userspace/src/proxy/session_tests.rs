//! Waiting for room at targets that are full, by a paused clock.

use std::net::{Ipv4Addr, SocketAddr};

use http::Request;

use super::*;
use crate::config::{TargetConfig, TargetGroup};
use crate::events::Events;
use crate::target::Group;

const PATIENCE: Duration = Duration::from_secs(5);

/// A group of so many targets, with room for one each.
fn route(targets: u8) -> Arc<Route> {
    let target = |number| TargetConfig {
        address: SocketAddr::from(([10, 0, 0, number], 80)),
        weight: 1,
    };
    let config = TargetGroup {
        max_connections: 1,
        targets: (0..targets).map(target).collect(),
        ..TargetGroup::with_defaults("chat")
    };
    Arc::new(Route {
        group: Arc::new(Group::new(&config, Events::default())),
        stickiness: None,
    })
}

fn session(route: &Route) -> Session<'_> {
    let (mut head, ()) = Request::new(()).into_parts();
    Session::open(
        route,
        &mut head,
        Ipv4Addr::LOCALHOST.into(),
        &LastSeal::default(),
    )
}

/// One that belongs to this target.
fn of(route: &Route, target: u64) -> Session<'_> {
    let mut session = session(route);
    session.claim.target = Some(target);
    session
}

fn ended(route: &Route) -> [u64; 3] {
    Ended::ALL.map(|how| route.group.queue().count(how))
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_waits_for_it_in_turn() {
    let route = route(2);
    let (_, one) = session(&route).target(PATIENCE).await.expect("room");
    let (other, two) = session(&route).target(PATIENCE).await.expect("room");
    let wait = |route: Arc<Route>| {
        tokio::spawn(async move {
            let target = session(&route).target(PATIENCE).await;
            target.map(|(target, in_flight)| (target.id, in_flight))
        })
    };
    let (first, second) = (wait(route.clone()), wait(route.clone()));
    while route.group.queue().waiting() < 2 {
        tokio::task::yield_now().await;
    }
    drop(two);
    let (id, _held) = first.await.expect("no panic").expect("room");
    assert_eq!(id, other.id);
    assert!(!second.is_finished());
    drop(one);
    assert!(second.await.expect("no panic").is_some());
    assert_eq!(ended(&route), [2, 0, 0]);
    assert_eq!(route.group.queue().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let route = route(1);
    let _held = session(&route).target(PATIENCE).await.expect("room");
    let mut late = session(&route);
    let begun = Instant::now();
    assert!(late.target(PATIENCE).await.is_none());
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(late.fault(Fault::NoTarget), Fault::TargetsFull);
    assert_eq!(ended(&route), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_its_own_target_and_goes_first() {
    let route = route(2);
    let (own, held) = session(&route).target(PATIENCE).await.expect("room");
    let (_, other) = session(&route).target(PATIENCE).await.expect("room");
    let anyone = {
        let route = route.clone();
        tokio::spawn(async move { session(&route).target(PATIENCE).await.is_some() })
    };
    let sticky = {
        let (route, id) = (route.clone(), own.id);
        tokio::spawn(async move {
            let (target, _) = of(&route, id).target(PATIENCE).await.expect("room");
            target.id
        })
    };
    while route.group.queue().waiting() < 2 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert_eq!(sticky.await.expect("no panic"), own.id);
    drop(other);
    assert!(anyone.await.expect("no panic"));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let route = route(1);
    let _held = session(&route).target(PATIENCE).await.expect("room");
    let queue = route.group.queue();
    let places: Vec<_> = std::iter::from_fn(|| queue.enter()).collect();
    let mut late = session(&route);
    let begun = Instant::now();
    assert!(late.target(PATIENCE).await.is_none());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(late.fault(Fault::NoTarget), Fault::TargetsFull);
    assert_eq!(ended(&route), [0, 0, 1]);
    drop(places);
    assert_eq!(queue.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_ends_makes_room() {
    let route = route(1);
    let (target, in_flight) = session(&route).target(PATIENCE).await.expect("room");
    in_flight.handed_off();
    target.load().counted(1, target.load().counting());
    let waiting = {
        let route = route.clone();
        tokio::spawn(async move { session(&route).target(PATIENCE).await.is_some() })
    };
    while route.group.queue().waiting() < 1 {
        tokio::task::yield_now().await;
    }
    target.load().counted(0, target.load().counting());
    assert!(waiting.await.expect("no panic"));
}
