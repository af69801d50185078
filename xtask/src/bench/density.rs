//! `density`: the memory and processes of idle containers, without containerd itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use testbed::progress;

use super::Extent;
use super::environment::{Environment, Net};
use super::processes::{self, Memory, Table};
use super::programs::Does;
use super::report::{Figure, Target, Unit};
use super::subject::Subject;
use super::subject::name::SubjectName;

/// How long the memory of containers may take to settle, and the kernel to release that of earlier
/// ones: networks are removed in the background.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A way of creating containers.
#[derive(Debug)]
struct Form {
    /// bench-client's name for it.
    made: &'static str,
    does: Does,
    name: &'static str,
    /// The target for one more of them, in MiB.
    target: Option<f64>,
}

/// The engine keeps each guest's code in its own form, so the memory of a container depends on its
/// guest.
const FORMS: [Form; 3] = [
    Form {
        made: "pod",
        does: Does::Rest,
        name: "pod of one container (CRI), the smallest program",
        target: Some(0.7),
    },
    Form {
        made: "pod",
        does: Does::Idle,
        name: "pod of one container (CRI), a C program",
        target: Some(0.7),
    },
    Form {
        made: "task",
        does: Does::Idle,
        name: "container (no pod), a C program",
        target: None,
    },
];

pub(super) fn measure(environment: &Environment, extent: &Extent) -> Result<Vec<Figure>> {
    let steps = steps(extent.containers);
    let mut figures = Vec::new();
    for form in &FORMS {
        let Form { name, .. } = form;
        let mut held: BTreeMap<SubjectName, Vec<Vec<Usage>>> = BTreeMap::new();
        let mut subjects: Vec<&Subject> = environment.subjects.iter().collect();
        for round in 1..=extent.densities {
            for subject in &subjects {
                let what = format!(
                    "{}: {} idle, each a {name} ({round}/{})",
                    subject.name, extent.containers, extent.densities
                );
                held.entry(subject.name.clone())
                    .or_default()
                    .push(progress::step(what, || {
                        measure_steps(environment, subject, form, &steps)
                    })?);
            }
            // Each round begins with another subject.
            let next = 1.min(subjects.len());
            subjects.rotate_left(next);
        }
        let mut found = figures_of(name, &steps, &held);
        if let Some(limit) = form.target {
            set_target(&mut found, "marginal PSS", limit);
            set_target(&mut found, "processes", 1.0);
        }
        figures.extend(found);
    }
    Ok(figures)
}

/// Sets the target of the figure with the name prefix `begins`.
fn set_target(figures: &mut [Figure], begins: &str, limit: f64) {
    if let Some(figure) = figures
        .iter_mut()
        .find(|figure| figure.name.starts_with(begins))
    {
        figure.target = Some(Target::Value(limit));
    }
}

/// Returns the numbers of containers at which usage is measured: few, half and all.
fn steps(all: usize) -> Vec<usize> {
    let mut steps = vec![(all / 10).max(1), all / 2, all];
    steps.retain(|step| *step > 0);
    steps.dedup();
    steps
}

/// The resource usage of containers at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    memory: Memory,
    processes: usize,
    threads: u32,
    /// The machine's available memory, in KiB.
    available: u64,
}

/// Measures the usage without containers, and at each of `steps`.
fn measure_steps(
    environment: &Environment,
    subject: &Subject,
    form: &Form,
    steps: &[usize],
) -> Result<Vec<Usage>> {
    // A shim's daemon may outlive its last container for some seconds: that of the previous subject
    // must not be counted.
    let mut held = vec![settled(environment, |held| held.processes == 0)?];
    let mut from = 0;
    for &to in steps {
        let plan = json!({
            "subjects": [Environment::entry(subject, form.does, Net::Own)],
            "numbers": [from, to],
            "form": form.made,
            "network": "pod",
            "cgroup": environment.pods(),
        });
        environment.client.run("idle", &plan)?;
        held.push(settled(environment, |_| true)?);
        from = to;
    }
    environment
        .client
        .run("clear", &json!({ "subjects": [] }))?;
    Ok(held)
}

/// Measures until two measurements in a row have the same processes and nearly the same memory, and
/// `is_expected` accepts them; at most for [`SETTLE_TIMEOUT`].
fn settled(environment: &Environment, is_expected: impl Fn(&Usage) -> bool) -> Result<Usage> {
    let alike = |one: &Usage, other: &Usage| {
        let (less, more) = (
            one.memory.proportional.min(other.memory.proportional),
            one.memory.proportional.max(other.memory.proportional),
        );
        let is_quiet = one.available.abs_diff(other.available) < processes::MEMORY_NOISE;
        is_quiet
            && is_expected(other)
            && one.processes == other.processes
            && one.threads == other.threads
            && more - less <= more / 200
    };
    processes::settled(SETTLE_TIMEOUT, || usage(environment), alike)
}

fn usage(environment: &Environment) -> Result<Usage> {
    let table = Table::now()?;
    let first = environment.isolated.init_pid();
    let containerd = containerd(&table, first)?;
    let ours: Vec<_> = table
        .descendants(&[first, containerd])
        .into_iter()
        .filter_map(|pid| table.get(pid))
        .collect();
    Ok(Usage {
        memory: ours
            .iter()
            .filter_map(|process| Memory::of(process.pid))
            .sum(),
        processes: ours.len(),
        threads: ours.iter().map(|process| process.threads).sum(),
        available: processes::available()?,
    })
}

/// Finds the containerd in the pid namespace of the process `first`.
fn containerd(table: &Table, first: i32) -> Result<i32> {
    let numbers = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let isolated = numbers(first).context("read the pid namespace of the environment")?;
    let found = table.iter().find(|process| {
        process.name == "containerd" && numbers(process.pid).is_ok_and(|found| found == isolated)
    });
    found
        .map(|process| process.pid)
        .context("the namespace has no containerd")
}

/// Returns the rows of one form: at each step the usage of one container, and that of one more;
/// `held` round by round.
fn figures_of(
    name: &str,
    steps: &[usize],
    held: &BTreeMap<SubjectName, Vec<Vec<Usage>>>,
) -> Vec<Figure> {
    let figure = |title: String, unit, value: &dyn Fn(&[Usage]) -> f64| {
        let samples = held
            .iter()
            .map(|(subject, rounds)| {
                (
                    subject.clone(),
                    rounds.iter().map(|held| value(held)).collect(),
                )
            })
            .collect();
        Figure::of(title, unit, &samples)
    };
    let pss = |held: &Usage| mebibytes(held.memory.proportional);
    let mut figures: Vec<Figure> = steps
        .iter()
        .enumerate()
        .map(|(index, &count)| {
            figure(
                format!("PSS per {name}, of {count}"),
                Unit::Mebibytes,
                &|held| (pss(&held[index + 1]) - pss(&held[0])) / number(count),
            )
        })
        .collect();
    let (first, last) = (0, steps.len());
    let more = number(steps.last().copied().unwrap_or_default());
    // From the first step on, if there are several: the base cost of the first container is in PSS
    // above.
    let (first, more) = if last > 1 {
        (1, more - number(steps[0]))
    } else {
        (first, more)
    };
    let slope =
        |held: &[Usage], of: &dyn Fn(&Usage) -> f64| (of(&held[last]) - of(&held[first])) / more;
    figures.extend([
        figure(
            format!("marginal PSS of a {name}"),
            Unit::Mebibytes,
            &|held| slope(held, &pss),
        ),
        figure(
            format!("marginal private memory of a {name}"),
            Unit::Mebibytes,
            &|held| slope(held, &|held| mebibytes(held.memory.private)),
        ),
        figure(
            format!("marginal memory of the machine, of a {name}"),
            Unit::Mebibytes,
            &|held| slope(held, &|held| -mebibytes(held.available)),
        ),
        figure(format!("processes of a {name}"), Unit::Count, &|held| {
            slope(held, &|held| number(held.processes))
        }),
        figure(format!("threads of a {name}"), Unit::Count, &|held| {
            slope(held, &|held| f64::from(held.threads))
        }),
    ]);
    figures
}

fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kibibytes: u64, processes: usize) -> Usage {
        let memory = Memory {
            proportional: kibibytes,
            private: kibibytes / 2,
        };
        Usage {
            memory,
            processes,
            threads: 2 * u32::try_from(processes).unwrap(),
            available: 1_000_000 - kibibytes,
        }
    }

    #[test]
    fn usage_is_measured_at_few_half_and_all_containers() {
        assert_eq!(steps(200), [20, 100, 200]);
        assert_eq!(steps(2), [1, 2]);
        assert_eq!(steps(1), [1]);
    }

    #[test]
    fn marginal_cost_is_the_slope_between_few_and_all() {
        // A host of 10 MiB, and 1 MiB and one process for each container.
        let all = BTreeMap::from([(
            SubjectName::Ours,
            vec![vec![
                held(0, 0),
                held(12 * 1024, 3),
                held(20 * 1024, 11),
                held(30 * 1024, 21),
            ]],
        )]);
        let figures = figures_of("pod", &[2, 10, 20], &all);
        let median = |name: &str| {
            figures
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .series[&SubjectName::Ours]
                .summary
                .median
        };
        let is = |name: &str, expected: f64| {
            assert!(
                (median(name) - expected).abs() < 1e-9,
                "{name}: {}",
                median(name)
            );
        };
        is("PSS per pod, of 2", 6.0);
        is("PSS per pod, of 20", 1.5);
        is("marginal PSS of a pod", 1.0);
        is("marginal private memory of a pod", 0.5);
        is("marginal memory of the machine, of a pod", 1.0);
        is("processes of a pod", 1.0);
        is("threads of a pod", 2.0);
    }
}
