//! The kernel's random generator, for the guest.
//!
//! wasmtime-wasi would seed a generator from one of the process. Guests are forks of one zygote, so
//! that such a seed may be the same in all of them.

use std::convert::Infallible;

use rand_core::TryRng;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Bytes that are requested at once: wasmtime-wasi takes a number of 32 bits for each byte of the
/// guest's. The kernel gives up to 256 bytes without an interruption.
const BUFFER_BYTES: usize = 256;

/// The kernel's generator.
pub(super) struct Kernel {
    /// Random bytes, of which the last ones are unused. No process is forked from this one.
    buffer: [u8; BUFFER_BYTES],
    unused: usize,
}

impl Kernel {
    /// Returns the generator and a first number of it.
    ///
    /// # Errors
    /// If the kernel, or a filter of system calls, refuses random bytes.
    pub(super) fn open() -> Result<(Self, u128), String> {
        let mut buffer = [0; BUFFER_BYTES];
        fill(&mut buffer)
            .map_err(|error| format!("getrandom(2) of the kernel cannot be used: {error}"))?;
        let mut generator = Self {
            buffer,
            unused: BUFFER_BYTES,
        };
        let first = u128::from_ne_bytes(generator.take());
        Ok((generator, first))
    }

    fn take<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        if self.unused < COUNT {
            refill(&mut self.buffer);
            self.unused = BUFFER_BYTES;
        }
        let start = BUFFER_BYTES - self.unused;
        self.unused -= COUNT;
        let mut taken = [0; COUNT];
        taken.copy_from_slice(&self.buffer[start..start + COUNT]);
        taken
    }
}

impl TryRng for Kernel {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(self.take()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(self.take()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        refill(bytes);
        Ok(())
    }
}

fn refill(bytes: &mut [u8]) {
    fill(bytes).expect("getrandom(2) worked before, and no filter is installed in between");
}

fn fill(mut bytes: &mut [u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(filled) => bytes = &mut bytes[filled..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    #[test]
    fn numbers_are_never_those_of_before() {
        let (mut generator, _) = Kernel::open().unwrap();
        let mut numbers: Vec<u64> = (0..1000).map(|_| generator.next_u64()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
        let mut bytes = [0; 1000];
        generator.fill_bytes(&mut bytes);
        assert!(
            bytes
                .chunks(100)
                .all(|part| part.iter().any(|byte| *byte != 0))
        );
    }
}
