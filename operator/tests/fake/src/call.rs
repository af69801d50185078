//! Requests as the server sees them: the words that access rules are written in, and what is asked.

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
    /// Makes an object.
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

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What is done.
    pub verb: Verb,
    /// With which kind of objects.
    pub resource: Resource,
    /// In which namespace; empty for none or all.
    pub namespace: String,
    /// With which object; empty for many.
    pub name: String,
    /// With which part of it; empty for the whole.
    pub subresource: String,
}

/// What a request says beside its target.
#[derive(Debug, Clone, Default)]
pub struct Options {
    query: Vec<(String, String)>,
    content_type: String,
    accept: String,
}

/// Which form an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whole objects.
    Whole,
    /// Only their metadata.
    Metadata,
}

impl Target {
    /// What a request is about.
    ///
    /// # Errors
    /// When its path leads nowhere.
    pub fn read(parts: &Parts, options: &Options) -> Result<Self, Refusal> {
        let path = parts.uri.path();
        let nowhere = || Refusal::no_such_path(path);
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match words.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(nowhere()),
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
            _ => return Err(nowhere()),
        };
        let resource = Resource::in_path(group, version, plural).ok_or_else(nowhere)?;
        if resource.scope == Scope::Cluster && !namespace.is_empty() {
            return Err(nowhere());
        }
        let verb = match (&parts.method, name.is_empty()) {
            (&Method::GET, _) if options.says("watch", "true") || options.says("watch", "1") => {
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
                    "{} {path} means nothing",
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

    /// The object; that of a creation has its name in the body.
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
    /// What a request says.
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

    /// A parameter's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter has this value.
    pub fn says(&self, name: &str, value: &str) -> bool {
        self.value(name) == Some(value)
    }

    /// A parameter's value, as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// What a list or watch wants to see.
    ///
    /// # Errors
    /// When a selector is none.
    pub fn selector(&self, target: &Target) -> Result<Selector, Refusal> {
        let namespace = Some(target.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let fields = self.value("fieldSelector");
        // A watch of one object by its path is one by its name.
        let named = (!target.name.is_empty()).then(|| format!("metadata.name={}", target.name));
        Selector::parse(
            namespace,
            self.value("labelSelector"),
            named.as_deref().or(fields),
        )
    }

    /// Whether a write is made.
    pub fn dry_run(&self) -> DryRun {
        if self.says("dryRun", "All") {
            DryRun::Yes
        } else {
            DryRun::No
        }
    }

    /// Which form the answer has.
    pub fn form(&self) -> Form {
        if self.accept.contains("as=PartialObjectMetadata") {
            Form::Metadata
        } else {
            Form::Whole
        }
    }

    /// Reads a patch.
    ///
    /// # Errors
    /// When it is none, or an apply does not say by whom.
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
                let force = if self.says("force", "true") {
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
    /// The word.
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

    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
