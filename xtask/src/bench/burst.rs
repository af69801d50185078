//! `burst`: many pods of one Deployment on a kind worker, created, ready and deleted again.
//!
//! - [`worker`]: the cluster, and the node that has every subject as a runtime class.
//! - [`cpu_time`]: the users of CPU time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::cache::Cache;
use testbed::progress;
use testbed::teardown::Run;

use super::Extent;
use super::processes::{self, Memory, Table, settled};
use super::report::{Figure, Target, Unit};
use super::subject::Subject;
use super::subject::name::SubjectName;

mod cpu_time;
mod worker;

use cpu_time::{CpuTime, Share};
use worker::Worker;

/// How long the memory of ready pods may take to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn measure(
    cache: &Cache,
    run: &Run,
    subjects: &[Subject],
    extent: &Extent,
) -> Result<(Vec<Figure>, Vec<String>)> {
    let worker = Worker::start(cache, run, subjects)?;
    let mut samples = Samples::default();
    if let Some(first) = subjects.first() {
        // kubelet and containerd grow at their first burst, regardless of the subject.
        progress::step(
            format_args!("a burst that does not count, of {}", first.name),
            || burst(&worker, first, extent.pods),
        )?;
    }
    for round in 0..extent.bursts {
        for place in 0..subjects.len() {
            let subject = &subjects[(round + place) % subjects.len()];
            let found = progress::step(
                format_args!("{} pods of {}", extent.pods, subject.name),
                || {
                    let deleted = alone(&worker, subject)?;
                    Ok(Found {
                        deleted,
                        ..burst(&worker, subject, extent.pods)?
                    })
                },
            )?;
            samples.add(&subject.name, &found, extent.pods);
        }
    }
    Ok((samples.figures(extent.pods), notes(extent)))
}

fn notes(extent: &Extent) -> Vec<String> {
    vec![
        format!(
            "{} bursts of each, after a warm-up. Pods are created by the kubelet, with CNI's \
             bridge and a service account.",
            extent.bursts
        ),
        "Processor time is measured from the request for the Deployment until kubectl reports all \
         pods as ready. That of the whole machine includes the control plane, the other nodes and \
         all other programs; that of the worker is that of its cgroup or of its processes."
            .to_owned(),
        "\"What containerd starts\" are the network plugins and the starts of shims. \"Shims and \
         containers\" includes node hosts."
            .to_owned(),
        "Memory is measured when all pods are ready and it is stable. That of the machine is the \
         decrease of available memory, so it includes the growth of the kubelet and of containerd."
            .to_owned(),
        "The deletion of a single pod is from `kubectl delete` to its end; both programs end on \
         SIGTERM."
            .to_owned(),
    ]
}

/// The results of one burst.
#[derive(Debug, Clone, Default)]
struct Found {
    /// From the request to the last pod's readiness.
    ready: Duration,
    /// From the request to the last pod's end.
    gone: Duration,
    /// The same for a single pod.
    deleted: Duration,
    cpu_time: CpuTime,
    /// The additional memory use, in KiB.
    available: u64,
    proportional: u64,
    /// The number of additional processes.
    processes: usize,
}

/// Creates a single pod, and times its deletion.
fn alone(worker: &Worker, subject: &Subject) -> Result<Duration> {
    worker.scale_up(subject, 1)?;
    let begun = Instant::now();
    worker.delete()?;
    Ok(begun.elapsed())
}

fn burst(worker: &Worker, subject: &Subject, pods: usize) -> Result<Found> {
    let before = worker.settled_usage()?;
    let from = worker.clock()?;
    let begun = Instant::now();
    worker.scale_up(subject, pods)?;
    let ready = begun.elapsed();
    let cpu_time = worker.clock()?.since(&from);
    let held = worker.settled_usage()?;
    let begun = Instant::now();
    worker.delete()?;
    Ok(Found {
        ready,
        gone: begun.elapsed(),
        deleted: Duration::ZERO,
        cpu_time,
        available: before.available.saturating_sub(held.available),
        proportional: held.proportional.saturating_sub(before.proportional),
        processes: held.processes.saturating_sub(before.processes),
    })
}

/// The resource usage of the node at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    /// The machine's available memory, in KiB.
    available: u64,
    /// The PSS of shims, hosts and containers, in KiB.
    proportional: u64,
    /// Their number.
    processes: usize,
}

impl Worker {
    fn settled_usage(&self) -> Result<Usage> {
        let alike = |one: &Usage, other: &Usage| {
            one.processes == other.processes
                && one.available.abs_diff(other.available) < processes::MEMORY_NOISE
        };
        settled(SETTLE_TIMEOUT, || self.usage(), alike)
    }

    fn usage(&self) -> Result<Usage> {
        let table = Table::now()?;
        let pods = cpu_time::of_pods(&table, self.root());
        Ok(Usage {
            available: processes::available()?,
            proportional: pods
                .iter()
                .filter_map(|pid| Memory::of(*pid))
                .sum::<Memory>()
                .proportional,
            processes: pods.len(),
        })
    }
}

/// Samples by measurement, then by subject.
#[derive(Debug, Default)]
struct Samples {
    all: BTreeMap<&'static str, BTreeMap<SubjectName, Vec<f64>>>,
}

impl Samples {
    fn add(&mut self, name: &SubjectName, found: &Found, pods: usize) {
        let pods = f64::from(u32::try_from(pods).unwrap_or(u32::MAX));
        let mebibytes = |kibibytes: u64| {
            f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0 / pods
        };
        let mut add = |what, value| {
            self.all
                .entry(what)
                .or_default()
                .entry(name.clone())
                .or_default()
                .push(value);
        };
        add(READY, found.ready.as_secs_f64());
        add(GONE, found.gone.as_secs_f64());
        add(DELETED, found.deleted.as_secs_f64());
        add(MACHINE, found.cpu_time.machine);
        add(WORKER, found.cpu_time.worker);
        for share in Share::ALL {
            add(share.title(), found.cpu_time.of(share));
        }
        add(AVAILABLE, mebibytes(found.available));
        add(PROPORTIONAL, mebibytes(found.proportional));
        add(
            PROCESSES,
            f64::from(u32::try_from(found.processes).unwrap_or(u32::MAX)) / pods,
        );
    }

    fn figures(&self, pods: usize) -> Vec<Figure> {
        let shares = Share::ALL.map(|share| (share.title(), Unit::Seconds, None));
        let head = [
            (READY, Unit::Seconds, Some(Target::Ratio(0.50))),
            (MACHINE, Unit::Seconds, Some(Target::Ratio(0.50))),
            (WORKER, Unit::Seconds, None),
        ];
        let tail = [
            (AVAILABLE, Unit::Mebibytes, Some(Target::Value(2.5))),
            (PROPORTIONAL, Unit::Mebibytes, None),
            (PROCESSES, Unit::Count, Some(Target::Value(1.0))),
            (GONE, Unit::Seconds, None),
            (DELETED, Unit::Seconds, Some(Target::Value(2.0))),
        ];
        let rows = head.into_iter().chain(shares).chain(tail);
        let figures = rows.filter_map(|(what, unit, target)| {
            let figure = Figure::of(
                what.replace("all pods", &format!("all {pods} pods")),
                unit,
                self.all.get(what)?,
            );
            Some(Figure { target, ..figure })
        });
        figures.collect()
    }
}

const READY: &str = "until all pods are ready";
const GONE: &str = "until all pods are deleted";
const DELETED: &str = "deletion of a single running pod";
const MACHINE: &str = "processors' time, whole machine";
const WORKER: &str = "processors' time, the worker";
const AVAILABLE: &str = "memory of the machine, per pod";
const PROPORTIONAL: &str = "PSS of shims and containers, per pod";
const PROCESSES: &str = "processes per pod";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reported_per_pod() {
        let mut samples = Samples::default();
        let found = Found {
            available: 4 * 2048,
            processes: 8,
            ready: Duration::from_secs(3),
            ..Found::default()
        };
        samples.add(&SubjectName::Ours, &found, 4);
        let figures = samples.figures(4);
        let median = |name: &str| {
            figures
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .series[&SubjectName::Ours]
                .summary
                .median
        };
        assert!((median(AVAILABLE) - 2.0).abs() < 1e-9);
        assert!((median(PROCESSES) - 2.0).abs() < 1e-9);
        assert!((median("until all 4 pods are ready") - 3.0).abs() < 1e-9);
    }
}
