//! The machine's processes: their descendants, memory and CPU time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The minimum interval between two measurements of the same value.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The noise of the machine's memory between two measurements, in KiB.
pub(super) const MEMORY_NOISE: u64 = 1024;

/// One process, from `/proc/<pid>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// The program's name, of which the kernel keeps 15 bytes.
    pub(super) name: String,
    pub(super) threads: u32,
    /// Its CPU time, in kernel ticks.
    pub(super) own: u64,
    /// The CPU time of its children that exited and were waited for.
    pub(super) ended: u64,
}

/// All processes at one moment, by pid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    all: BTreeMap<i32, Process>,
}

impl Table {
    /// Reads the present table. A process that exits meanwhile is left out.
    pub(super) fn now() -> Result<Self> {
        let entries = fs::read_dir("/proc").context("list the machine's processes")?;
        let numbers = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let stats = numbers.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        Ok(Self::of(stats.filter_map(|text| parse(&text))))
    }

    /// Makes a table of these processes.
    pub(super) fn of(processes: impl IntoIterator<Item = Process>) -> Self {
        Self {
            all: processes
                .into_iter()
                .map(|process| (process.pid, process))
                .collect(),
        }
    }

    /// Returns all processes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.all.values()
    }

    /// Returns the process of this pid.
    pub(super) fn get(&self, pid: i32) -> Option<&Process> {
        self.all.get(&pid)
    }

    /// Returns the pids of all descendants of `roots`, without these.
    pub(super) fn descendants(&self, roots: &[i32]) -> BTreeSet<i32> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for process in self.iter() {
            children
                .entry(process.parent)
                .or_default()
                .push(process.pid);
        }
        let mut found = BTreeSet::new();
        let mut next: Vec<i32> = roots.to_vec();
        while let Some(pid) = next.pop() {
            let new = children
                .get(&pid)
                .into_iter()
                .flatten()
                .filter(|child| found.insert(**child));
            next.extend(new.copied().collect::<Vec<_>>());
        }
        for root in roots {
            found.remove(root);
        }
        found
    }
}

/// Parses `/proc/<pid>/stat`. A name may contain anything, including brackets and blanks.
fn parse(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered as in proc(5), of which the third is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        threads: u32::try_from(field(20)?).ok()?,
        own: field(14)? + field(15)?,
        ended: field(16)? + field(17)?,
    })
}

/// The memory of processes, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The PSS: private memory and the share of shared memory.
    pub(super) proportional: u64,
    /// Private memory.
    pub(super) private: u64,
}

impl Memory {
    /// Reads the memory of the process `pid`; `None` if it has exited.
    pub(super) fn of(pid: i32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .ok()
            .map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let kibibytes = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or_default()
        };
        Self {
            proportional: kibibytes("Pss"),
            private: kibibytes("Private_Clean") + kibibytes("Private_Dirty"),
        }
    }
}

impl std::iter::Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            proportional: sum.proportional + one.proportional,
            private: sum.private + one.private,
        })
    }
}

/// Returns the machine's available memory, in KiB.
pub(super) fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("/proc/meminfo names no MemAvailable")
}

/// Measures until two measurements in a row are alike, at most for `limit`; returns the last one.
pub(super) fn settled<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<T>,
    alike: impl Fn(&T, &T) -> bool,
) -> Result<T> {
    let begun = Instant::now();
    let mut last = look()?;
    loop {
        // Measurements without an interval are alike even while memory changes.
        std::thread::sleep(PROBE_INTERVAL);
        let now = look()?;
        let done = alike(&last, &now) || begun.elapsed() > limit;
        last = now;
        if done {
            return Ok(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 3 0 100 \
                        1000 50 18446744073709551615";

    #[test]
    fn settling_ends_when_two_measurements_are_alike_or_time_is_up() {
        let mut values = [1, 2, 2, 3].into_iter();
        assert_eq!(
            settled(
                Duration::from_mins(1),
                || values.next().context("too many looks"),
                |one, other| one == other
            )
            .unwrap(),
            2
        );
        let mut restless = 0..;
        assert_eq!(
            settled(
                Duration::ZERO,
                || restless.next().context("no number is left"),
                |one, other| one == other
            )
            .unwrap(),
            1
        );
    }

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            name: String::new(),
            threads: 1,
            own: 0,
            ended: 0,
        }
    }

    #[test]
    fn name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let expected = Process {
            pid: 42,
            parent: 7,
            name: "a (b) c".to_owned(),
            threads: 3,
            own: 23,
            ended: 27,
        };
        assert_eq!(parse(STAT), Some(expected));
    }

    #[test]
    fn truncated_line_is_not_a_process() {
        assert_eq!(parse("42 (a) S 7 42"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn descendants_include_all_generations_without_the_roots() {
        let table = Table::of([
            process(1, 0),
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(9, 1),
        ]);
        assert_eq!(table.descendants(&[2]), BTreeSet::from([3, 4]));
        assert_eq!(table.descendants(&[1, 2]), BTreeSet::from([3, 4, 9]));
    }

    #[test]
    fn memory_is_read_from_smaps_rollup() {
        let text = "00400000-7fff [rollup]\nRss: 900 kB\nPss: 512 kB\nPss_Dirty: 9 \
                    kB\nPrivate_Clean: 10 kB\nPrivate_Dirty: 20 kB\n";
        assert_eq!(
            Memory::parse(text),
            Memory {
                proportional: 512,
                private: 30
            }
        );
    }
}
