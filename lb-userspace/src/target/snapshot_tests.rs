//! Who gets new sessions, by state; and picks while snapshots are swapped.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
use proptest::test_runner::Config as ProptestConfig;

use super::super::health::Failure;
use super::super::member::Drain;
use super::super::said::Wanted;
use super::*;
use crate::config::Algorithm;
use crate::events::Events;
use crate::target::Group;

fn target(number: u8, health: Health) -> Target {
    let address = SocketAddr::from(([10, 0, 0, number], 80));
    Target {
        health,
        ..Target::new("chat", address, 1)
    }
}

fn snapshot(targets: &[Target]) -> Snapshot {
    Snapshot::new(
        targets.iter().cloned().map(Arc::new).collect(),
        &TargetGroup::with_defaults("chat"),
    )
}

/// The last octets of those that twelve picks reach, each once.
fn reached(targets: &[Target]) -> Vec<u8> {
    let snapshot = snapshot(targets);
    let mut reached: Vec<u8> = (0..12)
        .filter_map(|_| snapshot.balance(any(), &[]))
        .map(|target| match target.address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        })
        .collect();
    reached.sort_unstable();
    reached.dedup();
    reached
}

fn any() -> Request {
    Request {
        source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        random: 0,
        now: Instant::now(),
    }
}

const UNHEALTHY: Health = Health::Unhealthy(Failure::Refused);
const DRAIN: Option<Drain> = Some(Drain {
    until: 0,
    leave: false,
});

#[test]
fn the_healthy_before_the_initial_before_the_unhealthy() {
    let (initial, healthy) = (target(1, Health::Initial), target(2, Health::Healthy));
    let (other, sick) = (target(3, Health::Healthy), target(4, UNHEALTHY));
    let all = [initial.clone(), healthy, other, sick.clone()];
    assert_eq!(reached(&all), [2, 3]);
    assert_eq!(reached(&[initial.clone(), sick.clone()]), [1]);
    assert_eq!(reached(&[sick.clone(), target(5, UNHEALTHY)]), [4, 5]);
    assert_eq!(reached(&[]), [0; 0]);
    assert!(!snapshot(&all).fails_open());
    assert!(snapshot(&[sick]).fails_open());
}

#[test]
fn the_draining_and_the_unweighted_get_nobody_new() {
    let draining = Target {
        drain: DRAIN,
        ..target(1, Health::Healthy)
    };
    let unused = Target {
        weight: 0,
        ..target(2, Health::Healthy)
    };
    let sick = target(3, UNHEALTHY);
    // Failing open is for those that would get requests if they were well.
    assert_eq!(reached(&[draining.clone(), unused.clone(), sick]), [3]);
    assert_eq!(reached(&[draining, unused]), [0; 0]);
}

#[test]
fn a_cookies_target_is_down_only_while_others_are_not() {
    let (sick, well) = (target(1, UNHEALTHY), target(2, Health::Healthy));
    assert!(snapshot(&[sick.clone(), well.clone()]).is_down(&sick));
    assert!(!snapshot(&[sick.clone(), well.clone()]).is_down(&well));
    assert!(!snapshot(&[sick.clone(), target(3, UNHEALTHY)]).is_down(&sick));
    // Nobody else is there at all.
    let draining = Target {
        drain: DRAIN,
        ..sick.clone()
    };
    assert!(!snapshot(std::slice::from_ref(&draining)).is_down(&draining));
}

/// The owner of many addresses among these, and who stands in for it.
fn owners_and_stand_ins(targets: &[Target]) -> Vec<(u64, Option<u64>)> {
    use crate::config::StickinessMode;
    let config = TargetGroup::sticky("chat", StickinessMode::SourceIp);
    let targets = targets.iter().cloned().map(Arc::new).collect();
    let snapshot = Snapshot::new(targets, &config);
    (0..200)
        .map(|last| {
            let source = IpAddr::from([192, 0, 2, last]);
            let owner = snapshot.owner_of(source).expect("an owner").id;
            let stand_in = snapshot.stand_in(source, &[owner]);
            (owner, stand_in.map(|target| target.id))
        })
        .collect()
}

#[test]
fn an_owner_keeps_its_addresses_whatever_its_state() {
    let well = |number| target(number, Health::Healthy);
    let all = [well(1), well(2), well(3)];
    let before = owners_and_stand_ins(&all);
    let sick = target(2, UNHEALTHY);
    let after = owners_and_stand_ins(&[well(1), sick.clone(), well(3)]);
    for ((owner, stand_in), (now, then)) in before.into_iter().zip(after) {
        assert_eq!(owner, now);
        // Nobody is sent to the sick one, and only who would have been goes elsewhere.
        assert!(then.is_some_and(|id| id != owner && id != sick.id));
        assert!(stand_in == then || stand_in == Some(sick.id));
    }
}

/// Of so many picks, those that reach the last target.
fn picks_of_the_last(algorithm: Algorithm, share: u64, picks: u64) -> u64 {
    let now = Instant::now();
    let warmth = match share {
        WHOLE => Warmth::Warm,
        share => Warmth::Warming {
            since: now - Duration::from_millis(share),
            until: now + Duration::from_millis(WHOLE - share),
        },
    };
    let warming = Target {
        warmth,
        ..target(3, Health::Healthy)
    };
    let targets = [1, 2].map(|number| target(number, Health::Healthy));
    let targets: Vec<Arc<Target>> = targets.into_iter().chain([warming]).map(Arc::new).collect();
    let last = targets[2].id;
    let config = TargetGroup {
        algorithm,
        ..TargetGroup::with_defaults("chat")
    };
    let snapshot = Snapshot::new(targets, &config);
    let mut held = Vec::new();
    let chosen = (0..picks).filter(|pick| {
        let request = Request {
            random: mix(*pick),
            now,
            ..any()
        };
        let target = snapshot.balance(request, &[]).expect("a target");
        held.push(target.load().begin());
        target.id == last
    });
    chosen.count() as u64
}

#[test]
fn who_warms_up_gets_its_share_of_its_share() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastOutstanding,
        Algorithm::WeightedRandom,
    ] {
        for (share, expected) in [(1, 0), (250, 333), (500, 600), (WHOLE, 1_000)] {
            let picks = picks_of_the_last(algorithm, share, 3_000);
            assert!(
                picks.abs_diff(expected) < 90,
                "{algorithm:?}: {picks} of 3000 at {share} of 1000"
            );
        }
    }
}

#[test]
fn the_only_one_there_gets_everything_however_cold() {
    let now = Instant::now();
    let cold = Target {
        warmth: Warmth::Warming {
            since: now,
            until: now + Duration::from_secs(60),
        },
        ..target(7, Health::Healthy)
    };
    assert_eq!(reached(&[cold]), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_comes_to_others_starts_slowly() {
    let config = TargetGroup {
        slow_start: Duration::from_secs(100),
        ..TargetGroup::with_defaults("chat")
    };
    let group = Group::new(&config, Events::default());
    let check_all = || {
        for target in group.snapshot().targets() {
            group.checked(target, Ok(()));
        }
    };
    let share_of = |number| {
        let address = SocketAddr::from(([10, 0, 0, number], 80));
        let snapshot = group.snapshot();
        let target = snapshot.targets().iter().find(|one| one.address == address);
        target.expect("registered").warmth.share(Instant::now())
    };
    group.reconcile(&[wanted(1), wanted(2)]);
    check_all();
    assert_eq!([1, 2].map(share_of), [WHOLE, WHOLE]);
    group.reconcile(&[wanted(1), wanted(2), wanted(3)]);
    tokio::time::advance(Duration::from_secs(1_000)).await;
    check_all();
    assert_eq!([1, 3].map(share_of), [WHOLE, 1]);
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(share_of(3), 500);
    // A change of somebody else does not begin it anew.
    group.reconcile(&[wanted(1), wanted(3)]);
    assert_eq!(share_of(3), 500);
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(share_of(3), WHOLE);
    // Lost, and back.
    let snapshot = group.snapshot();
    for _ in 0..config.health_check.unhealthy_threshold {
        group.checked(&snapshot.targets()[1], Err(Failure::Refused));
    }
    for _ in 0..config.health_check.healthy_threshold {
        group.checked(&snapshot.targets()[1], Ok(()));
    }
    assert_eq!([1, 3].map(share_of), [WHOLE, 1]);
}

fn wanted(number: u8) -> Wanted {
    Wanted {
        address: SocketAddr::from(([10, 0, 0, number], 80)),
        weight: 1,
        drain: None,
    }
}

/// One change of a group.
#[derive(Debug, Clone)]
enum Change {
    /// It has these targets, with these weights, some of them draining.
    Targets(Vec<(u8, u32, bool)>),
    /// This one's checks have this result.
    Checked(u8, bool),
}

fn change() -> impl Strategy<Value = Change> {
    let target = (1..12u8, 0..4u32, any_bool());
    prop_oneof![
        prop::collection::vec(target, 0..8).prop_map(|mut targets| {
            targets.sort_unstable();
            targets.dedup_by_key(|(number, _, _)| *number);
            Change::Targets(targets)
        }),
        (1..12u8, any_bool()).prop_map(|(number, well)| Change::Checked(number, well)),
    ]
}

fn any_bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

fn apply(group: &Group, change: &Change) {
    match change {
        Change::Targets(targets) => {
            let wanted: Vec<Wanted> = targets
                .iter()
                .map(|(number, weight, draining)| Wanted {
                    weight: *weight,
                    drain: DRAIN.filter(|_| *draining),
                    ..wanted(*number)
                })
                .collect();
            group.reconcile(&wanted);
        }
        Change::Checked(number, well) => {
            let address = SocketAddr::from(([10, 0, 0, *number], 80));
            let snapshot = group.snapshot();
            let target = snapshot.targets().iter().find(|one| one.address == address);
            if let Some(target) = target {
                for _ in 0..5 {
                    let failed = Err(Failure::Refused);
                    group.checked(target, if *well { Ok(()) } else { failed });
                }
            }
        }
    }
}

/// Whoever is picked is who a snapshot of that moment gives new sessions to.
fn check_picks(group: &Group, seed: u64) {
    let snapshot = group.snapshot();
    let request = Request {
        random: mix(seed),
        ..any()
    };
    let mut tried = Vec::new();
    while let Some(target) = snapshot.balance(request, &tried) {
        assert!(snapshot.takes_new(target) && target.weight > 0 && target.drain.is_none());
        assert!(snapshot.find(target.id).is_some() && !tried.contains(&target.id));
        tried.push(target.id);
    }
    // Each of them once, and nobody else.
    let open = |target: &&Arc<Target>| snapshot.takes_new(target);
    let open = snapshot.targets().iter().filter(open).count();
    assert_eq!(tried.len(), open);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_change_under_any_picks_leaves_them_right(
        algorithm in prop::sample::select(vec![
            Algorithm::RoundRobin,
            Algorithm::LeastOutstanding,
            Algorithm::WeightedRandom,
        ]),
        changes in prop::collection::vec(change(), 1..60),
    ) {
        let config = TargetGroup {
            algorithm,
            slow_start: Duration::from_secs(60),
            ..TargetGroup::with_defaults("chat")
        };
        let group = Group::new(&config, Events::default());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..2u64 {
                let (group, over) = (&group, &over);
                scope.spawn(move || {
                    for seed in (thread..).step_by(2) {
                        check_picks(group, seed);
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            for change in &changes {
                apply(&group, change);
                check_picks(&group, 0);
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn picks_while_targets_come_and_go_are_always_of_one_snapshot() {
    let group = Group::new(&TargetGroup::with_defaults("chat"), Events::default());
    let sets = [[1, 2, 3].map(wanted), [4, 5, 6].map(wanted)];
    group.reconcile(&sets[0]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let snapshot = group.snapshot();
                    let picks = (0..3).filter_map(|_| snapshot.balance(any(), &[]));
                    let mut ids: Vec<u64> = picks.map(|target| target.id).collect();
                    // Others take turns too: a pick is of this snapshot all the same.
                    assert!(ids.iter().all(|id| snapshot.find(*id).is_some()));
                    assert_eq!(snapshot.targets().len(), 3);
                    ids.dedup();
                    assert!(!ids.is_empty());
                }
            });
        }
        for turn in 0..500 {
            group.reconcile(&sets[(turn + 1) % 2]);
        }
    });
    let last: Vec<SocketAddr> = group
        .snapshot()
        .targets()
        .iter()
        .map(|one| one.address)
        .collect();
    assert_eq!(
        last,
        sets[0].iter().map(|one| one.address).collect::<Vec<_>>()
    );
}
