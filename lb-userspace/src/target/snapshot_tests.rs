//! Who gets new sessions, by state; and picks while snapshots are swapped.

use std::net::SocketAddr;

use super::super::health::Failure;
use super::super::member::Drain;
use super::*;

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
        .filter_map(|_| snapshot.balance(ANY, &[]))
        .map(|target| match target.address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        })
        .collect();
    reached.sort_unstable();
    reached.dedup();
    reached
}

const ANY: Request = Request {
    source: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    random: 0,
};
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
    use crate::config::{StickinessMode, TargetGroup};
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

#[test]
fn picks_while_targets_come_and_go_are_always_of_one_snapshot() {
    use crate::events::Events;
    use crate::target::Group;
    use crate::target::said::Wanted;

    let group = Group::new(&TargetGroup::with_defaults("chat"), Events::default());
    let wanted = |first: u8| -> Vec<Wanted> {
        (first..first + 3)
            .map(|number| Wanted {
                address: SocketAddr::from(([10, 0, 0, number], 80)),
                weight: 1,
                drain: None,
            })
            .collect()
    };
    let sets = [wanted(1), wanted(4)];
    group.reconcile(&sets[0]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let snapshot = group.snapshot();
                    let picks = (0..3).filter_map(|_| snapshot.balance(ANY, &[]));
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
