//! A scope: a cgroup that systemd makes for processes that another program started
//! (systemd.scope(5)).

use zvariant::Value;

use super::transient::Properties;

/// A scope to create.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The unit's name: `x.scope`.
    pub name: &'a str,
    /// The parent unit: `x.slice`.
    pub slice: &'a str,
    /// A description for administrators.
    pub description: &'a str,
    /// The process to put into it.
    pub process: u32,
}

impl Scope<'_> {
    pub(super) fn properties(&self) -> Properties {
        let mut properties = vec![
            ("Description", Value::from(self.description.to_owned())),
            ("Slice", Value::from(self.slice.to_owned())),
            ("PIDs", Value::from(vec![self.process])),
            // The caller makes cgroups below it and writes limits that systemd does not support.
            ("Delegate", Value::from(true)),
            // At shutdown, not stopped before the services that it serves.
            ("DefaultDependencies", Value::from(false)),
            // A failed unit would stay and block its name.
            ("CollectMode", Value::from("inactive-or-failed")),
        ];
        // Metrics are read from the controllers, which systemd disables if no unit uses them.
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

/// A limit of a unit, named as in systemd.resource-control(5) and org.freedesktop.systemd1(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// A number; [`u64::MAX`] is no limit.
    Number(&'static str, u64),
    /// A set of numbers, such as processors: bit b of byte n is the number 8n + b.
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
