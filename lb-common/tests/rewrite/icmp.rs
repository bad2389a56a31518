//! ICMP errors: one about a rewritten packet becomes one about the packet as it was
//! sent, and the balancer's own says what it should.

use std::net::IpAddr;

use lb_common::flow::{Flow, Half, Side};
use lb_common::icmp::{Report, quoted, room, too_big, translate};
use lb_common::packet::{Frame, Segment, Shape, parse};
use lb_common::rewrite::Translation;
use lb_common::track::{WINDOW_SLACK, fits_report};
use proptest::prelude::*;

use crate::error::Error;
use crate::frame::{Plain, sum};
use crate::random::{Pair, flow_and_segment};
use crate::reference::forward;

/// Where the IP header begins.
const IP: usize = 14;

fn router(pair: &Pair) -> IpAddr {
    match pair.client.ip() {
        IpAddr::V4(_) => [192, 0, 2, 7].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into(),
    }
}

fn translated(frame: &mut [u8], pair: &Pair) -> Option<()> {
    let mut packet = Frame(frame);
    let mut segment = Segment::EMPTY;
    assert_eq!(
        parse(&packet, &mut segment),
        Shape::Report(Report::TooBig),
        "a report"
    );
    assert_eq!(
        segment.key.tuple,
        pair.flow().target,
        "of the leg it was sent on"
    );
    let (client, flow) = (pair.client_leg(), pair.flow());
    translate(
        &mut packet,
        &segment,
        &Translation::new(&client, &flow, Side::Target),
    )
}

proptest! {
    /// There and back: what the client hears quotes what the client has sent.
    #[test]
    fn quotes_the_packet_as_its_sender_knows_it(
        (pair, sent, _) in flow_and_segment(), mtu in 68u32..=0xffff, longer: bool,
    ) {
        let original = sent.frame();
        let mut onward = original.clone();
        let flow = pair.flow();
        prop_assert_eq!(
            forward(&mut onward, &pair.client_leg(), &flow, Side::Client), Some(()));
        let quoted = if longer { 500 } else { 8 };
        let report = Error::too_big(&onward, router(&pair), mtu, quoted);
        let mut frame = report.frame();
        prop_assert_eq!(translated(&mut frame, &pair), Some(()));
        let heard = Error::read(&frame);
        prop_assert_eq!((heard.from, heard.to), (pair.near.ip(), pair.client.ip()));
        prop_assert_eq!((heard.kind, heard.rest), (report.kind, mtu));
        prop_assert_eq!(heard.ttl, report.ttl - 1);
        same_segment(&heard.quoted, &original[IP..], sent.from.is_ipv4())?;
    }

    /// Nothing that a router may quote is too short but less than every one quotes.
    #[test]
    fn of_less_than_eight_bytes_is_cut((pair, sent, _) in flow_and_segment(), keep in 0usize..8) {
        let report = Error::too_big(&sent.frame(), router(&pair), 1300, keep);
        let mut frame = report.frame();
        let shape = parse(&Frame(&mut frame), &mut Segment::EMPTY.clone());
        prop_assert_eq!(shape, Shape::Cut);
    }

    #[test]
    fn the_balancers_own(
        (_, sent, _) in flow_and_segment(), mtu in 68u32..=0xffff, unfinished: bool, pseudo: u16,
    ) {
        let mut frame = sent.frame();
        let mut segment = Segment::EMPTY;
        prop_assert_eq!(parse(&Frame(&mut frame), &mut segment), Shape::Segment);
        let tcp = segment.tcp();
        if unfinished {
            frame[tcp + 16..tcp + 18].copy_from_slice(&pseudo.to_be_bytes());
        }
        frame.truncate(quoted(segment.family));
        let original = frame[IP..].to_vec();
        frame.splice(IP..IP, vec![0xee; room(segment.family)]);
        prop_assert_eq!(too_big(&mut Frame(&mut frame), &segment, mtu, unfinished), Some(()));
        if unfinished {
            // What skb_checksum_help does, or hardware in its place.
            let at = frame.len() - 20;
            let checksum = !sum(&frame[at..]);
            frame[at + 16..at + 18].copy_from_slice(&checksum.to_be_bytes());
        }
        let error = Error::read(&frame);
        prop_assert_eq!((error.from, error.to), (sent.to.ip(), sent.from.ip()));
        let kind = Error::too_big(&sent.frame(), sent.to.ip(), mtu, 8).kind;
        prop_assert_eq!((error.kind, error.rest, error.ttl), (kind, mtu, 64));
        let checksum = error.quoted.len() - 4..error.quoted.len() - 2;
        let mut expected = original;
        expected[checksum.clone()].copy_from_slice(&error.quoted[checksum]);
        prop_assert_eq!(error.quoted, expected);
    }
}

/// Everything a report must quote: the IP header but for its hops, ports and number.
fn same_segment(quoted: &[u8], sent: &[u8], v4: bool) -> Result<(), TestCaseError> {
    let header = if v4 { 20 } else { 40 };
    if v4 {
        prop_assert_eq!(sum(&quoted[..20]), 0xffff, "the quoted header's checksum");
    }
    // TTL, protocol and checksum; next header and hop limit.
    let hops = if v4 { 8..12 } else { 6..8 };
    prop_assert_eq!(&quoted[..hops.start], &sent[..hops.start]);
    prop_assert_eq!(&quoted[hops.end..header + 8], &sent[hops.end..header + 8]);
    Ok(())
}

/// What is no report about a packet of ours is the stack's.
#[test]
fn lies_that_need_no_flow_to_be_seen() {
    let plain = |from, to| Plain {
        from,
        to,
        ttl: 64,
        seq: 1,
        ack: 2,
        flags: 0x10,
        window: 3,
        options: vec![],
        payload: vec![],
    };
    let ends = ["10.0.0.1:1", "10.0.0.2:2"].map(|end| end.parse().expect("an address"));
    let v4 = Error::too_big(
        &plain(ends[0], ends[1]).frame(),
        [192, 0, 2, 7].into(),
        1300,
        8,
    );
    let quote = |at: usize, to: u8| {
        let mut error = v4.clone();
        error.quoted[at] = to;
        error
    };
    let redirect = Error {
        kind: [5, 1],
        ..v4.clone()
    };
    let elsewhere = Error {
        to: [10, 0, 0, 9].into(),
        ..v4.clone()
    };
    for (name, error) in [
        ("a redirect", redirect),
        ("about a packet that another host sent", elsewhere),
        ("about UDP", quote(9, 17)),
        ("about a packet with options", quote(0, 0x46)),
        ("about a later fragment", quote(7, 1)),
        ("about IPv6 in IPv4", quote(0, 0x65)),
    ] {
        let mut frame = error.frame();
        let shape = parse(&Frame(&mut frame), &mut Segment::EMPTY.clone());
        assert_eq!(shape, Shape::Other, "{name}");
    }
    let mut frame = v4.frame();
    let shape = parse(&Frame(&mut frame), &mut Segment::EMPTY.clone());
    assert_eq!(shape, Shape::Report(Report::TooBig), "the truth");
}

/// Sent, and not acknowledged long ago.
#[test]
fn believed_within_what_is_on_its_way() {
    let mut flow = Flow::default();
    flow.shifts.seq = [100, 0];
    flow.halves = [
        Half {
            passed_end: 5_000,
            ..Half::default()
        },
        Half {
            last_ack: 1_100,
            ..Half::default()
        },
    ];
    for (seq, believed) in [
        (1_000, true),
        (4_999, true),
        (5_000, true),
        (5_001, false),
        (0, true),
        (1_000u32.wrapping_sub(WINDOW_SLACK), true),
        (999u32.wrapping_sub(WINDOW_SLACK), false),
        (0x8000_0000, false),
    ] {
        assert_eq!(fits_report(&flow, Side::Client, seq), believed, "{seq}");
    }
}
