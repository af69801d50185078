//! Device rules of cgroup v1.
//!
//! cgroup v2 has no files for them: they would be a kernel program (BPF), and this crate loads
//! none. A guest's rules hold all the same: its `/dev` has the default devices alone, which no rule
//! forbids, and without `CAP_MKNOD` it cannot create others. The rules are parsed on v2 too, so
//! that a malformed one is refused on both versions.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::CgroupError;

const FIELD: &str = "linux.resources.devices";
/// Devices that every container may use whatever its rules, as with runc: creating nodes, and null,
/// zero, full, random, urandom, tty, ptmx and the terminals of devpts.
pub(super) const DEFAULTS: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// A rule: the file that is written, and the value.
pub(super) type Rule = (&'static str, String);

/// Returns the rules of a spec in order, then the default devices. Without rules the parent's
/// access applies.
pub(super) fn rules(listed: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, CgroupError> {
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let defaults = DEFAULTS.iter().map(|rule| Ok((ALLOW, (*rule).to_owned())));
    listed.iter().map(rule).chain(defaults).collect()
}

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

fn rule(listed: &LinuxDeviceCgroup) -> Result<Rule, CgroupError> {
    let file = if listed.allow() { ALLOW } else { DENY };
    let access = listed.access().as_deref().unwrap_or("rwm");
    let malformed = |what: &str| CgroupError::refused(FIELD, format!("the rule {listed:?} {what}"));
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(malformed("has an access of other letters than r, w and m"));
    }
    let kind = match listed.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => 'a',
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::P => return Err(malformed("is for a pipe, which is not a device")),
    };
    let major = number(listed.major()).ok_or_else(|| malformed("has no major number"))?;
    let minor = number(listed.minor()).ok_or_else(|| malformed("has no minor number"))?;
    if kind == 'a' {
        // The kernel takes `a` for everything, regardless of the rest.
        let everything =
            major == ANY && minor == ANY && ["r", "w", "m"].iter().all(|one| access.contains(one));
        return if everything {
            Ok((file, "a".to_owned()))
        } else {
            Err(malformed(
                "is for devices of any type, but not for all of them",
            ))
        };
    }
    Ok((file, format!("{kind} {major}:{minor} {access}")))
}

const ANY: &str = "*";

/// Formats a device number; -1 and absence mean any.
fn number(value: Option<i64>) -> Option<String> {
    match value {
        None | Some(-1) => Some(ANY.to_owned()),
        Some(value) => u32::try_from(value).ok().map(|value| value.to_string()),
    }
}
