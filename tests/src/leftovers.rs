//! What dead runs left behind: a killed test cleans nothing up itself.

use crate::run::Run;

/// Removes everything of runs whose process is gone; answers how many there were.
pub fn sweep() -> usize {
    let dead: Vec<Run> = Run::all()
        .into_iter()
        .filter(|run| !run.is_alive())
        .collect();
    for run in &dead {
        run.remove();
    }
    dead.len()
}
