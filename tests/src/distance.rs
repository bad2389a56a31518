//! A long way to one end: what passes there arrives later, by a wire of bounded width.
//! (netem would do it; kernels like this one come without.)
//!
//! ```text
//! balancer ── near │ carrier │ far ── eth0 end
//! ```

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::{END, Lab, interface};
use crate::namespace::Namespace;
use crate::tap::Tap;

const NEAR: &str = "near";
const FAR: &str = "far";
/// 100 Mbit/s, in bytes per second.
const RATE: f64 = 12.5e6;
/// What may wait for its turn at the wire, as time; what comes beyond is lost.
const QUEUE: Duration = Duration::from_millis(40);
/// How often the carrier asks whether it may end.
const IDLE: Duration = Duration::from_millis(50);

/// A namespace that takes its time between the balancer and one end.
#[derive(Debug)]
pub struct Distance {
    ended: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
    _namespace: Namespace,
}

impl Distance {
    /// Moves end `number` (0 is the client, others are targets) so far away that a frame
    /// takes this long, either way.
    pub fn to(lab: &Lab, number: usize, delay: Duration) -> Result<Self> {
        let namespace = Namespace::create(lab.run().namespace(&format!("distance{number}")))?;
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        let end = lab.end(number);
        lab.replug(number, &namespace, NEAR)?;
        let between = format!(
            "link add {FAR} type veth peer name {END} netns {}\n\
             link set {NEAR} promisc on up\nlink set {FAR} promisc on up\n",
            end.name()
        );
        namespace.ip(&between)?;
        lab.settle(number)?;
        // The carrier takes frames as they are on a wire.
        for (namespace, name) in [(end, END), (&lab.balancer, &interface(number))] {
            let features = ["tx", "off", "tso", "off", "gso", "off"];
            namespace.output(Command::new("ethtool").args(["-K", name]).args(features))?;
        }
        let wires = [
            Tap::on_interface(&namespace, NEAR)?,
            Tap::on_interface(&namespace, FAR)?,
        ];
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let carrier = thread::spawn(move || carry(&wires, delay, &until));
        Ok(Self {
            ended,
            carrier: Some(carrier),
            _namespace: namespace,
        })
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(carrier) = self.carrier.take() {
            // It has nothing to say.
            let _ = carrier.join();
        }
    }
}

/// Frames under way in one direction.
#[derive(Default)]
struct Way {
    frames: VecDeque<(Instant, Vec<u8>)>,
    /// When the wire is free again.
    free: Option<Instant>,
}

impl Way {
    fn enter(&mut self, frame: Vec<u8>, delay: Duration) {
        let now = Instant::now();
        let begins = self.free.map_or(now, |free| free.max(now));
        if begins - now > QUEUE {
            return;
        }
        let free = begins + Duration::from_secs_f64(frame.len() as f64 / RATE);
        self.free = Some(free);
        self.frames.push_back((free + delay, frame));
    }

    /// Puts what has arrived on the next wire.
    fn leave(&mut self, to: &Tap) {
        let now = Instant::now();
        while let Some((_, frame)) = self.frames.pop_front_if(|(due, _)| *due <= now) {
            // A wire that takes no more loses it, as any wire.
            let _ = to.send(&frame);
        }
    }
}

fn carry(wires: &[Tap; 2], delay: Duration, ended: &AtomicBool) {
    let mut ways = [Way::default(), Way::default()];
    while !ended.load(Relaxed) {
        for (index, way) in ways.iter_mut().enumerate() {
            while let Ok(Some(frame)) = wires[index].next() {
                way.enter(frame, delay);
            }
            way.leave(&wires[1 - index]);
        }
        let due = ways.iter().filter_map(|way| way.frames.front());
        let next = due.map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let pause = next.min().unwrap_or(IDLE).min(IDLE);
        // Frames are taken in with the next look if this fails.
        let _ = wait(wires, pause);
    }
}

/// Waits for a frame, or until the time is over; to the millisecond.
fn wait(wires: &[Tap; 2], most: Duration) -> Result<()> {
    let mut ready = wires
        .each_ref()
        .map(|wire| PollFd::new(wire.as_fd(), PollFlags::POLLIN));
    let most = PollTimeout::try_from(most.as_millis() + 1)?;
    poll(&mut ready, most)?;
    Ok(())
}
