//! The stand-in, made for a small library and its user, with the machine's compiler.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;

use super::*;
use crate::bundle::elf;

/// A library that plays libLLVM, one that plays the engine, and a program that starts it.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        stage.write(
            "real.map",
            "REAL_1 { global: compile; table; slot; _ZTV5Model; local: *; };",
        );
        stage.write(
            "real.c",
            "int compile(int x) { return x; } int unused(void) { return 0; } int table[9]; \
             __thread long slot;\n\
             void *_ZTV5Model[4] = { 0, 0, (void *)compile, (void *)compile };",
        );
        stage.cc(&[
            "-shared",
            "-fPIC",
            "-Wl,-soname,libreal.so.1",
            "-Wl,--version-script,real.map",
            "-o",
            "libreal.so.1",
            "real.c",
        ]);
        stage.write(
            "user.c",
            "extern int compile(int), table[9]; extern __thread long slot; extern void \
             *_ZTV5Model[4];\n\
             int quiet(void) { return table[8] + (int)slot; }\n\
             int loud(void) { return compile(1); }\n\
             int virtual(void) { return ((int (*)(void))_ZTV5Model[2])(); }",
        );
        stage.cc(&[
            "-shared",
            "-fPIC",
            "-Wl,-z,now",
            "-o",
            "libuser.so",
            "user.c",
            "libreal.so.1",
        ]);
        stage.write(
            "main.c",
            "extern int quiet(void), loud(void), virtual(void);\n\
             int main(int argc, char **argv) \
             { return argc == 1 ? quiet() : argv[1][0] == 'v' ? virtual() : loud(); }",
        );
        stage.cc(&[
            "-o",
            "main",
            "main.c",
            "libuser.so",
            "-Wl,--allow-shlib-undefined",
        ]);
        stage
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
fn a_program_that_compiles_nothing_runs_on_the_stand_in() {
    let stage = Stage::new();
    stage.make(&stage.elf("libuser.so"));
    assert_eq!(stage.run(&[]).status.code(), Some(0));
}

#[test]
fn compiling_aborts_and_says_what_was_called() {
    let stage = Stage::new();
    stage.make(&stage.elf("libuser.so"));
    for (args, called) in [(["loud"], "compile"), (["virtual"], "a virtual function")] {
        let output = stage.run(&args);
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("{MESSAGE} {called}\n")
        );
    }
}

#[test]
fn without_one_of_its_symbols_nothing_starts() {
    let stage = Stage::new();
    let mut user = stage.elf("libuser.so");
    user.wanted.retain(|name, _| name.symbol != "compile");
    stage.make(&user);
    let output = stage.run(&[]);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("compile"),
        "{output:?}"
    );
}

#[test]
fn only_what_is_wanted_is_in_it_and_twice_the_same() {
    let stage = Stage::new();
    let user = stage.elf("libuser.so");
    stage.make(&user);
    let file = stage.folder.path().join("stand_in.so");
    let (first, given) = (fs::read(&file).unwrap(), elf::read(&file).unwrap().given);
    let names: Vec<_> = given
        .keys()
        .map(|name| name.symbol.as_str())
        .filter(|name| *name != "REAL_1")
        .collect();
    assert_eq!(names, ["_ZTV5Model", "compile", "slot", "table"]);
    stage.make(&user);
    assert_eq!(first, fs::read(&file).unwrap());
}

#[test]
fn a_symbol_that_the_real_library_lacks_stops_the_generator() {
    let stage = Stage::new();
    let mut real = stage.elf("libreal.so.1");
    real.given.retain(|name, _| name.symbol != "compile");
    let folder = tempfile::tempdir().unwrap();
    let error = make(
        &stage.elf("libuser.so"),
        &real,
        "libreal.so.1",
        &folder.path().join("x.so"),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("does not give compile"),
        "{error}"
    );
}

#[test]
fn a_symbol_of_an_unknown_kind_stops_the_generator() {
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
fn a_name_that_would_leave_its_string_in_c_is_refused() {
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
