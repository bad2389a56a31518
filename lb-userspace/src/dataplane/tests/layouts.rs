//! What another version of limpet has left: refused by name while it carries something,
//! removed if not.

use std::fs;
use std::path::PathBuf;

use super::super::attach::{OtherLayout, clear};
use super::kernel::{Kernel, with_kernel};
use super::sample::samples;

/// Takes one of the maps for the flow table of another layout; where it is pinned.
fn leave_behind(kernel: &Kernel, map: &str) -> PathBuf {
    let other = kernel.pins.base().join("v1");
    fs::create_dir(&other).expect("making a directory");
    fs::rename(kernel.pins.pin(map), other.join("FLOWS")).expect("moving a pin");
    other
}

#[test]
fn it_is_removed_once_its_last_flow_has_ended() {
    with_kernel(|kernel| {
        let entry = samples()[0].committed(kernel.routes);
        kernel.put(&entry);
        kernel.put(&samples()[1].observing());
        let other = leave_behind(kernel, "FLOWS");
        let refused = clear(kernel.pins.base(), false).expect_err("a flow lives there");
        assert!(refused.is::<OtherLayout>(), "{refused:#}");
        let text = refused.to_string();
        for part in [
            &*format!("{} holds 1 connections", other.display()),
            "limpet detach --force",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(other.join("FLOWS").exists(), "left alone");
        kernel.table.end(&entry).expect("ending");
        assert_eq!(clear(kernel.pins.base(), false).expect("none lives"), 1);
        assert!(!other.exists());
    });
}

#[test]
fn force_removes_it_whatever_it_carries() {
    with_kernel(|kernel| {
        kernel.put(&samples()[0].committed(kernel.routes));
        let other = leave_behind(kernel, "FLOWS");
        assert_eq!(clear(kernel.pins.base(), true).expect("forced"), 1);
        assert!(!other.exists());
    });
}

#[test]
fn a_table_of_unknown_shape_is_not_guessed_at() {
    with_kernel(|kernel| {
        let other = leave_behind(kernel, "TARGETS");
        let refused = clear(kernel.pins.base(), false).expect_err("it may carry something");
        let text = format!("{refused:#}");
        for part in ["`limpet detach --force` removes it", "of no known layout"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(other.join("FLOWS").exists(), "left alone");
        clear(kernel.pins.base(), true).expect("forced");
    });
}
