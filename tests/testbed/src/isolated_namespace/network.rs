//! The link between this machine and an isolated namespace with a private network: a veth pair with
//! link-local addresses.
//!
//! The pair vanishes with the namespace, so it needs no clean-up.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::Run;
use crate::teardown;

/// File in a run's folder: the last byte but one of the link's addresses.
const RECORD: &str = "link";

/// The two ends of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) outside: Ipv4Addr,
    pub(super) inside: Ipv4Addr,
}

impl Link {
    fn number(number: u8) -> Self {
        Self {
            outside: Ipv4Addr::new(169, 254, number, 1),
            inside: Ipv4Addr::new(169, 254, number, 2),
        }
    }

    /// Records the link's number in `folder`.
    pub(super) fn record(&self, folder: &Path) -> Result<()> {
        let file = folder.join(RECORD);
        fs::write(&file, self.inside.octets()[2].to_string())
            .with_context(|| format!("write {}", file.display()))
    }

    /// Reads the link that is recorded in `folder`, if any.
    pub(super) fn recorded(folder: &Path) -> Option<Self> {
        fs::read_to_string(folder.join(RECORD))
            .ok()?
            .trim()
            .parse()
            .ok()
            .map(Self::number)
    }
}

/// Connects this machine with the network namespace of process `pid`.
pub(super) fn connect(pid: i32) -> Result<Link> {
    // Held until the address is assigned, so that no other run picks it too.
    let _lock = teardown::lock_runs()?;
    let taken = Run::new("ip").args(["-oneline", "-4", "address"]).text()?;
    let link = free(&taken)
        .context("every link-local network 169.254.N.0/30 of this machine is in use")?;
    let name = format!("wr{pid}");
    let inside = |words: &[&str]| {
        Run::new("nsenter")
            .arg(format!("--target={pid}"))
            .args(["--net", "ip"])
            .args(words)
            .done()
    };
    let target = pid.to_string();
    Run::new("ip")
        .args([
            "link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &target,
        ])
        .done()?;
    Run::new("ip")
        .args([
            "address",
            "add",
            &format!("{}/30", link.outside),
            "dev",
            &name,
        ])
        .done()?;
    Run::new("ip").args(["link", "set", &name, "up"]).done()?;
    inside(&["link", "set", "lo", "up"])?;
    inside(&[
        "address",
        "add",
        &format!("{}/30", link.inside),
        "dev",
        "eth0",
    ])?;
    inside(&["link", "set", "eth0", "up"])?;
    inside(&["route", "add", "default", "via", &link.outside.to_string()])?;
    Ok(link)
}

/// Finds a link with addresses that the machine does not have.
fn free(taken: &str) -> Option<Link> {
    (1..=254)
        .find(|number| !taken.contains(&format!(" 169.254.{number}.")))
        .map(Link::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_in_use_is_not_picked() {
        let taken = "2: lo inet 127.0.0.1/8\n7: wr1    inet 169.254.1.1/30 scope global wr1\n";
        assert_eq!(free(taken), Some(Link::number(2)));
    }
}
