//! Tests of the stand-in, made for a small library and its user, with the machine's compiler.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;

use super::*;
use crate::bundle::elf;

/// A library in the place of libLLVM, one in the place of the engine, and a program that starts it.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fixture.write(
            "real.map",
            "REAL_1 { global: compile; table; slot; _ZTV5Model; local: *; };",
        );
        fixture.write(
            "real.c",
            "int compile(int x) { return x; } int unused(void) { return 0; } int table[9]; \
             __thread long slot;\n\
             void *_ZTV5Model[4] = { 0, 0, (void *)compile, (void *)compile };",
        );
        fixture.cc(&[
            "-shared",
            "-fPIC",
            "-Wl,-soname,libreal.so.1",
            "-Wl,--version-script,real.map",
            "-o",
            "libreal.so.1",
            "real.c",
        ]);
        fixture.write(
            "user.c",
            "extern int compile(int), table[9]; extern __thread long slot; extern void \
             *_ZTV5Model[4];\n\
             int quiet(void) { return table[8] + (int)slot; }\n\
             int loud(void) { return compile(1); }\n\
             int virtual(void) { return ((int (*)(void))_ZTV5Model[2])(); }",
        );
        fixture.cc(&[
            "-shared",
            "-fPIC",
            "-Wl,-z,now",
            "-o",
            "libuser.so",
            "user.c",
            "libreal.so.1",
        ]);
        fixture.write(
            "main.c",
            "extern int quiet(void), loud(void), virtual(void);\n\
             int main(int argc, char **argv) \
             { return argc == 1 ? quiet() : argv[1][0] == 'v' ? virtual() : loud(); }",
        );
        fixture.cc(&[
            "-o",
            "main",
            "main.c",
            "libuser.so",
            "-Wl,--allow-shlib-undefined",
        ]);
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn cc(&self, args: &[&str]) {
        Run::new("cc")
            .current_dir(self.folder.path())
            .args(args)
            .done()
            .unwrap();
    }

    fn elf(&self, name: &str) -> Elf {
        elf::read(&self.folder.path().join(name)).unwrap()
    }

    fn make(&self, user: &Elf) {
        make(
            user,
            &self.elf("libreal.so.1"),
            "libreal.so.1",
            &self.folder.path().join("stand_in.so"),
        )
        .unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let place = self.folder.path().join("libreal.so.1");
        fs::copy(self.folder.path().join("stand_in.so"), place).unwrap();
        Run::new(self.folder.path().join("main"))
            .args(args)
            .env("LD_LIBRARY_PATH", self.folder.path())
            .output()
            .unwrap()
    }
}

#[test]
fn program_that_compiles_nothing_runs_on_the_stand_in() {
    let fixture = Fixture::new();
    fixture.make(&fixture.elf("libuser.so"));
    assert_eq!(fixture.run(&[]).status.code(), Some(0));
}

#[test]
fn compiling_aborts_with_the_called_function() {
    let fixture = Fixture::new();
    fixture.make(&fixture.elf("libuser.so"));
    for (args, called) in [(["loud"], "compile"), (["virtual"], "a virtual function")] {
        let output = fixture.run(&args);
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("{MESSAGE} {called}\n")
        );
    }
}

#[test]
fn nothing_starts_without_one_of_its_symbols() {
    let fixture = Fixture::new();
    let mut user = fixture.elf("libuser.so");
    user.wanted.retain(|name, _| name.symbol != "compile");
    fixture.make(&user);
    let output = fixture.run(&[]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("compile"),
        "{output:?}"
    );
}

#[test]
fn stand_in_has_only_needed_symbols_and_is_reproducible() {
    let fixture = Fixture::new();
    let user = fixture.elf("libuser.so");
    fixture.make(&user);
    let file = fixture.folder.path().join("stand_in.so");
    let (first, given) = (fs::read(&file).unwrap(), elf::read(&file).unwrap().given);
    let names: Vec<_> = given
        .keys()
        .map(|name| name.symbol.as_str())
        .filter(|name| *name != "REAL_1")
        .collect();
    assert_eq!(names, ["_ZTV5Model", "compile", "slot", "table"]);
    fixture.make(&user);
    assert_eq!(first, fs::read(&file).unwrap());
}

#[test]
fn missing_symbol_of_the_real_library_is_an_error() {
    let fixture = Fixture::new();
    let mut real = fixture.elf("libreal.so.1");
    real.given.retain(|name, _| name.symbol != "compile");
    let folder = tempfile::tempdir().unwrap();
    let error = make(
        &fixture.elf("libuser.so"),
        &real,
        "libreal.so.1",
        &folder.path().join("x.so"),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("does not have compile"),
        "{error}"
    );
}

#[test]
fn symbol_of_an_unknown_kind_is_an_error() {
    let name = Name {
        version: "V".into(),
        symbol: "odd".into(),
    };
    let symbols = BTreeMap::from([(
        name,
        Some(Symbol {
            kind: Kind::Other(10),
            size: 0,
        }),
    )]);
    assert!(
        source(&symbols)
            .unwrap_err()
            .to_string()
            .contains("odd is of ELF type 10")
    );
}

#[test]
fn name_that_would_end_its_c_string_is_refused() {
    let name = Name {
        version: "V".into(),
        symbol: "a\");".into(),
    };
    let symbols = BTreeMap::from([(
        name,
        Some(Symbol {
            kind: Kind::Function,
            size: 0,
        }),
    )]);
    assert!(
        source(&symbols)
            .unwrap_err()
            .to_string()
            .contains("cannot be written into C")
    );
}
