//! The names of values, in the options table and in annotations.

use crate::{CompilePolicy, EngineChoice, Grouping, LogLevel, Mode, SettingKey};

/// Gives each value of an enum a name.
macro_rules! names {
    ($type:ident: $($value:ident = $name:literal),+) => {
        impl $type {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// Returns the value's name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            /// Returns the value that has this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }
    };
}

names!(Grouping: Node = "node", Namespace = "namespace", Pod = "pod");
names!(LogLevel: Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace");
names!(EngineChoice: Auto = "auto", WasmEdge = "wasmedge", Wasmtime = "wasmtime");
names!(Mode: Aot = "aot", Interpreter = "interpreter");
names!(CompilePolicy: Tiered = "tiered", Wait = "wait", Never = "never");
names!(SettingKey:
    Engine = "engine", Mode = "mode", Compile = "compile", CompileWait = "compile-wait");
