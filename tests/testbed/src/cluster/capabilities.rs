//! The capabilities that this machine lacks, and a runc that does not request them.
//!
//! A privileged container requests every capability that the kernel knows. On a confined machine (a
//! virtual machine's agent, a container) some are not available, and runc fails instead of dropping
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The capabilities in the order of their numbers.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Returns the names (`CAP_…`) of the capabilities that the kernel knows and that are not in this
/// machine's bounding set.
pub(super) fn missing() -> Result<Vec<String>> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .context("read /proc/sys/kernel/cap_last_cap")?;
    let last = last
        .trim()
        .parse()
        .context("read the number of the kernel's last capability")?;
    absent(&status, last)
}

fn absent(status: &str, last: usize) -> Result<Vec<String>> {
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .context("/proc/self/status has no CapBnd")?;
    let bounding =
        u64::from_str_radix(bounding.trim(), 16).context("read CapBnd of /proc/self/status")?;
    let known = NAMES
        .iter()
        .enumerate()
        .take_while(|(number, _)| *number <= last);
    Ok(known
        .filter(|(number, _)| bounding >> number & 1 == 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect())
}

/// Writes to `folder` a program that removes `missing` from the requested capabilities and then
/// executes `runc`.
pub(super) fn write_runc(folder: &Path, runc: &Path, missing: &[String]) -> Result<PathBuf> {
    let place = folder.join("runc-within-this-machine");
    fs::write(&place, script(runc, missing))
        .with_context(|| format!("write {}", place.display()))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", place.display()))?;
    Ok(place)
}

fn script(runc: &Path, missing: &[String]) -> String {
    let list = missing.join("\\|");
    format!(
        r#"#!/bin/sh
# Removes the capabilities that this machine lacks from the request, then executes runc.
set -eu
before=
for word in "$@"; do
  file=
  case "$before" in
    --bundle | -b) file=$word/config.json ;;
    --process | -p) file=$word ;;
  esac
  if [ -n "$file" ] && [ -f "$file" ]; then
    # The list is JSON on one line or many; what is taken out leaves neither a comma too many nor one too few.
    sed -i -e 's/"\({list}\)"[[:space:]]*,//g' -e 's/,[[:space:]]*"\({list}\)"//g' -e 's/"\({list}\)"//g' "$file"
  fi
  before=$word
done
exec {runc} "$@"
"#,
        runc = runc.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Run;

    #[test]
    fn missing_capabilities_are_known_to_the_kernel_but_not_in_the_bounding_set() {
        assert_eq!(
            absent("CapEff:\t0\nCapBnd:\t000001fffeffffff\n", 40).unwrap(),
            ["CAP_SYS_RESOURCE"]
        );
        assert!(
            absent("CapBnd:\t000000ffffffffff\n", 39)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn missing_capability_is_removed_at_any_place_of_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let runc =
            write_runc(folder.path(), Path::new("/bin/true"), &["CAP_B".to_owned()]).unwrap();
        let config = folder.path().join("config.json");
        for (asked, left) in [
            (r#"["CAP_A","CAP_B","CAP_C"]"#, r#"["CAP_A","CAP_C"]"#),
            (r#"["CAP_A","CAP_B"]"#, r#"["CAP_A"]"#),
            (r#"["CAP_B"]"#, "[]"),
            (r#"["CAP_BB"]"#, r#"["CAP_BB"]"#),
        ] {
            fs::write(&config, asked).unwrap();
            Run::new(&runc)
                .args(["create", "--bundle"])
                .arg(folder.path())
                .arg("id")
                .done()
                .unwrap();
            assert_eq!(fs::read_to_string(&config).unwrap(), left);
        }
    }
}
