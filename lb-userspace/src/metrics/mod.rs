//! What the daemon counts. Labels hold names of the configuration and fixed
//! words only, never what a client sent.
//!
//! A file for each subject: its metrics, and the verbs of [`Metrics`] about it.
//! What others keep the numbers of is in `gauges`.

mod builder;
mod certificates;
mod gauges;
mod rejected;
mod requests;
mod targets;
mod tunnel;
mod upgrades;

#[cfg(test)]
mod tests;

use prometheus::{Registry, TextEncoder};

pub(crate) use gauges::Gauges;
pub(crate) use requests::Origin;
pub(crate) use tunnel::TunnelMetrics;
pub(crate) use upgrades::{Traffic, Upgrade};

use builder::Builder;
use certificates::CertificateMetrics;
use rejected::Rejected;
use requests::Requests;
use targets::TargetMetrics;
use upgrades::Upgrades;

/// All counters of the daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Requests,
    upgrades: Upgrades,
    rejected: Rejected,
    certificates: CertificateMetrics,
    targets: TargetMetrics,
    tunnel: TunnelMetrics,
    pub(crate) gauges: Gauges,
}

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("limpet".to_owned()), None)?;
        let new = Builder(&registry);
        let info = new.gauges(
            "build_info",
            "The version that runs; always 1",
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: Requests::new(&new)?,
            upgrades: Upgrades::new(&new)?,
            rejected: Rejected::new(&new)?,
            certificates: CertificateMetrics::new(&new)?,
            targets: TargetMetrics::new(&new)?,
            tunnel: TunnelMetrics::new(&new)?,
            gauges: Gauges::new(&new)?,
            registry,
        })
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
