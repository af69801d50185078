//! Tests of the interpretation: each end is the module's failure, or the node's.

use process_forker::Failure;

use super::*;
use crate::Tier;

const LIMITS: Limits = Limits {
    cpu: Duration::from_mins(10),
    memory: 2 << 30,
    output: 1 << 30,
};

/// The end of a helper that was confined, and used little.
fn ended(end: End) -> Evidence {
    Evidence {
        end,
        replies: vec![Reply::Confined],
        stopped: None,
        oom_killed: false,
        cpu: Duration::from_secs(3),
        peak: 5 << 20,
        output: String::new(),
    }
}

fn replied(reply: Reply) -> Evidence {
    Evidence {
        replies: vec![Reply::Confined, reply],
        ..ended(End::Exited(0))
    }
}

const KILLED: End = End::Signalled(libc::SIGKILL);

fn interpreted(evidence: Evidence) -> Result<Outcome, CompileError> {
    interpret(
        "app.wasm",
        Backend::WasmEdge(Tier::Baseline),
        LIMITS,
        evidence,
    )
}

#[test]
fn code_is_compiled_if_the_helper_reports_it_and_ends_well() {
    let usage = Usage {
        cpu: Duration::from_secs(3),
        peak: 5 << 20,
    };
    let outcome = interpreted(replied(Reply::Compiled)).unwrap();
    assert_eq!(outcome, Outcome::Compiled(usage));
    let crashed = Evidence {
        end: End::Signalled(libc::SIGSEGV),
        ..replied(Reply::Compiled)
    };
    assert!(matches!(interpreted(crashed), Ok(Outcome::Failed(_))));
}

#[test]
fn failure_of_a_module_has_its_kind_and_names_the_limit_and_the_option() {
    let cases = [
        (
            replied(Reply::Refused("line 1\n\x1b[31mbad magic".to_owned())),
            FailureKind::Refused,
            "line 1 [31mbad magic",
        ),
        (
            ended(End::Exited(EXIT_CPU_TIME.into())),
            FailureKind::CpuTime,
            "compileCpuSeconds",
        ),
        (
            Evidence {
                cpu: Duration::from_secs(601),
                ..ended(KILLED)
            },
            FailureKind::CpuTime,
            "600 s",
        ),
        (
            ended(End::Exited(EXIT_SIZE.into())),
            FailureKind::Size,
            "artifactStoreMaxMiB",
        ),
        (
            Evidence {
                oom_killed: true,
                peak: 2 << 30,
                ..ended(KILLED)
            },
            FailureKind::Memory,
            "2048 MiB of memory: raise the option compileMemoryMiB",
        ),
        (
            Evidence {
                output: "LLVM ERROR: out of memory".to_owned(),
                ..ended(End::Exited(EXIT_ABORTED.into()))
            },
            FailureKind::Memory,
            "compileMemoryMiB",
        ),
        (
            Evidence {
                stopped: Some(Stop::Deadline),
                ..ended(KILLED)
            },
            FailureKind::WallTime,
            "3600 s",
        ),
        (
            Evidence {
                output: "LLVM ERROR: broken".to_owned(),
                ..ended(End::Exited(EXIT_ABORTED.into()))
            },
            FailureKind::Crash,
            "it aborted; it printed: LLVM ERROR: broken",
        ),
        (
            ended(End::Signalled(libc::SIGSEGV)),
            FailureKind::Crash,
            "ended by signal 11",
        ),
        (
            ended(End::Exited(101)),
            FailureKind::Crash,
            "ended with code 101",
        ),
    ];
    for (evidence, kind, part) in cases {
        let shown = format!("{evidence:?}");
        let Ok(Outcome::Failed(failed)) = interpreted(evidence) else {
            panic!("not a failure of the module: {shown}");
        };
        assert_eq!(failed.kind, kind, "{shown}");
        assert!(failed.reason.contains(part), "{}", failed.reason);
        let start = "WasmEdge's baseline compiler cannot compile app.wasm: ";
        assert!(failed.reason.starts_with(start), "{}", failed.reason);
    }
}

#[test]
fn failure_of_the_node_is_not_the_modules() {
    let stopped = |why| Evidence {
        stopped: Some(why),
        ..ended(KILLED)
    };
    let before = |end| Evidence {
        replies: Vec::new(),
        ..ended(end)
    };
    let out_of_memory = Evidence {
        oom_killed: true,
        ..ended(KILLED)
    };
    let full = Evidence {
        output: "ld.lld: error: No space left on device".to_owned(),
        ..replied(Reply::Refused("failed".to_owned()))
    };
    let step = Reply::Failed(Failure::of("read the module", "input/output error"));
    let cases = [
        (replied(Reply::Changed), "was changed while"),
        (replied(step), "read the module: input/output error"),
        (full, "no space is left"),
        (out_of_memory, "the node has no memory left"),
        (ended(KILLED), "was killed"),
        (stopped(Stop::Cancelled), "was killed"),
        (before(KILLED), "was killed"),
        (
            before(End::Exited(127)),
            "did not start: it ended with code 127",
        ),
    ];
    for (evidence, part) in cases {
        let shown = format!("{evidence:?}");
        let Err(error) = interpreted(evidence) else {
            panic!("a failure of the module: {shown}");
        };
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn text_of_a_helper_is_one_line_and_short() {
    let long = format!("start {} the end\n", "é ".repeat(2000));
    let text = excerpt(&long);
    assert!(
        text.len() <= MAX_TEXT + 8 && text.ends_with("the end"),
        "{text}"
    );
    assert_eq!(excerpt(" a\r\n\x07b\t"), "a b");
}
