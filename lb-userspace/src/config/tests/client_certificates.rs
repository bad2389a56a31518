//! `listener.client_certificates`.

use super::complaints;
use crate::config::Config;
use crate::tls::authority::Authority;

#[test]
fn client_certificates_need_somebody_who_vouches() {
    let authority = Authority::new();
    let (files, ca) = (authority.files(&["a.test"]), authority.ca_file());
    let (cert, key) = (files.cert.display(), files.key.display());
    let listener = |protocol: &str, clients: &str| {
        let certificates = match protocol {
            "https" | "tls" => format!("certificates = [{{ cert = '{cert}', key = '{key}' }}]"),
            _ => String::new(),
        };
        format!(
            "[[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\nprotocol = '{protocol}'\n\
             target_group = 'b'\n{certificates}\nclient_certificates = {{ {clients} }}\n\
             [[target_group]]\nname = 'b'\n"
        )
    };
    let ca = ca.display();
    for (protocol, clients, asks) in [
        (
            "https",
            "mode = 'off', ca = '/nonexistent'".to_owned(),
            false,
        ),
        ("https", format!("mode = 'verify', ca = '{ca}'"), true),
        ("https", format!("mode = 'passthrough', ca = '{ca}'"), true),
        ("tls", format!("mode = 'verify', ca = '{ca}'"), true),
    ] {
        let good = Config::parse(&listener(protocol, &clients)).expect("a good file");
        assert_eq!(
            good.listeners[0].client_certificates.is_some(),
            asks,
            "{clients}"
        );
    }
    for (protocol, clients, complaint) in [
        ("https", "mode = 'verify'".to_owned(), "ca: is missing"),
        (
            "https",
            "mode = 'verify', ca = '/nonexistent'".to_owned(),
            "ca: /nonexistent cannot be read",
        ),
        (
            "https",
            format!("mode = 'verify', ca = '{key}'"),
            "holds no certificates in PEM",
        ),
        (
            "https",
            format!("mode = 'always', ca = '{ca}'"),
            "mode: \"always\" is not one of",
        ),
        (
            "http",
            format!("mode = 'verify', ca = '{ca}'"),
            "mode: needs protocol",
        ),
        (
            "tls",
            format!("mode = 'passthrough', ca = '{ca}'"),
            "mode: passthrough needs requests",
        ),
    ] {
        let told = complaints(&listener(protocol, &clients));
        let found = told.iter().any(|one| {
            one.starts_with("listener[0].client_certificates.") && one.contains(complaint)
        });
        assert!(found, "{complaint}: {told:?}");
    }
}
