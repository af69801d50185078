//! Simulation of a rollout on a thousand nodes: its duration, its API calls, and the memory of the
//! operator. It is a test program of its own, so that the memory has nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, outside of the function that is marked as one"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_cluster::record::count;
use fake_cluster::resource::{EVENT, WASM_RUNTIME, WASM_RUNTIME_NODE};
use fake_cluster::{Cluster, Fleet, Guard, Joining, Key};
use serde_json::json;

#[path = "../component/context.rs"]
mod context;

const NODES: usize = 1000;
/// Maximum number of nodes that are changed at a time.
const BUDGET: usize = 50;
/// Maximum duration. An installation takes 2 s to start, 15 s of work, and 5 s until the kubelet
/// lists the handler; the operator adds the time of its calls. The canary is installed alone.
const MAX_DURATION: Duration = Duration::from_secs(30 * (1 + NODES as u64 / BUDGET as u64));
/// Maximum number of calls per node: the claim, four states, creation and deletion of a Job, a
/// label and the finalizer; a third more for repetitions.
const MAX_CALLS: usize = 16;
/// Maximum growth of the process during the rollout, in MiB, including the server's objects.
const MAX_MEMORY: usize = 100;

/// A cluster of a thousand nodes.
struct Simulation {
    cluster: Cluster,
    fleet: Fleet,
    guard: Guard,
    /// The phase of each node, by the names of WasmRuntimeNodes.
    phases: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Simulation {
    fn start() -> Self {
        let cluster = Cluster::start();
        let fleet = Fleet::start(&cluster);
        let guard = Guard::over(&cluster, &fleet);
        for n in 0..NODES {
            // Like nodes that have run several images.
            fleet.join(
                Joining::new(&format!("node-{n:04}.example.org"))
                    .label("pool", "wasm")
                    .images(20),
            );
        }
        guard.budget("wasmedge", BUDGET);
        let phases = Arc::new(Mutex::new(BTreeMap::new()));
        let noted = phases.clone();
        cluster.observe(move |change| {
            if change.key.resource == WASM_RUNTIME_NODE {
                let phase = change.object["status"]["phase"]
                    .as_str()
                    .unwrap_or_default();
                noted
                    .lock()
                    .unwrap()
                    .insert(change.key.name.clone(), phase.to_owned());
            }
        });
        Self {
            cluster,
            fleet,
            guard,
            phases,
        }
    }

    fn states(&self, phase: &str) -> usize {
        self.phases
            .lock()
            .unwrap()
            .values()
            .filter(|noted| *noted == phase)
            .count()
    }

    /// Waits for `holds`, with heartbeats of kubelets every five minutes. Returns the duration.
    async fn measure(&self, what: &str, holds: impl Fn() -> bool) -> Duration {
        let (began, real) = (self.cluster.now(), Instant::now());
        let beats = async {
            let names = self.fleet.names();
            let pause = Duration::from_mins(5) / u32::try_from(names.len()).unwrap();
            for name in names.iter().cycle() {
                tokio::time::sleep(pause).await;
                self.fleet.heartbeat(name);
                // Kubernetes keeps Events for an hour; they are not measured.
                self.cluster.store().forget_all(EVENT);
            }
        };
        let done = self.cluster.until(Duration::from_hours(10), || {
            if holds() {
                Ok(())
            } else {
                Err(format!(
                    "{} of {NODES} nodes are Ready",
                    self.states("Ready")
                ))
            }
        });
        tokio::select! {
            done = done => done.unwrap(),
            () = beats => unreachable!("heartbeats do not end"),
        }
        let took = Duration::try_from(self.cluster.now().duration_since(began)).unwrap();
        let calls = self.cluster.calls();
        println!(
            "{what} {NODES} nodes, {BUDGET} at a time: {} s, simulated in {:.1} s",
            took.as_secs(),
            real.elapsed().as_secs_f64()
        );
        for ((verb, resource), count) in count(&calls) {
            println!("  {count:6} {verb} {resource}");
        }
        println!(
            "  {}.{:02} calls a node",
            calls.len() / NODES,
            calls.len() % NODES * 100 / NODES
        );
        assert!(
            calls.len() <= MAX_CALLS * NODES,
            "{} calls for {NODES} nodes",
            calls.len()
        );
        self.cluster.forget_calls();
        took
    }
}

/// Returns the resident memory of the process, in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        / 1024
}

#[tokio::test(start_paused = true)]
async fn rollout_on_thousand_nodes_takes_bounded_time_calls_and_memory() {
    let simulation = Simulation::start();
    let before = resident();
    let connection = simulation.cluster.connect("operator");
    let context = context::context(
        &simulation.cluster,
        &connection,
        "simulated",
        "registry.example.org/node-installer:0.1.0",
    );
    let operator = tokio::spawn(wasmedge_operator::controller::run(
        context,
        std::future::pending(),
    ));
    let spec = json!({ "nodeSelector": { "matchLabels": { "pool": "wasm" } },
        "rollout": { "maxUnavailable": BUDGET } });
    let runtime = json!({ "apiVersion": "runtime.wasmedge.dev/v1alpha1", "kind": "WasmRuntime",
        "metadata": { "name": "wasmedge" }, "spec": spec });
    simulation.cluster.create(runtime).unwrap();
    let took = simulation
        .measure("installed on", || simulation.states("Ready") == NODES)
        .await;
    assert!(
        took < MAX_DURATION,
        "{} s, at most {} s",
        took.as_secs(),
        MAX_DURATION.as_secs()
    );
    let grown = resident().saturating_sub(before);
    println!(
        "  {before} MiB with server and nodes alone, {grown} MiB more with the operator and its \
         objects"
    );
    assert!(grown < MAX_MEMORY, "{grown} MiB, at most {MAX_MEMORY}");
    let key = Key::new(WASM_RUNTIME, "", "wasmedge");
    simulation.cluster.delete(&key).unwrap();
    simulation
        .measure("removed from", || simulation.cluster.get(&key).is_none())
        .await;
    println!(
        "  {} MiB more after all that, the records of both simulations included",
        resident().saturating_sub(before)
    );
    assert_eq!(
        (simulation.guard.violations(), simulation.fleet.violations()),
        (Vec::new(), Vec::new())
    );
    assert_eq!(simulation.guard.most(), BUDGET);
    operator.abort();
}
