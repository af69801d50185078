//! Requests: the attributes that access rules have, and the options.

use std::fmt;

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use serde_json::Value;

use crate::apply::Force;
use crate::refusal::Refusal;
use crate::resource::{Resource, Scope};
use crate::selector::Selector;
use crate::store::Key;
use crate::write::{DryRun, Patch};

/// A verb, as access rules name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many.
    List,
    /// Reads many, and then every change.
    Watch,
    /// Creates an object.
    Create,
    /// Replaces one.
    Update,
    /// Changes one.
    Patch,
    /// Deletes one.
    Delete,
    /// Deletes many.
    DeleteCollection,
}

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The verb.
    pub verb: Verb,
    /// The kind of objects.
    pub resource: Resource,
    /// The namespace; empty for none or all.
    pub namespace: String,
    /// The object's name; empty for many.
    pub name: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
}

/// The options of a request.
#[derive(Debug, Clone, Default)]
pub struct Options {
    query: Vec<(String, String)>,
    content_type: String,
    accept: String,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whole objects.
    Whole,
    /// Only their metadata.
    Metadata,
}

impl Target {
    /// Parses the target of a request.
    ///
    /// # Errors
    /// If its path is unknown.
    pub fn read(parts: &Parts, options: &Options) -> Result<Self, Refusal> {
        let path = parts.uri.path();
        let unknown = || Refusal::no_such_path(path);
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) =>
            {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return Err(unknown()),
        };
        let resource = Resource::in_path(group, version, plural).ok_or_else(unknown)?;
        if resource.scope == Scope::Cluster && !namespace.is_empty() {
            return Err(unknown());
        }
        let verb = match (&parts.method, name.is_empty()) {
            (&Method::GET, _)
                if options.has_value("watch", "true") || options.has_value("watch", "1") =>
            {
                Verb::Watch
            }
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, true) => Verb::Create,
            (&Method::PUT, false) => Verb::Update,
            (&Method::PATCH, false) => Verb::Patch,
            (&Method::DELETE, false) => Verb::Delete,
            (&Method::DELETE, true) => Verb::DeleteCollection,
            _ => {
                return Err(Refusal::bad_request(format!(
                    "{} {path} is not a known request",
                    parts.method
                )));
            }
        };
        let owned = str::to_owned;
        Ok(Self {
            verb,
            resource,
            namespace: owned(namespace),
            name: owned(name),
            subresource: owned(subresource),
        })
    }

    /// Returns the key of the object; that of a creation has its name in the body.
    pub fn key(&self, body: &Value) -> Key {
        let name = if self.name.is_empty() {
            body["metadata"]["name"].as_str().unwrap_or_default()
        } else {
            &self.name
        };
        Key::new(self.resource, &self.namespace, name)
    }
}

impl Options {
    /// Parses the options of a request.
    pub fn read(parts: &Parts) -> Self {
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            query,
            content_type: header(CONTENT_TYPE),
            accept: header(ACCEPT),
        }
    }

    /// Returns the value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter has this value.
    pub fn has_value(&self, name: &str, value: &str) -> bool {
        self.value(name) == Some(value)
    }

    /// Returns the value of a parameter as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// Returns the selector of a list or watch.
    ///
    /// # Errors
    /// If a selector is not valid.
    pub fn selector(&self, target: &Target) -> Result<Selector, Refusal> {
        let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let fields = self.value("fieldSelector");
        // A watch of one object by its path selects by name.
        let named = (!target.name.is_empty()).then(|| format!("metadata.name={}", target.name));
        Selector::parse(
            namespace,
            self.value("labelSelector"),
            named.as_deref().or(fields),
        )
    }

    /// Whether a write is only a dry run.
    pub fn dry_run(&self) -> DryRun {
        if self.has_value("dryRun", "All") {
            DryRun::Yes
        } else {
            DryRun::No
        }
    }

    /// Returns the form of the answer.
    pub fn form(&self) -> Form {
        if self.accept.contains("as=PartialObjectMetadata") {
            Form::Metadata
        } else {
            Form::Whole
        }
    }

    /// Parses a patch.
    ///
    /// # Errors
    /// If it is not valid, or an apply has no field manager.
    pub fn patch(&self, body: &[u8]) -> Result<Patch, Refusal> {
        let value = |body: &[u8]| {
            serde_json::from_slice::<Value>(body)
                .map_err(|error| Refusal::bad_request(error.to_string()))
        };
        match self.content_type.as_str() {
            "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                Ok(Patch::Merge(value(body)?))
            }
            "application/json-patch+json" => Ok(Patch::Json(
                serde_json::from_slice(body)
                    .map_err(|error| Refusal::bad_request(error.to_string()))?,
            )),
            "application/apply-patch+yaml" if self.value("fieldManager").is_none() => {
                Err(Refusal::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                     required for apply patch",
                ))
            }
            "application/apply-patch+yaml" => {
                let force = if self.has_value("force", "true") {
                    Force::Yes
                } else {
                    Force::No
                };
                Ok(Patch::Apply(value(body)?, force))
            }
            other => Err(Refusal {
                code: 415,
                reason: "UnsupportedMediaType",
                message: other.to_owned(),
                retry_after: None,
            }),
        }
    }
}

impl Verb {
    /// Returns the name of the verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it is a write.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
