//! Which certificate a client gets: by the name it asks for (SNI, RFC 6066
//! section 3), else the first.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The certificates of a listener; replaced all together.
#[derive(Debug)]
pub(crate) struct Certificates {
    served: ArcSwap<Served>,
}

#[derive(Debug)]
struct Served {
    default: Option<Arc<CertifiedKey>>,
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// The first pair is the default; of several for a name, the first is served.
    pub(crate) fn new(pairs: &[Pair]) -> Self {
        Self {
            served: ArcSwap::from_pointee(Served::new(pairs)),
        }
    }

    /// Serves these from the next handshake on.
    pub(super) fn replace(&self, pairs: &[Pair]) {
        self.served.store(Arc::new(Served::new(pairs)));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served.load().choose(hello.server_name())
    }
}

impl Served {
    fn new(pairs: &[Pair]) -> Self {
        let mut named = HashMap::new();
        for pair in pairs {
            for name in pair.names() {
                named
                    .entry(name.clone())
                    .or_insert_with(|| pair.certified().clone());
            }
        }
        Self {
            default: pairs.first().map(|pair| pair.certified().clone()),
            named,
        }
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        name.and_then(|name| self.find(name))
            .or(self.default.as_ref())
            .cloned()
    }

    /// The name itself before a wildcard, which stands for one label.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.named.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::authority::Authority;

    #[test]
    fn a_name_before_a_wildcard_before_the_default() {
        let authority = Authority::new();
        let pairs = [
            authority.pair(&["default.test"]),
            authority.pair(&["*.a.test", "a.test"]),
            authority.pair(&["x.a.test", "A.test"]),
        ];
        let served = Served::new(&pairs);
        let chosen = |name| {
            let chosen = served.choose(name).expect("a certificate");
            pairs
                .iter()
                .position(|pair| Arc::ptr_eq(pair.certified(), &chosen))
        };
        assert_eq!(chosen(None), Some(0));
        assert_eq!(chosen(Some("elsewhere.test")), Some(0));
        assert_eq!(chosen(Some("y.a.test")), Some(1));
        assert_eq!(chosen(Some("x.a.test")), Some(2));
        assert_eq!(chosen(Some("a.test")), Some(1));
        assert_eq!(chosen(Some("x.y.a.test")), Some(0));
    }
}
