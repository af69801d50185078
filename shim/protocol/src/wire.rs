//! The part of protobuf's wire format that the launcher's messages use
//! (<https://protobuf.dev/programming-guides/encoding/>). The full library would be most of the
//! launcher.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number of the message's definition.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
}

/// A field's value by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a boolean, an enumeration.
    Varint(u64),
    /// A string, bytes, a message.
    Bytes(&'a [u8]),
    /// A number of fixed size; no message here has one that is used.
    Fixed,
}

/// The bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf message at byte {at}")]
pub struct Malformed {
    /// The position of the error, from the message's start.
    pub at: usize,
}

impl<'a> Value<'a> {
    /// Returns the text of a string field; `None` if it has another type, or is not valid UTF-8.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Varint(_) | Self::Fixed => None,
        }
    }
}

/// Parses the fields of a message, in order.
pub fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, Malformed> {
    let mut reader = Reader { message, at: 0 };
    let mut fields = Vec::new();
    while reader.at < message.len() {
        fields.push(reader.field()?);
    }
    Ok(fields)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.at;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&number| number > 0)
            .ok_or(Malformed { at: start })?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let at = self.at;
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed { at })?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 began and ended groups, which proto3 does not have.
            _ => return Err(Malformed { at: start }),
        };
        Ok(Field { number, value })
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { at: start })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.message.len())
            .ok_or(Malformed { at: self.at })?;
        let taken = &self.message[self.at..end];
        self.at = end;
        Ok(taken)
    }
}

/// A message that is encoded field by field.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a number. proto3 omits a zero.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    /// Adds a text. proto3 omits an empty one.
    #[must_use]
    pub fn text(self, field: u32, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.bytes(field, value.as_bytes())
        }
    }

    /// Adds a message, even if it is empty.
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Returns the encoded message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(0x80 | value.to_le_bytes()[0]);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests;
