//! Tests of Jobs on simulated nodes.

use installer_protocol::{
    CgroupDriver, ConfigMode, Distribution, Outcome, Paths, Report, Request, Verb,
};
use tokio::time::Duration;

use super::*;

fn request(verb: Verb) -> Request {
    Request {
        verb,
        runtime: "r".to_owned(),
        handler: "h".to_owned(),
        distribution: Distribution::Systemd,
        artifact: None,
        mode: ConfigMode::Auto,
        cgroup_driver: CgroupDriver::Auto,
        settings: installer_protocol::Settings::default(),
        paths: Paths::default(),
        image: "registry.example/installer:1.2.3".to_owned(),
    }
}

fn start_job(cluster: &Cluster, name: &str, node: &str, verb: Verb) {
    let container = json!({ "name": "installer", "args": ["--request", request(verb).to_json()] });
    let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "nodeName": node,
        "containers": [container] } });
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name,
        "namespace": "s" },
        "spec": { "activeDeadlineSeconds": 600, "template": template } });
    cluster.create(job).unwrap();
}

fn conditions(cluster: &Cluster, job: &str) -> Vec<String> {
    let job = cluster.get(&Key::new(JOB, "s", job)).unwrap();
    let conditions = job["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .iter()
        .map(|condition| condition["type"].as_str().unwrap().to_owned())
        .collect()
}

fn report(cluster: &Cluster) -> Report {
    let pods = cluster.all(POD);
    let ended = &pods[0]["status"]["containerStatuses"][0]["state"]["terminated"];
    Report::from_message(ended["message"].as_str().unwrap()).unwrap()
}

fn handlers(cluster: &Cluster, node: &str) -> String {
    cluster.get(&Key::new(NODE, "", node)).unwrap()["status"]["runtimeHandlers"].to_string()
}

#[tokio::test(start_paused = true)]
async fn installer_reports_and_node_lists_handler_later() {
    let cluster = Cluster::start();
    let fleet = Fleet::start(&cluster);
    fleet.join(Joining::new("a"));
    start_job(&cluster, "j", "a", Verb::Install);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        conditions(&cluster, "j"),
        ["SuccessCriteriaMet", "Complete"]
    );
    assert_eq!(
        (
            report(&cluster).outcome,
            report(&cluster).installed.unwrap().version
        ),
        (Outcome::Installed, "1.2.3".to_owned())
    );
    assert!(fleet.machine("a").works("r") && !handlers(&cluster, "a").contains("\"h\""));
    sleep(Duration::from_secs(5)).await;
    assert!(handlers(&cluster, "a").contains("\"h\""));
}

#[tokio::test(start_paused = true)]
async fn script_decides_how_installer_ends() {
    let cluster = Cluster::start();
    let fleet = Fleet::start(&cluster);
    for (name, script, ends) in [
        (
            "fails",
            Script::rolls_back(),
            &["FailureTarget", "Failed"][..],
        ),
        ("dies", Script::Dies, &["FailureTarget", "Failed"]),
        ("hangs", Script::Hangs, &["FailureTarget", "Failed"]),
        ("never", Script::NeverStarts, &["FailureTarget", "Failed"]),
        (
            "vanishes",
            Script::NodeVanishes,
            &["FailureTarget", "Failed"],
        ),
        ("answers-no-more", Script::NodeDies, &["FailureTarget"]),
    ] {
        fleet.join(Joining::new(name).script([script]));
        start_job(&cluster, &format!("job-{name}"), name, Verb::Install);
        sleep(Duration::from_mins(20)).await;
        assert_eq!(conditions(&cluster, &format!("job-{name}")), ends, "{name}");
        assert!(!fleet.machine(name).works("r"), "{name}");
    }
    assert_eq!(fleet.violations(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn two_installers_on_one_node_are_a_violation() {
    let cluster = Cluster::start();
    let fleet = Fleet::start(&cluster);
    fleet.join(Joining::new("a"));
    start_job(&cluster, "one", "a", Verb::Install);
    sleep(Duration::from_secs(5)).await;
    start_job(&cluster, "two", "a", Verb::Uninstall);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(fleet.violations(), ["two started on a while one ran"]);
}

#[tokio::test(start_paused = true)]
async fn deleted_job_kills_installer_unless_pod_is_kept() {
    for (policy, works) in [("Background", false), ("Orphan", true)] {
        let cluster = Cluster::start();
        let fleet = Fleet::start(&cluster);
        fleet.join(Joining::new("a"));
        start_job(&cluster, "j", "a", Verb::Install);
        sleep(Duration::from_secs(5)).await;
        let writer = crate::write::Writer {
            by: "x".into(),
            manager: "x".to_owned(),
            subresource: String::new(),
        };
        let options = json!({ "propagationPolicy": policy });
        cluster
            .store()
            .delete(
                &Key::new(JOB, "s", "j"),
                &options,
                &writer,
                crate::write::DryRun::No,
            )
            .unwrap();
        sleep(Duration::from_mins(1)).await;
        assert_eq!(fleet.machine("a").works("r"), works, "{policy}");
    }
}
