//! Questions to the kernel about interfaces and filters (rtnetlink(7)).

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp};
use netlink_packet_route::tc::{
    TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dataplane) struct Interface {
    /// Its index.
    pub(in crate::dataplane) index: u32,
    /// What software makes of it, "veth" for instance; none for hardware.
    pub(in crate::dataplane) kind: Option<String>,
    /// Where this host's own sockets meet.
    pub(in crate::dataplane) is_loopback: bool,
    /// Bytes of the longest IP packet.
    pub(in crate::dataplane) mtu: u32,
    /// The XDP program attached to it, by id.
    pub(in crate::dataplane) xdp: Option<u32>,
}

/// The place of a filter in a clsact qdisc.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    /// The interface's.
    pub(super) index: u32,
    /// Which of the two sides.
    pub(super) parent: Parent,
    /// Its priority.
    pub(super) priority: u16,
    /// Its handle.
    pub(super) handle: u32,
}

/// The two sides of a clsact qdisc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// Before the stack.
    Ingress,
    /// Behind it.
    Egress,
}

/// The interface of this name, if there is one.
pub(in crate::dataplane) fn interface(name: &str) -> io::Result<Option<Interface>> {
    let mut question = LinkMessage::default();
    question
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    match ask(RouteNetlinkMessage::GetLink(question)) {
        Ok(RouteNetlinkMessage::NewLink(answer)) => Ok(Some(describe(&answer))),
        Ok(_) => Err(unexpected()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The program, by id, of the filter in a place, if there is one.
pub(super) fn program_of_filter(filter: &Filter) -> io::Result<Option<u32>> {
    let mut question = TcMessage::default();
    question.header = TcHeader {
        index: i32::try_from(filter.index).map_err(|_| io::ErrorKind::InvalidInput)?,
        handle: filter.handle.into(),
        parent: TcHandle {
            major: TcHandle::CLSACT.major,
            minor: match filter.parent {
                Parent::Ingress => TcHandle::MIN_INGRESS,
                Parent::Egress => TcHandle::MIN_EGRESS,
            },
        },
        info: u32::from(filter.priority) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be()),
        ..TcHeader::default()
    };
    question
        .attributes
        .push(TcAttribute::Kind("bpf".to_owned()));
    match ask(RouteNetlinkMessage::GetTrafficFilter(question)) {
        Ok(RouteNetlinkMessage::NewTrafficFilter(answer)) => Ok(program(&answer)),
        Ok(_) => Err(unexpected()),
        // EINVAL: there is not even a qdisc.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn describe(answer: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: answer.header.index,
        kind: None,
        is_loopback: answer.header.link_layer_type == LinkLayerType::Loopback,
        mtu: 0,
        xdp: None,
    };
    for attribute in &answer.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        interface.kind = Some(kind.to_string());
                    }
                }
            }
            LinkAttribute::Xdp(all) => {
                interface.xdp = all.iter().find_map(|one| match one {
                    LinkXdp::ProgId(id) if *id != 0 => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface
}

fn program(answer: &TcMessage) -> Option<u32> {
    answer.attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else {
            return None;
        };
        options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        })
    })
}

/// One question, one answer.
fn ask(question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(question);
    message.header.flags = NLM_F_REQUEST;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::deserialize(&bytes).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(answer) => Ok(answer),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> io::Error {
    io::Error::other("an unexpected answer from rtnetlink")
}
