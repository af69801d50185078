//! The users of CPU time: differences between two moments, of the machine's clocks and of
//! processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};

use super::processes::{Process, Table};

/// A user of the worker's CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    Kubelet,
    Containerd,
    /// Programs that containerd has waited for.
    Started,
    /// Shims, hosts, and their descendants.
    Pods,
    /// The rest of the node: its systemd and systemd's services.
    Rest,
}

impl Share {
    pub(super) const ALL: [Self; 5] = [
        Self::Kubelet,
        Self::Containerd,
        Self::Started,
        Self::Pods,
        Self::Rest,
    ];

    /// Returns its row in the table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Kubelet => "– of which kubelet",
            Self::Containerd => "– of which containerd",
            Self::Started => "– of which what containerd starts",
            Self::Pods => "– of which shims and containers",
            Self::Rest => "– of which systemd",
        }
    }

    fn of(process: &Process, root: i32) -> Self {
        match process.name.as_str() {
            "kubelet" => Self::Kubelet,
            "containerd" => Self::Containerd,
            name if process.pid == root
                || name.starts_with("systemd")
                || name.starts_with("(sd-")
                || name == "dbus-daemon" =>
            {
                Self::Rest
            }
            _ => Self::Pods,
        }
    }
}

/// CPU time at one moment, in ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clock {
    machine: u64,
    shares: BTreeMap<Share, u64>,
    per_second: f64,
}

/// CPU time between two moments, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CpuTime {
    /// The whole machine's.
    pub(super) machine: f64,
    /// The worker's, which is the sum of the shares.
    pub(super) worker: f64,
    shares: BTreeMap<Share, f64>,
}

impl CpuTime {
    /// Returns one share.
    pub(super) fn of(&self, share: Share) -> f64 {
        self.shares.get(&share).copied().unwrap_or_default()
    }
}

impl Clock {
    /// Reads the clock for the node with the first process `root`, with `per_second` ticks in a
    /// second.
    pub(super) fn now(root: i32, per_second: f64) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let machine = busy(&text).context("/proc/stat has no line of all processors")?;
        Ok(Self {
            machine,
            shares: shares(&Table::now()?, root),
            per_second,
        })
    }

    /// Returns the CPU time since `before`.
    pub(super) fn since(&self, before: &Self) -> CpuTime {
        let seconds =
            |ticks: u64| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / self.per_second;
        let earlier = |share: &Share| before.shares.get(share).copied().unwrap_or_default();
        let shares: BTreeMap<Share, f64> = self
            .shares
            .iter()
            .map(|(share, ticks)| (*share, seconds(ticks.saturating_sub(earlier(share)))))
            .collect();
        CpuTime {
            machine: seconds(self.machine.saturating_sub(before.machine)),
            worker: shares.values().sum(),
            shares,
        }
    }
}

/// Returns the pids of the shims, hosts and containers of the node with the first process `root`.
pub(super) fn of_pods(table: &Table, root: i32) -> BTreeSet<i32> {
    let all = table.descendants(&[root]);
    all.into_iter()
        .filter(|pid| {
            table
                .get(*pid)
                .is_some_and(|process| Share::of(process, root) == Share::Pods)
        })
        .collect()
}

/// Returns the ticks of each share. The time of an exited process counts for the process that
/// waited for it.
fn shares(table: &Table, root: i32) -> BTreeMap<Share, u64> {
    let mut shares = BTreeMap::new();
    let mut add = |share, ticks| *shares.entry(share).or_default() += ticks;
    for process in table
        .descendants(&[root])
        .iter()
        .chain([&root])
        .filter_map(|pid| table.get(*pid))
    {
        let share = Share::of(process, root);
        add(share, process.own);
        add(
            if share == Share::Containerd {
                Share::Started
            } else {
                share
            },
            process.ended,
        );
    }
    shares
}

/// Returns the ticks in which the processors were busy: not idle, not waiting for disks, not stolen
/// by the hypervisor.
fn busy(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; the following values are stolen, or included
    // in user's already.
    let all = ticks.get(..7)?;
    Some(all.iter().sum::<u64>() - all[3] - all[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, name: &str, own: u64, ended: u64) -> Process {
        Process {
            pid,
            parent,
            name: name.to_owned(),
            threads: 1,
            own,
            ended,
        }
    }

    fn node() -> Table {
        Table::of([
            process(1, 0, "systemd", 1000, 1000),
            process(10, 1, "systemd", 5, 1),
            process(11, 10, "kubelet", 100, 2),
            process(12, 10, "containerd", 50, 30),
            process(13, 10, "containerd-shim", 7, 8),
            process(14, 13, "pause", 1, 0),
        ])
    }

    #[test]
    fn time_of_exited_processes_counts_for_their_waiter() {
        let expected = [
            (Share::Kubelet, 102),
            (Share::Containerd, 50),
            (Share::Started, 30),
            (Share::Pods, 16),
            (Share::Rest, 6),
        ];
        assert_eq!(shares(&node(), 10), BTreeMap::from(expected));
    }

    #[test]
    fn pods_are_shims_and_their_descendants() {
        assert_eq!(of_pods(&node(), 10), BTreeSet::from([13, 14]));
    }

    #[test]
    fn waiting_and_stolen_time_is_not_busy() {
        assert_eq!(
            busy("cpu  1 2 3 1000 1000 4 5 1000 1000 0\ncpu0 9 9\n"),
            Some(15)
        );
        assert_eq!(busy("cpu0 1 2 3\n"), None);
    }

    #[test]
    fn cpu_time_is_the_difference_of_two_moments() {
        let clock = |machine, kubelet| Clock {
            machine,
            shares: BTreeMap::from([(Share::Kubelet, kubelet)]),
            per_second: 100.0,
        };
        let spent = clock(900, 250).since(&clock(400, 50));
        assert!(
            (spent.machine - 5.0).abs() < 1e-9 && (spent.worker - 2.0).abs() < 1e-9,
            "{spent:?}"
        );
        assert!(
            (spent.of(Share::Kubelet) - 2.0).abs() < 1e-9 && spent.of(Share::Pods).abs() < 1e-9,
            "{spent:?}"
        );
    }
}
