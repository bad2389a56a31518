//! What is asked, and how.

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// One way of asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) version: Version,
    pub(super) tls: bool,
    /// A new connection for each request.
    pub(super) fresh: bool,
    /// New TLS connections resume an earlier session.
    pub(super) resume: bool,
    /// What is asked for, see `origin`.
    pub(super) path: &'static str,
}

const KEPT: Case = Case {
    name: "http, 1 KB",
    version: Version::One,
    tls: false,
    fresh: false,
    resume: false,
    path: "/1k",
};

/// In the order they are measured and shown.
pub(super) const CASES: [Case; 11] = [
    KEPT,
    Case {
        name: "http, 100 KB",
        path: "/100k",
        ..KEPT
    },
    Case {
        name: "http, 1 KB, new connections",
        fresh: true,
        ..KEPT
    },
    Case {
        name: "http, 100 KB, new connections",
        fresh: true,
        path: "/100k",
        ..KEPT
    },
    Case {
        name: "https, 1 KB",
        tls: true,
        ..KEPT
    },
    Case {
        name: "https, 100 KB",
        tls: true,
        path: "/100k",
        ..KEPT
    },
    Case {
        name: "https, 1 KB, new connections",
        tls: true,
        fresh: true,
        ..KEPT
    },
    Case {
        name: "https, 100 KB, new connections",
        tls: true,
        fresh: true,
        path: "/100k",
        ..KEPT
    },
    Case {
        name: "https, 1 KB, resumed connections",
        tls: true,
        fresh: true,
        resume: true,
        ..KEPT
    },
    Case {
        name: "https, HTTP/2, 1 KB",
        version: Version::Two,
        tls: true,
        ..KEPT
    },
    Case {
        name: "https, HTTP/2, 100 KB",
        version: Version::Two,
        tls: true,
        path: "/100k",
        ..KEPT
    },
];
