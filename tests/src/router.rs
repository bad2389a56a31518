//! A router put between the balancer and one end of a lab, before the daemon starts.
//!
//! ```text
//!   balancer 10.71.1.1 ── 10.71.1.3 router 10.72.1.1 ── 10.72.1.2 end
//!            fd71:1::1    fd71:1::3        fd72:1::1    fd72:1::2
//! ```
//! The end keeps its address 10.71.1.2, which is reached through the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::lab::{END, Lab, addresses, interface, settings};
use crate::namespace::Namespace;

/// The router's interface to the balancer, and the one to the end.
const NEAR: &str = "near";
const FAR: &str = "far";

/// A namespace that routes between the balancer and one end; gone with its lab.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    /// The end's own addresses.
    end: [IpAddr; 2],
    /// Its addresses on the router's wire.
    via: [IpAddr; 2],
}

impl Router {
    /// Puts one before end `number`: 0 is the client, others are targets.
    pub fn before(lab: &Lab, number: usize) -> Result<Self> {
        let (end4, end6) = addresses(number, 2);
        let (via4, via6) = beyond(number, 2);
        let router = Self {
            namespace: Namespace::create(lab.run().namespace(&format!("router{number}")))?,
            end: [end4.into(), end6.into()],
            via: [via4.into(), via6.into()],
        };
        settings(&router.namespace)?;
        for family in ["ipv4/conf", "ipv6/conf"] {
            let forwarding = format!("net/{family}/all/forwarding");
            router.namespace.sysctl(&forwarding, "1")?;
        }
        router.plug(lab, number)?;
        Ok(router)
    }

    fn plug(&self, lab: &Lab, number: usize) -> Result<()> {
        let (balancer4, balancer6) = addresses(number, 1);
        let (near4, near6) = addresses(number, 3);
        let (far4, far6) = beyond(number, 1);
        let ([end4, end6], [via4, via6]) = (self.end, self.via);
        let end = lab.end(number);
        lab.replug(number, &self.namespace, NEAR)?;
        let between = format!(
            "link add {FAR} type veth peer name {END} netns {}\n\
             addr add {near4}/24 dev {NEAR}\naddr add {near6}/64 dev {NEAR} nodad\n\
             addr add {far4}/24 dev {FAR}\naddr add {far6}/64 dev {FAR} nodad\n\
             link set lo up\nlink set {NEAR} up\nlink set {FAR} up\n\
             route add default via {balancer4}\nroute add ::/0 via {balancer6}\n",
            end.name()
        );
        self.namespace.ip(&between)?;
        let far_end = format!(
            "addr add {via4}/24 dev {END}\naddr add {via6}/64 dev {END} nodad\n\
             addr add {end4}/32 dev {END}\naddr add {end6}/128 dev {END} nodad\n\
             link set {END} up\n\
             route add default via {far4} src {end4}\nroute add ::/0 via {far6} src {end6}\n"
        );
        end.ip(&far_end)?;
        let name = interface(number);
        let toward_end = format!(
            "route add {end4}/32 via {near4} dev {name}\n\
             route add {end6}/128 via {near6} dev {name}\n"
        );
        lab.balancer.ip(&toward_end)?;
        self.routes("")
    }

    /// From now on no packet toward the end may be longer, in bytes of IP. Its sender
    /// is told by ICMP.
    pub fn narrow(&self, mtu: u32) -> Result<()> {
        // A router only obeys a route's MTU that is locked; the other end of its wire
        // would drop what is longer than an interface's without a word.
        self.routes(&format!("mtu lock {mtu}"))
    }

    fn routes(&self, mtu: &str) -> Result<()> {
        let ([end4, end6], [via4, via6]) = (self.end, self.via);
        self.namespace.ip(&format!(
            "route replace {end4}/32 via {via4} dev {FAR} {mtu}\n\
                 route replace {end6}/128 via {via6} dev {FAR} {mtu}\n"
        ))
    }
}

/// Host `host` on the wire between the router and end `number`.
fn beyond(number: usize, host: u16) -> (Ipv4Addr, Ipv6Addr) {
    let network = u16::try_from(number).expect("a handful of networks");
    let bits = [0x0a48_0000, u32::from(network) << 8, u32::from(host)];
    (
        Ipv4Addr::from_bits(bits.iter().sum()),
        Ipv6Addr::new(0xfd72, network, 0, 0, 0, 0, 0, host),
    )
}
