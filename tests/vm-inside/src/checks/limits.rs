//! Limits in the kernel, what happens beyond them, statistics, and pause.

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use serde_json::json;

use super::checks;
use crate::fixture::{Container, Driver, Fixture};
use crate::{machine, wait};

checks![
    limits_are_set_in_the_cgroup,
    memory_beyond_the_limit_exits_137_and_is_reported_as_oom,
    guest_above_memory_limit_is_oom_killed_at_its_start,
    guest_is_compiled_by_a_helper_with_a_cgroup_of_its_own,
    guest_that_calls_itself_without_end_traps_within_its_memory_limit,
    metrics_are_those_of_cgroup_v2,
    a_paused_guest_is_frozen_until_it_is_resumed,
    updated_limits_survive_a_reload_of_systemd,
];

const SIGKILL: u32 = 9;
/// The artifact store of a handler without an option for it.
const ARTIFACTS: &str = "/var/lib/wasmedge-runtime/artifacts";

fn limits_are_set_in_the_cgroup(fixture: &Fixture, driver: Driver) -> Result<()> {
    let limits = json!({
        "memory": { "limit": 96 << 20 },
        "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
        "pids": { "limit": 77 },
    });
    let container = fixture.run_limited(driver, &["/app.wasm", "sleep", "600"], &limits)?;
    let weight = container.cgroup("cpu.weight")?;
    ensure!(
        weight
            .parse::<u32>()
            .is_ok_and(|weight| (1..100).contains(&weight)),
        "half of the usual share is the weight {weight}"
    );
    for (file, expected) in [
        ("memory.max", "100663296"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "77"),
    ] {
        let found = container.cgroup(file)?;
        ensure!(found == expected, "{file} is {found}, expected {expected}");
    }
    if driver == Driver::Systemd {
        // systemd resets limits that it does not manage when it is reloaded.
        let found = machine::property(&format!("wasm-{}.scope", container.id), "MemoryMax")?;
        ensure!(
            found == "100663296",
            "the scope's limit in systemd is {found}"
        );
    }
    container.end(SIGKILL).map(drop)
}

fn memory_beyond_the_limit_exits_137_and_is_reported_as_oom(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run_limited(
        driver,
        &["/app.wasm", "oom"],
        &json!({ "memory": { "limit": 32 << 20, "swap": 32 << 20 } }),
    )?;
    ends_by_oom(fixture, &container)
}

fn guest_above_memory_limit_is_oom_killed_at_its_start(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    // Compiled code is mapped, and fits into the limit.
    let container = fixture.run_changed(driver, &["/app.wasm", "exit", "0"], |spec| {
        spec["annotations"]["runtime.wasmedge.dev/mode"] = json!("interpreter");
        spec["linux"]["resources"]["memory"] = json!({ "limit": 1 << 20, "swap": 1 << 20 });
    })?;
    ends_by_oom(fixture, &container)
}

fn guest_is_compiled_by_a_helper_with_a_cgroup_of_its_own(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    // Without this the second driver would find the artifacts of the first one.
    std::fs::remove_dir_all(ARTIFACTS).context("remove the artifact store")?;
    for engine in ["wasmedge", "wasmtime"] {
        let container = fixture.run_changed(driver, &["/hello.wasm"], |spec| {
            spec["annotations"]["runtime.wasmedge.dev/compile"] = json!("wait");
            spec["annotations"]["runtime.wasmedge.dev/engine"] = json!(engine);
        })?;
        let code = container.wait()?;
        ensure!(
            code == 0,
            "exit code {code}; it printed {:?}",
            container.text()
        );
        let has_tier = || {
            let lines = machine::journal_of(&container.id)?;
            let text = lines.iter().map(ToString::to_string).collect::<String>();
            Ok((text.contains("optimized") && text.contains(engine)).then_some(()))
        };
        wait::until("the tier in the journal", has_tier, || {
            format!("{:?}", machine::journal_of(&container.id))
        })?;
        container.delete()?;
    }
    Ok(())
}

fn ends_by_oom(fixture: &Fixture, container: &Container<'_>) -> Result<()> {
    let code = container.wait()?;
    ensure!(
        code == 137,
        "exit code {code}; it printed {:?}",
        container.text()
    );
    container.delete()?;
    let published = || {
        let topics = fixture.containerd.topics_of(&container.id);
        Ok(topics
            .last()
            .is_some_and(|topic| topic == "/tasks/delete")
            .then_some(topics))
    };
    let topics = wait::until("its last event", published, || {
        format!("{:?}", fixture.containerd.topics_of(&container.id))
    })?;
    let expected =
        ["create", "start", "oom", "exit", "delete"].map(|topic| format!("/tasks/{topic}"));
    ensure!(topics == expected, "its events were {topics:?}");
    Ok(())
}

fn guest_that_calls_itself_without_end_traps_within_its_memory_limit(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let container = fixture.run_limited(
        driver,
        &["/recurse.wasm"],
        &json!({ "memory": { "limit": 128 << 20, "swap": 128 << 20 } }),
    )?;
    let code = container.wait()?;
    ensure!(code == 134, "exit code {code}");
    container.delete().map(drop)
}

/// A container's metrics: the fields of containerd's `cgroup2/stats/metrics.proto` that are used
/// here.
#[derive(Clone, PartialEq, prost::Message)]
struct Metrics {
    #[prost(message, optional, tag = "1")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    cpu: Option<Cpu>,
    #[prost(message, optional, tag = "4")]
    memory: Option<Memory>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    limit: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Cpu {
    #[prost(uint64, tag = "1")]
    microseconds: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Memory {
    #[prost(uint64, tag = "1")]
    anonymous: u64,
    #[prost(uint64, tag = "32")]
    usage: u64,
    #[prost(uint64, tag = "33")]
    limit: u64,
}

fn metrics_are_those_of_cgroup_v2(fixture: &Fixture, driver: Driver) -> Result<()> {
    const MEMORY_LIMIT: u64 = 128 << 20;
    let limits = json!({ "memory": { "limit": MEMORY_LIMIT }, "pids": { "limit": 50 } });
    let container = fixture.run_limited(driver, &["/app.wasm", "spin"], &limits)?;
    container.until_it_prints("spinning")?;
    let ask = || {
        let data = fixture.containerd.metrics(&container.id)?;
        ensure!(
            data.type_url.ends_with("io.containerd.cgroups.v2.Metrics"),
            "its metrics are a {}",
            data.type_url
        );
        Ok(Metrics::decode(data.value.as_slice())?)
    };
    let first = ask()?;
    let (pids, cpu, memory) = (
        first.pids.unwrap_or_default(),
        first.cpu.unwrap_or_default(),
        first.memory.unwrap_or_default(),
    );
    ensure!(
        (1..50).contains(&pids.current) && pids.limit == 50,
        "processes: {pids:?}"
    );
    ensure!(
        memory.limit == MEMORY_LIMIT
            && (1..MEMORY_LIMIT).contains(&memory.usage)
            && (1..MEMORY_LIMIT).contains(&memory.anonymous),
        "memory: {memory:?}"
    );
    // It computes all the time.
    let more = || {
        Ok(
            (ask()?.cpu.unwrap_or_default().microseconds > cpu.microseconds + 100_000)
                .then_some(()),
        )
    };
    wait::until("its use of a processor to grow", more, || {
        format!("at first it was {cpu:?}")
    })?;
    container.end(SIGKILL).map(drop)
}

fn a_paused_guest_is_frozen_until_it_is_resumed(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "tick"])?;
    container.until_it_prints("tick 2\n")?;
    let frozen = || {
        container
            .cgroup("cgroup.events")
            .map(|text| text.contains("frozen 1"))
    };
    fixture.containerd.pause(&container.id)?;
    ensure!(frozen()?, "it was paused and is not frozen");
    let state = fixture.containerd.state(&container.id, "")?;
    ensure!(
        state.status == 4,
        "its state in containerd is {}, expected 4 (paused)",
        state.status
    );
    fixture.containerd.resume(&container.id)?;
    ensure!(!frozen()?, "it was resumed and is still frozen");
    let length = container.text().len();
    wait::until(
        "it to continue",
        || Ok((container.text().len() > length).then_some(())),
        || container.text(),
    )?;
    // A signal also reaches it while it is frozen.
    fixture.containerd.pause(&container.id)?;
    let code = container.end(SIGKILL)?;
    ensure!(code == 137, "exit code {code}");
    Ok(())
}

fn updated_limits_survive_a_reload_of_systemd(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run_limited(
        driver,
        &["/app.wasm", "sleep", "600"],
        &json!({ "memory": { "limit": 64 << 20 } }),
    )?;
    let change =
        json!({ "memory": { "limit": 80 << 20 }, "cpu": { "quota": 30_000, "period": 100_000 } });
    fixture.containerd.update(&container.id, &change)?;
    if driver == Driver::Systemd {
        machine::output("systemctl", &["daemon-reload"])?;
    }
    for (file, expected) in [("memory.max", "83886080"), ("cpu.max", "30000 100000")] {
        let found = container.cgroup(file)?;
        ensure!(found == expected, "{file} is {found}, expected {expected}");
    }
    container.end(SIGKILL).map(drop)
}
