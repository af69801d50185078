//! `docs/reference/configuration.md`: every setting of guests.

use anyhow::{Context as _, Result};
use runtime_options::{ANNOTATION_PREFIX, GuestSettings, OPTIONS, SETTINGS, SettingRow};

use super::table;
use crate::Generated;

const INTRODUCTION: &str = "\
The settings of guests. Three layers decide them, each over the one before it:

1. the defaults below;
2. the options of the handler: `spec.runtime` of its `WasmRuntime` ([API](crd.md)), or the keys of
   its [options table](runtime-options.md). A second `WasmRuntime` with other options is a second
   RuntimeClass, for example one whose guests run on Wasmtime;
3. annotations of the pod: `runtime.wasmedge.dev/KEY` for all guests of the pod, and
   `runtime.wasmedge.dev/KEY.CONTAINER`, which takes precedence, for the guest in one container.

```yaml
metadata:
  annotations:
    runtime.wasmedge.dev/engine: wasmtime             # all guests of the pod
    runtime.wasmedge.dev/compile-wait.app: 2m         # the guest in the container `app`
```

An annotation below `runtime.wasmedge.dev/` with a key that is not listed here, or with a value that
is not possible, fails Create of each guest of the pod; the message names the annotation and what is
possible. The value of an annotation for another container is not checked. Native containers ignore
these annotations. Kubernetes allows 63 characters after the slash, and the name of a container is
not compared with those of the pod.

The option `locked` of the handler lists keys that annotations cannot change: a guest with an
annotation for one of them fails Create, and the message names the lock. Wasmtime has no
interpreter, so `engine` `wasmtime` with `mode` `interpreter` fails Create too.

containerd passes annotations of a pod to the runtime only if the handler's table has
`pod_annotations = [\"runtime.wasmedge.dev/*\"]`, which the installer writes. On a node that was
[installed by hand](../by-hand.md) without it they have no effect. Without Kubernetes,
`ctr run --annotation runtime.wasmedge.dev/KEY=VALUE` sets one.";

pub(super) fn page() -> Result<Generated> {
    let rows = SETTINGS.iter().map(row).collect::<Result<Vec<_>>>()?;
    let head = [
        "key",
        "field in `spec.runtime`",
        "key in the options table",
        "values",
        "default",
        "meaning",
    ];
    debug_assert!(INTRODUCTION.contains(ANNOTATION_PREFIX));
    let text = format!("{INTRODUCTION}\n\n{}", table(&head, rows));
    Ok(super::page("configuration", "Settings of guests", &text))
}

fn row(setting: &SettingRow) -> Result<Vec<String>> {
    let SettingRow {
        key,
        field,
        values,
        meaning,
        get,
        set: _,
    } = setting;
    let option = OPTIONS.iter().find(|option| option.field == Some(*field));
    let option = option.with_context(|| format!("no option of the handler is {field}"))?;
    Ok(vec![
        format!("`{}`", key.as_str()),
        format!("`{field}`"),
        format!("`{}`", option.key),
        (*values).to_owned(),
        format!("\"{}\"", get(&GuestSettings::default())),
        (*meaning).to_owned(),
    ])
}
