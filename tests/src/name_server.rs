//! A DNS server of the lab, whose answers change: hickory's messages over a socket of a
//! namespace.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::task::JoinHandle;

use crate::namespace::Namespace;

/// Of every record, in seconds.
const TTL: u32 = 1;

/// Addresses by name.
type Zone = Arc<Mutex<HashMap<Name, Vec<IpAddr>>>>;

/// A running server.
#[derive(Debug)]
pub struct NameServer {
    zone: Zone,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Starts one in a namespace.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind(address));
        let socket = socket.with_context(|| format!("{address} in {}", namespace.name()))?;
        socket.set_nonblocking(true)?;
        let zone = Zone::default();
        let task = tokio::spawn(serve(socket.try_into()?, zone.clone()));
        Ok(Self { zone, task })
    }

    /// From now on a name (without the dot at its end) has these addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let name = Name::from_ascii(format!("{name}."))?;
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.insert(name, addresses.to_vec());
        Ok(())
    }

    /// It is down, and its address is free, when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        // It ends by being aborted.
        drop((&mut self.task).await);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: tokio::net::UdpSocket, zone: Zone) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let question = buffer.get(..length).map(Message::from_vec);
        if let Some(Ok(question)) = question
            && let Ok(answer) = answer(&question, &zone).to_vec()
        {
            // Whoever asked may have given up.
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

fn answer(question: &Message, zone: &Zone) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
    for query in &question.queries {
        let addresses = zone.get(query.name()).into_iter().flatten();
        let records = addresses.filter_map(|address| record(*address, query.query_type()));
        for data in records {
            answer.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
        }
        answer.add_query(query.clone());
    }
    answer
}

fn record(address: IpAddr, kind: RecordType) -> Option<RData> {
    match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    }
}
