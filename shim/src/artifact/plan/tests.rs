//! The decisions, in tables.

use super::*;

const WASMEDGE: EngineName = EngineName::WasmEdge;
const WASMTIME: EngineName = EngineName::Wasmtime;
const BASELINE: Tier = Tier::Baseline;
const OPTIMIZED: Tier = Tier::Optimized;

fn settings(compile: CompilePolicy, seconds: u64) -> GuestSettings {
    GuestSettings {
        compile,
        compile_wait: Duration::from_secs(seconds),
        ..GuestSettings::default()
    }
}

/// What a store has, as one letter for the baseline and one for the optimized tier: `a` an
/// artifact, `-` nothing, `f` a failure.
fn stored(letters: &str) -> impl Fn(Tier) -> Stored {
    let letters = letters.as_bytes().to_vec();
    move |tier| match letters[usize::from(tier == OPTIMIZED)] {
        b'a' => Stored::Artifact,
        b'f' => Stored::Failure("crash".to_owned()),
        _ => Stored::Nothing,
    }
}

fn compile(tiers: &[Tier], wait: Wait, otherwise: Otherwise) -> Decision {
    Decision::Compile {
        tiers: tiers.to_vec(),
        wait,
        otherwise,
    }
}

fn run(tier: Tier, next: &[Tier]) -> Decision {
    Decision::Run {
        tier,
        next: next.to_vec(),
    }
}

#[test]
fn container_on_wasmedge_runs_the_best_code_that_its_policy_allows() {
    use CompilePolicy::{Never, Tiered, Wait as ToTheEnd};
    let failed = || Interpreted::CompileFailed("crash".to_owned());
    let ten = Wait::AtMost(Duration::from_secs(10));
    let rows = [
        ("aa", Tiered, 10, run(OPTIMIZED, &[])),
        ("-a", Tiered, 10, run(OPTIMIZED, &[])),
        ("a-", Tiered, 10, run(BASELINE, &[OPTIMIZED])),
        ("af", Tiered, 10, run(BASELINE, &[])),
        (
            "--",
            Tiered,
            10,
            compile(&[BASELINE, OPTIMIZED], ten, Otherwise::Interpret),
        ),
        (
            "--",
            Tiered,
            0,
            interpret(Interpreted::NotCompiledYet, vec![BASELINE, OPTIMIZED]),
        ),
        ("f-", Tiered, 10, interpret(failed(), Vec::new())),
        ("-f", Tiered, 10, interpret(failed(), Vec::new())),
        ("aa", ToTheEnd, 0, run(OPTIMIZED, &[])),
        (
            "a-",
            ToTheEnd,
            0,
            compile(&[OPTIMIZED], Wait::ToItsEnd, Otherwise::Run(BASELINE)),
        ),
        ("af", ToTheEnd, 0, run(BASELINE, &[])),
        (
            "--",
            ToTheEnd,
            0,
            compile(&[OPTIMIZED], Wait::ToItsEnd, Otherwise::Interpret),
        ),
        ("f-", ToTheEnd, 0, interpret(failed(), Vec::new())),
        ("aa", Never, 10, run(OPTIMIZED, &[])),
        ("a-", Never, 10, run(BASELINE, &[])),
        (
            "--",
            Never,
            10,
            interpret(Interpreted::NeverCompiled, Vec::new()),
        ),
    ];
    for (letters, policy, seconds, expected) in rows {
        let decided = decide(
            WASMEDGE,
            &settings(policy, seconds),
            Purpose::Container,
            stored(letters),
        );
        assert_eq!(decided, Ok(expected), "{letters} {policy:?} {seconds}");
    }
}

#[test]
fn container_on_wasmtime_runs_compiled_code_or_is_refused() {
    use CompilePolicy::{Never, Tiered, Wait as ToTheEnd};
    let ten = Wait::AtMost(Duration::from_secs(10));
    let reason = || "crash".to_owned();
    let rows = [
        ("-a", Tiered, Ok(run(OPTIMIZED, &[]))),
        (
            "--",
            Tiered,
            Ok(compile(&[OPTIMIZED], ten, Otherwise::Refuse)),
        ),
        (
            "-f",
            Tiered,
            Err(CannotRun::CompileFailed { reason: reason() }),
        ),
        ("-a", ToTheEnd, Ok(run(OPTIMIZED, &[]))),
        (
            "--",
            ToTheEnd,
            Ok(compile(&[OPTIMIZED], Wait::ToItsEnd, Otherwise::Refuse)),
        ),
        (
            "-f",
            ToTheEnd,
            Err(CannotRun::CompileFailed { reason: reason() }),
        ),
        ("-a", Never, Ok(run(OPTIMIZED, &[]))),
        ("--", Never, Err(CannotRun::NeverCompiled)),
    ];
    for (letters, policy, expected) in rows {
        let settings = settings(policy, 10);
        let decided = decide(WASMTIME, &settings, Purpose::Container, stored(letters));
        assert_eq!(decided, expected, "{letters} {policy:?}");
    }
}

#[test]
fn exec_does_not_wait_for_what_it_can_do_without() {
    let wait = settings(CompilePolicy::Wait, 0);
    let decided = |engine, letters| decide(engine, &wait, Purpose::Exec, stored(letters)).unwrap();
    assert_eq!(decided(WASMEDGE, "a-"), run(BASELINE, &[OPTIMIZED]));
    assert_eq!(
        decided(WASMEDGE, "--"),
        interpret(Interpreted::NotCompiledYet, vec![BASELINE, OPTIMIZED])
    );
    assert_eq!(
        decided(WASMTIME, "--"),
        compile(&[OPTIMIZED], Wait::ToItsEnd, Otherwise::Refuse)
    );
}

#[test]
fn auto_is_wasmedge_for_a_core_module() {
    let of = |choice| {
        engine(&GuestSettings {
            engine: choice,
            ..GuestSettings::default()
        })
    };
    assert_eq!(of(EngineChoice::Auto), WASMEDGE);
    assert_eq!(of(EngineChoice::WasmEdge), WASMEDGE);
    assert_eq!(of(EngineChoice::Wasmtime), WASMTIME);
}
