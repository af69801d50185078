//! `density`: what idle containers hold of the machine, everything counted but containerd itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use testbed::progress;

use super::Extent;
use super::ground::{Ground, Net};
use super::processes::{self, Memory, Table};
use super::programs::Does;
use super::report::{Figure, Target, Unit};
use super::subject::Subject;
use super::subject::name::SubjectName;

/// How long containers may take until what they hold no longer changes much, and those before them
/// until the kernel has let go what was theirs: networks go in the background.
const SETTLE: Duration = Duration::from_secs(30);

/// How containers are made.
#[derive(Debug)]
struct Form {
    /// bench-client's name for it.
    made: &'static str,
    does: Does,
    name: &'static str,
    /// The target of what one more of them takes, in MiB.
    target: Option<f64>,
}

/// The engine holds the code of each guest in a form of its own, so what a container takes depends
/// on its guest.
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

pub(super) fn measure(ground: &Ground, extent: &Extent) -> Result<Vec<Figure>> {
    let steps = steps(extent.containers);
    let mut figures = Vec::new();
    for form in &FORMS {
        let Form { name, .. } = form;
        let mut held: BTreeMap<SubjectName, Vec<Vec<Held>>> = BTreeMap::new();
        let mut subjects: Vec<&Subject> = ground.subjects.iter().collect();
        for round in 1..=extent.densities {
            for subject in &subjects {
                let what = format!(
                    "{}: {} idle, each a {name} ({round}/{})",
                    subject.name, extent.containers, extent.densities
                );
                held.entry(subject.name.clone())
                    .or_default()
                    .push(progress::step(what, || {
                        hold(ground, subject, form, &steps)
                    })?);
            }
            // Each round begins with another one.
            let next = 1.min(subjects.len());
            subjects.rotate_left(next);
        }
        let mut found = figures_of(name, &steps, &held);
        if let Some(limit) = form.target {
            aim(&mut found, "marginal PSS", limit);
            aim(&mut found, "processes", 1.0);
        }
        figures.extend(found);
    }
    Ok(figures)
}

/// Gives the figure whose name begins so a target.
fn aim(figures: &mut [Figure], begins: &str, limit: f64) {
    if let Some(figure) = figures
        .iter_mut()
        .find(|figure| figure.name.starts_with(begins))
    {
        figure.target = Some(Target::Value(limit));
    }
}

/// How many containers there are when they are looked at: few, half and all.
fn steps(all: usize) -> Vec<usize> {
    let mut steps = vec![(all / 10).max(1), all / 2, all];
    steps.retain(|step| *step > 0);
    steps.dedup();
    steps
}

/// What containers hold at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    memory: Memory,
    processes: usize,
    threads: u32,
    /// What the machine could still give, in KiB.
    available: u64,
}

/// What is held before there are containers, and at each of `steps`.
fn hold(ground: &Ground, subject: &Subject, form: &Form, steps: &[usize]) -> Result<Vec<Held>> {
    // A shim's daemon may outlive its last container for some seconds: that of the subject before
    // must not be counted.
    let mut held = vec![settled(ground, |held| held.processes == 0)?];
    let mut from = 0;
    for &to in steps {
        let plan = json!({
            "subjects": [Ground::entry(subject, form.does, Net::Own)],
            "numbers": [from, to],
            "form": form.made,
            "network": "pod",
            "cgroup": ground.pods(),
        });
        ground.client.run("idle", &plan)?;
        held.push(settled(ground, |_| true)?);
        from = to;
    }
    ground.client.run("clear", &json!({ "subjects": [] }))?;
    Ok(held)
}

/// Looks until two looks in a row see the same processes and nearly the same memory, and what
/// `is_expected`; at most for [`SETTLE`].
fn settled(ground: &Ground, is_expected: impl Fn(&Held) -> bool) -> Result<Held> {
    let alike = |one: &Held, other: &Held| {
        let (less, more) = (
            one.memory.proportional.min(other.memory.proportional),
            one.memory.proportional.max(other.memory.proportional),
        );
        let is_quiet = one.available.abs_diff(other.available) < processes::TREMBLE;
        is_quiet
            && is_expected(other)
            && one.processes == other.processes
            && one.threads == other.threads
            && more - less <= more / 200
    };
    processes::settled(SETTLE, || look(ground), alike)
}

fn look(ground: &Ground) -> Result<Held> {
    let table = Table::now()?;
    let first = ground.isolated.init_pid();
    let containerd = containerd(&table, first)?;
    let ours: Vec<_> = table
        .descendants(&[first, containerd])
        .into_iter()
        .filter_map(|pid| table.get(pid))
        .collect();
    Ok(Held {
        memory: ours
            .iter()
            .filter_map(|process| Memory::of(process.pid))
            .sum(),
        processes: ours.len(),
        threads: ours.iter().map(|process| process.threads).sum(),
        available: processes::available()?,
    })
}

/// The number of the containerd whose processes are numbered as the namespace's first one is.
fn containerd(table: &Table, first: i32) -> Result<i32> {
    let numbers = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let isolated = numbers(first).context("read how the namespace's processes are numbered")?;
    let found = table.iter().find(|process| {
        process.name == "containerd" && numbers(process.pid).is_ok_and(|found| found == isolated)
    });
    found
        .map(|process| process.pid)
        .context("the namespace has no containerd")
}

/// The rows of one form: at each step what one container holds, and what one more takes; `held`
/// round by round.
fn figures_of(
    name: &str,
    steps: &[usize],
    held: &BTreeMap<SubjectName, Vec<Vec<Held>>>,
) -> Vec<Figure> {
    let figure = |title: String, unit, value: &dyn Fn(&[Held]) -> f64| {
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
    let pss = |held: &Held| mebibytes(held.memory.proportional);
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
    // From the first step on, if there are several: what the first container alone brings along is
    // in PSS above.
    let (first, more) = if last > 1 {
        (1, more - number(steps[0]))
    } else {
        (first, more)
    };
    let slope =
        |held: &[Held], of: &dyn Fn(&Held) -> f64| (of(&held[last]) - of(&held[first])) / more;
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

    fn held(kibibytes: u64, processes: usize) -> Held {
        let memory = Memory {
            proportional: kibibytes,
            private: kibibytes / 2,
        };
        Held {
            memory,
            processes,
            threads: 2 * u32::try_from(processes).unwrap(),
            available: 1_000_000 - kibibytes,
        }
    }

    #[test]
    fn containers_are_looked_at_when_there_are_few_half_and_all() {
        assert_eq!(steps(200), [20, 100, 200]);
        assert_eq!(steps(2), [1, 2]);
        assert_eq!(steps(1), [1]);
    }

    #[test]
    fn one_more_container_costs_what_lies_between_few_and_all() {
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
