//! A FUSE file system with a server that stops answering: a look-up in it never ends, and after the
//! request was passed to the server not even by a signal.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use testbed::isolated_namespace::IsolatedNamespace;

const DEVICE: &str = "/dev/fuse";
/// Operation codes of requests, from linux/fuse.h.
const GETATTR: u32 = 3;
const INIT: u32 = 26;
/// More than the size of any request.
const MAX_REQUEST_SIZE: usize = 1 << 20;
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A file system that is mounted in an isolated namespace until this is dropped. Its server answers
/// only the requests of a mount.
#[derive(Debug)]
pub(crate) struct StalledFs {
    folder: PathBuf,
    namespace: PathBuf,
    is_over: Arc<AtomicBool>,
    unanswered: Arc<AtomicUsize>,
    server: Option<JoinHandle<()>>,
}

impl StalledFs {
    /// Mounts a file system on `folder`; the error is the reason why this machine cannot.
    pub(crate) fn mount(
        isolated: &IsolatedNamespace,
        folder: &Path,
    ) -> Result<std::result::Result<Self, String>> {
        let device = match fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(DEVICE)
        {
            Ok(device) => device,
            Err(error) => return Ok(Err(format!("this machine has no {DEVICE}: {error}"))),
        };
        let namespace = PathBuf::from(format!("/proc/{}/ns/mnt", isolated.init_pid()));
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        within(&namespace, || {
            mount(
                Some("silent"),
                folder,
                Some("fuse"),
                flags,
                Some(data.as_str()),
            )
            .context("mount a FUSE file system")
        })?;
        let (is_over, unanswered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (of_server, count) = (Arc::clone(&is_over), Arc::clone(&unanswered));
        let server = std::thread::spawn(move || serve(device, &of_server, &count));
        Ok(Ok(Self {
            folder: folder.to_owned(),
            namespace,
            is_over,
            unanswered,
            server: Some(server),
        }))
    }

    /// Returns the number of requests that wait for an answer that never comes.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }
}

impl Drop for StalledFs {
    fn drop(&mut self) {
        // The end of the server fails all waiting requests.
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.server.take().map(JoinHandle::join);
        let _ = within(&self.namespace, || {
            umount2(&self.folder, MntFlags::MNT_DETACH).context("unmount it")
        });
    }
}

/// Runs `work` in a mount namespace.
fn within(namespace: &Path, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).context("unshare the thread's file system attributes")?;
            setns(File::open(namespace)?, CloneFlags::CLONE_NEWNS)
                .context("enter the namespace's mount namespace")?;
            work()
        });
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

fn serve(mut device: File, is_over: &AtomicBool, unanswered: &AtomicUsize) {
    let mut request = vec![0; MAX_REQUEST_SIZE];
    while !is_over.load(Ordering::Relaxed) {
        match device.read(&mut request) {
            Ok(read) if read >= 40 => {
                let number = |at: usize| {
                    u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"))
                };
                let body = match number(4) {
                    INIT => hello(),
                    GETATTR => attributes_of_root(),
                    _ => {
                        unanswered.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                };
                let mut answer = u32::try_from(16 + body.len())
                    .expect("the reply is short")
                    .to_ne_bytes()
                    .to_vec();
                answer.extend([0; 4]);
                answer.extend(&request[8..16]);
                answer.extend(body);
                let _ = device.write(&answer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(POLL_INTERVAL);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It was unmounted.
            _ => return,
        }
    }
}

/// Returns a `fuse_init_out` of version 7.31, without any feature.
fn hello() -> Vec<u8> {
    let mut body = [7_u32, 31, 4096, 0, 0, 4096].map(u32::to_ne_bytes).concat();
    body.resize(64, 0);
    body
}

/// Returns a `fuse_attr_out`: a folder of root, valid for a second.
fn attributes_of_root() -> Vec<u8> {
    let mut body = [1_u64, 0, 1, 0, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    body.extend(
        [0_u32, 0, 0, 0o040_755, 2, 0, 0, 0, 4096, 0]
            .map(u32::to_ne_bytes)
            .concat(),
    );
    body
}
