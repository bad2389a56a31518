//! One packet through one program.

use aya::programs::{
    Program, ProgramError, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp,
};
use lb_common::control::Request;

use super::kernel::Kernel;

/// Verdicts (include/uapi/linux/pkt_cls.h, bpf.h).
pub(super) mod verdict {
    /// TC_ACT_UNSPEC: on to whoever is next.
    pub(crate) const TC_OK: u32 = u32::MAX;
    pub(crate) const TC_SHOT: u32 = 2;
    pub(crate) const TC_REDIRECT: u32 = 7;
    pub(crate) const XDP_DROP: u32 = 1;
    pub(crate) const XDP_PASS: u32 = 2;
    pub(crate) const XDP_TX: u32 = 3;
    pub(crate) const XDP_REDIRECT: u32 = 4;
}

/// The hooks that packets come in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Tc,
    Xdp,
}

/// What came of one packet.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) verdict: u32,
    pub(super) packet: Vec<u8>,
    /// Direction and outcome of every counter that moved, once per step.
    pub(super) counted: Vec<(&'static str, &'static str)>,
}

impl Kernel {
    /// A packet that comes in from the client's interface.
    pub(super) fn packet(&self, hook: Hook, packet: &[u8]) -> Run {
        self.packet_from(hook, packet, self.routes.client)
    }

    /// A packet that comes in through the interface `ifindex`.
    pub(super) fn packet_from(&self, hook: Hook, packet: &[u8], ifindex: u32) -> Run {
        match hook {
            Hook::Tc => self.skb("limpet_tc", packet, ifindex, ifindex),
            Hook::Xdp => {
                // struct xdp_md: data_end, then ingress_ifindex.
                let context = words([0, packet.len() as u32, 0, ifindex, 0, 0]);
                let xdp: &Xdp = self.program("limpet_xdp");
                self.run(packet, &context, |options| xdp.test_run(options))
            }
        }
    }

    /// A packet that is yet to be cut into segments of `gso` bytes (0: one that is not),
    /// through the TC program.
    pub(super) fn gso_from(&self, packet: &[u8], ifindex: u32, gso: u32) -> Run {
        let segments = if gso == 0 { 0 } else { 3 };
        // struct __sk_buff up to gso_size.
        let mut context = [0; 45];
        context[9] = ifindex;
        context[10] = ifindex;
        context[41] = segments;
        context[44] = gso;
        let program: &SchedClassifier = self.program("limpet_tc");
        self.run(packet, &words(context), |options| program.test_run(options))
    }

    /// The verdict alone, of a packet whose counters others move as well.
    pub(super) fn verdict(&self, packet: &[u8]) -> u32 {
        let program: &SchedClassifier = self.program("limpet_tc");
        let context = came_in(self.routes.client, self.routes.client);
        let options = TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        program
            .test_run(options)
            .expect("BPF_PROG_TEST_RUN")
            .return_value
    }

    /// A packet that leaves through the egress program; `came_in` is zero if the
    /// host's own stack has made it.
    pub(super) fn leaving(&self, packet: &[u8], came_in: u32) -> Run {
        self.skb("limpet_egress", packet, self.routes.client, came_in)
    }

    /// The control program's reply.
    pub(super) fn control(&self, request: &[u8]) -> u32 {
        let program: &SchedClassifier = self.program("limpet_control");
        let options = TestRunOptions {
            data_in: Some(request),
            ..TestRunOptions::default()
        };
        program
            .test_run(options)
            .expect("running the control program")
            .return_value
    }

    /// The same of a request as the daemon makes it.
    pub(super) fn request(&self, request: &Request) -> u32 {
        self.control(request.as_bytes())
    }

    fn skb(&self, name: &str, packet: &[u8], ifindex: u32, came_in: u32) -> Run {
        let context = self::came_in(came_in, ifindex);
        let program: &SchedClassifier = self.program(name);
        self.run(packet, &context, |options| program.test_run(options))
    }

    fn run(
        &self,
        packet: &[u8],
        context: &[u8],
        program: impl FnOnce(TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>,
    ) -> Run {
        let before = self.table.counters();
        let mut out = vec![0; packet.len() + 256];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: Some(context),
            ..TestRunOptions::default()
        };
        let result = program(options).expect("BPF_PROG_TEST_RUN");
        out.truncate(result.data_size_out as usize);
        let moved = before.iter().zip(self.table.counters());
        let counted = moved.flat_map(|(old, new)| (old.2..new.2).map(move |_| (new.0, new.1)));
        Run {
            verdict: result.return_value,
            packet: out,
            counted: counted.collect(),
        }
    }

    fn program<'a, P>(&'a self, name: &str) -> &'a P
    where
        &'a P: TryFrom<&'a Program, Error = ProgramError>,
    {
        self.ebpf
            .program(name)
            .expect("a program of this name")
            .try_into()
            .expect("of its type")
    }
}

/// `struct __sk_buff` up to `ingress_ifindex` and `ifindex`.
fn came_in(came_in: u32, ifindex: u32) -> Vec<u8> {
    words([0, 0, 0, 0, 0, 0, 0, 0, 0, came_in, ifindex])
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
