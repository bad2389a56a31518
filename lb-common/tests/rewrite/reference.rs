//! The code under test, run over a slice as the kernel program runs it over a packet.

use lb_common::flow::{Flow, Side, Tuple};
use lb_common::options::Options;
use lb_common::packet::{Frame, Segment, Shape, parse};
use lb_common::rewrite::{Translation, finish_checksum, rewrite};

/// Rewrites a frame from `side` in place; `None`: its options are malformed.
pub(crate) fn forward(frame: &mut [u8], client: &Tuple, flow: &Flow, side: Side) -> Option<()> {
    let mut packet = Frame(frame);
    let mut segment = Segment::EMPTY;
    assert_eq!(parse(&packet, &mut segment), Shape::Segment);
    let translation = Translation::new(client, flow, side);
    let changes = rewrite(
        &mut packet,
        &segment,
        &mut Options::EMPTY.clone(),
        &translation,
    )?;
    finish_checksum(&mut packet, &segment, &changes)
}
