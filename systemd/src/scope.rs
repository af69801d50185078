//! A scope: processes that somebody else has started, in a cgroup that systemd makes
//! (systemd.scope(5)).

use zvariant::Value;

use super::transient::Properties;

/// A scope to be made.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The unit's name: `x.scope`.
    pub name: &'a str,
    /// The unit it is below: `x.slice`.
    pub slice: &'a str,
    /// What administrators read about it.
    pub description: &'a str,
    /// The process that it is made for.
    pub process: u32,
}

impl Scope<'_> {
    pub(super) fn properties(&self) -> Properties {
        let mut properties = vec![
            ("Description", Value::from(self.description.to_owned())),
            ("Slice", Value::from(self.slice.to_owned())),
            ("PIDs", Value::from(vec![self.process])),
            // Whoever made the processes makes the cgroups below, and writes what systemd has no
            // word for.
            ("Delegate", Value::from(true)),
            // Not stopped before the services that it serves, when the machine goes down.
            ("DefaultDependencies", Value::from(false)),
            // A failed one would stay, and its name could not be used again.
            ("CollectMode", Value::from("inactive-or-failed")),
        ];
        // Metrics are read from the controllers, which systemd takes away where nobody asks for
        // them.
        let accounting = [
            "CPUAccounting",
            "MemoryAccounting",
            "TasksAccounting",
            "IOAccounting",
        ];
        properties.extend(accounting.map(|property| (property, Value::from(true))));
        properties
    }
}

/// A limit of a unit, as systemd.resource-control(5) and org.freedesktop.systemd1(5) name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// A number; [`u64::MAX`] is no limit.
    Number(&'static str, u64),
    /// A set of numbers, such as of processors: bit b of byte n says whether 8n + b is in it.
    Set(&'static str, Vec<u8>),
}

impl Limit {
    pub(super) fn property(&self) -> (&'static str, Value<'static>) {
        match self {
            Self::Number(name, number) => (name, Value::from(*number)),
            Self::Set(name, bits) => (name, Value::from(bits.clone())),
        }
    }
}
