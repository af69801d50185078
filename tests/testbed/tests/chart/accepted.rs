//! The chart on a real API server, beyond schema and golden files: the server accepts every object,
//! and Helm can install, change and remove a release. There are no nodes, so hooks are left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::apiserver::ApiServer;
use testbed::cache::Cache;
use testbed::command::Run;
use testbed::helm::{NAMESPACE, RELEASE};
use testbed::wait;

use crate::subject::{Case, Subject};
use crate::{Verdict, tests};

tests!(
    api_server_accepts_every_case_with_strict_validation,
    release_can_be_upgraded_from_any_case_to_the_next_and_removed,
    namespace_that_rejects_installers_is_refused_with_the_remedy,
    a_second_operator_in_a_cluster_is_refused,
);

/// Timeout of a call of Helm, and for a server to serve new kinds.
const HELM_TIMEOUT: Duration = Duration::from_mins(2);

/// One server for all tests. Each test uses it alone, as most of the chart's names are
/// cluster-scoped.
static SERVER: Mutex<Option<ApiServer>> = Mutex::new(None);

fn on_server(subject: &Subject, work: impl FnOnce(&ApiServer) -> Result<()>) -> Result<Verdict> {
    // A test that panicked leaves objects behind, and the other tests then fail.
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if server.is_none() {
        *server = Some(start(subject)?);
    }
    server.as_ref().map_or(Ok(()), work)?;
    Ok(Verdict::Holds)
}

/// Starts a server that serves the chart's CRDs.
fn start(subject: &Subject) -> Result<ApiServer> {
    let server = ApiServer::start(&Cache::open()?)?;
    server
        .kubectl()
        .args(["apply", "--server-side", "--filename"])
        .arg(subject.chart.join("crds"))
        .done()?;
    // A CRD is established before it is served.
    let ready = || {
        Ok(server
            .kubectl()
            .args(["get", "wasmruntimes,wasmruntimenodes"])
            .output()?
            .status
            .success()
            .then_some(()))
    };
    wait::until("both kinds to be served", HELM_TIMEOUT, ready, || {
        server.log_tail()
    })?;
    // In a cluster the operator creates them before `helm test` runs.
    for name in ["wasmedge", "wasmedge-edge"] {
        let class = format!(
            r#"{{"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{{"name":"{name}"}},"handler":"{name}"}}"#
        );
        server
            .kubectl()
            .args(["create", "--filename=-"])
            .input(class)
            .done()?;
    }
    Ok(server)
}

fn helm(subject: &Subject, server: &ApiServer) -> Run {
    subject
        .helm
        .run()
        .env("KUBECONFIG", server.kubeconfig())
        .deadline(HELM_TIMEOUT)
}

/// Creates a namespace; it may exist from an earlier test.
fn namespace(server: &ApiServer, name: &str, level: &str) -> Result<()> {
    let label = format!("pod-security.kubernetes.io/enforce={level}");
    let object = server
        .kubectl()
        .args([
            "create",
            "namespace",
            name,
            "--dry-run=client",
            "--output=json",
        ])
        .text()?;
    server
        .kubectl()
        .args(["apply", "--server-side", "--filename=-"])
        .input(object)
        .done()?;
    server
        .kubectl()
        .args(["label", "--overwrite", "namespace", name, &label])
        .done()
}

/// Returns the cases with only built-in kinds; ServiceMonitors come with Prometheus' operator.
fn cases(subject: &Subject) -> Result<Vec<Case>> {
    Ok(subject
        .cases()?
        .into_iter()
        .filter(|case| case.name != "service-monitor")
        .collect())
}

fn api_server_accepts_every_case_with_strict_validation(subject: &Subject) -> Result<Verdict> {
    on_server(subject, |server| {
        namespace(server, NAMESPACE, "privileged")?;
        for case in cases(subject)? {
            let apply = server.kubectl().args([
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--filename=-",
            ]);
            apply
                .input(subject.render(&case.file)?)
                .done()
                .with_context(|| format!("case {}", case.name))?;
        }
        Ok(())
    })
}

fn release_can_be_upgraded_from_any_case_to_the_next_and_removed(
    subject: &Subject,
) -> Result<Verdict> {
    on_server(subject, |server| {
        namespace(server, NAMESPACE, "privileged")?;
        let release = ["--namespace", NAMESPACE, "--no-hooks"];
        let mut verb = "install";
        for case in cases(subject)? {
            let run = helm(subject, server)
                .args([verb, RELEASE])
                .args(release)
                .arg("--values")
                .arg(&case.file)
                .arg(&subject.chart);
            run.done()
                .with_context(|| format!("{verb} with the case {}", case.name))?;
            verb = "upgrade";
        }
        helm(subject, server)
            .args(["uninstall", RELEASE])
            .args(release)
            .done()?;
        let kinds = "deployments,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,services,wasmruntimes";
        let selector = "--selector=app.kubernetes.io/name=wasmedge-operator";
        let left = server
            .kubectl()
            .args(["get", kinds, "--all-namespaces", selector, "--output=name"])
            .text()?;
        let roles = server
            .kubectl()
            .args([
                "get",
                "clusterroles,clusterrolebindings",
                selector,
                "--output=name",
            ])
            .text()?;
        ensure!(
            left.is_empty() && roles.is_empty(),
            "the uninstallation left {left}\n{roles}"
        );
        server
            .kubectl()
            .args([
                "get",
                "customresourcedefinition",
                "wasmruntimes.runtime.wasmedge.dev",
            ])
            .done()
    })
}

fn namespace_that_rejects_installers_is_refused_with_the_remedy(
    subject: &Subject,
) -> Result<Verdict> {
    on_server(subject, |server| {
        for level in ["baseline", "restricted"] {
            namespace(server, "strict", level)?;
            let run = helm(subject, server)
                .args(["install", RELEASE, "--namespace=strict", "--dry-run=server"])
                .arg(&subject.chart);
            let way_out = "kubectl label --overwrite namespace strict \
                           pod-security.kubernetes.io/enforce=privileged";
            refused(run, way_out).with_context(|| format!("level {level}"))?;
        }
        Ok(())
    })
}

fn a_second_operator_in_a_cluster_is_refused(subject: &Subject) -> Result<Verdict> {
    on_server(subject, |server| {
        namespace(server, NAMESPACE, "privileged")?;
        namespace(server, "second", "privileged")?;
        let install = |name: &str, namespace: &str| {
            helm(subject, server)
                .args(["install", name, "--no-hooks", "--namespace", namespace])
                .arg(&subject.chart)
        };
        install(RELEASE, NAMESPACE).done()?;
        let second = refused(
            install("second", "second"),
            "exists and cannot be imported into the current release",
        );
        helm(subject, server)
            .args(["uninstall", RELEASE, "--no-hooks", "--namespace", NAMESPACE])
            .done()?;
        second
    })
}

fn refused(run: Run, because: &str) -> Result<()> {
    let output = run.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        bail!("it was accepted");
    }
    ensure!(
        stderr.contains(because),
        "the refusal does not contain {because:?}: {stderr}"
    );
    Ok(())
}
