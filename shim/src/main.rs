//! `wasmedge-host`, the node host. The launcher starts it; it is not meant to be started by hand.

fn main() -> std::process::ExitCode {
    shim::serve::run()
}
