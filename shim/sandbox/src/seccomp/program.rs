//! A system call filter in the kernel's form.

use std::io;

use serde::{Deserialize, Serialize};

use super::Pass;

/// The size of one instruction (`struct sock_filter`).
const INSTRUCTION: usize = 8;

/// A system call filter, ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompFilter {
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: u32,
    /// Instructions, one after the other, in the machine's byte order.
    #[serde(with = "bytes")]
    instructions: Vec<u8>,
}

/// An instruction (`struct sock_filter`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    code: u16,
    unless: u8,
    value: u32,
}

impl Instruction {
    /// Loads a word of `struct seccomp_data`.
    pub(super) fn load(offset: u32) -> Self {
        Self {
            code: 0x20,
            unless: 0,
            value: offset,
        }
    }

    /// Skips the next `distance` instructions unless the loaded word has this value.
    pub(super) fn jump_unless(value: u32, distance: u8) -> Self {
        Self {
            code: 0x15,
            unless: distance,
            value,
        }
    }

    /// Ends the program with `SECCOMP_RET_*`.
    pub(super) fn ret(verdict: u32) -> Self {
        Self {
            code: 0x06,
            unless: 0,
            value: verdict,
        }
    }

    fn bytes(self) -> [u8; INSTRUCTION] {
        let ([code0, code1], [v0, v1, v2, v3]) =
            (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [code0, code1, 0, self.unless, v0, v1, v2, v3]
    }
}

impl SeccompFilter {
    /// Creates a filter of these instructions.
    pub(super) fn of(instructions: &[Instruction]) -> Self {
        Self::new(
            0,
            instructions
                .iter()
                .flat_map(|instruction| instruction.bytes())
                .collect(),
        )
    }

    /// Returns this filter with instructions before it.
    pub(super) fn after(&self, first: &[Instruction]) -> Self {
        let instructions = first
            .iter()
            .flat_map(|instruction| instruction.bytes())
            .chain(self.instructions.iter().copied());
        Self::new(self.flags, instructions.collect())
    }

    /// Creates a filter with these `SECCOMP_FILTER_FLAG_*` and instructions (`struct sock_filter`).
    pub(super) fn new(flags: u32, instructions: Vec<u8>) -> Self {
        Self {
            flags,
            instructions,
        }
    }

    /// Returns the number of instructions.
    pub fn len(&self) -> usize {
        self.instructions.len() / INSTRUCTION
    }

    /// Returns whether it has no instructions: such a filter cannot be installed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the calling thread, and everything that it starts from now on, under this filter.
    ///
    /// # Errors
    /// If the thread has neither `no_new_privs` nor `CAP_SYS_ADMIN` (`EACCES`), if an earlier
    /// filter forbids seccomp(2), or if the kernel does not know a flag or finds the program
    /// invalid (`EINVAL`).
    pub fn install(&self) -> io::Result<()> {
        set_filter(self.flags, &mut self.instructions(), 0)
    }

    /// Installs it through the gate of the filters above it.
    pub(crate) fn install_with(&self, pass: Pass) -> io::Result<()> {
        set_filter(self.flags, &mut self.instructions(), pass.argument())
    }

    pub(super) fn instructions(&self) -> Vec<libc::sock_filter> {
        self.instructions
            .chunks_exact(INSTRUCTION)
            .map(instruction)
            .collect()
    }
}

/// Calls seccomp(2), with `pass` in an argument that the kernel does not read.
fn set_filter(flags: u32, instructions: &mut [libc::sock_filter], pass: u64) -> io::Result<()> {
    let len = u16::try_from(instructions.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_mut_ptr(),
    };
    #[expect(
        unsafe_code,
        reason = "no crate here wraps seccomp(2) for a program that was made elsewhere"
    )]
    // SAFETY: `program` and the `len` instructions that it points to outlive the call, and the
    // kernel copies both before it returns. A filter changes no memory of ours.
    let result = unsafe {
        let (mode, flags) = (
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::c_ulong::from(flags),
        );
        libc::syscall(
            libc::SYS_seccomp,
            mode,
            flags,
            &raw const program,
            0_u64,
            0_u64,
            pass,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Decodes an instruction from its eight bytes.
fn instruction(bytes: &[u8]) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// Serializes bytes as one byte string: serde treats a `Vec<u8>` as a list of numbers of one or two
/// bytes each.
mod bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
            Ok(bytes)
        }

        // JSON has no byte strings: it has a list instead.
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = list.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}
