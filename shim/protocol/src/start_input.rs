//! The launcher's standard input, which containerd writes. It differs by version (all were
//! recorded, see the tests):
//!
//! | containerd | standard input of `start` | reply |
//! |---|---|---|
//! | 1.6 to 2.2 | a `google.protobuf.Any` with the runtime options, or nothing | the address, or JSON |
//! | 2.3 and later | a `BootstrapParams` with the container's id and namespace, and the options as an extension | a `BootstrapResult` |
//!
//! Both are protobuf messages without a type; one can be parsed as the other. They differ in their
//! content: a `BootstrapParams` begins with the id and the namespace of the container that is on
//! the command line.

use std::path::{Path, PathBuf};

use crate::options::{self, Given, OptionsError};
use crate::wire::{self, Malformed, Message, Value};

/// The parsed standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInput {
    /// The form of the reply.
    pub reply: ReplyFormat,
    /// The options in it.
    pub options: Given,
    /// The folder for the host's socket, if containerd names one.
    pub socket_folder: Option<PathBuf>,
}

/// The form in which containerd reads the host's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyFormat {
    /// The address and nothing else, which means version 2 of the Task API: every containerd
    /// supports it.
    ///
    /// containerd 1.7 and later also read JSON with a version, but 1.7 fails on version 3, and no
    /// input of a launcher distinguishes it from 2.0 to 2.2 (all set `MAX_SHIM_VERSION=2`). With
    /// version 2, these call the launcher once more per container.
    Address,
    /// A `BootstrapResult` message with version 3 of the Task API: containerd calls no launcher for
    /// further containers of a pod.
    Bootstrap,
}

impl ReplyFormat {
    /// Encodes the reply of `start` for a host at `address`.
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

/// An error of parsing standard input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartInputError {
    /// It is not a protobuf message.
    #[error("standard input is not one of containerd's messages")]
    Malformed(#[from] Malformed),
    /// It is a message that containerd does not send.
    #[error(
        "standard input is neither runtime options nor bootstrap parameters of container {id} in \
         namespace {namespace}"
    )]
    Unknown {
        /// The container's id on the command line.
        id: String,
        /// containerd's namespace on the command line.
        namespace: String,
    },
    /// The options in it are not accepted.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl StartInput {
    /// Parses what was written for container `id` in containerd's namespace `namespace`.
    ///
    /// # Errors
    /// If it is none of the messages above, or its options are not accepted.
    pub fn decode(input: &[u8], namespace: &str, id: &str) -> Result<Self, StartInputError> {
        let fields = wire::fields(input)?;
        let says = |number: u32, text: &str| {
            fields
                .iter()
                .any(|field| field.number == number && field.value.text() == Some(text))
        };
        if says(1, id) && says(2, namespace) {
            return Self::from_bootstrap(&fields);
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
            reply: ReplyFormat::Address,
            options: Any::of(&fields).options()?,
            socket_folder: None,
        })
    }

    /// Parses `BootstrapParams { …, repeated Extension extensions = 8, optional string socket_dir =
    /// 9 }`.
    fn from_bootstrap(fields: &[wire::Field<'_>]) -> Result<Self, StartInputError> {
        let mut input = Self {
            reply: ReplyFormat::Bootstrap,
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
                            // Other extensions are ignored: containerd may add any.
                            if options::has_type(any.type_url) {
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
                // The rest is on the command line too.
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
