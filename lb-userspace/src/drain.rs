//! Ending: the stages that every task of the daemon watches, and the wait for
//! the last of them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How far the daemon is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Running,
    /// Nothing new is taken; requests and userspace tunnels may go on.
    Draining,
    /// The deadline has passed: what is left is closed.
    Closing,
}

/// A task's view; whoever holds one is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    stage: watch::Receiver<Stage>,
    _alive: mpsc::Sender<Infallible>,
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Drainer {
    stage: watch::Sender<Stage>,
    alive: mpsc::Receiver<Infallible>,
}

/// Both sides, in stage `Running`.
pub(crate) fn channel() -> (Drainer, Drain) {
    let (stage_tx, stage) = watch::channel(Stage::Running);
    let (alive_tx, alive) = mpsc::channel(1);
    (
        Drainer {
            stage: stage_tx,
            alive,
        },
        Drain {
            stage,
            _alive: alive_tx,
        },
    )
}

impl Drain {
    /// Returns once `stage` is reached; at once if it has been.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        // The daemon gone counts as the last stage.
        let _ = self.stage.wait_for(|now| *now >= stage).await;
    }

    /// The same for a task that polls it with everything it does: as long as nothing has
    /// changed, only the first poll costs more than a look at a counter.
    pub(crate) fn watch(&self, stage: Stage) -> impl Future<Output = ()> + use<> {
        let changes = self.stage.clone();
        let mut drain = self.clone();
        let mut reached = Box::pin(async move { drain.reached(stage).await });
        let mut is_polled = false;
        poll_fn(move |cx| {
            if is_polled && matches!(changes.has_changed(), Ok(false)) {
                return Poll::Pending;
            }
            is_polled = true;
            reached.as_mut().poll(cx)
        })
    }
}

impl Drainer {
    /// Takes nothing new any more.
    pub(crate) fn start(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Waits for every `Drain` to be dropped; closes what is left at the deadline.
    pub(crate) async fn finish(mut self, deadline: Duration) {
        if tokio::time::timeout(deadline, self.alive.recv())
            .await
            .is_err()
        {
            self.stage.send_replace(Stage::Closing);
            self.alive.recv().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn closes_at_the_deadline_what_does_not_end_itself() {
        let (drainer, mut drain) = channel();
        let task = tokio::spawn(async move {
            drain.reached(Stage::Draining).await;
            drain.reached(Stage::Closing).await;
        });
        drainer.start();
        drainer.finish(Duration::from_secs(30)).await;
        task.await.expect("the task ends");
    }
}
