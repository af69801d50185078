//! The chart's schema: its refusals, and its completeness.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::subject::Subject;
use crate::{Verdict, tests};

tests!(
    values_that_cannot_work_are_refused_by_name,
    schema_has_every_value_and_no_other,
    a_runtimes_spec_has_the_fields_of_the_crd,
);

/// A value for `--set-json`, and the name in the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("replica=2", "'replica'"),
    ("replicas=0", "/replicas"),
    ("replicas=\"two\"", "/replicas"),
    ("image.digest=\"sha256:12\"", "/image/digest"),
    ("image.registry=\"https://ghcr.io\"", "/image/registry"),
    ("image.repository=\"Team/App\"", "/image/repository"),
    ("image.tag=\"a b\"", "/image/tag"),
    ("image.pullPolicy=\"Sometimes\"", "/image/pullPolicy"),
    ("installer.image.name=\"x\"", "/installer/image"),
    ("installer.architectures=[]", "/installer/architectures"),
    (
        "installer.architectures=[\"x86_64\"]",
        "/installer/architectures/0",
    ),
    ("enabled=\"yes\"", "/enabled"),
    ("installer.env={\"A-B\":\"c\"}", "'A-B'"),
    ("installer.env={\"A\":1}", "/installer/env/A"),
    ("installer.env={\"A\":\"b\\nc\"}", "/installer/env/A"),
    (
        "installer.resources={\"request\":{}}",
        "/installer/resources",
    ),
    (
        "installer.resources.limits.memory=\"much\"",
        "/installer/resources/limits/memory",
    ),
    ("imagePullSecrets=[\"name\"]", "/imagePullSecrets/0"),
    ("log.level=\"verbose\"", "/log/level"),
    ("log.format=\"xml\"", "/log/format"),
    ("leaderElection.enabled=\"yes\"", "/leaderElection/enabled"),
    ("uninstall.timeout=\"10 minutes\"", "/uninstall/timeout"),
    ("serviceAccount.name=\"a_b\"", "/serviceAccount/name"),
    (
        "tolerations=[{\"effect\":\"Never\"}]",
        "/tolerations/0/effect",
    ),
    ("affinity={\"node\":{}}", "/affinity"),
    (
        "topologySpreadConstraints=[{\"topologyKey\":\"zone\"}]",
        "/topologySpreadConstraints/0",
    ),
    ("podLabels={\"app.kubernetes.io/name\":\"x\"}", "/podLabels"),
    ("pdb.maxUnavailable=-1", "/pdb/maxUnavailable"),
    (
        "metrics.serviceMonitor.interval=\"often\"",
        "/metrics/serviceMonitor/interval",
    ),
    (
        "networkPolicy.apiServerPorts=[0]",
        "/networkPolicy/apiServerPorts/0",
    ),
    (
        "networkPolicy.metricsFrom=[{}]",
        "/networkPolicy/metricsFrom/0",
    ),
    ("fullnameOverride=\"2nd\"", "/fullnameOverride"),
    ("extraLabels={\"a b\":\"c\"}", "'a b'"),
    ("runtimes={\"Edge\":{}}", "'Edge'"),
    ("runtimes.wasmedge.nodeSelectors={}", "nodeSelectors"),
    ("runtimes.wasmedge.nodeSelector={\"pool\":\"wasm\"}", "pool"),
    ("runtimes.wasmedge.containerd={\"mode\":\"Manual\"}", "mode"),
    (
        "runtimes.wasmedge.containerd={\"sandboxer\":\"shim\"}",
        "sandboxer",
    ),
    (
        "runtimes.wasmedge.runtime={\"grouping\":\"Cluster\"}",
        "grouping",
    ),
    (
        "runtimes.wasmedge.runtime={\"logLevel\":\"info\"}",
        "logLevel",
    ),
    (
        "runtimes.wasmedge.runtime={\"maxContainers\":0}",
        "maxContainers",
    ),
    ("runtimes.wasmedge.runtime={\"engine\":\"V8\"}", "engine"),
    ("runtimes.wasmedge.runtime={\"mode\":\"aot\"}", "mode"),
    ("runtimes.wasmedge.runtime={\"compile\":\"No\"}", "compile"),
    (
        "runtimes.wasmedge.runtime={\"compileWait\":\"1h\"}",
        "compileWait",
    ),
    (
        "runtimes.wasmedge.runtime={\"locked\":[\"grouping\"]}",
        "/locked/0",
    ),
    (
        "runtimes.wasmedge.runtime={\"artifactStore\":\"/a/../b\"}",
        "artifactStore",
    ),
    (
        "runtimes.wasmedge.runtime={\"artifactStoreMaxDiskPercent\":91}",
        "artifactStoreMaxDiskPercent",
    ),
    (
        "runtimes.wasmedge.rollout={\"maxUnavailable\":\"150%\"}",
        "maxUnavailable",
    ),
    (
        "runtimes.wasmedge.artifact={\"platforms\":[{\"arch\":\"amd64\",\"url\":\"https://a.example/x\"}]}",
        "sha256",
    ),
    // A schema cannot express a rule over two values; the template `checks.yaml` refuses it.
    ("leaderElection.enabled=false", "replicas"),
];

/// Top-level values that Helm sets or reads if the chart is a dependency. The chart itself does not
/// use them.
const HELMS: [&str; 3] = ["enabled", "tags", "exports"];

fn values_that_cannot_work_are_refused_by_name(subject: &Subject) -> Result<Verdict> {
    for (value, named) in REFUSED {
        let output = subject
            .helm
            .run()
            .args(["template", "x", "--set-json", value])
            .arg(&subject.chart)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{value} was taken");
        ensure!(
            stderr.contains(named),
            "{value}: the refusal does not contain {named:?}: {stderr}"
        );
    }
    Ok(Verdict::Holds)
}

fn schema_has_every_value_and_no_other(subject: &Subject) -> Result<Verdict> {
    let schema = schema(subject)?;
    let values = subject.read(&subject.chart.join("values.yaml"))?;
    let mut differences = Vec::new();
    compare(&schema, &schema, &values, "", &mut differences);
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(Verdict::Holds)
}

fn schema(subject: &Subject) -> Result<Value> {
    let text =
        fs::read_to_string(subject.chart.join("values.schema.json")).context("read the schema")?;
    serde_json::from_str(&text).context("read the schema as JSON")
}

/// Follows the schema's named properties; without named ones, any key is allowed.
fn compare(
    root: &Value,
    schema: &Value,
    values: &Value,
    place: &str,
    differences: &mut Vec<String>,
) {
    let schema = resolve(root, schema);
    let (Some(known), Some(values)) = (schema["properties"].as_object(), values.as_object()) else {
        return;
    };
    for (name, value) in values {
        match known.get(name) {
            None => differences.push(format!("{place}/{name} is not in the schema")),
            Some(schema) => compare(root, schema, value, &format!("{place}/{name}"), differences),
        }
    }
    // An empty map is a value too: only the schema has its allowed keys.
    let is_helms = |name: &String| place.is_empty() && HELMS.contains(&name.as_str());
    for name in known
        .keys()
        .filter(|name| !values.is_empty() && !values.contains_key(*name) && !is_helms(name))
    {
        differences.push(format!(
            "{place}/{name} is in the schema, not in values.yaml"
        ));
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"]
        .as_str()
        .and_then(|text| text.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &root["$defs"][name])
}

fn a_runtimes_spec_has_the_fields_of_the_crd(subject: &Subject) -> Result<Verdict> {
    let schema = schema(subject)?;
    let crd = subject.read(&subject.chart.join("crds/wasmruntimes.yaml"))?;
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    ensure!(spec["properties"].is_object(), "the CRD has no spec: {crd}");
    let mut differences = Vec::new();
    fields(
        &schema,
        &schema["$defs"]["runtime"],
        spec,
        "",
        &mut differences,
    );
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(Verdict::Holds)
}

/// Compares the names of fields, as deep as the chart's schema names them.
fn fields(root: &Value, ours: &Value, crd: &Value, place: &str, differences: &mut Vec<String>) {
    let ours = resolve(root, ours);
    let (ours, crd) = match (ours["items"].is_object(), crd["items"].is_object()) {
        (true, true) => (resolve(root, &ours["items"]), &crd["items"]),
        _ => (ours, crd),
    };
    let (Some(known), Some(there)) = (
        ours["properties"].as_object(),
        crd["properties"].as_object(),
    ) else {
        return;
    };
    for (name, schema) in known {
        match there.get(name) {
            None => differences.push(format!("{place}/{name} is not a field of the CRD")),
            Some(field) => fields(root, schema, field, &format!("{place}/{name}"), differences),
        }
    }
    for name in there.keys().filter(|name| !known.contains_key(*name)) {
        differences.push(format!(
            "{place}/{name} is a field of the CRD and missing in the chart's schema"
        ));
    }
}
