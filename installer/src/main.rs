//! The executable `node-installer`; the library has its code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    node_installer::program::run(std::env::args_os())
}
