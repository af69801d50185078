//! The module's bytes: read, checked, converted, without native code.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use guest_compiler::Form;
use guest_compiler::protocol::Step as _;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use crate::Refusal;

/// Custom sections in which an engine looks for native code.
const NATIVE_SECTIONS: &[&str] = &["wasmedge"];
/// The bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// The first bytes of native programs and libraries, and of what Wasmtime compiles to.
const ELF: &[u8] = b"\x7fELF";
/// The length of a module's header: magic number and version.
const HEADER: usize = 8;

/// Opens a module for reading if its descriptor is only a path (`O_PATH`): a file of a container,
/// which the host does not open because the file system may never answer.
pub(crate) fn open(file: OwnedFd) -> io::Result<OwnedFd> {
    if !fcntl_getfl(&file)?.contains(OFlags::PATH) {
        return Ok(file);
    }
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // By the descriptor: the file's path may lead to another file by now.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(link, flags, Mode::empty())?)
}

/// A module in a file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: OwnedFd,
    pub(crate) form: Form,
    pub(crate) sha256: [u8; 32],
    pub(crate) max_bytes: u64,
    /// Gets the file's bytes.
    pub(crate) copy_to: Option<OwnedFd>,
}

impl Source {
    /// Returns the module in the binary format, without native code.
    pub(crate) fn read(self) -> Result<Vec<u8>, Refusal> {
        let (file, copy) = (File::from(self.file), self.copy_to.map(File::from));
        let mut digest = Sha256::new();
        let mut bytes = Vec::new();
        loop {
            let at = bytes.len();
            bytes.resize(at + CHUNK, 0);
            let read = read_at(&file, &mut bytes[at..], at as u64).step(|| "read the module")?;
            bytes.truncate(at + read);
            if read == 0 {
                break;
            }
            if bytes.len() as u64 > self.max_bytes {
                let max = self.max_bytes;
                return Err(Refusal::Module(format!("it is larger than {max} bytes")));
            }
            digest.update(&bytes[at..]);
            if let Some(copy) = &copy {
                copy.write_all_at(&bytes[at..], at as u64)
                    .step(|| "copy the module")?;
            }
        }
        if digest.finalize()[..] != self.sha256 {
            return Err(Refusal::Changed);
        }
        let bytes = match self.form {
            Form::Binary => bytes,
            Form::Text => converted(&bytes)?,
        };
        match without_native_code(&bytes)? {
            Cow::Owned(stripped) => Ok(stripped),
            Cow::Borrowed(_) => Ok(bytes),
        }
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn converted(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Refusal::Module(format!("its text is not UTF-8: {error}")))?;
    wat::parse_str(text).map_err(|error| Refusal::Module(format!("its text is not valid: {error}")))
}

/// Returns the module without the sections in which an engine looks for native code.
fn without_native_code(module: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if module.starts_with(ELF) {
        let text = "it is native code, not a WebAssembly module: build the image with the module";
        return Err(Refusal::Module(text.to_owned()));
    }
    let invalid = |error| Refusal::Module(format!("it is not a valid WebAssembly module: {error}"));
    let mut kept = Vec::new();
    let (mut from, mut start) = (0, HEADER);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(invalid)?;
        if let Payload::Version {
            encoding: Encoding::Component,
            ..
        } = payload
        {
            let text = "it is a component, and only core modules can be compiled";
            return Err(Refusal::Module(text.to_owned()));
        }
        let Some((_, range)) = payload.as_section() else {
            continue;
        };
        if let Payload::CustomSection(section) = &payload
            && NATIVE_SECTIONS.contains(&section.name())
        {
            kept.extend_from_slice(&module[from..start]);
            from = range.end;
        }
        start = range.end;
    }
    if from == 0 {
        return Ok(Cow::Borrowed(module));
    }
    kept.extend_from_slice(&module[from..]);
    Ok(Cow::Owned(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const PLAIN: &str = r#"(module (func (export "_start")) (memory 1))"#;

    /// A custom section with a name and content of less than 100 bytes.
    fn custom(name: &str, content: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| u8::try_from(bytes).unwrap();
        let body = [&[length(name.len())][..], name.as_bytes(), content].concat();
        [&[0, length(body.len())][..], &body].concat()
    }

    fn plain() -> Vec<u8> {
        wat::parse_str(PLAIN).unwrap()
    }

    fn refusal(module: &[u8]) -> String {
        match without_native_code(module) {
            Err(Refusal::Module(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sections_with_native_code_are_left_out_wherever_they_are() {
        let plain = plain();
        let native = custom("wasmedge", b"\x7fELF code");
        let first = [&plain[..HEADER], &native, &plain[HEADER..]].concat();
        let last = [&plain[..], &native].concat();
        let several = [
            &plain[..HEADER],
            &native,
            &native,
            &plain[HEADER..],
            &native,
        ]
        .concat();
        for module in [first, last, several] {
            assert_eq!(without_native_code(&module).unwrap(), plain);
        }
        let other = [&plain[..], &custom("name", b"\0")].concat();
        assert_eq!(without_native_code(&other).unwrap(), other);
    }

    #[test]
    fn what_is_not_a_core_module_is_refused_by_name() {
        let component = wat::parse_str("(component)").unwrap();
        assert!(refusal(&component).contains("is a component"));
        assert!(refusal(b"\x7fELF\x02").contains("native code"));
        assert!(refusal(&plain()[..12]).contains("not a valid"));
        assert!(refusal(b"").contains("not a valid"));
        assert!(refusal(b"#!/bin/sh").contains("not a valid"));
    }

    fn source(content: &[u8], form: Form) -> Source {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        Source {
            file: file.into(),
            form,
            sha256: Sha256::digest(content).into(),
            max_bytes: 100,
            copy_to: None,
        }
    }

    #[test]
    fn module_is_copied_as_it_is_and_text_is_converted() {
        let copy = tempfile::tempfile().unwrap();
        let source = Source {
            copy_to: Some(copy.try_clone().unwrap().into()),
            ..source(PLAIN.as_bytes(), Form::Text)
        };
        assert_eq!(source.read().unwrap(), plain());
        let mut copied = String::new();
        (&copy).read_to_string(&mut copied).unwrap();
        assert_eq!(copied, PLAIN);
    }

    #[test]
    fn module_that_is_too_large_or_has_other_bytes_is_refused() {
        let large = source(&[b' '; 101], Form::Text).read();
        assert!(matches!(large, Err(Refusal::Module(text)) if text.contains("100 bytes")));
        let changed = Source {
            sha256: [0; 32],
            ..source(&plain(), Form::Binary)
        };
        assert!(matches!(changed.read(), Err(Refusal::Changed)));
    }
}
