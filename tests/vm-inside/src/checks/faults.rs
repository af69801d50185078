//! A restart of containerd, and the loss of the host.

use anyhow::{Result, ensure};

use super::checks;
use crate::containerd::NAMESPACE;
use crate::fixture::{Driver, Fixture, nothing_left};
use crate::{machine, wait};

checks![
    a_guest_survives_a_restart_of_containerd,
    a_killed_host_leaves_nothing_and_the_next_container_runs
];

const SIGTERM: u32 = 15;

fn a_guest_survives_a_restart_of_containerd(fixture: &Fixture, driver: Driver) -> Result<()> {
    let container = fixture.run(driver, &["/app.wasm", "tick"])?;
    container.until_it_prints("tick 1\n")?;
    let pid = container.pid()?;
    machine::output("systemctl", &["restart", "containerd"])?;
    // It listens before it has found its tasks.
    let same = || Ok(container.pid().ok());
    let found = wait::until(
        "containerd to find the guest",
        same,
        machine::containerd_log,
    )?;
    ensure!(
        found == pid && machine::is_alive(pid),
        "its process was {pid} and is {found}"
    );
    fixture.containerd.follow()?;
    let length = container.text().len();
    wait::until(
        "it to continue",
        || Ok((container.text().len() > length).then_some(())),
        || container.text(),
    )?;
    let code = container.end(SIGTERM)?;
    ensure!(code == 143, "exit code {code}");
    nothing_left(NAMESPACE, &container.id)
}

fn a_killed_host_leaves_nothing_and_the_next_container_runs(
    fixture: &Fixture,
    driver: Driver,
) -> Result<()> {
    let guest = fixture.run(driver, &["/app.wasm", "sleep", "600"])?;
    let native = fixture.run(driver, &["/native", "sleep"])?;
    guest.until_it_prints("sleeping")?;
    native.until_it_prints("sleeping")?;
    let pids = [guest.pid()?, native.pid()?];
    machine::kill(machine::host_of(pids[0])?)?;
    for (container, pid) in [&guest, &native].into_iter().zip(pids) {
        // containerd detects the loss, has the leftovers removed, reports that the process was
        // killed, and forgets the task.
        let published = || Ok(fixture.containerd.published_exit_of(&container.id));
        let code = wait::until(
            format_args!("the exit of {} to be published", container.id),
            published,
            machine::containerd_log,
        )?;
        ensure!(code == 137, "{}: exit code {code}", container.id);
        wait::until(
            format_args!("process {pid} to be dead"),
            || Ok((!machine::is_alive(pid)).then_some(())),
            String::new,
        )?;
        nothing_left(NAMESPACE, &container.id)?;
    }
    let next = fixture.run(driver, &["/app.wasm", "exit", "5"])?;
    let code = next.wait()?;
    ensure!(code == 5, "on the next host the exit code is {code}");
    next.delete().map(drop)
}
