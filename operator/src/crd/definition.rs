//! The CustomResourceDefinitions of the API.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt as _, ResourceExt as _};
use sha2::{Digest as _, Sha256};

use super::{WasmRuntime, WasmRuntimeNode};
use crate::names;

/// Returns the definitions of the API: the chart holds them, and `crds apply` applies them.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [WasmRuntime::crd(), WasmRuntimeNode::crd()].map(|mut definition| {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version
                .schema
                .as_mut()
                .and_then(|schema| schema.open_api_v3_schema.as_mut())
            {
                tidy(schema);
            }
        }
        let spec = serde_json::to_string(&definition.spec)
            .expect("a definition holds only text and numbers");
        let digest = format!("{:x}", Sha256::digest(spec));
        definition.annotations_mut().insert(
            names::DEFINITION_ANNOTATION.to_owned(),
            digest[..16].to_owned(),
        );
        definition
    })
}

/// Rewrites a schema that was derived from Rust types so that the API server reads it as meant.
fn tidy(schema: &mut JSONSchemaProps) {
    // Without `nullable` the API server drops a null, and sets the default if there is one.
    schema.nullable = None;
    // The API server warns of formats that it does not know, such as unsigned ones.
    if schema.format.as_deref() == Some("uint32") {
        schema.format = Some("int32".to_owned());
    }
    if let Some(description) = &mut schema.description {
        *description = joined(description);
    }
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        tidy(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Joins the lines of each paragraph: line breaks of the source are wrong in `kubectl explain`.
fn joined(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect();
    paragraphs.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects `schema` and every schema within it, with their paths.
    fn walk<'a>(
        path: &str,
        schema: &'a JSONSchemaProps,
        found: &mut Vec<(String, &'a JSONSchemaProps)>,
    ) {
        found.push((path.to_owned(), schema));
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            walk(&format!("{path}.*"), values, found);
        }
    }

    fn schemas(definition: &CustomResourceDefinition) -> Vec<(String, &JSONSchemaProps)> {
        let mut found = Vec::new();
        for version in &definition.spec.versions {
            walk(
                "",
                version
                    .schema
                    .as_ref()
                    .unwrap()
                    .open_api_v3_schema
                    .as_ref()
                    .unwrap(),
                &mut found,
            );
        }
        found
    }

    #[test]
    fn every_field_is_described() {
        for definition in definitions() {
            for (path, schema) in schemas(&definition) {
                let is_named = path
                    .rsplit('.')
                    .next()
                    .is_some_and(|name| !name.is_empty() && !name.ends_with("[]") && name != "*");
                assert!(!is_named || schema.description.is_some(), "{path}");
                assert!(
                    schema
                        .description
                        .as_deref()
                        .is_none_or(|text| !text.contains("Auto-generated")),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn no_schema_is_nullable_or_has_a_format_that_the_api_server_does_not_know() {
        for definition in definitions() {
            for (path, schema) in schemas(&definition) {
                assert_eq!(schema.nullable, None, "{path}");
                assert!(
                    schema
                        .format
                        .as_deref()
                        .is_none_or(|format| ["int32", "int64", "date-time"].contains(&format)),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn empty_spec_has_the_defaults_of_the_types() {
        let spec = serde_json::from_str::<super::super::WasmRuntimeSpec>("{}").unwrap();
        assert_eq!(spec.rollout, super::super::RolloutSpec::default());
        assert_eq!(
            spec.runtime_class,
            super::super::RuntimeClassSpec::default()
        );
    }

    #[test]
    fn quantity_can_be_a_number() {
        let text = r#"{"overhead": {"cpu": 1, "memory": "16Mi"}}"#;
        let class = serde_json::from_str::<super::super::RuntimeClassSpec>(text).unwrap();
        let overhead: Vec<(&str, &str)> = class
            .overhead
            .iter()
            .map(|(name, quantity)| (name.as_str(), quantity.0.as_str()))
            .collect();
        assert_eq!(overhead, [("cpu", "1"), ("memory", "16Mi")]);
    }

    #[test]
    fn joined_text_keeps_its_paragraphs() {
        assert_eq!(joined("a\nb\n\nc"), "a b\n\nc");
    }
}
