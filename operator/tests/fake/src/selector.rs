//! The label and field selectors of lists and watches.

use serde_json::Value;

use crate::refusal::Refusal;

/// A label and a field selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<(String, Sign, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Equal,
    NotEqual,
}

impl Selector {
    /// Parses the selectors of a request.
    ///
    /// # Errors
    /// If one is not valid.
    pub fn parse(
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        let labels = split(labels.unwrap_or_default())
            .into_iter()
            .map(requirement)
            .collect::<Result<_, _>>()?;
        let fields = split(fields.unwrap_or_default())
            .into_iter()
            .map(field)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels,
            fields,
        })
    }

    /// Whether an object matches.
    pub fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let in_namespace = self
            .namespace
            .as_deref()
            .is_none_or(|wanted| metadata["namespace"].as_str() == Some(wanted));
        in_namespace
            && self
                .labels
                .iter()
                .all(|requirement| requirement.holds(&metadata["labels"]))
            && self.fields.iter().all(|(path, sign, value)| {
                let found = path.split('.').fold(object, |value, name| &value[name]);
                (found.as_str().unwrap_or_default() == value) == (*sign == Sign::Equal)
            })
    }
}

impl Requirement {
    fn holds(&self, labels: &Value) -> bool {
        let value = |name: &str| labels.get(name).and_then(Value::as_str);
        let one_of = |name: &str, values: &[String]| {
            value(name).is_some_and(|found| values.iter().any(|value| value == found))
        };
        match self {
            Self::In(name, values) => one_of(name, values),
            Self::NotIn(name, values) => !one_of(name, values),
            Self::Exists(name) => value(name).is_some(),
            Self::Absent(name) => value(name).is_none(),
        }
    }
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let set = |name: &str, values: &str| {
        let values = values
            .trim()
            .trim_start_matches('(')
            .trim_end_matches(')')
            .split(',');
        (
            name.trim().to_owned(),
            values
                .map(|value| value.trim().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let one = |name: &str, value: &str| (name.trim().to_owned(), vec![value.trim().to_owned()]);
    let is = |(name, values)| Requirement::In(name, values);
    let is_not = |(name, values)| Requirement::NotIn(name, values);
    let requirement = if let Some((name, values)) = text.split_once(" notin ") {
        is_not(set(name, values))
    } else if let Some((name, values)) = text.split_once(" in ") {
        is(set(name, values))
    } else if let Some((name, value)) = text.split_once("!=") {
        is_not(one(name, value))
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        is(one(name, value))
    } else if let Some(name) = text.strip_prefix('!') {
        Requirement::Absent(name.trim().to_owned())
    } else {
        Requirement::Exists(text.to_owned())
    };
    let (Requirement::In(name, _)
    | Requirement::NotIn(name, _)
    | Requirement::Exists(name)
    | Requirement::Absent(name)) = &requirement;
    if name.is_empty() || name.contains(' ') {
        return Err(Refusal::bad_request(format!(
            "unable to parse requirement: {text:?}"
        )));
    }
    Ok(requirement)
}

fn field(text: &str) -> Result<(String, Sign, String), Refusal> {
    /// Returns the value of a field that is supported; Kubernetes refuses others.
    const KNOWN: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "status.phase",
        "regarding.name",
        "regarding.kind",
        "type",
    ];
    let (path, sign, value) = if let Some((path, value)) = text.split_once("!=") {
        (path, Sign::NotEqual, value)
    } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (path, Sign::Equal, value)
    } else {
        return Err(Refusal::bad_request(format!(
            "invalid field selector: {text:?}"
        )));
    };
    if !KNOWN.contains(&path) {
        return Err(Refusal::bad_request(format!(
            "field label not supported: {path}"
        )));
    }
    Ok((path.to_owned(), sign, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(labels: &str) -> bool {
        let object =
            json!({ "metadata": { "name": "a", "labels": { "pool": "wasm", "a/b": "" } } });
        Selector::parse(None, Some(labels), None)
            .unwrap()
            .matches(&object)
    }

    #[test]
    fn labels_are_chosen_by_every_sign_that_kubernetes_knows() {
        for yes in [
            "",
            "pool",
            "pool=wasm",
            "pool==wasm",
            "pool!=other",
            "pool in (a,wasm)",
            "pool notin (a,b)",
            "!x",
            "a/b,pool=wasm",
            "x!=1",
        ] {
            assert!(selects(yes), "{yes}");
        }
        for no in [
            "x",
            "pool=other",
            "pool!=wasm",
            "pool in (a)",
            "pool notin (wasm)",
            "!pool",
            "pool,x",
            "x in (a)",
        ] {
            assert!(!selects(no), "{no}");
        }
    }

    #[test]
    fn fields_are_the_few_that_kubernetes_can_select_by() {
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "nodeName": "n" } });
        let matches = |fields| {
            Selector::parse(None, None, Some(fields)).map(|selector| selector.matches(&pod))
        };
        assert_eq!(matches("spec.nodeName=n,metadata.name!=q"), Ok(true));
        assert_eq!(matches("spec.nodeName=m"), Ok(false));
        assert!(matches("spec.containers=x").is_err());
    }
}
