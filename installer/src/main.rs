//! Puts the runtime on a node. See the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    node_installer::program::run(std::env::args_os())
}
