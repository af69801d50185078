//! The WASI context of a guest: its arguments, its environment and its files, and nothing of the
//! host's.

use serde::{Deserialize, Serialize};

use crate::error::CreateError;
use crate::workload::{CommandLine, Entrypoint};

/// The WASI preview 1 context of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WasiContext {
    /// `argv`: the entrypoint as the spec names it, without its `#function`, then the spec's other
    /// arguments.
    pub(crate) args: Vec<String>,
    /// The environment, each entry as `NAME=value`: exactly the spec's `process.env`, in its order.
    pub(crate) env: Vec<String>,
    /// Folders opened for the guest, each as `guest path:path in the container's mount namespace`.
    ///
    /// Always the container's own root alone: mounts are part of it, the kernel enforces which are
    /// read-only, and guests built by Go resolve no path at all if the folder has another name than
    /// `/`.
    pub(crate) preopens: Vec<String>,
}

impl WasiContext {
    /// Creates the context of `command`.
    ///
    /// # Errors
    /// If an argument or a variable holds a NUL byte: WASI, like C, cannot pass it.
    pub(crate) fn of(
        command: CommandLine<'_>,
        entrypoint: &Entrypoint,
    ) -> Result<Self, CreateError> {
        let args: Vec<String> = std::iter::once(entrypoint.path.clone())
            .chain(command.args.iter().skip(1).cloned())
            .collect();
        let env = command.env.to_vec();
        for (field, values) in [("process.args", &args), ("process.env", &env)] {
            if let Some(index) = values.iter().position(|value| value.contains('\0')) {
                return Err(CreateError::NulByte { field, index });
            }
        }
        Ok(Self {
            args,
            env,
            preopens: vec!["/:/".to_owned()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;

    fn context(process: &str) -> Result<WasiContext, CreateError> {
        let spec = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/",{process}}}}}"#
        );
        let bundle = Bundle::new("/bundle", serde_json::from_str(&spec).unwrap());
        let entrypoint = Entrypoint::parse(bundle.args())?;
        WasiContext::of(bundle.command(), &entrypoint)
    }

    #[test]
    fn arguments_keep_their_order_and_the_first_loses_its_function() {
        let wasi = context(r#""args":["/app.wasm#greet","b","a","b#c"]"#).unwrap();
        assert_eq!(wasi.args, ["/app.wasm", "b", "a", "b#c"]);
    }

    #[test]
    fn environment_is_exactly_the_specs() {
        let wasi = context(r#""args":["a.wasm"],"env":["B=2","A=1=x","EMPTY="]"#).unwrap();
        assert_eq!(wasi.env, ["B=2", "A=1=x", "EMPTY="]);
        assert!(context(r#""args":["a.wasm"]"#).unwrap().env.is_empty());
    }

    #[test]
    fn nul_byte_is_refused_with_its_place() {
        let error = context(r#""args":["a.wasm"],"env":["A=1","B=\u0000"]"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "process.env[1] holds a NUL byte, which no WASI program can receive: remove it from \
             the container's definition"
        );
    }

    #[test]
    fn guest_gets_its_root_and_nothing_else() {
        assert_eq!(context(r#""args":["a.wasm"]"#).unwrap().preopens, ["/:/"]);
    }
}
