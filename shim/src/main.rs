//! `wasmedge-host`: serves the Task service of one pod. Started by the launcher, never by hand.

fn main() -> std::process::ExitCode {
    shim::serve::run()
}
