//! Error answers, as the `Status` that Kubernetes sends.

use serde_json::{Value, json};

use crate::store::Key;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason, for clients.
    pub reason: &'static str,
    /// The message, for users.
    pub message: String,
    /// Seconds after which a client may retry.
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

    /// The request is not valid.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The object does not exist.
    pub fn not_found(key: &Key) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{}\" not found", key.resource, key.name),
        )
    }

    /// The path does not exist.
    pub fn no_such_path(path: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource {path}"),
        )
    }

    /// The client lacks the right.
    pub fn forbidden(verb: &str, plural: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{plural} is forbidden: the client cannot {verb} resource \"{plural}\""),
        )
    }

    /// The object exists already.
    pub fn exists(key: &Key) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{}\" already exists", key.resource, key.name),
        )
    }

    /// The object was replaced or changed since it was read.
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

    /// The object is not valid.
    pub fn invalid(key: &Key, why: impl std::fmt::Display) -> Self {
        Self::new(
            422,
            "Invalid",
            format!("{} \"{}\" is invalid: {why}", key.resource.kind, key.name),
        )
    }

    /// A JSON patch does not apply to the object. The message is that of Kubernetes.
    pub fn unfit_patch() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
    }

    /// The requested version is older than the history of the server.
    pub fn expired() -> Self {
        Self::new(
            410,
            "Expired",
            "The resourceVersion for the provided watch or list is too old",
        )
    }

    /// The server failed.
    pub fn internal() -> Self {
        Self::new(
            500,
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        )
    }

    /// The server is not available.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    }

    /// The client exceeds the rate limit.
    pub fn throttled(retry_after: u32) -> Self {
        let message =
            "the server has received too many requests and has asked us to try again later";
        Self {
            retry_after: Some(retry_after),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    /// Returns the body of the answer.
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
