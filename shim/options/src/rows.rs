//! The keys of the options table: their documentation, and how each is read from and written to
//! [`RuntimeOptions`].

use std::fmt;
use std::num::NonZeroU32;

use crate::{CgroupDriver, Grouping, LogLevel, RuntimeOptions};

/// One key of the options table.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key.
    pub key: &'static str,
    /// Its name in the JSON of [`HandlerOptions`](crate::HandlerOptions); none for one that the
    /// installer decides.
    pub field: Option<&'static str>,
    /// Its possible values, as error messages name them.
    pub values: &'static str,
    /// Its default, as the reference page names it.
    pub default: &'static str,
    /// Its effect.
    pub meaning: &'static str,
    /// Returns its value; none at its default.
    pub(crate) get: fn(&RuntimeOptions) -> Option<OptionValue<'static>>,
    /// Sets its value; none if the key cannot have it.
    pub(crate) set: fn(&mut RuntimeOptions, OptionValue<'_>) -> Option<()>,
}

/// The value of a runtime option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// True or false.
    Flag(bool),
    /// One of a few words.
    Word(&'a str),
    /// A number.
    Number(i64),
}

impl fmt::Display for OptionValue<'_> {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl<'a> OptionValue<'a> {
    fn flag(self) -> Option<bool> {
        if let Self::Flag(flag) = self {
            Some(flag)
        } else {
            None
        }
    }

    fn word(self) -> Option<&'a str> {
        if let Self::Word(word) = self {
            Some(word)
        } else {
            None
        }
    }

    fn number(self) -> Option<i64> {
        if let Self::Number(number) = self {
            Some(number)
        } else {
            None
        }
    }
}

/// Every key of the options table, in the order of the reference page.
pub const OPTIONS: &[OptionRow] = &[
    OptionRow {
        key: "SystemdCgroup",
        field: None,
        values: "true or false",
        default: "false",
        meaning: "true if systemd sets up cgroups; must be `true` if and only if the kubelet's \
                  `cgroupDriver` is `systemd`",
        get: |options| {
            let is_systemd = options.cgroup_driver == CgroupDriver::Systemd;
            is_systemd.then_some(OptionValue::Flag(true))
        },
        set: |options, value| {
            options.cgroup_driver = if value.flag()? {
                CgroupDriver::Systemd
            } else {
                CgroupDriver::Cgroupfs
            };
            Some(())
        },
    },
    OptionRow {
        key: "grouping",
        field: Some("grouping"),
        values: "\"node\", \"namespace\" or \"pod\"",
        default: "\"node\"",
        meaning: "containers that share a node host: all of the node, those of a Kubernetes \
                  namespace, or those of a pod. If a host dies, all its containers die. Each host \
                  costs memory",
        get: |options| {
            let grouping = options.handler.grouping;
            let is_chosen = grouping != Grouping::default();
            is_chosen.then(|| OptionValue::Word(grouping.as_str()))
        },
        set: |options, value| {
            options.handler.grouping = Grouping::from_name(value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "log_level",
        field: Some("logLevel"),
        values: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        default: "\"info\"",
        meaning: "lowest severity that a host logs; at least `debug` if containerd itself has \
                  that level",
        get: |options| {
            let log_level = options.handler.log_level;
            let is_chosen = log_level != LogLevel::default();
            is_chosen.then(|| OptionValue::Word(log_level.as_str()))
        },
        set: |options, value| {
            options.handler.log_level = LogLevel::from_name(value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "max_containers",
        field: Some("maxContainers"),
        values: "a number from 1 to 4294967295",
        default: "no limit",
        meaning: "maximum number of containers that one host serves at a time; further ones are \
                  refused at Create, and Kubernetes retries them",
        get: |options| {
            let max = options.handler.max_containers?;
            Some(OptionValue::Number(max.get().into()))
        },
        set: |options, value| {
            let max = u32::try_from(value.number()?).ok()?;
            options.handler.max_containers = Some(NonZeroU32::new(max)?);
            Some(())
        },
    },
];
