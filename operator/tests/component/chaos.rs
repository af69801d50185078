//! An API server in trouble, and a cluster that changes all the time. What follows from chance
//! follows from a seed, which a failure names.

use std::time::Duration;

use fake_cluster::faults::Chance;
use fake_cluster::resource::{NODE, WASM_RUNTIME_NODE};
use fake_cluster::{Faults, Key, Script};
use installer_protocol::{Outcome, Reason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::{IMAGE, Operator, Stage, pooled, runtime_key};

const SEEDS: u64 = 12;
const RUNTIMES: [&str; 2] = ["one", "two"];

/// A cluster, and what chance does to it.
struct Storm {
    stage: Stage,
    chance: Chance,
    operator: Option<Operator>,
    seed: u64,
    joined: usize,
}

impl Storm {
    fn brew(seed: u64) -> Self {
        let stage = Stage::empty();
        let mut storm = Self {
            stage,
            chance: Chance::new(seed),
            operator: None,
            seed,
            joined: 0,
        };
        for _ in 0..6 {
            storm.join();
        }
        for name in RUNTIMES {
            storm.stage.install(
                name,
                &json!({ "rollout": { "maxUnavailable": 2, "failureThreshold": 1000 } }),
            );
        }
        storm.start_operator();
        storm
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        let n = self.chance.number() % u64::try_from(all.len()).unwrap();
        all[usize::try_from(n).unwrap()].clone()
    }

    fn start_operator(&mut self) {
        let seed = self.chance.number();
        self.operator = Some(Operator::start_with(
            &self.stage,
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
        self.stage.fleet.join(pooled(&name).script(scripts));
    }

    fn node(&mut self) -> Option<String> {
        let names = self.stage.fleet.names();
        (!names.is_empty()).then(|| self.one_of(&names))
    }

    fn pool(&mut self, pool: &str) {
        if let Some(node) = self.node() {
            let _ = self
                .stage
                .cluster
                .update(&Key::new(NODE, "", &node), |node| {
                    node["metadata"]["labels"]["pool"] = pool.into();
                });
        }
    }

    /// Something happens.
    async fn blow(&mut self) {
        match self.chance.number() % 12 {
            0 => self.join(),
            1 => {
                if let Some(node) = self.node() {
                    self.stage.fleet.remove(&node);
                }
            }
            2 => {
                if let Some(node) = self.node() {
                    self.stage
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
                self.stage
                    .change("one", &json!({ "artifact": { "platforms": [platform] } }));
            }
            7 => {
                let paused = self.chance.happens(0.3);
                self.stage
                    .change("two", &json!({ "rollout": { "paused": paused } }));
            }
            8 => self.stage.cluster.store().compact(),
            9 => {
                if let Some(operator) = &self.operator {
                    operator.connection.end_watches();
                }
            }
            10 => {
                if let (Some(node), runtime) = (self.node(), self.one_of(&RUNTIMES)) {
                    self.stage.fleet.lose_handler(&node, runtime);
                }
            }
            _ => {
                if let (Some(node), runtime) = (self.node(), self.one_of(&RUNTIMES)) {
                    let _ = self.stage.cluster.delete(&Key::new(
                        WASM_RUNTIME_NODE,
                        "",
                        &format!("{runtime}.{node}"),
                    ));
                }
            }
        }
    }

    /// The weather clears up: whatever failed for good is tried once more, by a person's wish.
    fn clear_up(&mut self) {
        if let Some(operator) = &self.operator {
            operator.connection.set_faults(Faults::default());
        }
        for name in self.stage.fleet.names() {
            self.stage.fleet.script(&name, []);
            self.stage.fleet.set_ready(&name, true);
        }
        for name in RUNTIMES {
            self.stage
                .change(name, &json!({ "rollout": { "paused": false } }));
            let retry = |runtime: &mut Value| {
                runtime["metadata"]["annotations"] = json!({ "runtime.wasmedge.dev/retry": "now" });
            };
            self.stage
                .cluster
                .update(&runtime_key(name), retry)
                .unwrap();
        }
    }

    async fn assert_all_is_well(&self) {
        let is_wanted = |name: &str| {
            let node = self.stage.cluster.get(&Key::new(NODE, "", name));
            node.is_some_and(|node| node["metadata"]["labels"]["pool"] == "wasm")
        };
        for runtime in RUNTIMES {
            for node in self.stage.fleet.names() {
                let standing = if is_wanted(&node) {
                    "Ready labelled"
                } else {
                    "none"
                };
                self.stage.until(runtime, &[&node], standing).await;
                let machine = self.stage.fleet.machine(&node);
                let as_wanted = machine.works(runtime) == is_wanted(&node) || machine.is_gone;
                assert!(as_wanted, "seed {}: {node}: {machine:?}", self.seed);
            }
        }
        self.stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_no_rule_is_broken_and_all_is_well_in_the_end() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut storm = Storm::brew(seed);
        for _ in 0..60 {
            storm.blow().await;
            let pause = storm
                .chance
                .between(Duration::from_secs(1), Duration::from_mins(1));
            sleep(pause).await;
        }
        storm.clear_up();
        storm.assert_all_is_well().await;
        for runtime in RUNTIMES {
            storm.stage.uninstall(runtime);
        }
        for runtime in RUNTIMES {
            storm.stage.until_gone(runtime).await;
        }
        for node in storm.stage.fleet.names() {
            assert!(
                storm.stage.fleet.machine(&node).touched.is_empty(),
                "seed {seed}: {node}"
            );
        }
        storm.stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_slow_and_refuses_half_of_all_writes_only_delays() {
    for seed in 0..4 {
        let stage = Stage::with_nodes(4);
        let faults = Faults {
            slow: 0.3,
            conflict: 0.3,
            broken: 0.2,
            ..Faults::chaos(seed)
        };
        let _operator = Operator::start_with(&stage, "a", IMAGE, faults);
        stage.install("wasmedge", &json!({ "rollout": { "failureThreshold": 4 } }));
        stage
            .until(
                "wasmedge",
                &["node-0", "node-1", "node-2", "node-3"],
                "Ready labelled",
            )
            .await;
        stage.uninstall("wasmedge");
        stage.until_gone("wasmedge").await;
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_stops_nothing_for_longer_than_it_lasts() {
    let stage = Stage::with_nodes(3);
    let operator = Operator::start(&stage, "a");
    stage.install("wasmedge", &json!({}));
    stage.until("wasmedge", &["node-0"], "Installing").await;
    operator.connection.cut();
    sleep(Duration::from_mins(20)).await;
    operator.connection.mend();
    stage
        .until(
            "wasmedge",
            &["node-0", "node-1", "node-2"],
            "Ready labelled",
        )
        .await;
    stage.assert_sound();
}
