//! Columns, sizes and ages for people.

use std::time::SystemTime;

use artifact_store::Key;

/// Digits of a key in a table: enough to be unique on a node.
const KEY_DIGITS: usize = 12;
/// Units of sizes, each 1024 times the one before.
const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB"];
/// Units of ages, in seconds, the largest first.
const AGES: &[(u64, &str)] = &[(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];

/// Lines of cells under headings, in columns.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self(vec![headings.iter().map(|&text| text.to_owned()).collect()])
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// Returns the lines. The last column is as wide as its text.
    pub(crate) fn text(&self) -> String {
        let columns = self.0[0].len();
        let width = |column: usize| {
            let cells = self.0.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            text += padded.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

/// Returns the first digits of a key.
pub(crate) fn short(key: Key) -> String {
    let mut text = key.to_string();
    text.truncate(KEY_DIGITS);
    text
}

/// Returns a size in the largest unit in which it is at least one.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale: u64 = 1;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        unit += 1;
        scale *= 1024;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns the age of a time in its largest unit.
pub(crate) fn age(time: SystemTime, now: SystemTime) -> String {
    let Ok(age) = now.duration_since(time) else {
        return "in the future".to_owned();
    };
    let seconds = age.as_secs();
    let (unit, name) = AGES
        .iter()
        .find(|(unit, _)| seconds >= *unit)
        .unwrap_or(&(1, "s"));
    format!("{}{name}", seconds / unit)
}

/// Returns seconds since 1970; for a time before, 0.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns a text of another origin without characters that would change a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_and_ages_have_one_unit() {
        let sizes = [0, 1023, 1024, 1536, 6_553_600, 1 << 40, u64::MAX].map(size);
        assert_eq!(
            sizes,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "6.2 MiB",
                "1.0 TiB",
                "16777215.9 TiB"
            ]
        );
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ages = [0, 59, 60, 3599, 3600, 86_400, 200_000];
        let ages = ages.map(|seconds| age(now - Duration::from_secs(seconds), now));
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "1d", "2d"]);
        assert_eq!(age(now + Duration::from_secs(1), now), "in the future");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_space_at_their_end() {
        let mut table = Table::new(&["KEY", "NAME"]);
        table.row(vec!["abcdef".to_owned(), String::new()]);
        table.row(vec!["é".to_owned(), "long name".to_owned()]);
        assert_eq!(table.text(), "KEY     NAME\nabcdef\né       long name\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
