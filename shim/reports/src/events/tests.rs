//! Tests of events against a containerd that comes and goes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{TaskExit, TaskOOM, TaskStart};
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::create_events;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use containerd_shim_protos::ttrpc::{self, Code, get_status};

use super::*;

/// Longer than any step here, shorter than a test run that hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The events that all instances of containerd received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Envelope>>>);

impl Received {
    fn topics(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|envelope| envelope.topic.clone())
            .collect()
    }

    /// The process ids of the start events, by which these tests number them.
    fn numbers(&self) -> Vec<u32> {
        let envelopes = self.0.lock().unwrap();
        envelopes
            .iter()
            .map(|envelope| {
                TaskStart::parse_from_bytes(&envelope.event.value)
                    .unwrap()
                    .pid
            })
            .collect()
    }
}

#[async_trait]
impl containerd_shim_protos::shim_async::Events for Received {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap();
        if envelope.topic == "/tasks/oom" {
            return Err(ttrpc::Error::RpcStatus(get_status(
                Code::INVALID_ARGUMENT,
                "not today",
            )));
        }
        self.0.lock().unwrap().push(envelope);
        Ok(Empty::default())
    }
}

/// Starts a containerd that replies until it is shut down.
async fn containerd(socket: &Path, received: &Received) -> Server {
    let _ = std::fs::remove_file(socket);
    let service = create_events(Arc::new(received.clone()));
    let mut server = Server::new()
        .bind(&format!("unix://{}", socket.display()))
        .unwrap()
        .register_service(service);
    server.start().await.unwrap();
    server
}

struct Scene {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    received: Received,
    events: Events,
}

fn scene(limits: Limits) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock.ttrpc");
    let events = Events::with_limits(
        limits,
        "k8s.io".to_owned(),
        socket.to_str().unwrap(),
        &Handle::current(),
    );
    Scene {
        _folder: folder,
        socket,
        received: Received::default(),
        events,
    }
}

fn start(number: u32) -> TaskStart {
    TaskStart {
        container_id: "c".to_owned(),
        pid: number,
        ..TaskStart::default()
    }
}

#[tokio::test]
async fn event_has_containerds_topic_type_and_namespace() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(HOST_LIMITS);
    let _server = containerd(&socket, &received).await;
    let before = SystemTime::now();
    events.send(&TaskExit {
        container_id: "c".to_owned(),
        id: "c".to_owned(),
        pid: 7,
        exit_status: 137,
        ..TaskExit::default()
    });
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    let envelope = received.0.lock().unwrap().pop().unwrap();
    assert_eq!(
        (envelope.namespace.as_str(), envelope.topic.as_str()),
        ("k8s.io", "/tasks/exit")
    );
    assert_eq!(envelope.event.type_url, "containerd.events.TaskExit");
    assert_eq!(
        TaskExit::parse_from_bytes(&envelope.event.value)
            .unwrap()
            .exit_status,
        137
    );
    let at: SystemTime = envelope.timestamp.unwrap().into();
    assert!(before <= at && at <= SystemTime::now());
}

#[tokio::test]
async fn events_arrive_in_order_and_once() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(HOST_LIMITS);
    let _server = containerd(&socket, &received).await;
    (0..500).for_each(|number| events.send(&start(number)));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.numbers(), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_wait_while_containerd_is_away_and_arrive_in_order() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(Limits {
        max_backoff: Duration::from_millis(50),
        ..HOST_LIMITS
    });
    let mut server = containerd(&socket, &received).await;
    events.send(&start(0));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    server.shutdown().await.unwrap();
    drop(server);
    (1..100).for_each(|number| events.send(&start(number)));
    assert_eq!(
        events.flush(Duration::from_millis(300)).await,
        Flushed::Pending(99)
    );
    let _server = containerd(&socket, &received).await;
    (100..110).for_each(|number| events.send(&start(number)));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.numbers(), (0..110).collect::<Vec<_>>());
}

#[tokio::test]
async fn event_without_reply_is_waited_for_and_not_sent_twice() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(HOST_LIMITS);
    // It accepts connections and never replies, like one that is stopped or very busy.
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    events.send(&start(0));
    let (connection, _) = listener.accept().await.unwrap();
    assert_eq!(
        events.flush(Duration::from_millis(200)).await,
        Flushed::Pending(1)
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(200), listener.accept())
            .await
            .is_err(),
        "it was sent twice"
    );
    drop((connection, listener));
    let _server = containerd(&socket, &received).await;
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.numbers(), [0]);
}

#[tokio::test]
async fn refused_event_does_not_delay_others() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(HOST_LIMITS);
    let _server = containerd(&socket, &received).await;
    events.send(&TaskOOM::default());
    events.send(&start(0));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.topics(), ["/tasks/start"]);
}

#[tokio::test]
async fn full_queue_drops_the_oldest_events() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(Limits {
        capacity: 10,
        ..HOST_LIMITS
    });
    (0..100).for_each(|number| events.send(&start(number)));
    assert_eq!(events.flush(Duration::ZERO).await, Flushed::Pending(10));
    let _server = containerd(&socket, &received).await;
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.numbers(), (90..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn event_is_dropped_after_the_retry_timeout() {
    let Scene {
        socket,
        received,
        events,
        _folder,
    } = scene(Limits {
        retry_timeout: Duration::from_millis(100),
        ..HOST_LIMITS
    });
    events.send(&start(0));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    let _server = containerd(&socket, &received).await;
    events.send(&start(1));
    assert_eq!(events.flush(TEST_TIMEOUT).await, Flushed::All);
    assert_eq!(received.numbers(), [1]);
}
