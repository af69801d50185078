//! Metrics from files as kernels write them, below folders that stand for mounted hierarchies.

use containerd_shim_protos::cgroups::metrics::Metrics as MetricsV1;
use containerd_shim_protos::cgroups_v2::metrics::Metrics as MetricsV2;

use super::source::{device, rdma};
use super::*;
use runtime_options::CgroupDriver;

use crate::Hierarchies;

/// A container's cgroup with files of controllers.
struct Scene {
    root: tempfile::TempDir,
    cgroup: Cgroup,
}

impl Scene {
    /// One folder for each controller.
    fn v1(files: &[(&str, &str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for controller in ["cpu,cpuacct", "memory", "pids", "blkio", "hugetlb", "rdma"] {
            fs::create_dir_all(root.path().join(controller).join("pod/c1")).unwrap();
        }
        let scene = Self::of(root);
        for (controller, file, text) in files {
            fs::write(scene.cgroup.folder_of(controller).unwrap().join(file), text).unwrap();
        }
        scene
    }

    /// One folder for all.
    fn v2(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(
            root.path().join("cgroup.controllers"),
            "cpu memory pids io\n",
        )
        .unwrap();
        fs::create_dir_all(root.path().join("pod/c1")).unwrap();
        let scene = Self::of(root);
        for (file, text) in files {
            fs::write(scene.cgroup.main_folder().join(file), text).unwrap();
        }
        scene
    }

    fn of(root: tempfile::TempDir) -> Self {
        let hierarchies = Hierarchies::at(root.path()).unwrap();
        let cgroup = Cgroup::open(&hierarchies, CgroupDriver::Cgroupfs, "/pod/c1").unwrap();
        Self { root, cgroup }
    }

    fn metrics<M: Message>(&self, type_url: &str) -> M {
        let any = self.cgroup.metrics().unwrap();
        assert_eq!(any.type_url, type_url);
        M::parse_from_bytes(&any.value).unwrap()
    }
}

#[test]
fn v1_metrics_are_read_from_all_controllers() {
    let scene = Scene::v1(&[
        ("cpuacct", "cpuacct.usage", "1234567890\n"),
        ("cpuacct", "cpuacct.stat", "user 70\nsystem 30\n"),
        ("cpuacct", "cpuacct.usage_percpu", "1000000000 234567890 \n"),
        (
            "cpu",
            "cpu.stat",
            "nr_periods 9\nnr_throttled 4\nthrottled_time 777\n",
        ),
        (
            "memory",
            "memory.stat",
            "cache 4096\nrss 8192\ntotal_rss 12288\ninactive_file 5\nhierarchical_memory_limit \
             67108864\n",
        ),
        ("memory", "memory.usage_in_bytes", "16384\n"),
        ("memory", "memory.max_usage_in_bytes", "32768\n"),
        ("memory", "memory.limit_in_bytes", "67108864\n"),
        ("memory", "memory.failcnt", "3\n"),
        (
            "memory",
            OOM_V1,
            "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n",
        ),
        ("pids", "pids.current", "7\n"),
        ("pids", "pids.max", "100\n"),
        (
            "blkio",
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n",
        ),
        ("hugetlb", "hugetlb.2MB.usage_in_bytes", "2097152\n"),
        ("hugetlb", "hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
        ("hugetlb", "hugetlb.2MB.rsvd.usage_in_bytes", "9\n"),
        (
            "rdma",
            "rdma.current",
            "mlx4_0 hca_handle=2 hca_object=2000\n",
        ),
        ("rdma", "rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
    ]);
    let metrics: MetricsV1 = scene.metrics(V1);
    let usage = metrics.cpu.usage.as_ref().unwrap();
    let ticks = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    assert_eq!(
        (usage.total, usage.user, usage.kernel),
        (1_234_567_890, 70 * ticks, 30 * ticks)
    );
    assert_eq!(usage.per_cpu, [1_000_000_000, 234_567_890]);
    let throttling = metrics.cpu.throttling.as_ref().unwrap();
    assert_eq!(
        (
            throttling.periods,
            throttling.throttled_periods,
            throttling.throttled_time
        ),
        (9, 4, 777)
    );
    let memory = metrics.memory.as_ref().unwrap();
    assert_eq!(
        (
            memory.cache,
            memory.rss,
            memory.total_rss,
            memory.inactive_file
        ),
        (4096, 8192, 12288, 5)
    );
    assert_eq!(memory.hierarchical_memory_limit, 67_108_864);
    let entry = memory.usage.as_ref().unwrap();
    assert_eq!(
        (entry.usage, entry.max, entry.limit, entry.failcnt),
        (16384, 32768, 67_108_864, 3)
    );
    assert!(memory.swap.is_none(), "the kernel does not count swap");
    let oom = metrics.memory_oom_control.as_ref().unwrap();
    assert_eq!(
        (oom.oom_kill_disable, oom.under_oom, oom.oom_kill),
        (0, 1, 2)
    );
    assert_eq!((metrics.pids.current, metrics.pids.limit), (7, 100));
    let block: Vec<_> = metrics
        .blkio
        .io_service_bytes_recursive
        .iter()
        .map(|entry| (entry.op.as_str(), entry.value))
        .collect();
    assert_eq!(
        block,
        [("Read", 4096), ("Write", 512), ("Total", 4608)],
        "the sum of all devices is skipped"
    );
    let [pages] = &metrics.hugetlb[..] else {
        panic!("{:?}", metrics.hugetlb)
    };
    assert_eq!(
        (
            pages.pagesize.as_str(),
            pages.usage,
            pages.max,
            pages.failcnt
        ),
        ("2MB", 2_097_152, 4_194_304, 0)
    );
    let [limit] = &metrics.rdma.limit[..] else {
        panic!("{:?}", metrics.rdma)
    };
    assert_eq!(
        (limit.device.as_str(), limit.hca_handles, limit.hca_objects),
        ("mlx4_0", 3, u32::MAX)
    );
}

/// For the table of files.
const OOM_V1: &str = v1::OOM;

#[test]
fn v2_metrics_are_read_from_all_controllers() {
    let scene = Scene::v2(&[
        (
            "cpu.stat",
            "usage_usec 1000\nuser_usec 700\nsystem_usec 300\nnr_periods 5\nnr_throttled \
             2\nthrottled_usec 44\n",
        ),
        (
            "cpu.pressure",
            "some avg10=0.12 avg60=0.03 avg300=0.00 total=1234\nfull avg10=0.50 avg60=0.00 \
             avg300=0.00 total=7\n",
        ),
        (
            "memory.stat",
            "anon 4096\nfile 8192\ninactive_file 16\nworkingset_refault_anon \
             2\nworkingset_refault_file 3\n",
        ),
        ("memory.current", "12288\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "20480\n"),
        ("memory.swap.current", "0\n"),
        ("memory.swap.max", "4096\n"),
        (
            V2_MEMORY_EVENTS,
            "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n",
        ),
        ("pids.current", "7\n"),
        ("pids.max", "max\n"),
        (
            "io.stat",
            "8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n",
        ),
        ("hugetlb.1GB.current", "1073741824\n"),
        ("hugetlb.1GB.max", "max\n"),
        ("hugetlb.1GB.events", "max 6\n"),
    ]);
    let metrics: MetricsV2 = scene.metrics(V2);
    let cpu = metrics.cpu.as_ref().unwrap();
    assert_eq!(
        (
            cpu.usage_usec,
            cpu.user_usec,
            cpu.system_usec,
            cpu.throttled_usec
        ),
        (1000, 700, 300, 44)
    );
    let (some, full) = (
        cpu.psi.some.as_ref().unwrap(),
        cpu.psi.full.as_ref().unwrap(),
    );
    assert_eq!(
        (some.avg10, some.total, full.avg10, full.total),
        (0.12, 1234, 0.5, 7)
    );
    let memory = metrics.memory.as_ref().unwrap();
    assert_eq!(
        (memory.usage, memory.usage_limit, memory.max_usage),
        (12288, u64::MAX, 20480)
    );
    assert_eq!(
        (
            memory.anon,
            memory.file,
            memory.swap_limit,
            memory.workingset_refault
        ),
        (4096, 8192, 4096, 5)
    );
    assert_eq!(
        (metrics.memory_events.high, metrics.memory_events.oom_kill),
        (1, 4)
    );
    assert_eq!((metrics.pids.current, metrics.pids.limit), (7, u64::MAX));
    let io: Vec<_> = metrics
        .io
        .usage
        .iter()
        .map(|entry| (entry.major, entry.minor, entry.rbytes, entry.wios))
        .collect();
    assert_eq!(io, [(8, 0, 4096, 2), (253, 1, 0, 0)]);
    let [pages] = &metrics.hugetlb[..] else {
        panic!("{:?}", metrics.hugetlb)
    };
    assert_eq!(
        (
            pages.pagesize.as_str(),
            pages.current,
            pages.max,
            pages.failcnt
        ),
        ("1GB", 1_073_741_824, u64::MAX, 6)
    );
}

#[test]
fn missing_controllers_are_left_out_and_unlimited_processes_are_zero() {
    let metrics: MetricsV1 = Scene::v1(&[
        ("pids", "pids.current", "1\n"),
        ("pids", "pids.max", "max\n"),
    ])
    .metrics(V1);
    assert!(
        metrics.cpu.is_none()
            && metrics.memory.is_none()
            && metrics.rdma.is_none()
            && metrics.hugetlb.is_empty()
    );
    assert_eq!(
        (metrics.pids.current, metrics.pids.limit),
        (1, 0),
        "0 means no limit to containerd"
    );
    let metrics: MetricsV2 = Scene::v2(&[]).metrics(V2);
    assert!(
        metrics.cpu.is_none()
            && metrics.memory.is_none()
            && metrics.io.is_none()
            && metrics.pids.is_none()
    );
}

#[test]
fn metrics_of_a_removed_cgroup_are_an_error() {
    for scene in [Scene::v1(&[]), Scene::v2(&[])] {
        for folder in scene.cgroup.folders() {
            fs::remove_dir(folder).unwrap();
        }
        let error = scene.cgroup.metrics().unwrap_err().to_string();
        assert!(
            error.contains(scene.root.path().to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn oom_kills_are_counted_if_the_memory_controller_is_enabled() {
    assert_eq!(
        Scene::v1(&[("memory", OOM_V1, "oom_kill_disable 0\noom_kill 3\n")])
            .cgroup
            .oom_kills()
            .unwrap(),
        3
    );
    assert_eq!(
        Scene::v2(&[(V2_MEMORY_EVENTS, "oom 9\noom_kill 4\n")])
            .cgroup
            .oom_kills()
            .unwrap(),
        4
    );
    assert_eq!(Scene::v2(&[]).cgroup.oom_kills().unwrap(), 0);
}

#[test]
fn malformed_lines_are_skipped() {
    for line in ["", "Total 4608", "8:0 Read", "8 Read 1", "8:0 Read many"] {
        assert!(v1::block_io_entry(line).is_none(), "{line:?}");
    }
    for line in ["", "8:0", "sda rbytes=1"] {
        assert!(v2::io_entry(line).is_none(), "{line:?}");
    }
    assert_eq!(device("8:x"), None);
    assert_eq!(rdma("mlx4_0 hca_handle"), None);
}
