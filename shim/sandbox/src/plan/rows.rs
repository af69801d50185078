//! Every field of the OCI runtime spec, and what a guest's sandbox makes of it. This table is
//! `docs/reference/oci-spec.md`.

use super::row::Handling::{Honoured, LeftOut, Refused};
use super::row::{SpecField, by_the_host, mapped, refused, refused_in_part, users};

/// Every field that the crate `oci-spec` knows. One that it does not know is lost when the spec is
/// read.
pub const ROWS: &[SpecField] = &[
    SpecField {
        field: "ociVersion",
        values: "",
        handling: LeftOut,
        how: "every version is read the same way",
        tests: &["what_the_host_serves_changes_nothing_in_the_plan"],
    },
    by_the_host(
        "annotations",
        "Kubernetes' own say what the container is, and of which pod and namespace. The runtime \
         has none of its own",
        &["only_the_annotation_makes_a_sandbox"],
    ),
    // The root and the mounts.
    by_the_host(
        "root.path",
        "mounted in a mount namespace of the guest's own, of which it becomes the root",
        &["root_may_be_relative_to_the_bundle_or_absolute"],
    ),
    SpecField {
        field: "root.readonly",
        values: "",
        handling: Honoured,
        how: "set on the root's mount, after all mounts below it are made",
        tests: &["a_root_is_read_only_when_the_spec_says_so"],
    },
    SpecField {
        field: "mounts[].destination",
        values: "",
        handling: Honoured,
        how: "in the order of the list; resolved inside the container's root, whatever symbolic \
              links lie there; made where it is missing",
        tests: &["a_destination_never_leads_above_the_root"],
    },
    SpecField {
        field: "mounts[].destination",
        values: "`/`",
        handling: Refused,
        how: "the root is what `root.path` says",
        tests: &["what_is_not_served_is_refused_by_its_field"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`bind`, or an option `bind` or `rbind`",
        handling: Honoured,
        how: "a file or folder of the node, with what is mounted below it for `rbind`; a relative \
              source lies in the bundle",
        tests: &["a_bind_mount_has_its_source_its_reach_and_its_place"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`tmpfs`",
        handling: Honoured,
        how: "with the parameters of tmpfs(5)",
        tests: &["a_file_system_in_memory_has_its_parameters"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`tmpfs` at `/dev`",
        handling: Honoured,
        how: "every container gets a `/dev`, made before all mounts: nosuid, noexec, strictatime. \
              This mount gives it the parameters of tmpfs(5); an option that would restrict it \
              further is refused",
        tests: &["the_tmpfs_at_dev_gives_its_parameters_to_the_one_that_is_made"],
    },
    SpecField {
        field: "mounts[].type",
        values: "`proc` at `/proc`",
        handling: LeftOut,
        how: "a guest that saw it could write into its own engine. A Linux program that `exec` \
              starts beside the guest gets one, in a mount namespace of its own and with the \
              spec's masked and read-only paths; not where the root is read-only and has no folder \
              `/proc`",
        tests: &[
            "default_mounts_of_no_use_are_left_out",
            "linux_programs_see_a_proc_where_the_spec_has_one_with_what_it_masks_there",
        ],
    },
    SpecField {
        field: "mounts[].type",
        values: "`sysfs` at `/sys`, `cgroup` or `cgroup2` at `/sys/fs/cgroup`, `mqueue` at \
                 `/dev/mqueue`, `devpts` at `/dev/pts`",
        handling: LeftOut,
        how: "a guest has no use for them: WASI shows no kernel objects, cgroups, queues or \
              terminals",
        tests: &["default_mounts_of_no_use_are_left_out"],
    },
    SpecField {
        field: "mounts[].type",
        values: "others",
        handling: Refused,
        how: "mount it on the node, and bind it",
        tests: &["what_is_not_served_is_refused_by_its_field"],
    },
    SpecField {
        field: "mounts[].source",
        values: "",
        handling: Honoured,
        how: "of a bind mount; no other mount has one",
        tests: &["a_bind_mount_has_its_source_its_reach_and_its_place"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`ro`, `nosuid`, `nodev`, `noexec`, `nodiratime`, `nosymfollow` (Linux 5.14), and \
                 their opposites",
        handling: Honoured,
        how: "on the mount itself. An opposite takes the word back; it does not loosen a mount \
              that is restricted on the node",
        tests: &["options_restrict_a_mount_and_an_opposite_takes_the_word_back"],
    },
    SpecField {
        field: "mounts[].options",
        values: "the same with `r` before them, as `rro`",
        handling: Honoured,
        how: "on the mount and all that is mounted below it",
        tests: &["options_with_an_r_hold_for_all_mounts_below"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`relatime`, `noatime`, `strictatime`, and their opposites; with `r` before them",
        handling: Honoured,
        how: "the last one holds",
        tests: &["modes_of_access_times_replace_one_another"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`private`, `slave`, `shared`, `unbindable`; with `r` before them",
        handling: Honoured,
        how: "`rprivate` when none is said. `HostToContainer` of Kubernetes is `rslave`, \
              `Bidirectional` is `rshared`",
        tests: &["a_mount_is_private_unless_its_options_say_otherwise"],
    },
    SpecField {
        field: "mounts[].options",
        values: "`defaults`, `async`, `loud`, `silent`, `nomand`, `noiversion`, `nolazytime`, \
                 `noacl`",
        handling: LeftOut,
        how: "so it is anyway",
        tests: &["options_that_ask_for_what_is_so_change_nothing"],
    },
    SpecField {
        field: "mounts[].options",
        values: "others, as `remount`, `sync`, `mand`, `tmpcopyup`, `idmap`",
        handling: Refused,
        how: "the message names the word",
        tests: &["what_is_not_served_is_refused_by_its_field"],
    },
    mapped("mounts[].uidMappings"),
    mapped("mounts[].gidMappings"),
    refused_in_part(
        "mounts[].uidMappings",
        "others; any of a file system in memory, or without a user namespace",
        "it has the owners of the container's users, or those that it has on the node",
    ),
    refused_in_part(
        "mounts[].gidMappings",
        "others; any of a file system in memory, or without a user namespace",
        "it has the owners of the container's users, or those that it has on the node",
    ),
    SpecField {
        field: "linux.rootfsPropagation",
        values: "",
        handling: Honoured,
        how: "of the root's mount; private when it is not said",
        tests: &["the_root_has_the_propagation_of_the_spec"],
    },
    SpecField {
        field: "linux.mountLabel",
        values: "",
        handling: Honoured,
        how: "on every tmpfs, `/dev` too; refused on a host without SELinux",
        tests: &["labels_need_a_host_with_selinux"],
    },
    SpecField {
        field: "linux.maskedPaths",
        values: "",
        handling: Honoured,
        how: "of paths that exist in the container, hidden behind an empty folder or the null \
              device. No link is followed on the way to one: such a container is refused. Those \
              that Kubernetes lists lie in `/proc` and `/sys`, which a guest does not have",
        tests: &["masked_and_read_only_paths_are_those_of_the_spec"],
    },
    SpecField {
        field: "linux.readonlyPaths",
        values: "",
        handling: Honoured,
        how: "of paths that exist in the container, with all below them",
        tests: &["masked_and_read_only_paths_are_those_of_the_spec"],
    },
    SpecField {
        field: "linux.devices[]",
        values: "",
        handling: Honoured,
        how: "besides `null`, `zero`, `full`, `random`, `urandom` and `tty`, which are always \
              there; of types `c`, `u`, `b` and `p`, below `/dev`. `fd`, `stdin`, `stdout` and \
              `stderr` are links into `/proc`, so they lead to something only for Linux programs \
              that `exec` starts",
        tests: &["the_default_devices_are_there_and_the_specs_replace_them"],
    },
    SpecField {
        field: "linux.devices[]",
        values: "a path outside `/dev`, type `a`",
        handling: Refused,
        how: "no device",
        tests: &["devices_outside_dev_are_refused"],
    },
    // Namespaces.
    SpecField {
        field: "linux.namespaces[]",
        values: "`network`, `ipc`, `uts`, `cgroup`",
        handling: Honoured,
        how: "new without a path (a new network has its loopback up), joined with one, the node's \
              when not listed",
        tests: &["namespaces_are_made_joined_or_the_hosts"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`pid`",
        handling: LeftOut,
        how: "always a new one, also where the pod shares its processes or asks for the node's: a \
              guest cannot see processes",
        tests: &["mounts_and_processes_are_always_in_namespaces_of_their_own"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`mount` without a path",
        handling: Honoured,
        how: "always a new one, also when it is not listed",
        tests: &["mounts_and_processes_are_always_in_namespaces_of_their_own"],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`user` with a path",
        handling: Honoured,
        how: "entered by the guest's process when its set-up is done, before it takes its \
              identity: identity, groups and capabilities are those of that namespace. What the \
              set-up makes belongs to its root",
        tests: &[
            "a_user_namespace_that_is_there_is_the_containers",
            "root_of_a_pod_with_its_own_users_is_unprivileged_on_the_node",
        ],
    },
    SpecField {
        field: "linux.namespaces[]",
        values: "`mount` with a path, `user` without one, `time`, a second one of a type",
        handling: Refused,
        how: "containerd makes a pod's user namespace (`hostUsers: false`), unless the pod is on \
              the node's network; such a pod is refused",
        tests: &["namespaces_that_are_not_served_are_refused"],
    },
    users("linux.uidMappings"),
    users("linux.gidMappings"),
    refused_in_part(
        "linux.uidMappings",
        "without a `user` namespace, or without root in it",
        "they say whose files the set-up makes",
    ),
    refused_in_part(
        "linux.gidMappings",
        "without a `user` namespace, or without root in it",
        "they say whose files the set-up makes",
    ),
    refused("linux.timeOffsets", "time namespaces are not served"),
    refused(
        "linux.netDevices",
        "interfaces of the node are not moved; that is for a CNI plugin",
    ),
    SpecField {
        field: "hostname",
        values: "",
        handling: Honoured,
        how: "in a UTS namespace of the container's own. One that is joined is named by the pod's \
              sandbox; with the node's it is refused",
        tests: &["names_are_set_in_a_namespace_of_the_containers_own_only"],
    },
    SpecField {
        field: "domainname",
        values: "",
        handling: Honoured,
        how: "as `hostname`",
        tests: &["names_are_set_in_a_namespace_of_the_containers_own_only"],
    },
    SpecField {
        field: "linux.sysctl",
        values: "`net.*` and those of IPC, in a namespace of the container's own",
        handling: Honoured,
        how: "written before the guest gets its identity. For a pod, Kubernetes sets them on its \
              sandbox",
        tests: &["sysctls_are_those_of_namespaces_of_its_own"],
    },
    SpecField {
        field: "linux.sysctl",
        values: "others",
        handling: Refused,
        how: "they would change the pod or the node",
        tests: &["sysctls_of_others_are_refused"],
    },
    // The process.
    by_the_host(
        "process.args",
        "the guest's entry, as `path` or `path#function`, and its arguments",
        &["arguments_keep_their_order_and_the_first_loses_its_function"],
    ),
    by_the_host(
        "process.env",
        "the guest's environment, and nothing else is in it",
        &["the_environment_is_exactly_the_specs"],
    ),
    by_the_host(
        "process.cwd",
        "where a relative entry is looked for; WASI has no working directory",
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
        how: "the engine's process has them; umask 0022 when none is said",
        tests: &["the_process_has_the_specs_identity"],
    },
    refused("process.user.username", "for Windows"),
    SpecField {
        field: "process.capabilities",
        values: "",
        handling: Honoured,
        how: "cut to what means something to a guest: DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, \
              NET_BIND_SERVICE. Root has those of them that are effective, permitted and bounding; \
              any other user those that are ambient too, as execve(2) would leave them",
        tests: &[
            "a_guest_keeps_only_capabilities_that_are_of_use_to_it",
            "a_guest_that_is_not_root_has_ambient_capabilities_only",
        ],
    },
    SpecField {
        field: "process.noNewPrivileges",
        values: "",
        handling: Honoured,
        how: "always on for a guest; as the spec says for a Linux program that `exec` starts",
        tests: &["a_guest_never_gets_new_privileges"],
    },
    SpecField {
        field: "process.rlimits[]",
        values: "",
        handling: Honoured,
        how: "all sixteen; a second limit of a type, or a soft one above its hard one, is refused",
        tests: &[
            "every_limit_of_the_spec_is_taken",
            "limits_that_contradict_are_refused",
        ],
    },
    SpecField {
        field: "process.oomScoreAdj",
        values: "",
        handling: Honoured,
        how: "-1000 to 1000",
        tests: &["an_oom_score_is_taken_or_refused"],
    },
    SpecField {
        field: "process.apparmorProfile",
        values: "",
        handling: Honoured,
        how: "the profile is entered while the process still has the right to; `unconfined` is \
              none. Refused on a host without AppArmor",
        tests: &["a_profile_needs_a_host_with_apparmor"],
    },
    SpecField {
        field: "process.selinuxLabel",
        values: "",
        handling: Honoured,
        how: "entered by a dynamic transition, which the host's policy must allow from the \
              runtime's domain. Refused on a host without SELinux",
        tests: &["labels_need_a_host_with_selinux"],
    },
    refused("process.commandLine", "for Windows"),
    refused("process.ioPriority", "not set"),
    refused("process.scheduler", "not set; `linux.resources.cpu` holds"),
    refused(
        "process.execCPUAffinity",
        "not set; `linux.resources.cpu.cpus` holds",
    ),
    SpecField {
        field: "linux.seccomp",
        values: "",
        handling: Honoured,
        how: "over a filter of our own, which all guests have: a system call passes when both let \
              it. System calls that libseccomp does not know are skipped. Other architectures are \
              refused already by our filter, TSYNC is without effect in a process with one thread, \
              WAIT_KILLABLE_RECV without a listener",
        tests: &["a_profile_of_the_spec_holds", "both_filters_hold_together"],
    },
    SpecField {
        field: "linux.seccomp.listenerPath",
        values: "and `SCMP_ACT_NOTIFY`",
        handling: Refused,
        how: "nobody would answer",
        tests: &["notifications_are_refused"],
    },
    SpecField {
        field: "linux.seccomp.listenerMetadata",
        values: "",
        handling: LeftOut,
        how: "it is for a listener",
        tests: &["what_the_host_serves_changes_nothing_in_the_plan"],
    },
    SpecField {
        field: "linux.personality",
        values: "`LINUX` without flags",
        handling: LeftOut,
        how: "so it is anyway",
        tests: &["what_the_host_serves_changes_nothing_in_the_plan"],
    },
    SpecField {
        field: "linux.personality",
        values: "others",
        handling: Refused,
        how: "the engine is a program of the machine's own kind",
        tests: &["what_is_not_served_is_refused_by_its_field"],
    },
    refused(
        "linux.memoryPolicy",
        "not set; `linux.resources.cpu.mems` holds",
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
        "on cgroup v1 and v2; what the node's version does not have is refused by its name",
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
    // Programs of the node.
    refused(
        "hooks.prestart",
        "programs of the node are not run for a guest",
    ),
    refused(
        "hooks.createRuntime",
        "programs of the node are not run for a guest",
    ),
    refused(
        "hooks.createContainer",
        "programs of the node are not run for a guest",
    ),
    refused(
        "hooks.startContainer",
        "programs of the node are not run for a guest",
    ),
    refused(
        "hooks.poststart",
        "programs of the node are not run for a guest",
    ),
    refused(
        "hooks.poststop",
        "programs of the node are not run for a guest",
    ),
    // Other platforms.
    refused("solaris", "another platform"),
    refused("windows", "another platform"),
    refused("vm", "another platform"),
    refused("zos", "another platform"),
];
