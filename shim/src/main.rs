//! `wasmedge-host`: serves the containers of a node. Started by the launcher, never by hand.

fn main() -> std::process::ExitCode {
    shim::serve::run()
}
