//! Ctrl-C and TERM: the labs of this process are removed before it dies.

use std::process::exit;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::run::Run;

static LIVE: Mutex<Vec<Run>> = Mutex::new(Vec::new());
static WATCHING: Once = Once::new();

/// The shell's convention for "ended by SIGINT".
const INTERRUPTED: i32 = 130;

pub(crate) fn remember(run: &Run) {
    WATCHING.call_once(|| drop(thread::spawn(|| watch(clean_up_and_exit))));
    live().push(run.clone());
}

pub(crate) fn forget(run: &Run) {
    live().retain(|other| other != run);
}

/// For a process whose children own the labs: an interrupt reaches them too,
/// and this one stays to sweep up behind them.
pub fn wait_for_children() {
    WATCHING.call_once(|| {
        drop(thread::spawn(|| {
            watch(|| eprintln!("\ninterrupted: waiting for the tests to end"))
        }));
    });
}

fn live() -> std::sync::MutexGuard<'static, Vec<Run>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clean_up_and_exit() {
    eprintln!("\ninterrupted: removing the lab");
    for run in live().iter() {
        run.remove();
    }
    exit(INTERRUPTED);
}

fn watch(act: impl Fn()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => act(),
                _ = terminate.recv() => act(),
            }
        }
    });
}
