//! Schemas written by hand, where Kubernetes' own types say less than its API server asks for: what
//! cannot be used is refused when it is written, not when it is needed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Key of a label or taint: a name, and a DNS name with a slash before it if it has a prefix.
pub(super) const QUALIFIED: &str =
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that a node has, with their values.",
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 63},
                "maxProperties": 32
            },
            "matchExpressions": {
                "description": "What else holds of a node's labels. All of it has to.",
                "type": "array",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "The label's key.", "type": "string",
                        "maxLength": 316, "pattern": QUALIFIED},
                        "operator": {
                            "description": "How the label and the values relate.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"]
                        },
                        "values": {
                            "description": "The values, for `In` and `NotIn`.",
                            "type": "array",
                            "maxItems": 64,
                            "items": {"type": "string", "maxLength": 63}
                        }
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && \
                                 self.values.size() > 0)",
                        "message": "In and NotIn want values, Exists and DoesNotExist want none"
                    }]
                }
            }
        }
    })
}

pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "properties": {
                "key": {"description": "The taint's key; none means every taint.",
                "type": "string", "maxLength": 316, "pattern": QUALIFIED},
                "operator": {
                    "description": "Whether the taint's value has to be the one given; `Equal` if \
                                    it does not say.",
                    "type": "string",
                    "enum": ["Exists", "Equal"]
                },
                "value": {"description": "The taint's value.", "type": "string", "maxLength": 63},
                "effect": {
                    "description": "The taint's effect; none means any.",
                    "type": "string",
                    "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]
                },
                "tolerationSeconds": {
                    "description": "For how long a taint that drives pods away is tolerated; for \
                                    ever if it does not say.",
                    "type": "integer",
                    "format": "int64"
                }
            },
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.operator) || self.operator != 'Exists' || !has(self.value) \
                             || self.value == ''",
                    "message": "a toleration with operator Exists has no value"
                },
                {
                    "rule": "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                    "message": "a toleration without a key has operator Exists"
                },
                {
                    "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == \
                             'NoExecute')",
                    "message": "only a toleration with effect NoExecute has tolerationSeconds"
                }
            ]
        }
    })
}

/// A RuntimeClass may hold other resources as well, which no pod of this one takes.
pub(super) fn overhead(_: &mut SchemaGenerator) -> Schema {
    let quantity = |what: &str| {
        json_schema!({
            "description": what,
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "pattern": r"^[0-9]+(\.[0-9]{1,3})?([KMGTPE]i|[mkMGTPE])?$"
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "cpu": quantity("Share of a CPU."),
            "memory": quantity("Memory."),
            "ephemeral-storage": quantity("Space on the node's disk.")
        }
    })
}

pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"description": "What the condition is about.", "type": "string",
                "maxLength": 316},
                "status": {"description": "Whether it holds.", "type": "string", "enum": ["True",
                "False", "Unknown"]},
                "reason": {
                    "description": "Why, in a word.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": {"description": "Why, for people.", "type": "string",
                "maxLength": 32768},
                "lastTransitionTime": {"description": "Since when the status is what it is.",
                "type": "string", "format": "date-time"},
                "observedGeneration": {
                    "description": "The generation of the spec that the condition speaks of.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0
                }
            }
        }
    })
}

/// Quantities as people write them: Kubernetes stores a number in a custom object as a number.
pub(super) fn quantities<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Quantity>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
    let quantity = |written| match written {
        Written::Number(number) => Quantity(number.to_string()),
        Written::Text(text) => Quantity(text),
    };
    Ok(written
        .into_iter()
        .map(|(name, written)| (name, quantity(written)))
        .collect())
}
