//! The window field: what the receiver computes from it is what the sender meant,
//! as far as sixteen bits carry it.

use lb_common::flow::{BLANK_SACK, Flow, SCALE_MASK, Shifts, Side, Tuple};
use lb_common::rewrite::Translation;
use proptest::prelude::*;

fn window(field: u16, sent: u8, announced: u8) -> u16 {
    let shifts = Shifts {
        scale_sent: [sent, 0],
        scale_announced: [BLANK_SACK, announced],
        ..Shifts::default()
    };
    let flow = Flow {
        shifts,
        ..Flow::default()
    };
    Translation::new(&Tuple::default(), &flow, Side::Client).window(field)
}

#[test]
fn table() {
    const TABLE: [(&str, u16, u8, u8, u16); 8] = [
        ("alike", 1234, 7, 7, 1234),
        ("closed stays closed", 0, 14, 0, 0),
        ("rounded down", 1027, 0, 3, 128),
        ("less than a unit", 16_383, 0, 14, 0),
        ("up", 100, 7, 0, 12_800),
        ("exactly full", 65_535, 3, 3, 65_535),
        ("just over", 8_192, 3, 0, 65_535),
        ("far over", 65_535, 14, 0, 65_535),
    ];
    for (name, field, sent, announced, expected) in TABLE {
        assert_eq!(window(field, sent, announced), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn never_promises_more_and_less_by_no_more_than_a_unit(
        field: u16, sent in 0u8..=14, announced in 0u8..=14,
    ) {
        let (meant, told) = (u64::from(field) << sent, window(field, sent, announced));
        let heard = u64::from(told) << announced;
        prop_assert!(heard <= meant);
        prop_assert!(told == u16::MAX || meant - heard < 1 << announced);
    }

    /// Flags share the byte with the scale; they must not shift anything.
    #[test]
    fn flags_beside_the_scale_mean_nothing_to_it(field: u16, sent: u8, announced: u8) {
        let plain = window(field, sent & SCALE_MASK, announced & SCALE_MASK);
        prop_assert_eq!(window(field, sent, announced), plain);
    }
}
