//! Whether WebSockets still get through. Where upgrades stop arriving although requests go
//! on, or are no longer accepted, something before or behind the balancer makes clients
//! fall back to polling, and everything seems to work. It is said in the log and as an
//! event; `docs/operations.md` has what to do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};

use crate::config::Listener;
use crate::events::Events;
use crate::metrics::{Metrics, Traffic};

/// What is judged at a time: long enough for slow traffic, short enough to be told soon.
const WINDOW: Duration = Duration::from_secs(300);
/// Upgrades in a window that show that clients use WebSockets, and that one lost is not
/// chance.
const FEW: u64 = 10;
/// Requests in a window without any upgrade that show that it is not for want of clients.
const MANY: u64 = 100;

/// How it is with the upgrades of a listener to a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Accepted, or nobody wants any.
    Well,
    /// None arrives any more, although requests do.
    Stopped,
    /// They arrive, and less than half are accepted.
    Refused,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
        }
    }
}

/// What is judged, and how it was.
#[derive(Debug)]
struct Watch {
    listener: String,
    target_group: String,
    /// The counts at the end of the last window.
    last: Traffic,
    /// Clients use WebSockets.
    in_use: bool,
    state: State,
}

/// Judges all listeners' upgrades for ever.
pub(crate) async fn watch(listeners: Vec<Listener>, metrics: Arc<Metrics>, events: Events) {
    let mut watches: Vec<Watch> = listeners
        .iter()
        .filter(|listener| listener.protocol.is_http())
        .flat_map(|listener| {
            let groups = listener.target_groups().into_iter();
            groups.map(|group| Watch::new(&listener.name, group))
        })
        .collect();
    loop {
        tokio::time::sleep(WINDOW).await;
        for watch in &mut watches {
            let now = metrics.traffic(&watch.listener, &watch.target_group);
            if let Some(window) = watch.judge(now) {
                watch.tell(window, &events);
            }
        }
    }
}

impl Watch {
    fn new(listener: &str, target_group: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            target_group: target_group.to_owned(),
            last: Traffic::default(),
            in_use: false,
            state: State::Well,
        }
    }

    /// At the end of a window: what there was in it, if the state has changed by it.
    fn judge(&mut self, now: Traffic) -> Option<Traffic> {
        let window = now.since(self.last);
        self.last = now;
        let state = self.state_after(window);
        self.in_use |= window.accepted >= FEW;
        let changed = state != self.state;
        self.state = state;
        changed.then_some(window)
    }

    /// A window with too little in it says nothing.
    fn state_after(&self, window: Traffic) -> State {
        match window.requested {
            0 if self.in_use && window.requests >= MANY => State::Stopped,
            0 => self.state,
            few if window.accepted * 2 >= few => State::Well,
            few if few >= FEW => State::Refused,
            _ => self.state,
        }
    }

    fn tell(&self, window: Traffic, events: &Events) {
        let Traffic {
            requests,
            requested,
            accepted,
        } = window;
        let (listener, target_group) = (&self.listener, &self.target_group);
        let window_seconds = WINDOW.as_secs();
        match self.state {
            State::Well => info!(
                listener,
                target_group,
                requests,
                requested,
                accepted,
                window_seconds,
                "upgrades to WebSocket are accepted again"
            ),
            State::Stopped => warn!(
                listener,
                target_group,
                requests,
                window_seconds,
                "no upgrade to WebSocket arrives any more: clients fall back to polling"
            ),
            State::Refused => warn!(
                listener,
                target_group,
                requested,
                accepted,
                window_seconds,
                "upgrades to WebSocket are not accepted: clients fall back to polling"
            ),
        }
        events.tell(
            "upgrades",
            json!({
                "listener": listener, "target_group": target_group,
                "state": self.state.as_str(), "requests": requests,
                "upgrades_requested": requested, "upgrades_accepted": accepted,
                "window_seconds": window_seconds,
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::config::Config;
    use crate::metrics::{Origin, Upgrade};

    const CONFIG: &str = "[[listener]]\nname='web'\nbind='127.0.0.1:0'\ntarget_group='chat'\n\
                          [[target_group]]\nname='chat'\n";

    /// Requests of a window, some of them upgrades, some of those accepted.
    fn traffic(metrics: &Metrics, requests: u64, requested: u64, accepted: u64) {
        for number in 0..requests {
            let status = StatusCode::OK;
            metrics.request("web", "chat", status, Origin::Target, Duration::ZERO);
            if number < requested {
                metrics.upgrade_requested("web", "chat");
            }
            if number < accepted {
                metrics.upgrade("web", "chat", Upgrade::Accepted);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fall_back_is_told_once_and_its_end_too() {
        let listeners = Config::parse(CONFIG).expect("a configuration").listeners;
        let (metrics, events) = (
            Arc::new(Metrics::new().expect("metrics")),
            Events::default(),
        );
        let mut heard = events.listen();
        tokio::spawn(watch(listeners, metrics.clone(), events));
        // The first window begins with the task.
        tokio::task::yield_now().await;
        for (window, told) in [
            // Nobody has ever used WebSockets.
            ((500, 0, 0), None),
            ((500, 50, 50), None),
            // A quiet night.
            ((3, 0, 0), None),
            ((100, 0, 0), Some("stopped")),
            ((100, 0, 0), None),
            ((100, 1, 1), Some("well")),
            // A few failures are chance.
            ((100, 9, 1), None),
            ((100, 10, 4), Some("refused")),
            ((100, 0, 0), Some("stopped")),
            ((100, 20, 20), Some("well")),
        ] {
            let (requests, requested, accepted) = window;
            traffic(&metrics, requests, requested, accepted);
            tokio::time::sleep(WINDOW).await;
            tokio::task::yield_now().await;
            let event = heard.try_recv().ok();
            let state = event.as_ref().map(|event| event.data["state"].clone());
            assert_eq!(state, told.map(Into::into), "{window:?}");
            if let Some(event) = event {
                assert_eq!(event.kind, "upgrades");
                assert_eq!(event.data["listener"], "web");
                assert_eq!(event.data["upgrades_requested"], requested);
            }
        }
    }
}
