//! From single results to a target's health, by thresholds.
//!
//! ```text
//!            one success                  unhealthy_threshold failures in a row,
//!  Initial ──────────────▶ Healthy ─────┐ of checks or of connects
//!     │                       ▲         ▼
//!     └────────────────────── │ ──▶ Unhealthy
//!    unhealthy_threshold      └─────────┘
//!    failures                 healthy_threshold successes in a row
//! ```

use super::failure::Failure;
use crate::config::HealthCheck;

/// What is thought of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// No check has succeeded yet.
    Initial,
    Healthy,
    /// With the latest reason.
    Unhealthy(Failure),
}

/// Counts results in a row.
#[derive(Debug)]
pub(crate) struct Judge {
    health: Health,
    successes: u32,
    failures: u32,
    failed_connects: u32,
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self {
            health: Health::Initial,
            successes: 0,
            failures: 0,
            failed_connects: 0,
        }
    }

    /// Books the result of a check; the health if it is another one now.
    pub(crate) fn checked(
        &mut self,
        result: Result<(), Failure>,
        config: &HealthCheck,
    ) -> Option<Health> {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                let enough = match self.health {
                    Health::Initial | Health::Healthy => true,
                    Health::Unhealthy(_) => self.successes >= config.healthy_threshold,
                };
                enough.then(|| self.become_health(Health::Healthy))?
            }
            Err(failure) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                let enough = match self.health {
                    Health::Initial | Health::Healthy => {
                        self.failures >= config.unhealthy_threshold || failure.is_certain()
                    }
                    Health::Unhealthy(_) => true,
                };
                enough.then(|| self.become_health(Health::Unhealthy(failure)))?
            }
        }
    }

    /// Books a connect for a client that failed; the health if it is another one now.
    pub(crate) fn connect_failed(
        &mut self,
        failure: Failure,
        config: &HealthCheck,
    ) -> Option<Health> {
        self.failed_connects = self.failed_connects.saturating_add(1);
        if matches!(self.health, Health::Unhealthy(_))
            || self.failed_connects < config.unhealthy_threshold
        {
            return None;
        }
        self.successes = 0;
        self.become_health(Health::Unhealthy(failure))
    }

    /// Books a connect for a client.
    pub(crate) fn connected(&mut self) {
        self.failed_connects = 0;
    }

    fn become_health(&mut self, health: Health) -> Option<Health> {
        if self.health == health {
            return None;
        }
        if health == Health::Healthy {
            self.failed_connects = 0;
        }
        self.health = health.clone();
        Some(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TargetGroup;

    /// `+` a success, `-` a failed check, `p` one that finds no PROXY protocol, `!` a failed connect, `o` a connect.
    fn after(results: &str) -> Health {
        let config = TargetGroup::with_defaults("chat").health_check;
        let mut judge = Judge::new();
        for result in results.chars() {
            match result {
                '+' => drop(judge.checked(Ok(()), &config)),
                '-' => drop(judge.checked(Err(Failure::Code(503)), &config)),
                'p' => drop(judge.checked(Err(Failure::NoProxyProtocol), &config)),
                '!' => drop(judge.connect_failed(Failure::Refused, &config)),
                'o' => judge.connected(),
                other => panic!("{other}"),
            }
        }
        judge.health
    }

    const CODE: Health = Health::Unhealthy(Failure::Code(503));
    const NO_PROXY: Health = Health::Unhealthy(Failure::NoProxyProtocol);
    const REFUSED: Health = Health::Unhealthy(Failure::Refused);

    #[test]
    fn thresholds() {
        for (results, health) in [
            ("", Health::Initial),
            ("-", Health::Initial),
            ("+", Health::Healthy),
            ("-+", Health::Healthy),
            ("--", CODE),
            ("+-", Health::Healthy),
            ("+-+-", Health::Healthy),
            ("+--", CODE),
            ("+--++++", CODE),
            ("p", NO_PROXY),
            ("+p", NO_PROXY),
            ("+p+++++", Health::Healthy),
            ("+--++++-+", CODE),
            ("+--+++++", Health::Healthy),
            ("+--+++++-", Health::Healthy),
        ] {
            assert_eq!(after(results), health, "{results}");
        }
    }

    #[test]
    fn connects_that_fail_in_a_row_eject() {
        for (results, health) in [
            ("+!", Health::Healthy),
            ("+!!", REFUSED),
            ("!!", REFUSED),
            ("+!o!", Health::Healthy),
            ("+!!o", REFUSED),
            ("+!!++++", REFUSED),
            ("+!!+++++", Health::Healthy),
            ("+!!+++++!", Health::Healthy),
            // A check that still succeeds does not hide that clients cannot connect.
            ("+!+!", REFUSED),
        ] {
            assert_eq!(after(results), health, "{results}");
        }
    }

    #[test]
    fn only_changes_are_told() {
        let config = TargetGroup::with_defaults("chat").health_check;
        let mut judge = Judge::new();
        assert_eq!(judge.checked(Ok(()), &config), Some(Health::Healthy));
        assert_eq!(judge.checked(Ok(()), &config), None);
        assert_eq!(judge.checked(Err(Failure::Malformed), &config), None);
        let unhealthy = judge.checked(Err(Failure::Code(500)), &config);
        assert_eq!(unhealthy, Some(Health::Unhealthy(Failure::Code(500))));
        assert_eq!(judge.checked(Err(Failure::Code(500)), &config), None);
        let other = judge.checked(Err(Failure::Refused), &config);
        assert_eq!(other, Some(REFUSED));
    }
}
