//! What holds inside a cell and what is left after it. These need root; without it they say so.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// A run with a cell, or nothing where the machine does not let us make one.
fn cell(what: &str, network: Network) -> Option<(Run, Cell)> {
    if let Err(error) = host::require_root_and_kernel("test") {
        println!("not run: {error:#}");
        return None;
    }
    let run = Run::start(what).unwrap();
    let cell = Cell::start(&run, CellOptions { network, lifetime: Lifetime::Process }).unwrap();
    Some((run, cell))
}

#[test]
fn what_runs_inside_sees_only_the_cells_processes() {
    let Some((_run, cell)) = cell("cellsees", Network::Host) else { return };
    assert_eq!(cell.run("cat").arg("/proc/1/comm").text().unwrap(), "cat");
}

#[test]
fn a_mount_inside_is_not_seen_outside() {
    let Some((run, cell)) = cell("cellmount", Network::Host) else { return };
    let folder = run.folder().join("memory");
    cell.mount_memory(&folder).unwrap();
    cell.run("touch").arg(folder.join("file")).done().unwrap();
    assert!(!folder.join("file").exists());
}

#[test]
fn stopping_a_cell_ends_what_runs_inside() {
    let Some((run, cell)) = cell("cellstop", Network::Host) else { return };
    let mut command = cell.command("sleep");
    command.arg("600");
    let service = cell.spawn("sleep", command).unwrap();
    service.must_be_up().unwrap();
    cell.stop().unwrap();
    assert!(service.must_be_up().unwrap_err().to_string().contains("has ended"));
    run.finish().unwrap();
}

#[test]
fn an_orphan_inside_leaves_no_zombie() {
    let Some((_run, cell)) = cell("cellorphan", Network::Host) else { return };
    cell.run("sh").args(["-c", "(sleep 0.01 &)"]).done().unwrap();
    wait::until(
        "the orphan to be gone",
        LIMIT,
        || Ok((cell.run("sh").args(["-c", "cat /proc/[0-9]*/comm"]).text()?.lines().all(|name| name != "sleep")).then_some(())),
        String::new,
    )
    .unwrap();
}

#[test]
fn a_server_inside_is_reached_by_the_cells_address() {
    let Some((_run, cell)) = cell("cellnet", Network::Private) else { return };
    let listing = cell.run("ip").args(["-oneline", "-4", "address"]).text().unwrap();
    assert!(listing.contains(&format!("{}/30", cell.address())) && !listing.contains("scope global wr"), "{listing}");
    let listener = std::net::TcpListener::bind((cell.gateway(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
    });
    let text = cell.run("bash").args(["-c", &format!("cat </dev/tcp/{}/{port}", cell.gateway())]).text().unwrap();
    answer.join().unwrap();
    assert_eq!(text, "hello");
    // Nothing listens inside: the refusal itself shows that the way in leads there.
    let refused = TcpStream::connect((cell.address(), 9)).map(|mut stream| stream.read(&mut [0])).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
