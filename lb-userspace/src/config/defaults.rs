//! Every default of the configuration, each with the reason for its value.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::header::HeaderName;
use ipnet::Ipv4Net;

/// Where a Linux service keeps what must survive a restart.
pub(super) const STATE_DIR: &str = "/var/lib/limpet";
/// Long enough for a request to finish, shorter than service managers wait (90 s).
pub(super) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);
/// Clients that come back arrive spread as well, and nobody waits long for the last.
pub(super) const END_WINDOW: Duration = Duration::from_secs(30);
/// What an operator wants to read without having asked.
pub(super) const LOG_LEVEL: &str = "info";
/// Where containers and service managers look for it.
pub(super) const ACCESS_TO: &str = "stdout";
/// Loopback: reachable for tools on the host, closed to everybody else.
pub(super) const ADMIN_BIND: &str = "127.0.0.1:9900";

/// Room for many connections; the table allocates entries as they come.
pub(super) const MAX_FLOWS: u32 = 1_000_000;
/// Below the usual `ip_local_port_range` (32768-60999), above reserved services.
pub(super) const SOURCE_PORTS: &str = "10000-32767";
/// The usual place of bpffs, in a directory of our own.
pub(super) const PIN_DIR: &str = "/sys/fs/bpf/limpet";

/// The limit that ALB sets on all headers together.
pub(super) const HEADER_BYTES: u64 = 64 * 1024;
/// Far above what browsers send, and what hyper parses without allocating.
pub(super) const HEADER_COUNT: u32 = 100;
/// A slow mobile client manages; a slow-header attack does not last.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Two round trips and a signature, also over a bad mobile network.
pub(super) const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A company behind one address, all of it at once after a restart; far from what
/// occupies the balancer with handshakes that never end.
pub(super) const TLS_HANDSHAKES_PER_SOURCE: u32 = 256;
/// ALB's client keepalive duration: clients come to new addresses and certificates.
pub(super) const CONNECTION_LIFETIME: Duration = Duration::from_secs(3600);
/// Envoy's; a target in the same network answers a SYN in milliseconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What ALB and nginx give a target to begin its answer.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// ALB's idle timeout for HTTP.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Every browser speaks it, and it saves handshakes.
pub(super) const HTTP2: bool = true;
/// WebSockets are quiet by nature; an hour outlives ordinary ping intervals.
pub(super) const WEBSOCKET_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// A fixed response is a sentence unless it says otherwise.
pub(super) const CONTENT_TYPE: &str = "text/plain";
/// ALB's: many applications take what they are told for an address alone.
pub(super) const X_FORWARDED_FOR_PORT: bool = false;
/// Everyone, of both families: who else comes is a matter of the network.
pub(super) const ALLOW: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
/// No limit: a company behind one address is many users.
pub(super) const SYN_RATE: u32 = 0;

/// The name that the documentation and the demo use.
pub(super) const COOKIE: &str = "LIMPET";
/// Java's, which every servlet container sets.
pub(super) const APP_COOKIE: &str = "JSESSIONID";
/// The one that the documentation uses; there is no custom.
pub(super) const STICKINESS_HEADER: HeaderName = HeaderName::from_static("x-session");
/// Socket.IO's.
pub(super) const STICKINESS_QUERY: &str = "sid";
/// ALB's stickiness duration.
pub(super) const STICKINESS: Duration = Duration::from_secs(86_400);
/// ALB's longest stickiness duration.
pub(super) const STICKINESS_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Weights are relative; equal ones need not be written.
pub(super) const WEIGHT: u32 = 1;
/// AWS's largest weight; keeps sums of weights far from overflow.
pub(crate) const WEIGHT_MAX: u32 = 999;
/// ALB's shortest slow start.
pub(super) const SLOW_START_MIN: Duration = Duration::from_secs(30);
/// ALB's longest slow start.
pub(super) const SLOW_START_MAX: Duration = Duration::from_secs(900);
/// ALB's deregistration delay.
pub(super) const DEREGISTRATION_DELAY: Duration = Duration::from_secs(300);
/// ALB's longest deregistration delay.
pub(super) const DEREGISTRATION_DELAY_MAX: Duration = Duration::from_secs(3600);
/// ALB's interval between two health checks of a target.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// ALB's time for a health check.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// ALB's: a target that came back must be seen to stay.
pub(super) const HEALTHY_THRESHOLD: u32 = 5;
/// ALB's: one failure may be chance.
pub(super) const UNHEALTHY_THRESHOLD: u32 = 2;
/// ALB's: anything else is not what the path was made for.
pub(super) const SUCCESS_CODES: &str = "200";
