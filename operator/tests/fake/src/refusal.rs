//! Every answer that is not the wanted one, as the `Status` that Kubernetes sends.

use serde_json::{Value, json};

use crate::store::Key;

/// An answer that is not the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// Why, in a word that clients read.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Seconds after which a client may come back.
    pub retry_after: Option<u32>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// There is no such object.
    pub fn not_found(key: &Key) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{}\" not found", key.resource, key.name),
        )
    }

    /// There is no such kind of objects.
    pub fn no_such_path(path: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource {path}"),
        )
    }

    /// The client has no right to it.
    pub fn forbidden(verb: &str, plural: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{plural} is forbidden: the client cannot {verb} resource \"{plural}\""),
        )
    }

    /// There is such an object already.
    pub fn exists(key: &Key) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{}\" already exists", key.resource, key.name),
        )
    }

    /// The object is another one than the request was made for, or has changed since.
    pub fn conflict(key: &Key, why: impl std::fmt::Display) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} \"{}\": {why}",
                key.resource, key.name
            ),
        )
    }

    /// The object would break a rule.
    pub fn invalid(key: &Key, why: impl std::fmt::Display) -> Self {
        Self::new(
            422,
            "Invalid",
            format!("{} \"{}\" is invalid: {why}", key.resource.kind, key.name),
        )
    }

    /// A JSON patch that does not fit the object. Kubernetes says no more than this.
    pub fn unfit_patch() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
    }

    /// What was asked for is older than what the server still knows.
    pub fn expired() -> Self {
        Self::new(
            410,
            "Expired",
            "The resourceVersion for the provided watch or list is too old",
        )
    }

    /// The server has a fault.
    pub fn internal() -> Self {
        Self::new(
            500,
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        )
    }

    /// The server cannot answer now.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// The client asks too much.
    pub fn throttled(retry_after: u32) -> Self {
        let message =
            "the server has received too many requests and has asked us to try again later";
        Self {
            retry_after: Some(retry_after),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    /// The answer's body.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(seconds) = self.retry_after {
            status["details"] = json!({ "retryAfterSeconds": seconds });
        }
        status
    }
}
