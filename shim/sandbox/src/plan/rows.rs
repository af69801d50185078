//! Every field of the OCI runtime spec, and its handling for a guest. This table is
//! `docs/reference/oci-spec.md`.

use super::row::Handling::{Honoured, LeftOut, Refused};
use super::row::{SpecField, by_the_host, mapped, refused, refused_in_part, users};

/// Every field that the crate `oci-spec` knows. Others are lost when the spec is read.
pub const ROWS: &[SpecField] = &[
    SpecField {
        field: "ociVersion",
        values: "",
        handling: LeftOut,
        how: "every version is read the same way",
        tests: &["fields_that_the_host_handles_change_nothing_in_the_plan"],
    },
    by_the_host(
        "annotations",
        "Kubernetes' annotations give the kind of container, its pod and its namespace. The \
         runtime has none of its own",
        &["only_the_annotation_makes_a_sandbox"],
    ),
    // The root and the mounts.
    by_the_host(
        "root.path",
        "mounted in a mount namespace of the guest's own, whose root it becomes",
        &["root_may_be_relative_to_the_bundle_or_absolute"],
    ),
    SpecField {
        field: "root.readonly",
        values: "",
        handling: Honoured,
        how: "set on the root's mount, after all mounts below it are made",
        tests: &["root_is_read_only_if_the_spec_requests_it"],
    },
    SpecField {
        field: "mounts[].destination",
        values: "",
        handling: Honoured,
        how: "in the order of the list; resolved inside the container's root, whatever symbolic \
              links it has; made if it is missing",
        tests: &["destination_never_leads_above_the_root"],
    },
    SpecField {
        field: "mounts[].destination",
        values: "`/`",
        handling: Refused,
        how: "the root is set by `root.path`",
        tests: &["unsupported_fields_are_refused_by_name"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`bind`, or an option `bind` or `rbind`",
        handling: Honoured,
        how: "a file or folder of the node, with mounts below it for `rbind`; a relative source is \
              in the bundle",
        tests: &["bind_mount_has_source_reach_and_destination_of_the_spec"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`tmpfs`",
        handling: Honoured,
        how: "with the parameters of tmpfs(5)",
        tests: &["tmpfs_has_its_parameters"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`tmpfs` at `/dev`",
        handling: Honoured,
        how: "every container gets a `/dev`, made before all mounts: nosuid, noexec, strictatime. \
              This mount gives it the parameters of tmpfs(5); an option that would restrict it \
              further is refused",
        tests: &["tmpfs_at_dev_sets_the_parameters_of_the_containers_dev"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`proc` at `/proc`",
        handling: LeftOut,
        how: "with it, a guest could write into its own engine. A Linux program that `exec` starts \
              beside the guest gets one, in a mount namespace of its own and with the spec's \
              masked and read-only paths; not if the root is read-only and has no folder `/proc`",
        tests: &[
            "default_mounts_that_a_guest_cannot_use_are_left_out",
            "linux_programs_have_the_specs_proc_with_its_masked_paths",
        ],
    },
    SpecField {
        field: "mounts[].type",
        values: "`sysfs` at `/sys`, `cgroup` or `cgroup2` at `/sys/fs/cgroup`, `mqueue` at \
                 `/dev/mqueue`, `devpts` at `/dev/pts`",
        handling: LeftOut,
        how: "a guest cannot use them: WASI shows no kernel objects, cgroups, queues or terminals",
        tests: &["default_mounts_that_a_guest_cannot_use_are_left_out"],
    },
    SpecField {
        field: "mounts[].type",
        values: "others",
        handling: Refused,
        how: "mount it on the node, and bind it",
        tests: &["unsupported_fields_are_refused_by_name"],
    },
    SpecField {
        field: "mounts[].source",
        values: "",
        handling: Honoured,
        how: "of a bind mount; no other mount has one",
        tests: &["bind_mount_has_source_reach_and_destination_of_the_spec"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`ro`, `nosuid`, `nodev`, `noexec`, `nodiratime`, `nosymfollow` (Linux 5.14), and \
                 their opposites",
        handling: Honoured,
        how: "on the mount itself. An opposite undoes an option before it; it does not loosen a \
              mount that is restricted on the node",
        tests: &["options_restrict_a_mount_and_opposites_undo_them"],
    },
    SpecField {
        field: "mounts[].options",
        values: "the same with `r` before them, as `rro`",
        handling: Honoured,
        how: "on the mount and everything below it",
        tests: &["options_with_an_r_apply_to_all_mounts_below"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`relatime`, `noatime`, `strictatime`, and their opposites; with `r` before them",
        handling: Honoured,
        how: "the last one wins",
        tests: &["modes_of_access_times_replace_one_another"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`private`, `slave`, `shared`, `unbindable`; with `r` before them",
        handling: Honoured,
        how: "`rprivate` by default. `HostToContainer` of Kubernetes is `rslave`, \
              `Bidirectional` is `rshared`",
        tests: &["mount_is_private_by_default"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`defaults`, `async`, `loud`, `silent`, `nomand`, `noiversion`, `nolazytime`, \
                 `noacl`",
        handling: LeftOut,
        how: "that is the case anyway",
        tests: &["options_without_effect_change_nothing"],
    },
    SpecField {
        field: "mounts[].options",
        values: "others, as `remount`, `sync`, `mand`, `tmpcopyup`, `idmap`",
        handling: Refused,
        how: "the message names the option",
        tests: &["unsupported_fields_are_refused_by_name"],
    },
    mapped("mounts[].uidMappings"),
    mapped("mounts[].gidMappings"),
    refused_in_part(
        "mounts[].uidMappings",
        "others; any of a file system in memory, or without a user namespace",
        "owners are those of the container's user namespace, or those on the node",
    ),
    refused_in_part(
        "mounts[].gidMappings",
        "others; any of a file system in memory, or without a user namespace",
        "owners are those of the container's user namespace, or those on the node",
    ),
    SpecField {
        field: "linux.rootfsPropagation",
        values: "",
        handling: Honoured,
        how: "of the root's mount; private by default",
        tests: &["root_has_the_propagation_of_the_spec"],
    },
    SpecField {
        field: "linux.mountLabel",
        values: "",
        handling: Honoured,
        how: "on every tmpfs, `/dev` too; refused if the kernel has no SELinux",
        tests: &["labels_need_a_kernel_with_selinux"],
    },
    SpecField {
        field: "linux.maskedPaths",
        values: "",
        handling: Honoured,
        how: "of paths that exist in the container, hidden behind an empty folder or the null \
              device. A path through a symbolic link is refused. Those that Kubernetes lists are \
              in `/proc` and `/sys`, which a guest does not have",
        tests: &["masked_and_read_only_paths_are_those_of_the_spec"],
    },
    SpecField {
        field: "linux.readonlyPaths",
        values: "",
        handling: Honoured,
        how: "of paths that exist in the container, with everything below them",
        tests: &["masked_and_read_only_paths_are_those_of_the_spec"],
    },
    SpecField {
        field: "linux.devices[]",
        values: "",
        handling: Honoured,
        how: "besides `null`, `zero`, `full`, `random`, `urandom` and `tty`, which always exist; \
              of types `c`, `u`, `b` and `p`, below `/dev`. `fd`, `stdin`, `stdout` and `stderr` \
              are links into `/proc`, so they are of use only to Linux programs that `exec` starts",
        tests: &["default_devices_exist_and_the_specs_replace_them"],
    },
    SpecField {
        field: "linux.devices[]",
        values: "a path outside `/dev`, type `a`",
        handling: Refused,
        how: "not a device of a container",
        tests: &["devices_outside_dev_are_refused"],
    },
    // Namespaces.
    SpecField {
        field: "linux.namespaces[]",
        values: "`network`, `ipc`, `uts`, `cgroup`",
        handling: Honoured,
        how: "new without a path (a new network has its loopback up), joined with one, the node's \
              if it is not listed",
        tests: &["namespaces_are_new_joined_or_the_nodes"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`pid`",
        handling: LeftOut,
        how: "always a new one, also if the pod shares its processes or asks for the node's: a \
              guest cannot see processes",
        tests: &["mount_and_pid_namespaces_are_always_new"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`mount` without a path",
        handling: Honoured,
        how: "always a new one, also if it is not listed",
        tests: &["mount_and_pid_namespaces_are_always_new"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`user` with a path",
        handling: Honoured,
        how: "joined by the guest's process at the end of its set-up, before it takes its ids: its \
              ids, groups and capabilities are those of that namespace. Files that the set-up \
              makes belong to its root",
        tests: &[
            "existing_user_namespace_is_joined",
            "root_of_a_pod_with_its_own_users_is_unprivileged_on_the_node",
        ],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`mount` with a path, `user` without one, `time`, a second one of a type",
        handling: Refused,
        how: "containerd makes a pod's user namespace (`hostUsers: false`), unless the pod is on \
              the node's network; such a pod is refused",
        tests: &["unsupported_namespaces_are_refused"],
    },
    users("linux.uidMappings"),
    users("linux.gidMappings"),
    refused_in_part(
        "linux.uidMappings",
        "without a `user` namespace, or without root in it",
        "they give the owners of files that the set-up makes",
    ),
    refused_in_part(
        "linux.gidMappings",
        "without a `user` namespace, or without root in it",
        "they give the owners of files that the set-up makes",
    ),
    refused("linux.timeOffsets", "time namespaces are not supported"),
    refused(
        "linux.netDevices",
        "network devices of the node are not moved; use a CNI plugin",
    ),
    SpecField {
        field: "hostname",
        values: "",
        handling: Honoured,
        how: "in a UTS namespace of the container's own. A joined one is named by the pod's \
              sandbox; with the node's it is refused",
        tests: &["host_and_domain_name_need_a_uts_namespace_of_the_container"],
    },
    SpecField {
        field: "domainname",
        values: "",
        handling: Honoured,
        how: "as `hostname`",
        tests: &["host_and_domain_name_need_a_uts_namespace_of_the_container"],
    },
    SpecField {
        field: "linux.sysctl",
        values: "`net.*` and those of IPC, in a namespace of the container's own",
        handling: Honoured,
        how: "written before the guest takes its ids. For a pod, Kubernetes sets them on its \
              sandbox",
        tests: &["sysctls_of_the_containers_own_namespaces_are_set"],
    },
    SpecField {
        field: "linux.sysctl",
        values: "others",
        handling: Refused,
        how: "they would change the pod or the node",
        tests: &["other_sysctls_are_refused"],
    },
    // The process.
    by_the_host(
        "process.args",
        "the guest's entry, as `path` or `path#function`, and its arguments",
        &["arguments_keep_their_order_and_the_first_loses_its_function"],
    ),
    by_the_host(
        "process.env",
        "the guest's whole environment",
        &["environment_is_exactly_the_specs"],
    ),
    by_the_host(
        "process.cwd",
        "the folder in which a relative entry is looked for; WASI has no working directory",
        &["entrypoint_is_a_path_with_an_optional_function"],
    ),
    by_the_host(
        "process.terminal",
        "the guest's three streams are one terminal",
        &["terminal_without_destination_is_still_read"],
    ),
    by_the_host(
        "process.consoleSize",
        "the terminal's first size",
        &["terminal_has_the_size_of_its_spec"],
    ),
    SpecField {
        field: "process.user",
        values: "`uid`, `gid`, `umask`, `additionalGids`",
        handling: Honoured,
        how: "the engine's process has them; umask 0022 by default",
        tests: &["process_has_the_ids_of_the_spec"],
    },
    refused("process.user.username", "for Windows"),
    SpecField {
        field: "process.capabilities",
        values: "",
        handling: Honoured,
        how: "reduced to those that a guest can use: DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, \
              NET_BIND_SERVICE. Root has those of them that are effective, permitted and bounding; \
              any other user those that are ambient too, as execve(2) would leave them",
        tests: &[
            "guest_keeps_only_capabilities_that_it_can_use",
            "guest_that_is_not_root_has_ambient_capabilities_only",
        ],
    },
    SpecField {
        field: "process.noNewPrivileges",
        values: "",
        handling: Honoured,
        how: "always on for a guest; as in the spec for a Linux program that `exec` starts",
        tests: &["guest_never_gets_new_privileges"],
    },
    SpecField {
        field: "process.rlimits[]",
        values: "",
        handling: Honoured,
        how: "all sixteen; a second limit of a type, or a soft one above its hard one, is refused",
        tests: &[
            "every_limit_of_the_spec_is_set",
            "contradicting_limits_are_refused",
        ],
    },
    SpecField {
        field: "process.oomScoreAdj",
        values: "",
        handling: Honoured,
        how: "-1000 to 1000",
        tests: &["oom_score_is_set_or_refused"],
    },
    SpecField {
        field: "process.apparmorProfile",
        values: "",
        handling: Honoured,
        how: "the profile is entered while the process still has the right to; `unconfined` is \
              none. Refused if the kernel has no AppArmor",
        tests: &["profile_needs_a_kernel_with_apparmor"],
    },
    SpecField {
        field: "process.selinuxLabel",
        values: "",
        handling: Honoured,
        how: "entered by a dynamic transition, which the node's policy must allow from the \
              runtime's domain. Refused if the kernel has no SELinux",
        tests: &["labels_need_a_kernel_with_selinux"],
    },
    refused("process.commandLine", "for Windows"),
    refused("process.ioPriority", "not set"),
    refused("process.scheduler", "not set; use `linux.resources.cpu`"),
    refused(
        "process.execCPUAffinity",
        "not set; use `linux.resources.cpu.cpus`",
    ),
    SpecField {
        field: "linux.seccomp",
        values: "",
        handling: Honoured,
        how: "beside our own filter, which all guests have: a system call passes if both allow it. \
              System calls that libseccomp does not know are skipped. Other architectures are \
              refused by our filter already, TSYNC has no effect in a process with one thread, \
              WAIT_KILLABLE_RECV none without a listener",
        tests: &["profile_of_the_spec_applies", "both_filters_apply_together"],
    },
    SpecField {
        field: "linux.seccomp.listenerPath",
        values: "and `SCMP_ACT_NOTIFY`",
        handling: Refused,
        how: "there is no listener",
        tests: &["notifications_are_refused"],
    },
    SpecField {
        field: "linux.seccomp.listenerMetadata",
        values: "",
        handling: LeftOut,
        how: "it is for a listener",
        tests: &["fields_that_the_host_handles_change_nothing_in_the_plan"],
    },
    SpecField {
        field: "linux.personality",
        values: "`LINUX` without flags",
        handling: LeftOut,
        how: "that is the case anyway",
        tests: &["fields_that_the_host_handles_change_nothing_in_the_plan"],
    },
    SpecField {
        field: "linux.personality",
        values: "others",
        handling: Refused,
        how: "the engine is a program of the machine's own architecture",
        tests: &["unsupported_fields_are_refused_by_name"],
    },
    refused(
        "linux.memoryPolicy",
        "not set; use `linux.resources.cpu.mems`",
    ),
    refused("linux.intelRdt", "not set"),
    // Resources.
    by_the_host(
        "linux.cgroupsPath",
        "made by the host, and removed with the container; both drivers",
        &[
            "path_is_below_the_mount_points",
            "scope_is_below_the_parents_of_its_slice",
            "path_that_cannot_be_a_containers_cgroup_is_refused",
        ],
    ),
    by_the_host(
        "linux.resources",
        "on cgroup v1 and v2; a value that the node's version does not have is refused by name",
        &[
            "cpu_time_is_written_on_v1",
            "cpu_time_is_written_on_v2",
            "memory_is_written_on_v1",
            "memory_is_written_on_v2",
            "process_and_huge_page_limits_are_written",
            "block_io_limits_are_written",
            "rdma_network_and_unified_are_written",
            "v1_devices_are_the_listed_and_the_default_ones",
            "values_that_no_version_supports_are_refused_by_field",
            "values_of_the_other_version_are_refused_by_field",
        ],
    ),
    // Hooks.
    refused("hooks.prestart", "hooks are not run for a guest"),
    refused("hooks.createRuntime", "hooks are not run for a guest"),
    refused("hooks.createContainer", "hooks are not run for a guest"),
    refused("hooks.startContainer", "hooks are not run for a guest"),
    refused("hooks.poststart", "hooks are not run for a guest"),
    refused("hooks.poststop", "hooks are not run for a guest"),
    // Other platforms.
    refused("solaris", "another platform"),
    refused("windows", "another platform"),
    refused("vm", "another platform"),
    refused("zos", "another platform"),
];
