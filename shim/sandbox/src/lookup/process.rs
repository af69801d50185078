//! The look-up process.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::de::DeserializeOwned;

use super::tree::{MountTree, TreeEntry};
use super::{Files, Inspect, LookupReply, LookupRequest, NotAProgram, from_root, reopened};
use crate::error::{Failure, Step as _};
use crate::wire::{MAX_REQUEST, Message, WireFd};

/// Runs in the look-up process; returns its exit code.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the zygote's entries own their sockets"
)]
pub(super) fn live<I: Inspect>(control: OwnedFd) -> u8 {
    let reply = receive(&control)
        .and_then(search::<I>)
        .unwrap_or_else(|failure| LookupReply::Failed(failure.truncated()));
    let sent = Message::of(&reply).and_then(|message| message.send(&control));
    u8::from(sent.is_err())
}

fn receive<K: DeserializeOwned>(control: &OwnedFd) -> Result<LookupRequest<K>, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step(|| "die with the host")?;
    rustix::thread::set_name(c"wasmedge-lookup").step(|| "name the process")?;
    let request = Message::receive(control, MAX_REQUEST)
        .and_then(Message::value)
        .step(|| "receive the lookup request")?;
    // Leaves the zygote's process group before it calls any file system: a wait for that group must
    // not wait for a file system.
    rustix::process::setsid().step(|| "begin a group of processes")?;
    Ok(request)
}

fn search<I: Inspect>(request: LookupRequest<I::Known>) -> Result<LookupReply<I>, Failure> {
    let LookupRequest {
        node,
        proc,
        files,
        cwd,
        candidates,
        known,
    } = request;
    let tree = match files {
        Files::Running { root } => MountTree::of_running(root.into_inner()),
        Files::Planned { root, mounts } => {
            move_into_link_name_space(node.as_fd(), Some(LinkNameSpaceType::Mount))
                .step(|| "enter the node's mount namespace")?;
            MountTree::of_planned(root.into_inner(), &mounts)?
        }
    };
    drop(node);
    let mut refused = None;
    let is_only_one = candidates.len() == 1;
    for (index, candidate) in candidates.iter().enumerate() {
        let what = match look_at::<I>(&tree, &from_root(&cwd, candidate), &proc, &known) {
            Ok(Seen::Program {
                file,
                size,
                mode,
                inspection,
            }) => {
                if is_only_one || !inspection.is_executed() || mode & 0o111 != 0 {
                    return Ok(LookupReply::Found {
                        candidate: index,
                        file: WireFd::new(file),
                        size,
                        inspection,
                    });
                }
                NotAProgram::NotExecutable
            }
            Ok(Seen::Other(what)) => what,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => {
                return Ok(LookupReply::Unreadable {
                    candidate: index,
                    errno: errno.raw_os_error(),
                });
            }
        };
        refused.get_or_insert(LookupReply::Refused {
            candidate: index,
            what,
        });
    }
    Ok(refused.unwrap_or(LookupReply::NotFound))
}

enum Seen<I> {
    Program {
        file: OwnedFd,
        size: u64,
        mode: u32,
        inspection: I,
    },
    Other(NotAProgram),
}

fn look_at<I: Inspect>(
    tree: &MountTree,
    path: &Path,
    proc: &WireFd,
    known: &I::Known,
) -> Result<Seen<I>, Errno> {
    let file = match tree.open(path)? {
        TreeEntry::EmptyFolder => return Ok(Seen::Other(NotAProgram::Folder)),
        TreeEntry::Opened(file) => file,
    };
    let stat = rustix::fs::fstat(&file)?;
    let other = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let inspection = I::inspect(&reopened::open(file.as_fd(), proc.as_fd())?, size, known)
                .map_err(errno)?;
            return Ok(Seen::Program {
                file,
                size,
                mode: stat.st_mode,
                inspection,
            });
        }
        FileType::Directory => NotAProgram::Folder,
        FileType::Fifo => NotAProgram::Fifo,
        FileType::Socket => NotAProgram::Socket,
        FileType::CharacterDevice => NotAProgram::CharacterDevice,
        FileType::BlockDevice => NotAProgram::BlockDevice,
        _ => NotAProgram::Unknown,
    };
    Ok(Seen::Other(other))
}
