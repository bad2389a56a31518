//! A client that begins a new connection with the port of its last: once that is
//! over its SYN is the listener's, and all that follows too.

use lb_common::flow::Side;
use lb_common::track::over;
use lb_common::word;

use super::frame::Plain;
use super::kernel::with_kernel;
use super::refusing::dropped;
use super::run::{Hook, verdict};
use super::sample::{ACK, FIN, HOOKS, PSH, RST, SYN, Sample, interface, samples};

const BOTH_FINS: u64 = word::FIN | word::FIN << word::TARGET_SHIFT;

fn syn(sample: &Sample, flags: u8) -> Plain {
    Plain {
        seq: 0xdead_beef,
        ack: 0,
        flags,
        payload: vec![],
        ..sample.segment(Side::Client)
    }
}

#[test]
fn only_a_bare_syn_of_the_client_and_only_when_it_is_over() {
    with_kernel(|kernel| {
        for sample in samples() {
            let table = [
                ("closed in order", BOTH_FINS, 0, SYN, true),
                ("reset by the client", word::RST, 0, SYN, true),
                (
                    "reset by the target",
                    word::RST << word::TARGET_SHIFT,
                    0,
                    SYN,
                    true,
                ),
                ("ended by the daemon", word::ENDED, 0, SYN, true),
                ("alive", 0, 0, SYN, false),
                ("half closed", word::FIN, 0, SYN, false),
                ("a last FIN without answer", BOTH_FINS, 1, SYN, false),
                ("closed, but no bare SYN", BOTH_FINS, 0, SYN | ACK, false),
                (
                    "closed, but a reset with it",
                    BOTH_FINS,
                    0,
                    SYN | RST,
                    false,
                ),
                ("closed, but a FIN with it", BOTH_FINS, 0, SYN | FIN, false),
            ];
            for (name, state, ahead, flags, passes) in table {
                for hook in HOOKS {
                    let name = format!("{name}, {hook:?}, {}", sample.client);
                    let mut entry = sample.committed(kernel.routes);
                    entry.flow.word |= state;
                    let target = &mut entry.flow.halves[Side::Target.index()];
                    target.passed_end = target.passed_end.wrapping_add(ahead);
                    kernel.put(&entry);
                    kernel.events();
                    let run = kernel.packet(hook, &syn(&sample, flags).frame());
                    let after = kernel.flow(&entry);
                    let told = kernel.events();
                    assert_eq!(run.verdict == passed(hook), passes, "{name}");
                    assert_eq!(after.word & word::REUSED != 0, passes, "{name}");
                    assert_eq!(told.len(), usize::from(passes), "{name}");
                    if passes {
                        assert_eq!(run.counted, [("none", "no_flow")], "{name}");
                        assert!(over(&entry.flow, entry.flow.word), "{name}");
                    }
                }
            }
        }
    });
}

#[test]
fn the_new_connection_is_the_clients_and_the_old_targets_is_dropped() {
    with_kernel(|kernel| {
        for sample in samples() {
            for hook in HOOKS {
                let mut entry = sample.committed(kernel.routes);
                entry.flow.word |= BOTH_FINS;
                kernel.put(&entry);
                kernel.packet(hook, &syn(&sample, SYN).frame());
                let before = kernel.flow(&entry);
                for flags in [SYN, ACK, PSH | ACK, FIN | ACK, RST] {
                    let next = Plain {
                        flags,
                        ..syn(&sample, flags)
                    };
                    let run = kernel.packet(hook, &next.frame());
                    assert_eq!(run.verdict, passed(hook), "{flags:x}, {hook:?}");
                }
                let late = sample.segment(Side::Target).frame();
                let run = kernel.packet_from(hook, &late, interface(kernel, Side::Target));
                dropped(&run, hook, Side::Target, "ended", "the old connection");
                assert_eq!(kernel.flow(&entry), before, "nothing of it is recorded");
            }
        }
    });
}

fn passed(hook: Hook) -> u32 {
    match hook {
        Hook::Tc => verdict::TC_OK,
        Hook::Xdp => verdict::XDP_PASS,
    }
}
