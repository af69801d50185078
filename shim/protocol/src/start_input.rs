//! What containerd writes to the launcher's standard input. Its versions differ (all were recorded,
//! see the tests):
//!
//! | containerd | standard input of `start` | answer |
//! |---|---|---|
//! | 1.6 to 2.2 | a `google.protobuf.Any` with the runtime options, or nothing | the address, or JSON |
//! | 2.3 and later | a `BootstrapParams` with the container's id and namespace, and the options as an extension | a `BootstrapResult` |
//!
//! Both are protobuf messages, and neither bears its type; one can be read as the other. What tells
//! them apart is who they speak of: a `BootstrapParams` begins with the id and the namespace of the
//! container that is on the command line.

use std::path::{Path, PathBuf};

use crate::options::{Given, OptionsError, RuntimeOptions};
use crate::wire::{self, Malformed, Message, Value};

/// What was on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInput {
    /// How containerd wants the answer.
    pub answer: Answer,
    /// The options that containerd gives.
    pub options: Given,
    /// Where containerd wants the host's socket, if not in the usual folder.
    pub socket_folder: Option<PathBuf>,
}

/// How containerd wants to be told the host's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The address and nothing else, which means version 2 of the Task API: understood by every
    /// containerd.
    ///
    /// containerd 1.7 and later also read JSON with a version, but 1.7 fails on version 3, and
    /// nothing that a launcher sees tells it from 2.0 to 2.2 (all set `MAX_SHIM_VERSION=2`). With
    /// version 2, these call the launcher once more per container.
    Address,
    /// A `BootstrapResult` message with version 3 of the Task API: containerd calls no launcher for
    /// further containers of a pod.
    Bootstrap,
}

impl Answer {
    /// What `start` writes for a host at `address`.
    pub fn encode(self, address: &str) -> Vec<u8> {
        match self {
            Self::Address => address.as_bytes().to_vec(),
            // BootstrapResult { version = 1, address = 2, protocol = 3 }
            Self::Bootstrap => Message::default()
                .number(1, 3)
                .text(2, address)
                .text(3, "ttrpc")
                .into_bytes(),
        }
    }
}

/// Why standard input was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartInputError {
    /// It is no protobuf message.
    #[error("standard input is none of containerd's messages")]
    Malformed(#[from] Malformed),
    /// It is one, but neither of those that containerd sends.
    #[error(
        "standard input is neither runtime options nor bootstrap parameters of container {id} in \
         namespace {namespace}"
    )]
    Unknown {
        /// The container's id, as the command line has it.
        id: String,
        /// containerd's namespace, likewise.
        namespace: String,
    },
    /// The options in it.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl StartInput {
    /// Reads what was written for container `id` in containerd's namespace `namespace`.
    ///
    /// # Errors
    /// When it is none of the messages above, or the options in it are not accepted.
    pub fn decode(input: &[u8], namespace: &str, id: &str) -> Result<Self, StartInputError> {
        let fields = wire::fields(input)?;
        let says = |number: u32, text: &str| {
            fields
                .iter()
                .any(|field| field.number == number && field.value.text() == Some(text))
        };
        if says(1, id) && says(2, namespace) {
            return Self::of_bootstrap(&fields);
        }
        // An Any has a type and a value, and no third field.
        if fields
            .iter()
            .any(|field| field.number > 2 || !matches!(field.value, Value::Bytes(_)))
        {
            return Err(StartInputError::Unknown {
                id: id.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        Ok(Self {
            answer: Answer::Address,
            options: Any::of(&fields).options()?,
            socket_folder: None,
        })
    }

    /// `BootstrapParams { …, repeated Extension extensions = 8, optional string socket_dir = 9 }`.
    fn of_bootstrap(fields: &[wire::Field<'_>]) -> Result<Self, StartInputError> {
        let mut input = Self {
            answer: Answer::Bootstrap,
            options: Given::Nothing,
            socket_folder: None,
        };
        for field in fields {
            match (field.number, field.value) {
                (8, Value::Bytes(extension)) => {
                    // Extension { google.protobuf.Any value = 1 }
                    for field in wire::fields(extension)? {
                        if let (1, Value::Bytes(any)) = (field.number, field.value) {
                            let any = Any::of(&wire::fields(any)?);
                            // Other extensions are none of ours: containerd may add what it likes.
                            if RuntimeOptions::has_type(any.type_url) {
                                input.options = any.options()?;
                            }
                        }
                    }
                }
                (9, value) => {
                    input.socket_folder = value
                        .text()
                        .filter(|text| !text.is_empty())
                        .map(|text| Path::new(text).to_owned());
                }
                // The rest stands on the command line too.
                _ => {}
            }
        }
        Ok(input)
    }
}

/// `google.protobuf.Any { type_url = 1, value = 2 }`.
struct Any<'a> {
    type_url: &'a str,
    value: &'a [u8],
}

impl<'a> Any<'a> {
    fn of(fields: &[wire::Field<'a>]) -> Self {
        let mut any = Self {
            type_url: "",
            value: &[],
        };
        for field in fields {
            match (field.number, field.value) {
                (1, value) => any.type_url = value.text().unwrap_or("(no text)"),
                (2, Value::Bytes(bytes)) => any.value = bytes,
                _ => {}
            }
        }
        any
    }

    fn options(&self) -> Result<Given, OptionsError> {
        Given::decode(self.type_url, self.value)
    }
}

#[cfg(test)]
mod tests;
