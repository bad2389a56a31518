//! The search: every state that can be reached, and whether the good end can still
//! be reached from it.

use std::collections::HashMap;
use std::fmt;

use crate::start;
use crate::system::{Daemon, Rules, System};

/// What a search without harm has seen, in states.
#[derive(Debug)]
pub(crate) struct Searched {
    pub(crate) visited: usize,
    pub(crate) committed: usize,
    /// Committed after a hold, the queues not read yet.
    pub(crate) held: usize,
    pub(crate) killed: usize,
    pub(crate) finished: usize,
}

/// What a search may find.
#[derive(Debug)]
pub(crate) enum Harm {
    /// A byte arrived in another's place; the state before.
    Wrong(Box<System>),
    /// A state from which the bytes can never all arrive.
    Stuck(Box<System>),
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Harm::Wrong(state) => write!(f, "a wrong byte arrives from {state:#?}"),
            Harm::Stuck(state) => write!(f, "no way on from {state:#?}"),
        }
    }
}

/// Visits everything reachable, then walks back from the finished states.
pub(crate) fn explore(rules: Rules) -> Result<Searched, Harm> {
    let mut numbers = HashMap::from([(start(rules), 0_u32)]);
    let mut states = vec![start(rules)];
    let mut before: Vec<Vec<u32>> = vec![Vec::new()];
    let mut at = 0;
    while at < states.len() {
        let state = states[at];
        let steps = state.steps().map_err(|_| Harm::Wrong(Box::new(state)))?;
        for next in steps {
            let fresh = u32::try_from(states.len()).expect("fewer than 2^32 states");
            let number = *numbers.entry(next).or_insert(fresh);
            if number == fresh {
                states.push(next);
                before.push(Vec::new());
            }
            before[number as usize].push(at as u32);
        }
        at += 1;
    }
    stuck(&states, &before).map_or(Ok(()), |state| Err(Harm::Stuck(Box::new(state))))?;
    Ok(count(&states))
}

/// The first state that cannot finish though nobody was killed too early.
fn stuck(states: &[System], before: &[Vec<u32>]) -> Option<System> {
    let mut finishes = vec![false; states.len()];
    let mut todo: Vec<usize> = (0..states.len())
        .filter(|at| states[*at].finished())
        .collect();
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut finishes[at], true) {
            todo.extend(before[at].iter().map(|from| *from as usize));
        }
    }
    let lost = |at: &usize| !finishes[*at] && states[*at].daemon != Daemon::Killed;
    (0..states.len()).find(lost).map(|at| states[at])
}

fn count(states: &[System]) -> Searched {
    let with = |what: fn(&System) -> bool| states.iter().filter(|state| what(state)).count();
    Searched {
        visited: states.len(),
        committed: with(|state| matches!(state.daemon, Daemon::Committed | Daemon::Closed)),
        held: with(|state| state.daemon == Daemon::Reading),
        killed: with(|state| state.daemon == Daemon::Killed),
        finished: with(System::finished),
    }
}
