//! Names against a DNS server of the tests' own, whose answers change.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::config::{Question, TargetGroup};
use crate::target::{Over, State};

/// Far beyond any TTL here, and the pause after a failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what nothing rings for.
const LOOK: Duration = Duration::from_millis(20);
/// Of every record, in seconds.
const TTL: u32 = 1;

/// What the server answers; `None`: SERVFAIL to everything.
type Zone = Option<HashMap<(Name, RecordType), Vec<RData>>>;

struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = socket.local_addr().expect("an address");
        let zone = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(serve(socket, zone.clone()));
        Self { address, zone }
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("the zone")
    }

    /// From now on `name` has these records of this kind.
    fn set(&self, name: &str, kind: RecordType, records: Vec<RData>) {
        let mut zone = self.zone();
        let zone = zone.get_or_insert_default();
        zone.insert((absolute(name), kind), records);
    }

    fn hosts(&self, name: &str, numbers: &[u8]) {
        let address = |number: &u8| RData::A(A(Ipv4Addr::new(10, 0, 0, *number)));
        self.set(name, RecordType::A, numbers.iter().map(address).collect());
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        let answer = answer(&question, &zone.lock().expect("the zone"));
        let answer = answer.to_vec().expect("an answer");
        let _ = socket.send_to(&answer, client).await;
    }
}

fn answer(question: &Message, zone: &Zone) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    let query = question.queries[0].clone();
    let Some(zone) = zone else {
        answer.metadata.response_code = ResponseCode::ServFail;
        answer.add_query(query);
        return answer;
    };
    let key = (query.name().clone(), query.query_type());
    for data in zone.get(&key).into_iter().flatten() {
        answer.add_answer(Record::from_rdata(key.0.clone(), TTL, data.clone()));
    }
    answer.add_query(query);
    answer
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("a name")
}

fn host(name: &str) -> Question {
    let (name, port) = (name.to_owned(), 80);
    Question::Host { name, port }
}

/// A group of one name, followed.
struct Followed {
    registry: Arc<Registry>,
    group: Arc<Group>,
    directory: PathBuf,
}

impl Followed {
    async fn start(server: &Server, question: Question, delay: Duration) -> Self {
        let directory = Self::directory(&question);
        let config = TargetGroup {
            deregistration_delay: delay,
            names: vec![TargetName {
                question,
                weight: 7,
            }],
            ..TargetGroup::with_defaults("chat")
        };
        let group = Arc::new(Group::new(&config, Events::default()));
        let registry = Arc::new(Registry::open(directory.clone(), vec![group.clone()]));
        let follower = Follower {
            registry: registry.clone(),
            resolver: Resolver::new(&[server.address]),
            events: Events::default(),
            metrics: Arc::new(Metrics::new().expect("metrics")),
        };
        let first = timeout(PATIENCE, follower.start());
        first.await.expect("every name asked for once");
        Self {
            registry,
            group,
            directory,
        }
    }

    fn directory(question: &Question) -> PathBuf {
        let directory = format!("limpet-follow-{question}-{}", std::process::id());
        std::env::temp_dir().join(directory)
    }

    /// Address, weight and whether it is draining, of each target.
    fn targets(&self) -> Vec<(String, u32, bool)> {
        let snapshot = self.group.snapshot();
        let targets = snapshot.targets().iter();
        let seen = targets.map(|one| {
            let drains = one.state() == State::Draining;
            (one.label.clone(), one.weight, drains)
        });
        seen.collect()
    }

    async fn until(&self, expected: &[(&str, u32, bool)]) {
        let expected = expected.iter();
        let expected =
            expected.map(|(label, weight, drains)| (label.to_string(), *weight, *drains));
        let expected: Vec<_> = expected.collect();
        let mut changes = self.group.changes();
        let reached = async {
            while self.targets() != expected {
                changes.changed().await.expect("the group is there");
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{:?}, not {expected:?}", self.targets());
    }

    /// Until lookups fail for this reason.
    async fn until_failing(&self, why: &str) {
        let failing = async {
            loop {
                let failure = self.registry.names(&self.group).remove(0).failure;
                if failure.is_some_and(|failure| failure.contains(why)) {
                    return;
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, failing).await.expect("a failure");
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // Another that was restarted may have removed it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const EMPTY: &str = "the name has no A or AAAA records";
const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn targets_follow_a_name_and_outlast_its_server() {
    let server = Server::start().await;
    server.hosts("app.test", &[2, 1]);
    let followed = Followed::start(&server, host("app.test"), LONG).await;
    // There from the start, in an order that does not depend on the answer's.
    let both = [("10.0.0.1:80", 7, false), ("10.0.0.2:80", 7, false)];
    followed.until(&both).await;
    let before = followed.group.snapshot();
    let v6 = "fd00::1".parse().expect("an address");
    server.set("app.test", RecordType::AAAA, vec![RData::AAAA(AAAA(v6))]);
    server.hosts("app.test", &[2, 3]);
    let moved = [
        ("10.0.0.1:80", 7, true),
        ("10.0.0.2:80", 7, false),
        ("10.0.0.3:80", 7, false),
        ("[fd00::1]:80", 7, false),
    ];
    followed.until(&moved).await;
    // Who stayed is the same target, with all that is known of it.
    let after = followed.group.snapshot();
    assert!(after.targets()[1].is_same_registration(&before.targets()[1]));
    *server.zone() = None;
    followed.until_failing("Server Failure").await;
    followed.until(&moved).await;
    // Back, and the one that was leaving goes on; IPv6 is left out again.
    server.hosts("app.test", &[1, 2, 3]);
    let back = [
        ("10.0.0.1:80", 7, false),
        ("10.0.0.2:80", 7, false),
        ("10.0.0.3:80", 7, false),
        ("[fd00::1]:80", 7, true),
    ];
    followed.until(&back).await;
    let status = followed.registry.names(&followed.group).remove(0);
    assert_eq!((status.targets, status.failure), (3, None));
}

#[tokio::test]
async fn a_restart_while_dns_is_away_uses_what_was_heard_last() {
    let server = Server::start().await;
    server.hosts("kept.test", &[1, 2]);
    let before = Followed::start(&server, host("kept.test"), LONG).await;
    server.hosts("kept.test", &[2, 3]);
    let then = [
        ("10.0.0.1:80", 7, true),
        ("10.0.0.2:80", 7, false),
        ("10.0.0.3:80", 7, false),
    ];
    before.until(&then).await;
    // Of another daemon, which asks a server that knows nothing.
    let away = Server::start().await;
    *away.zone() = None;
    let after = Followed::start(&away, host("kept.test"), LONG).await;
    let then = then.map(|(label, weight, drains)| (label.to_owned(), weight, drains));
    assert_eq!(after.targets(), then);
    assert!(after.registry.knows_all_names());
    assert!(!after.registry.names(&after.group)[0].has_answered);
    after.until_failing("Server Failure").await;
    // It goes on from there.
    away.hosts("kept.test", &[1, 2]);
    let now = [
        ("10.0.0.1:80", 7, false),
        ("10.0.0.2:80", 7, false),
        ("10.0.0.3:80", 7, true),
    ];
    after.until(&now).await;
    assert!(after.registry.names(&after.group)[0].has_answered);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_keeps_no_target_from_being_followed() {
    let server = Server::start().await;
    server.hosts("unkept.test", &[1]);
    let question = host("unkept.test");
    let in_the_way = Followed::directory(&question);
    std::fs::write(&in_the_way, b"not a directory").expect("a file in the way");
    let followed = Followed::start(&server, question, LONG).await;
    followed.until(&[("10.0.0.1:80", 7, false)]).await;
    std::fs::remove_file(&in_the_way).expect("out of the way");
    // It is tried again with each answer.
    let kept = async {
        while !in_the_way.join("answers.json").exists() {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, kept).await.expect("kept in the end");
}

#[tokio::test]
async fn a_name_without_an_answer_has_no_targets_until_it_has_one() {
    let server = Server::start().await;
    let question = host("later.test");
    let followed = Followed::start(&server, question.clone(), LONG).await;
    followed.until_failing(EMPTY).await;
    assert_eq!(followed.targets(), []);
    assert!(!followed.registry.names(&followed.group)[0].has_answered);
    server.hosts("later.test", &[1]);
    followed.until(&[("10.0.0.1:80", 7, false)]).await;
    // An emptied zone is no reason to have nobody left.
    server.hosts("later.test", &[]);
    followed.until_failing(EMPTY).await;
    followed.until(&[("10.0.0.1:80", 7, false)]).await;
}

#[tokio::test]
async fn who_left_the_answer_leaves_at_its_deadline_and_is_told_of() {
    let server = Server::start().await;
    server.hosts("short.test", &[1, 2]);
    let delay = Duration::from_secs(1);
    let followed = Followed::start(&server, host("short.test"), delay).await;
    let (over, mut told) = mpsc::channel(1);
    tokio::spawn(followed.registry.clone().run(over));
    server.hosts("short.test", &[2]);
    followed.until(&[("10.0.0.2:80", 7, false)]).await;
    let over = timeout(PATIENCE, told.recv()).await.expect("told");
    let Over { target, drain, .. } = over.expect("a drain");
    assert_eq!(target, SocketAddr::from(([10, 0, 0, 1], 80)));
    assert!(drain.leave);
}

#[tokio::test]
async fn a_service_is_the_hosts_of_its_first_priority() {
    let server = Server::start().await;
    let record = |priority, weight, port, host: &str| {
        RData::SRV(SRV::new(priority, weight, port, absolute(host)))
    };
    let service = "_chat._tcp.test";
    let records = vec![
        record(1, 30, 8001, "a.test"),
        record(1, 0, 8002, "b.test"),
        record(1, 5, 8003, "nobody.test"),
        record(2, 9, 8004, "c.test"),
    ];
    server.set(service, RecordType::SRV, records);
    for (name, number) in [("a.test", 1), ("b.test", 2), ("c.test", 3)] {
        server.hosts(name, &[number]);
    }
    let name = service.to_owned();
    let followed = Followed::start(&server, Question::Service { name }, LONG).await;
    let first = [("10.0.0.1:8001", 30, false), ("10.0.0.2:8002", 1, false)];
    followed.until(&first).await;
    // Weights beyond a target's largest keep their proportions.
    let records = vec![
        record(1, 50_000, 8001, "a.test"),
        record(1, 5_000, 8004, "c.test"),
    ];
    server.set(service, RecordType::SRV, records);
    let second = [
        ("10.0.0.1:8001", 999, false),
        ("10.0.0.2:8002", 1, true),
        ("10.0.0.3:8004", 99, false),
    ];
    followed.until(&second).await;
}
