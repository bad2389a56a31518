//! `[error_pages]`, of all listeners and of one.

use super::complaints;
use crate::config::Config;
use crate::scratch::Scratch;

#[test]
fn error_pages_of_all_and_of_one() {
    let scratch = Scratch::new("errors");
    let page = |name: &str, text: &str| scratch.write(name, text);
    let (all, own) = (page("all.html", "all"), page("own.txt", "own"));
    let text = |own: &str| {
        format!(
            "[error_pages]\n502 = '{all}'\n503 = '{all}'\n\
             [[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\nredirect = {{}}\n{own}\n"
        )
    };
    let good = Config::parse(&text(&format!("error_pages = {{ 503 = '{own}' }}")));
    let pages = &good.expect("a good file").listeners[0].error_pages;
    let body = |code: u16| {
        let status = http::StatusCode::from_u16(code).expect("a status");
        pages.find(status).map(|page| page.body.to_vec())
    };
    assert_eq!(body(502), Some(b"all".to_vec()));
    assert_eq!(body(503), Some(b"own".to_vec()));
    assert_eq!(body(504), None);
    let odd = page("odd.png", "");
    let long = page("long.html", &"x".repeat(64 * 1024 + 1));
    let bad = format!(
        "error_pages = {{ 404 = '{all}', 502 = '/nonexistent.html', 503 = '{odd}', 504 = '{long}' }}"
    );
    let told = complaints(&text(&bad));
    for (key, what) in [
        ("listener[0].error_pages.404: ", "makes only 400, 408"),
        (
            "listener[0].error_pages.502: ",
            "/nonexistent.html cannot be read: No such file",
        ),
        ("listener[0].error_pages.503: ", "does not end in .html"),
        (
            "listener[0].error_pages.504: ",
            "is longer than 65536 bytes",
        ),
    ] {
        let found = told.iter().find(|one| one.starts_with(key));
        let said = found.is_some_and(|one| one.contains(what));
        assert!(said, "{key}{what}: {told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
    let blind = text(&format!(
        "protocol = 'tcp'\nerror_pages = {{ 503 = '{own}' }}"
    ));
    let told = complaints(&blind);
    assert!(told[0].starts_with("listener[0].error_pages: "), "{told:?}");
}
