//! Tests with a failing API server and random events in the cluster. A failure names the seed, with
//! which the run can be repeated.

use std::time::Duration;

use fake_cluster::faults::Chance;
use fake_cluster::resource::{NODE, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Fixture, IMAGE, Operator, pooled, runtime_key};

const SEEDS: u64 = 12;
const RUNTIMES: [&str; 2] = ["one", "two"];

/// A cluster with random events.
struct RandomCluster {
    fixture: Fixture,
    chance: Chance,
    operator: Option<Operator>,
    seed: u64,
    joined: usize,
}

impl RandomCluster {
    fn new(seed: u64) -> Self {
        let fixture = Fixture::empty();
        let mut random = Self {
            fixture,
            chance: Chance::new(seed),
            operator: None,
            seed,
            joined: 0,
        };
        for _ in 0..6 {
            random.join();
        }
        for name in RUNTIMES {
            random.fixture.install(
                name,
                &json!({ "rollout": { "maxUnavailable": 2, "failureThreshold": 1000 } }),
            );
        }
        random.start_operator();
        random
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        let n = self.chance.number() % u64::try_from(all.len()).unwrap();
        all[usize::try_from(n).unwrap()].clone()
    }

    fn start_operator(&mut self) {
        let seed = self.chance.number();
        self.operator = Some(Operator::start_with(
            &self.fixture,
            &format!("{seed}"),
            IMAGE,
            Faults::chaos(seed),
        ));
    }

    fn join(&mut self) {
        let scripts = [
            Script::Works,
            Script::cannot_download(),
            Script::Dies,
            Script::Hangs,
            Script::NeverStarts,
            Script::CannotMount,
            Script::FailsToStart,
            Script::IsNotAdmitted,
            Script::Fails(Outcome::Refused, Reason::Locked),
            Script::NodeVanishes,
        ];
        let scripts = [
            self.one_of(&scripts),
            self.one_of(&scripts),
            self.one_of(&scripts),
        ];
        let name = format!("node-{}", self.joined);
        self.joined += 1;
        self.fixture.fleet.join(pooled(&name).script(scripts));
    }

    fn node(&mut self) -> Option<String> {
        let names = self.fixture.fleet.names();
        (!names.is_empty()).then(|| self.one_of(&names))
    }

    fn pool(&mut self, pool: &str) {
        if let Some(node) = self.node() {
            let _ = self
                .fixture
                .cluster
                .update(&Key::new(NODE, "", &node), |node| {
                    node["metadata"]["labels"]["pool"] = pool.into();
                });
        }
    }

    /// Applies one random event.
    async fn apply_random_event(&mut self) {
        match self.chance.number() % 12 {
            0 => self.join(),
            1 => {
                if let Some(node) = self.node() {
                    self.fixture.fleet.remove(&node);
                }
            }
            2 => {
                if let Some(node) = self.node() {
                    self.fixture
                        .fleet
                        .reboot(&node, Duration::from_secs(30))
                        .await;
                }
            }
            3 => self.pool("other"),
            4 => self.pool("wasm"),
            5 => {
                if let Some(operator) = self.operator.take() {
                    operator.kill();
                }
                self.start_operator();
            }
            6 => {
                let url = format!("https://example.org/0.{}.0", self.chance.number() % 5);
                let platform = json!({ "arch": "amd64", "url": url, "sha256": "a".repeat(64) });
                self.fixture
                    .change("one", &json!({ "artifact": { "platforms": [platform] } }));
            }
            7 => {
                let paused = self.chance.happens(0.3);
                self.fixture
                    .change("two", &json!({ "rollout": { "paused": paused } }));
            }
            8 => self.fixture.cluster.store().compact(),
            9 => {
                if let Some(operator) = &self.operator {
                    operator.connection.end_watches();
                }
            }
            10 => {
                if let (Some(node), runtime) = (self.node(), self.one_of(&RUNTIMES)) {
                    self.fixture.fleet.lose_handler(&node, runtime);
                }
            }
            _ => {
                if let (Some(node), runtime) = (self.node(), self.one_of(&RUNTIMES)) {
                    let _ = self.fixture.cluster.delete(&Key::new(
                        WASM_RUNTIME_NODE,
                        "",
                        &format!("{runtime}.{node}"),
                    ));
                }
            }
        }
    }

    /// Ends all faults, and requests another attempt on failed nodes.
    fn repair(&mut self) {
        if let Some(operator) = &self.operator {
            operator.connection.set_faults(Faults::default());
        }
        for name in self.fixture.fleet.names() {
            self.fixture.fleet.script(&name, []);
            self.fixture.fleet.set_ready(&name, true);
        }
        for name in RUNTIMES {
            self.fixture
                .change(name, &json!({ "rollout": { "paused": false } }));
            let retry = |runtime: &mut Value| {
                runtime["metadata"]["annotations"] = json!({ "runtime.wasmedge.dev/retry": "now" });
            };
            self.fixture
                .cluster
                .update(&runtime_key(name), retry)
                .unwrap();
        }
    }

    async fn assert_rollout_completes(&self) {
        let is_wanted = |name: &str| {
            let node = self.fixture.cluster.get(&Key::new(NODE, "", name));
            node.is_some_and(|node| node["metadata"]["labels"]["pool"] == "wasm")
        };
        for runtime in RUNTIMES {
            for node in self.fixture.fleet.names() {
                let expected = if is_wanted(&node) {
                    "Ready labelled"
                } else {
                    "none"
                };
                self.fixture.until(runtime, &[&node], expected).await;
                let machine = self.fixture.fleet.machine(&node);
                let as_wanted = machine.works(runtime) == is_wanted(&node) || machine.is_gone;
                assert!(as_wanted, "seed {}: {node}: {machine:?}", self.seed);
            }
        }
        self.fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn random_events_break_no_invariant_and_rollout_completes() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut random = RandomCluster::new(seed);
        for _ in 0..60 {
            random.apply_random_event().await;
            let pause = random
                .chance
                .between(Duration::from_secs(1), Duration::from_mins(1));
            sleep(pause).await;
        }
        random.repair();
        random.assert_rollout_completes().await;
        for runtime in RUNTIMES {
            random.fixture.uninstall(runtime);
        }
        for runtime in RUNTIMES {
            random.fixture.until_gone(runtime).await;
        }
        for node in random.fixture.fleet.names() {
            assert!(
                random.fixture.fleet.machine(&node).touched.is_empty(),
                "seed {seed}: {node}"
            );
        }
        random.fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn slow_api_server_that_refuses_half_of_writes_only_delays_rollout() {
    for seed in 0..4 {
        let fixture = Fixture::with_nodes(4);
        let faults = Faults {
            slow: 0.3,
            conflict: 0.3,
            broken: 0.2,
            ..Faults::chaos(seed)
        };
        let _operator = Operator::start_with(&fixture, "a", IMAGE, faults);
        fixture.install("wasmedge", &json!({ "rollout": { "failureThreshold": 4 } }));
        fixture
            .until(
                "wasmedge",
                &["node-0", "node-1", "node-2", "node-3"],
                "Ready labelled",
            )
            .await;
        fixture.uninstall("wasmedge");
        fixture.until_gone("wasmedge").await;
        fixture.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn rollout_continues_after_broken_connection_is_restored() {
    let fixture = Fixture::with_nodes(3);
    let operator = Operator::start(&fixture, "a");
    fixture.install("wasmedge", &json!({}));
    fixture.until("wasmedge", &["node-0"], "Installing").await;
    operator.connection.cut();
    sleep(Duration::from_mins(20)).await;
    operator.connection.restore();
    fixture
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    fixture.assert_sound();
}
