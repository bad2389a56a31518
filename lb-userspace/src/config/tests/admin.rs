//! `[admin]`.

use super::{GOOD, complaints};

#[test]
fn an_open_admin_door_needs_a_token() {
    let found = complaints(&GOOD.replace("unix:/run/limpet/admin.sock", "0.0.0.0:9900"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("admin.token_file: is required"),
        "{found:?}"
    );
}
