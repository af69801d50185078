//! Hand-written schemas, where the types of `k8s_openapi` are looser than the API server: unusable
//! values are refused when they are written, not when the operator uses them.

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
                "description": "Labels that a node must have, with their values.",
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 63},
                "maxProperties": 32
            },
            "matchExpressions": {
                "description": "Requirements on a node's labels; all of them must hold.",
                "type": "array",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"description": "Key of the label.", "type": "string",
                        "maxLength": 316, "pattern": QUALIFIED},
                        "operator": {
                            "description": "Relation between the label and the values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"]
                        },
                        "values": {
                            "description": "Values, for `In` and `NotIn`.",
                            "type": "array",
                            "maxItems": 64,
                            "items": {"type": "string", "maxLength": 63}
                        }
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && \
                                 self.values.size() > 0)",
                        "message": "In and NotIn need values, Exists and DoesNotExist take none"
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
                "key": {"description": "Key of the taint; if left out, every taint.",
                "type": "string", "maxLength": 316, "pattern": QUALIFIED},
                "operator": {
                    "description": "`Equal` compares the taint's value, `Exists` does not. The \
                                    default is `Equal`.",
                    "type": "string",
                    "enum": ["Exists", "Equal"]
                },
                "value": {"description": "Value of the taint.", "type": "string", "maxLength": 63},
                "effect": {
                    "description": "Effect of the taint; if left out, any effect.",
                    "type": "string",
                    "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]
                },
                "tolerationSeconds": {
                    "description": "Time in seconds for which a taint with effect NoExecute is \
                                    tolerated; if left out, forever.",
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

/// Returns the schema of `overhead`: only the resources that pods of this runtime use.
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
                "type": {"description": "Type of the condition.", "type": "string",
                "maxLength": 316},
                "status": {"description": "Status of the condition.", "type": "string",
                "enum": ["True", "False", "Unknown"]},
                "reason": {
                    "description": "Reason for the status, as one word.",
                    "type": "string",
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": {"description": "Reason for the status, as text.", "type": "string",
                "maxLength": 32768},
                "lastTransitionTime": {"description": "Time of the last change of the status.",
                "type": "string", "format": "date-time"},
                "observedGeneration": {
                    "description": "Generation of the spec that the condition is based on.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0
                }
            }
        }
    })
}

/// Reads quantities that are numbers or text: the API server stores a number in a custom object as
/// a number.
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
