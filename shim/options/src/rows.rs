//! The keys of the options table: their documentation, and how each is read from and written to
//! [`RuntimeOptions`].

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use crate::{
    CgroupDriver, CompilePolicy, EngineChoice, Grouping, LogLevel, Mode, NodeFolder,
    RuntimeOptions, SettingKey, folder, wait,
};

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
    /// Returns its value; none if it has none.
    pub(crate) get: for<'a> fn(&'a RuntimeOptions) -> Option<OptionValue<'a>>,
    /// Sets its value; none if the key cannot have it.
    pub(crate) set: fn(&mut RuntimeOptions, OptionValue<'_>) -> Option<()>,
}

/// The value of a runtime option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// True or false.
    Flag(bool),
    /// A word: one of a few, a path, or a duration. It needs no escapes.
    Word(Cow<'a, str>),
    /// A list of words.
    Words(Vec<&'a str>),
    /// A number.
    Number(i64),
}

impl fmt::Display for OptionValue<'_> {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Words(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                write!(f, "[{}]", quoted.join(", "))
            }
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl<'a> From<&'a str> for OptionValue<'a> {
    fn from(word: &'a str) -> Self {
        Self::Word(word.into())
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

    fn word(self) -> Option<Cow<'a, str>> {
        if let Self::Word(word) = self {
            Some(word)
        } else {
            None
        }
    }

    fn words(self) -> Option<Vec<&'a str>> {
        if let Self::Words(words) = self {
            Some(words)
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

    /// Returns a number within `bounds`.
    fn within<T: Copy + PartialOrd + TryFrom<i64>>(self, bounds: RangeInclusive<T>) -> Option<T> {
        let number = T::try_from(self.number()?).ok()?;
        bounds.contains(&number).then_some(number)
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
            Some(OptionValue::Flag(is_systemd))
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
        get: |options| Some(options.handler.grouping.as_str().into()),
        set: |options, value| {
            options.handler.grouping = Grouping::from_name(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "log_level",
        field: Some("logLevel"),
        values: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        default: "\"info\"",
        meaning: "lowest severity that a host logs; at least `debug` if containerd itself has that \
                  level",
        get: |options| Some(options.handler.log_level.as_str().into()),
        set: |options, value| {
            options.handler.log_level = LogLevel::from_name(&value.word()?)?;
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
    OptionRow {
        key: "engine",
        field: Some("engine"),
        values: "\"auto\", \"wasmedge\" or \"wasmtime\"",
        default: "\"auto\"",
        meaning: "engine of guests; [settings of guests](configuration.md)",
        get: |options| Some(options.handler.engine.as_str().into()),
        set: |options, value| {
            options.handler.engine = EngineChoice::from_name(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "mode",
        field: Some("mode"),
        values: "\"aot\" or \"interpreter\"",
        default: "\"aot\"",
        meaning: "whether guests run as compiled code; [settings of guests](configuration.md)",
        get: |options| Some(options.handler.mode.as_str().into()),
        set: |options, value| {
            options.handler.mode = Mode::from_name(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "compile",
        field: Some("compile"),
        values: "\"tiered\", \"wait\" or \"never\"",
        default: "\"tiered\"",
        meaning: "when guests are compiled; [settings of guests](configuration.md)",
        get: |options| Some(options.handler.compile.as_str().into()),
        set: |options, value| {
            options.handler.compile = CompilePolicy::from_name(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "compile_wait",
        field: Some("compileWait"),
        values: wait::VALUES,
        default: "\"10s\"",
        meaning: "longest time that a start waits for the first compiled code; [settings of \
                  guests](configuration.md)",
        get: |options| {
            let text = wait::text(options.handler.compile_wait);
            Some(OptionValue::Word(text.into()))
        },
        set: |options, value| {
            options.handler.compile_wait = wait::parse(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "locked",
        field: Some("locked"),
        values: "a list of \"engine\", \"mode\", \"compile\" and \"compile-wait\"",
        default: "[]",
        meaning: "settings of guests that annotations of pods cannot change; a pod that tries \
                  fails, with a message that names the lock",
        get: |options| {
            let locked = options.handler.locked.iter();
            Some(OptionValue::Words(locked.map(|key| key.as_str()).collect()))
        },
        set: |options, value| {
            let keys = value.words()?.into_iter().map(SettingKey::from_name);
            options.handler.locked = keys.collect::<Option<_>>()?;
            Some(())
        },
    },
    OptionRow {
        key: "artifact_store",
        field: Some("artifactStore"),
        values: folder::VALUES,
        default: "\"/var/lib/wasmedge-runtime/artifacts\"",
        meaning: "folder for compiled code; must be on a file system from which programs can be \
                  executed. If it cannot be used, guests start without it, and the host's log has \
                  the reason",
        get: |options| Some(options.handler.artifact_store.as_str().into()),
        set: |options, value| {
            options.handler.artifact_store = NodeFolder::new(&value.word()?)?;
            Some(())
        },
    },
    OptionRow {
        key: "artifact_store_max_mib",
        field: Some("artifactStoreMaxMiB"),
        values: "a number from 64 to 104857600",
        default: "10240",
        meaning: "maximum size of that folder in MiB. What was not used for the longest time is \
                  removed first, and never what a guest runs",
        get: |options| {
            Some(OptionValue::Number(
                options.handler.artifact_store_max_mib.into(),
            ))
        },
        set: |options, value| {
            options.handler.artifact_store_max_mib = value.within(64..=104_857_600)?;
            Some(())
        },
    },
    OptionRow {
        key: "artifact_store_max_disk_percent",
        field: Some("artifactStoreMaxDiskPercent"),
        values: "a number from 1 to 90",
        default: "10",
        meaning: "maximum share of that folder in the size of its file system, in percent; the \
                  smaller one of both bounds applies",
        get: |options| {
            Some(OptionValue::Number(
                options.handler.artifact_store_max_disk_percent.into(),
            ))
        },
        set: |options, value| {
            options.handler.artifact_store_max_disk_percent = value.within(1..=90)?;
            Some(())
        },
    },
    OptionRow {
        key: "compile_jobs",
        field: Some("compileJobs"),
        values: "a number from 1 to 16",
        default: "1",
        meaning: "number of modules that a host compiles at a time",
        get: |options| Some(OptionValue::Number(options.handler.compile_jobs.into())),
        set: |options, value| {
            options.handler.compile_jobs = value.within(1..=16)?;
            Some(())
        },
    },
    OptionRow {
        key: "compile_memory_mib",
        field: Some("compileMemoryMiB"),
        values: "a number from 256 to 1048576",
        default: "3072",
        meaning: "memory of one compilation in MiB. One that needs more fails: its guest is \
                  interpreted, or refused if its engine has no interpreter",
        get: |options| {
            Some(OptionValue::Number(
                options.handler.compile_memory_mib.into(),
            ))
        },
        set: |options, value| {
            options.handler.compile_memory_mib = value.within(256..=1_048_576)?;
            Some(())
        },
    },
    OptionRow {
        key: "compile_cpu_seconds",
        field: Some("compileCpuSeconds"),
        values: "a number from 10 to 86400",
        default: "3600",
        meaning: "CPU time of one compilation in seconds. One that needs more fails in the same \
                  way",
        get: |options| {
            Some(OptionValue::Number(
                options.handler.compile_cpu_seconds.into(),
            ))
        },
        set: |options, value| {
            options.handler.compile_cpu_seconds = value.within(10..=86_400)?;
            Some(())
        },
    },
];
