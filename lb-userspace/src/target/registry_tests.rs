//! Changes through the API: made, kept, and there again after a restart.

use std::fs;
use std::time::Duration;

use super::*;
use crate::config::{TargetConfig, TargetGroup};
use crate::events::Events;
use crate::target::State;

/// A registry in a directory of its own, removed with it.
struct Kept {
    directory: PathBuf,
    delay: u64,
}

impl Kept {
    fn new(name: &str) -> Self {
        let directory = format!("limpet-registry-{name}-{}", std::process::id());
        Self {
            directory: std::env::temp_dir().join(directory),
            delay: 60,
        }
    }

    /// As a daemon opens it at `now`; the file names targets 1 and 2.
    fn open(&self, now: u64) -> Registry {
        let targets = [1, 2].map(|number| TargetConfig {
            address: address(number),
            weight: 1,
        });
        let config = TargetGroup {
            deregistration_delay: Duration::from_secs(self.delay),
            targets: targets.to_vec(),
            ..TargetGroup::with_defaults("chat")
        };
        let group = Group::new(&config, Events::default());
        let registry = Registry::open(self.directory.clone(), vec![Arc::new(group)]);
        registry.settle(now);
        registry
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Nothing was said in some tests, so there may be no directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

/// A time that the wall clock has not reached: `Registry::open` settles by it.
const NOW: u64 = 100_000_000_000;
const REGISTER: Change = Change::Register { weight: None };
const DRAIN: Change = Change::Adjust {
    draining: Some(true),
    weight: None,
};
const READY: Change = Change::Adjust {
    draining: Some(false),
    weight: None,
};

fn change(registry: &Registry, number: u8, change: Change, now: u64) -> Result<(), Refused> {
    registry.change_at(&registry.groups()[0], address(number), change, now)
}

fn states(registry: &Registry) -> Vec<(u8, State, u32)> {
    let number = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    };
    registry.groups()[0]
        .snapshot()
        .targets()
        .iter()
        .map(|target| (number(target.address), target.state(), target.weight))
        .collect()
}

#[test]
fn what_was_said_survives_a_restart() {
    let kept = Kept::new("restart");
    let registry = kept.open(NOW);
    change(&registry, 3, Change::Register { weight: Some(5) }, NOW).expect("registered");
    change(&registry, 1, Change::Deregister, NOW).expect("deregistered");
    let weigh = Change::Adjust {
        draining: None,
        weight: Some(0),
    };
    change(&registry, 2, weigh, NOW).expect("weighed");
    let (draining, unused, initial) = (State::Draining, State::Unused, State::Initial);
    let then = [(1, draining, 1), (2, unused, 0), (3, initial, 5)];
    assert_eq!(states(&registry), then);
    assert_eq!(states(&kept.open(NOW + 59)), then);
    assert_eq!(states(&kept.open(NOW + 60)), then[1..]);
}

#[test]
fn a_deregistered_target_leaves_at_its_deadline() {
    let kept = Kept::new("deadline");
    let registry = kept.open(NOW);
    assert_eq!(registry.settle(NOW), None);
    change(&registry, 1, Change::Deregister, NOW).expect("deregistered");
    change(&registry, 1, Change::Deregister, NOW + 30).expect("said twice");
    assert_eq!(registry.settle(NOW + 40), Some(Duration::from_secs(20)));
    assert_eq!(registry.settle(NOW + 60), None);
    assert_eq!(states(&registry), [(2, State::Initial, 1)]);
    assert!(matches!(
        change(&registry, 1, READY, NOW + 60),
        Err(Refused::Unknown(_))
    ));
    change(&registry, 1, REGISTER, NOW + 61).expect("registered again");
    assert_eq!(states(&registry).len(), 2);
}

#[test]
fn a_drain_is_over_at_its_deadline_also_for_a_daemon_that_was_away() {
    let kept = Kept::new("over");
    let registry = kept.open(NOW);
    change(&registry, 1, DRAIN, NOW).expect("drained");
    change(&registry, 2, Change::Deregister, NOW + 10).expect("deregistered");
    let over = |registry: &Registry, now| {
        let over = registry.over(now).into_iter();
        let mut targets: Vec<SocketAddr> = over.map(|one| one.target).collect();
        targets.sort_unstable();
        targets
    };
    assert_eq!(over(&registry, NOW + 59), []);
    assert_eq!(registry.settle(NOW), Some(Duration::from_secs(60)));
    assert_eq!(over(&registry, NOW + 60), [address(1)]);
    assert_eq!(registry.settle(NOW + 60), Some(Duration::from_secs(10)));
    assert_eq!(
        over(&kept.open(NOW + 70), NOW + 70),
        [address(1), address(2)]
    );
    change(&registry, 1, READY, NOW + 71).expect("ready");
    assert_eq!(over(&registry, NOW + 71), [address(2)]);
}

#[test]
fn a_drained_target_can_be_made_ready_again() {
    let kept = Kept::new("drain");
    let registry = kept.open(NOW);
    change(&registry, 1, DRAIN, NOW).expect("drained");
    registry.settle(NOW + 1_000);
    assert_eq!(states(&registry)[0], (1, State::Draining, 1));
    change(&registry, 1, READY, NOW + 1_000).expect("ready");
    assert_eq!(states(&registry)[0], (1, State::Initial, 1));
}

#[test]
fn a_file_cut_anywhere_is_set_aside_and_the_files_targets_are_used() {
    let kept = Kept::new("cut");
    change(&kept.open(NOW), 3, REGISTER, NOW).expect("registered");
    let whole = fs::read(kept.file()).expect("the file");
    // Without the newline at its end it is still whole.
    let lengths = 0..whole.len() - 1;
    for length in lengths.clone() {
        fs::write(kept.file(), &whole[..length]).expect("cut");
        assert_eq!(states(&kept.open(NOW)).len(), 2, "{length} bytes");
        assert!(!kept.file().exists(), "{length} bytes");
    }
    let aside = fs::read_dir(&kept.directory).expect("the directory");
    assert_eq!(aside.count(), lengths.len());
    fs::write(kept.file(), &whole).expect("mended");
    assert_eq!(states(&kept.open(NOW)).len(), 3);
}

#[test]
fn what_cannot_be_kept_is_not_done() {
    let kept = Kept::new("unwritable");
    fs::write(&kept.directory, b"not a directory").expect("a file in the way");
    let registry = kept.open(NOW);
    let refused = change(&registry, 3, REGISTER, NOW);
    fs::remove_file(&kept.directory).expect("out of the way");
    assert!(
        matches!(refused, Err(Refused::NotKept { .. })),
        "{refused:?}"
    );
    assert_eq!(states(&registry).len(), 2);
}

#[test]
fn unchanged_targets_keep_their_snapshot() {
    let kept = Kept::new("unchanged");
    let registry = kept.open(NOW);
    let before = registry.groups()[0].snapshot();
    registry.settle(NOW + 1);
    assert!(Arc::ptr_eq(&before, &registry.groups()[0].snapshot()));
}
