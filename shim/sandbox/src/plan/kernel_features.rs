//! Features of the running kernel, read once.

use std::path::Path;

/// Features of the running kernel. Everything else that a plan needs is there since Linux 5.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelFeatures {
    /// AppArmor.
    pub apparmor: Support,
    /// SELinux.
    pub selinux: Support,
    /// System call filters.
    pub seccomp: Support,
}

/// Whether the kernel has a feature, switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It has.
    Present,
    /// It has not, or has it off.
    Absent,
}

impl KernelFeatures {
    /// Reads the features from `/sys` and `/proc`.
    pub fn read() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let enabled =
            std::fs::read(root.join("sys/module/apparmor/parameters/enabled")).unwrap_or_default();
        let there = |path: &str| Support::when(root.join(path).exists());
        Self {
            apparmor: Support::when(enabled.starts_with(b"Y")),
            // This file system is mounted if a policy can be loaded.
            selinux: there("sys/fs/selinux/enforce"),
            seccomp: there("proc/sys/kernel/seccomp/actions_avail"),
        }
    }
}

impl Support {
    fn when(there: bool) -> Self {
        if there { Self::Present } else { Self::Absent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_kernels_files() {
        let root = tempfile::tempdir().unwrap();
        let all_absent = KernelFeatures {
            apparmor: Support::Absent,
            selinux: Support::Absent,
            seccomp: Support::Absent,
        };
        assert_eq!(KernelFeatures::below(root.path()), all_absent);
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("sys/module/apparmor/parameters/enabled", "N\n");
        assert_eq!(
            KernelFeatures::below(root.path()),
            all_absent,
            "AppArmor is built in, and off"
        );
        write("sys/module/apparmor/parameters/enabled", "Y\n");
        write("sys/fs/selinux/enforce", "0");
        write("proc/sys/kernel/seccomp/actions_avail", "kill_process");
        let all = KernelFeatures {
            apparmor: Support::Present,
            selinux: Support::Present,
            seccomp: Support::Present,
        };
        assert_eq!(KernelFeatures::below(root.path()), all);
    }
}
