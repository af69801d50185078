//! The functions that a guest can import.

/// The module that WASI preview 1 guests import from.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The functions of WASI preview 1, which is frozen.
const FUNCTIONS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The names of WasmEdge's functions for sockets begin with it.
const SOCKET: &str = "sock_";

/// The engine that has a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// This one.
    Wasmtime,
    /// WasmEdge alone: its extension of WASI preview 1 with sockets.
    WasmEdge,
    /// Neither.
    None,
}

/// Returns the engine that has the function `name` of `module`.
pub fn provider(module: &str, name: &str) -> Provider {
    if module != PREVIEW1 {
        Provider::None
    } else if FUNCTIONS.contains(&name) {
        Provider::Wasmtime
    } else if name.starts_with(SOCKET) {
        Provider::WasmEdge
    } else {
        Provider::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_of_each_function_is_known() {
        for (module, name, provider) in [
            (PREVIEW1, "fd_write", Provider::Wasmtime),
            (PREVIEW1, "sock_recv", Provider::Wasmtime),
            (PREVIEW1, "sock_open_v2", Provider::WasmEdge),
            (PREVIEW1, "sock_getaddrinfo", Provider::WasmEdge),
            (PREVIEW1, "no_such_call", Provider::None),
            (PREVIEW1, "fd_write fd_tell", Provider::None),
            (PREVIEW1, "", Provider::None),
            ("wasi_unstable", "fd_write", Provider::None),
            ("env", "sock_open", Provider::None),
        ] {
            assert_eq!(super::provider(module, name), provider, "{module}.{name}");
        }
    }

    #[test]
    fn list_of_functions_is_that_of_the_linker() {
        crate::run::warm("build");
        let crate::run::Ready { engine, linker } = crate::run::warmed().unwrap();
        let context = wasmtime_wasi::WasiCtxBuilder::new().build_p1();
        let mut store = wasmtime::Store::new(engine, context);
        let mut linked: Vec<String> = linker
            .iter(&mut store)
            .map(|(module, name, _)| format!("{module}.{name}"))
            .collect();
        linked.sort();
        let listed: Vec<String> = FUNCTIONS
            .iter()
            .map(|name| format!("{PREVIEW1}.{name}"))
            .collect();
        assert_eq!(listed, linked);
    }
}
