//! Guests for tests, each with one observable behaviour: WebAssembly text in `wat/`, C programs in
//! `c/`.
//!
//! [`Guest::bytes`] returns a guest's binary. The testbed's toolchain compiles the C programs from
//! [`probe_source`] and [`native_source`].
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::PathBuf;

/// Prints "hello from wasm", exits 0.
pub const HELLO: Guest = Guest::text("hello", include_str!("../wat/hello.wat"));
/// As [`HELLO`], with a custom section `wasmedge` of invalid native code.
pub const HELLO_WITH_NATIVE_SECTION: Guest = Guest::text(
    "hello_with_native_section",
    include_str!("../wat/hello_with_native_section.wat"),
);
/// Exits with code 42.
pub const EXIT_42: Guest = Guest::text("exit_42", include_str!("../wat/exit_42.wat"));
/// Traps on `unreachable`.
pub const TRAP: Guest = Guest::text("trap", include_str!("../wat/trap.wat"));
/// Calls itself without end.
pub const RECURSE: Guest = Guest::text("recurse", include_str!("../wat/recurse.wat"));
/// `_start` prints "start", the other exported function, `greet`, prints "greet".
pub const FUNCTION: Guest = Guest::text("function", include_str!("../wat/function.wat"));
/// Imports `nowhere.nothing`.
pub const UNKNOWN_IMPORT: Guest =
    Guest::text("unknown_import", include_str!("../wat/unknown_import.wat"));
/// Exports `_initialize` and no `_start`.
pub const REACTOR: Guest = Guest::text("reactor", include_str!("../wat/reactor.wat"));
/// A component, not a module.
pub const COMPONENT: Guest = Guest::text("component", include_str!("../wat/component.wat"));
/// Loops for ever.
pub const SPIN: Guest = Guest::text("spin", include_str!("../wat/spin.wat"));
/// Waits for a day.
pub const REST: Guest = Guest::text("rest", include_str!("../wat/rest.wat"));
/// Writes [`BIG_STDOUT_LENGTH`] bytes of [`pattern`], exits 0.
pub const BIG_STDOUT: Guest = Guest::text("big_stdout", include_str!("../wat/big_stdout.wat"));
/// Grows to 256 MiB and prints "grown", or prints "refused" and exits 1.
pub const GROW: Guest = Guest::text("grow", include_str!("../wat/grow.wat"));
/// Neither WebAssembly nor a program of another kind.
pub const NOT_WASM: Guest = Guest {
    name: "not_wasm",
    source: Source::Bytes(b"\x7fWASM this is not a module\n"),
};

/// Every guest above.
pub const ALL: &[Guest] = &[
    HELLO,
    HELLO_WITH_NATIVE_SECTION,
    EXIT_42,
    TRAP,
    RECURSE,
    FUNCTION,
    UNKNOWN_IMPORT,
    REACTOR,
    COMPONENT,
    SPIN,
    REST,
    BIG_STDOUT,
    GROW,
    NOT_WASM,
];

/// Number of bytes that [`BIG_STDOUT`] writes.
pub const BIG_STDOUT_LENGTH: usize = 10 * 1024 * 1024;

/// One guest.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// Its name, which is valid in a file name.
    pub name: &'static str,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Text(&'static str),
    Bytes(&'static [u8]),
}

impl Guest {
    const fn text(name: &'static str, text: &'static str) -> Self {
        Self {
            name,
            source: Source::Text(text),
        }
    }

    /// Returns the binary.
    pub fn bytes(&self) -> Cow<'static, [u8]> {
        match self.source {
            Source::Text(text) => Cow::Owned(
                wat::parse_str(text)
                    .expect("this crate's own text is valid, its tests compile all of it"),
            ),
            Source::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }

    /// Returns its WebAssembly text, if it has one.
    pub fn wat(&self) -> Option<&'static str> {
        match self.source {
            Source::Text(text) => Some(text),
            Source::Bytes(_) => None,
        }
    }
}

/// Returns the first `length` bytes that [`BIG_STDOUT`] and `probe stdout` write: lines of 16
/// bytes, each its own number in 15 hexadecimal digits.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length.div_ceil(16))
        .flat_map(|number| format!("{number:015x}\n").into_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

/// Returns the C source of `probe`, a WASI program with its action in the first argument.
pub fn probe_source() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/c/probe.c"))
}

/// Returns the C source of `native`, a Linux program for sidecars with its action in the first
/// argument.
pub fn native_source() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/c/native.c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_compiles_to_the_format_it_claims() {
        for guest in ALL {
            let bytes = guest.bytes();
            let is_wasm = bytes.starts_with(b"\0asm");
            assert_eq!(is_wasm, guest.name != "not_wasm", "{}", guest.name);
            let is_component = bytes.get(4..8) == Some(&[0x0d, 0, 1, 0]);
            assert_eq!(is_component, guest.name == "component", "{}", guest.name);
        }
    }

    #[test]
    fn native_section_is_in_its_guest_only() {
        let section = b"\x08wasmedge";
        for guest in ALL {
            let has = guest
                .bytes()
                .windows(section.len())
                .any(|window| window == section);
            assert_eq!(
                has,
                guest.name == "hello_with_native_section",
                "{}",
                guest.name
            );
        }
    }

    #[test]
    fn pattern_has_numbered_lines_and_may_end_within_one() {
        assert_eq!(pattern(20), b"000000000000000\n0000");
        assert_eq!(
            &pattern(BIG_STDOUT_LENGTH)[BIG_STDOUT_LENGTH - 16..],
            b"00000000009ffff\n"
        );
    }
}
