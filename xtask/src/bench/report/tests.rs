//! Tests of reports: targets and form.

use super::*;

fn machine() -> Machine {
    Machine {
        processor: "Processor".to_owned(),
        cores: 2,
        memory: 24.0,
        kernel: "6.18".to_owned(),
        cgroups: "cgroup v1".to_owned(),
        containerd: "2.4.2".to_owned(),
        profile: "debug".to_owned(),
    }
}

fn samples(all: &[(SubjectName, &[f64])]) -> BTreeMap<SubjectName, Vec<f64>> {
    all.iter()
        .map(|(name, samples)| (name.clone(), samples.to_vec()))
        .collect()
}

fn report(figures: Vec<Figure>) -> Report {
    let part = |name, what: &str| Part {
        name,
        what: what.to_owned(),
    };
    Report {
        bench: Bench::Start,
        command: "cargo xtask bench start".to_owned(),
        date: "2026-01-31".to_owned(),
        commit: "0123456".to_owned(),
        machine: machine(),
        parts: vec![
            part(SubjectName::Runc, "runc 1.1"),
            part(SubjectName::Ours, "0.1.0"),
        ],
        notes: vec!["pods have the machine's network".to_owned()],
        figures,
    }
}

#[test]
fn page_has_this_form() {
    let run = Figure::of(
        "ctr run",
        Unit::Milliseconds,
        &samples(&[
            (SubjectName::Runc, &[100.0, 120.0, 110.0]),
            (SubjectName::Ours, &[40.0, 48.0, 33.0]),
        ]),
    );
    let processes = Figure::of(
        "processes",
        Unit::Count,
        &samples(&[(SubjectName::Ours, &[1.0])]),
    );
    let page = page::text(&[report(vec![
        run.target(Target::Ratio(0.4)),
        processes.target(Target::Value(1.0)),
    ])]);
    let (_, section) = page.split_once("## ").unwrap();
    assert_eq!(
        section,
        "start\n\n    cargo xtask bench start\n\n\
         2026-01-31, commit 0123456 (debug build): 2 × Processor, 24 GiB, Linux 6.18, cgroup v1, \
         containerd 2.4.2.\n\n\
         | figure | runc | ours | ours ÷ runc | target |\n\
         | --- | --- | --- | --- | --- |\n\
         | ctr run | 110 ms (105–115) | 40.0 ms (36.5–44.0) | 0.40 (0.35–0.40) | ÷ runc ≤ 0.40: \
         reached |\n\
         | processes | – | 1.00 | – | ≤ 1.00: reached |\n\n\
         - runc: runc 1.1\n- ours: 0.1.0\n- pods have the machine's network\n"
    );
}

#[test]
fn table_has_a_column_for_a_peer_and_one_for_its_ratio_to_runc() {
    let peer = SubjectName::try_from("foo".to_owned()).unwrap();
    let all = samples(&[
        (SubjectName::Runc, &[100.0]),
        (peer.clone(), &[50.0]),
        (SubjectName::Ours, &[40.0]),
    ]);
    let figures = vec![
        Figure::of("create", Unit::Milliseconds, &all),
        Figure::of("delete", Unit::Count, &samples(&[(peer.clone(), &[1.0])])),
    ];
    let part = |name| Part {
        name,
        what: String::new(),
    };
    let report = Report {
        parts: vec![part(SubjectName::Runc), part(peer), part(SubjectName::Ours)],
        ..report(figures)
    };
    assert_eq!(
        table::lines(&report),
        [
            "| figure | runc | foo | ours | foo ÷ runc | ours ÷ runc | target |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            "| create | 100 ms | 50.0 ms | 40.0 ms | 0.50 | 0.40 |  |",
            "| delete | – | 1.00 | – | – | – |  |",
        ]
    );
}

#[test]
fn page_without_runs_has_a_note() {
    assert!(page::text(&[]).ends_with("No run has been recorded.\n"));
}

#[test]
fn target_is_missed_by_the_median_and_unknown_without_its_subject() {
    let figure = |all: &[(SubjectName, &[f64])], target| {
        Figure::of("f", Unit::Seconds, &samples(all))
            .target(target)
            .verdict()
    };
    assert_eq!(
        figure(&[(SubjectName::Ours, &[1.0, 3.0, 9.0])], Target::Value(2.0)),
        Some(Verdict::Missed)
    );
    assert_eq!(
        figure(&[(SubjectName::Ours, &[1.0, 2.0, 9.0])], Target::Value(2.0)),
        Some(Verdict::Reached)
    );
    assert_eq!(
        figure(&[(SubjectName::Ours, &[1.0])], Target::Ratio(2.0)),
        Some(Verdict::Unknown)
    );
    assert_eq!(
        figure(&[(SubjectName::Runc, &[1.0])], Target::Value(2.0)),
        Some(Verdict::Unknown)
    );
}

#[test]
fn subject_without_samples_is_not_in_the_figure() {
    let figure = Figure::of(
        "f",
        Unit::Count,
        &samples(&[(SubjectName::Runc, &[]), (SubjectName::Ours, &[1.0])]),
    );
    assert_eq!(
        figure.series.keys().collect::<Vec<_>>(),
        [&SubjectName::Ours]
    );
}

#[test]
fn written_artifacts_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let figure = Figure::of(
        "f",
        Unit::Mebibytes,
        &samples(&[(SubjectName::Runc, &[2.0]), (SubjectName::Ours, &[1.0])]),
    )
    .target(Target::Value(0.7));
    let report = report(vec![figure]);
    report.write(folder.path()).unwrap();
    let text = fs::read(folder.path().join("start.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Report>(&text).unwrap(), report);
}

#[test]
fn recorded_run_replaces_that_of_its_bench_and_has_no_samples() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("benchmarks.json");
    assert_eq!(recorded::read(&file).unwrap(), []);
    let run = |bench, value: f64| {
        let figure = Figure::of(
            "f",
            Unit::Count,
            &samples(&[(SubjectName::Runc, &[2.0]), (SubjectName::Ours, &[value])]),
        );
        Report {
            bench,
            ..report(vec![figure])
        }
    };
    let mut runs = Vec::new();
    for run in [
        run(Bench::Churn, 3.0),
        run(Bench::Start, 1.0),
        run(Bench::Start, 4.0),
    ] {
        runs = recorded::with(runs, &run);
    }
    recorded::write(&file, &runs).unwrap();
    let found = recorded::read(&file).unwrap();
    assert_eq!(found, runs);
    assert_eq!(
        found.iter().map(|run| run.bench).collect::<Vec<_>>(),
        [Bench::Start, Bench::Churn]
    );
    let ours = &found[0].figures[0].series[&SubjectName::Ours];
    assert_eq!(
        (ours.summary.median.to_string(), ours.samples.len()),
        ("4".to_owned(), 0)
    );
    assert_eq!(ours.to_runc.unwrap().median.to_string(), "2");
}

#[test]
fn recorded_page_and_readme_match_the_recorded_runs() {
    let repository = crate::setup::repository();
    let read = |name: &str| fs::read_to_string(repository.join(name)).unwrap();
    let reports = recorded::read(&repository.join("docs/benchmarks.json")).unwrap();
    assert_eq!(read("docs/benchmarks.md"), page::text(&reports));
    let text = read("README.md");
    assert_eq!(text, readme::with_figures(&text, &reports).unwrap());
    for (_, name, called) in readme::SHOWN {
        assert!(
            text.contains(&format!("| {called} |")),
            "{name} is in no recorded run"
        );
    }
}

#[test]
fn readme_without_marks_is_an_error() {
    let error = readme::with_figures("# A project", &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("README.md") && error.contains("measured"),
        "{error}"
    );
}
