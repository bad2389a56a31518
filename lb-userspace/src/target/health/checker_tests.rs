//! The rhythm of checks, on a paused clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::time::Instant;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(5);

/// When each of `count` checks was booked, and with what.
async fn booked<Check: Future<Output = Result<(), Failure>>>(
    count: usize,
    check: impl Fn() -> Check,
    random: u64,
) -> Vec<(Duration, Result<(), Failure>)> {
    let (start, booked) = (Instant::now(), Rc::new(RefCell::new(Vec::new())));
    let (done, book) = (tokio::sync::Notify::new(), booked.clone());
    let checks = repeat(
        INTERVAL,
        LIMIT,
        check,
        || random,
        |result| {
            book.borrow_mut().push((start.elapsed(), result));
            if book.borrow().len() == count {
                done.notify_one();
            }
        },
    );
    tokio::select! {
        () = checks => {}
        () = done.notified() => {}
    }
    booked.take()
}

#[tokio::test(start_paused = true)]
async fn at_once_then_anywhere_in_the_interval_then_at_jittered_intervals() {
    for (random, second, third) in [(0, 0, 27), (u64::MAX / 2, 15, 45), (u64::MAX, 30, 63)] {
        let booked = booked(3, || async { Ok(()) }, random).await;
        let seconds: Vec<u128> = booked
            .iter()
            .map(|(at, _)| (at.as_millis() + 500) / 1000)
            .collect();
        assert_eq!(seconds, [0, second, third], "{random}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_is_asked_once_at_a_time() {
    let (running, most) = (Cell::new(0), Cell::new(0));
    let check = || async {
        running.set(running.get() + 1);
        most.set(most.get().max(running.get()));
        let _running = Guard(&running);
        std::future::pending::<Result<(), Failure>>().await
    };
    let booked = booked(4, check, 0).await;
    let timeout = Err(Failure::Timeout(LIMIT));
    assert!(booked.iter().all(|(_, result)| *result == timeout));
    assert_eq!(booked[0].0, LIMIT);
    assert_eq!((most.get(), running.get()), (1, 0));
}

/// Takes one away when a check ends, also by being dropped.
struct Guard<'a>(&'a Cell<u32>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn jitter_stays_within_a_tenth() {
    for random in [0, 1, u64::MAX / 3, u64::MAX] {
        let pause = jittered(INTERVAL, random);
        assert!(
            (INTERVAL * 9 / 10..=INTERVAL * 11 / 10).contains(&pause),
            "{pause:?}"
        );
    }
}
