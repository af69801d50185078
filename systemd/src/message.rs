//! D-Bus messages: calls, replies and signals. zvariant does the marshalling.

use std::fmt;

use serde::Serialize;
use serde::de::Deserialize;
use zvariant::serialized::{Context, Data};
use zvariant::{Endian, Signature, Type, Value, to_bytes};

/// Size of the fixed part of a header, which has the lengths of the rest.
const FIXED_SIZE: usize = 16;
/// Maximum size of a message, far above systemd's messages about a unit. D-Bus allows 128 MiB,
/// which would use too much memory here.
const MAX_MESSAGE_SIZE: u64 = 16 << 20;

/// A D-Bus method of systemd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) object: &'a str,
    pub(super) interface: &'static str,
    pub(super) name: &'static str,
}

/// A received message; its body is not parsed yet.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Body,
}

/// The kind of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reply to the call with this serial number.
    Reply(u32),
    /// An error in reply to the call with this serial number, and its name.
    Error(u32, String),
    /// A signal; its name.
    Signal(String),
    /// A call, which this client does not serve, or a kind of a later D-Bus.
    Other,
}

/// The body of a message.
#[derive(Debug)]
pub(super) struct Body {
    data: Data<'static, 'static>,
    signature: Signature,
}

/// Bytes that are not a message, or not the expected one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<zvariant::Error> for Malformed {
    fn from(error: zvariant::Error) -> Self {
        Self(error.to_string())
    }
}

/// A header as in the D-Bus specification: byte order, kind, flags, version, size of the body,
/// serial number, and fields by number.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

/// Numbers of message kinds and header fields, from the D-Bus specification, "Message Format".
mod number {
    pub(super) const CALL: u8 = 1;
    pub(super) const REPLY: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const SIGNAL: u8 = 4;

    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const SIGNATURE: u8 = 8;

    pub(super) const VERSION: u8 = 1;
}

/// Encodes the call of `method` with `arguments`, a tuple.
pub(super) fn call<A: Serialize + Type>(
    serial: u32,
    method: Method<'_>,
    arguments: &A,
) -> Result<Vec<u8>, Malformed> {
    let fields = [
        (number::PATH, Field::Path(method.object)),
        (number::INTERFACE, Field::Text(method.interface)),
        (number::MEMBER, Field::Text(method.name)),
    ];
    encode(number::CALL, serial, &fields, arguments)
}

/// The value of a header field, by its type.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Path(&'a str),
    Text(&'a str),
    Signature(&'a str),
    #[cfg(test)]
    Number(u32),
}

fn encode<A: Serialize + Type>(
    kind: u8,
    serial: u32,
    fields: &[(u8, Field<'_>)],
    body: &A,
) -> Result<Vec<u8>, Malformed> {
    let body = to_bytes(Context::new_dbus(Endian::Little, 0), body)?;
    // A body is a sequence of values, not a structure, so its signature has no parentheses.
    // zvariant marshals every signature with them, and systemd refuses that: hence the header is
    // written by hand.
    let signature = A::SIGNATURE.to_string_no_parens();
    let signature =
        (!signature.is_empty()).then_some((number::SIGNATURE, Field::Signature(&signature)));
    let mut bytes = vec![b'l', kind, 0, number::VERSION];
    bytes.extend(length_of(body.bytes())?);
    bytes.extend(serial.to_le_bytes());
    // Placeholder for the size of all fields.
    bytes.extend([0; 4]);
    for (number, field) in fields.iter().copied().chain(signature) {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.push(number);
        append(&mut bytes, field)?;
    }
    let length = length_of(&bytes[FIXED_SIZE..])?;
    bytes[FIXED_SIZE - 4..FIXED_SIZE].copy_from_slice(&length);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(body.bytes());
    Ok(bytes)
}

/// Appends a field's type, a signature of one letter, and its value.
fn append(bytes: &mut Vec<u8>, field: Field<'_>) -> Result<(), Malformed> {
    let letter = match field {
        Field::Path(_) => b'o',
        Field::Text(_) => b's',
        Field::Signature(_) => b'g',
        #[cfg(test)]
        Field::Number(_) => b'u',
    };
    // With the field's number these are four bytes, so the value is aligned.
    bytes.extend([1, letter, 0]);
    match field {
        Field::Path(text) | Field::Text(text) => {
            bytes.extend(length_of(text.as_bytes())?);
            bytes.extend(text.bytes().chain([0]));
        }
        Field::Signature(text) => {
            bytes.push(
                u8::try_from(text.len())
                    .map_err(|_| Malformed("a signature that is too long".to_owned()))?,
            );
            bytes.extend(text.bytes().chain([0]));
        }
        #[cfg(test)]
        Field::Number(number) => bytes.extend(number.to_le_bytes()),
    }
    Ok(())
}

fn length_of(bytes: &[u8]) -> Result<[u8; 4], Malformed> {
    u32::try_from(bytes.len())
        .map(u32::to_le_bytes)
        .map_err(|_| Malformed("arguments that are too long".to_owned()))
}

/// Returns the length of the message at the beginning of `bytes`; none if its header is incomplete.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(fixed) = bytes.first_chunk::<FIXED_SIZE>() else {
        return Ok(None);
    };
    let number = number_reader(fixed[0])?;
    let [body, fields] = [4, 12].map(|at| {
        u64::from(number([
            fixed[at],
            fixed[at + 1],
            fixed[at + 2],
            fixed[at + 3],
        ]))
    });
    let length = (FIXED_SIZE as u64 + fields).next_multiple_of(8) + body;
    if length > MAX_MESSAGE_SIZE {
        return Err(Malformed(format!("a message of {length} bytes")));
    }
    Ok(usize::try_from(length).ok())
}

/// Decodes one complete message.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let endian = endian(bytes.first().copied().unwrap_or_default())?;
    let data = Data::new(bytes, Context::new_dbus(endian, 0));
    let ((_, kind, _, _, length, _, fields), read): (Header<'_>, usize) = data.deserialize()?;
    let start = read.next_multiple_of(8);
    let body = bytes
        .get(start..)
        .filter(|body| body.len() as u64 == u64::from(length));
    let body =
        body.ok_or_else(|| Malformed("a message with a wrong length in its header".to_owned()))?;
    let field = |number: u8| {
        fields
            .iter()
            .find(|(key, _)| *key == number)
            .map(|(_, value)| value)
    };
    let text = |number: u8| match field(number) {
        Some(Value::Str(text)) => Ok(text.to_string()),
        other => Err(Malformed(format!(
            "field {number} of a header is {other:?}"
        ))),
    };
    let reply_to = || match field(number::REPLY_SERIAL) {
        Some(Value::U32(serial)) => Ok(*serial),
        other => Err(Malformed(format!("a reply to {other:?}"))),
    };
    let kind = match kind {
        number::REPLY => Kind::Reply(reply_to()?),
        number::ERROR => Kind::Error(reply_to()?, text(number::ERROR_NAME)?),
        number::SIGNAL => Kind::Signal(text(number::MEMBER)?),
        _ => Kind::Other,
    };
    let signature = match field(number::SIGNATURE) {
        Some(Value::Signature(signature)) => signature.clone(),
        _ => Signature::Unit,
    };
    let data = Data::new(body.to_vec(), Context::new_dbus(endian, 0));
    Ok(Message {
        kind,
        body: Body { data, signature },
    })
}

impl Body {
    /// Parses the body as a tuple; its types must be those of the message's signature.
    pub(super) fn read<'d, T: Deserialize<'d> + Type>(&'d self) -> Result<T, Malformed> {
        let [expected, found] = [T::SIGNATURE, &self.signature].map(Signature::to_string_no_parens);
        if expected != found {
            return Err(Malformed(format!(
                "a reply of type {found:?}, expected {expected:?}"
            )));
        }
        Ok(self.data.deserialize()?.0)
    }

    /// Returns an error's text, which is its first value by convention.
    pub(super) fn text(&self) -> String {
        self.read::<(String,)>()
            .map(|(text,)| text)
            .unwrap_or_default()
    }
}

fn endian(mark: u8) -> Result<Endian, Malformed> {
    match mark {
        b'l' => Ok(Endian::Little),
        b'B' => Ok(Endian::Big),
        _ => Err(Malformed(format!("a message of byte order {mark:#x}"))),
    }
}

fn number_reader(mark: u8) -> Result<fn([u8; 4]) -> u32, Malformed> {
    endian(mark).map(|endian| match endian {
        Endian::Little => u32::from_le_bytes as fn([u8; 4]) -> u32,
        Endian::Big => u32::from_be_bytes,
    })
}

/// Messages of a server, for tests.
#[cfg(test)]
pub(super) mod server {
    use super::{Field, Malformed, Serialize, Type, encode, number};

    pub(crate) fn reply<A: Serialize + Type>(to: u32, body: &A) -> Result<Vec<u8>, Malformed> {
        encode(
            number::REPLY,
            1,
            &[(number::REPLY_SERIAL, Field::Number(to))],
            body,
        )
    }

    pub(crate) fn error(to: u32, name: &str, text: &str) -> Result<Vec<u8>, Malformed> {
        encode(
            number::ERROR,
            1,
            &[
                (number::REPLY_SERIAL, Field::Number(to)),
                (number::ERROR_NAME, Field::Text(name)),
            ],
            &(text,),
        )
    }

    pub(crate) fn signal<A: Serialize + Type>(name: &str, body: &A) -> Result<Vec<u8>, Malformed> {
        encode(
            number::SIGNAL,
            1,
            &[(number::MEMBER, Field::Text(name))],
            body,
        )
    }
}
