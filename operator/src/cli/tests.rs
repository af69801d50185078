//! Tests of the command line: defaults, options and refusals.

use super::*;

const NEEDED: [&str; 5] = [
    "wasmedge-operator",
    "run",
    "--namespace=wasm",
    "--installer-image=i:1",
    "--identity=pod-1",
];

fn run(further: &[&str]) -> Result<Settings, String> {
    let cli =
        Cli::try_parse_from(NEEDED.iter().chain(further)).map_err(|error| error.to_string())?;
    let Command::Run(settings) = cli.command else {
        panic!("{cli:?}")
    };
    Ok(*settings)
}

#[test]
fn command_line_definition_is_consistent() {
    command().debug_assert();
}

#[test]
fn missing_options_have_defaults() {
    let settings = run(&[]).unwrap();
    assert_eq!(settings.listen.port(), 8080);
    assert!(settings.leader_election);
    let Installer {
        image,
        architectures,
        pull_policy,
        pull_secrets,
        service_account,
        env,
        priority_class,
        resources,
    } = settings.installer().clone();
    assert_eq!(architectures, [Arch::Amd64]);
    assert_eq!(
        (image.as_str(), pull_policy, service_account.as_str()),
        ("i:1", PullPolicy::IfNotPresent, "default")
    );
    assert!(
        pull_secrets.is_empty()
            && env.is_empty()
            && priority_class.is_none()
            && resources.is_none()
    );
}

#[test]
fn every_option_reaches_the_settings() {
    let settings = run(&[
        "--installer-architecture=amd64,arm64",
        "--installer-image-pull-policy=Never",
        "--installer-image-pull-secret=one",
        "--installer-image-pull-secret=two.secret",
        "--installer-service-account=installer",
        "--installer-env=NO_PROXY=10.0.0.0/8,.svc",
        "--installer-env=EMPTY=",
        "--installer-priority-class=system-node-critical",
        r#"--installer-resources={"limits":{"memory":"256Mi"}}"#,
        "--listen=[::1]:9090",
        "--leader-election=false",
        "--log-format=json",
        "--log-level=debug",
    ])
    .unwrap();
    let installer = settings.installer();
    assert_eq!(installer.architectures, Arch::ALL);
    assert_eq!(installer.pull_policy.as_str(), "Never");
    assert_eq!(installer.pull_secrets, ["one", "two.secret"]);
    let env: Vec<_> = installer
        .env
        .iter()
        .map(|one| (one.name.as_str(), one.value.as_deref().unwrap()))
        .collect();
    assert_eq!(env, [("NO_PROXY", "10.0.0.0/8,.svc"), ("EMPTY", "")]);
    assert_eq!(
        installer.priority_class.as_deref(),
        Some("system-node-critical")
    );
    assert!(
        installer
            .resources
            .as_ref()
            .unwrap()
            .limits
            .as_ref()
            .unwrap()
            .contains_key("memory")
    );
    assert_eq!(settings.listen.to_string(), "[::1]:9090");
    assert!(!settings.leader_election);
}

#[test]
fn invalid_option_is_refused_with_its_name() {
    for (option, text) in [
        ("--namespace=Wasm", "lower-case"),
        ("--installer-image=", "empty"),
        ("--installer-env=A", "must contain ="),
        ("--installer-env=1A=b", "not a valid name of a variable"),
        (
            "--installer-image-pull-policy=Sometimes",
            "Always, IfNotPresent, Never",
        ),
        ("--installer-image-pull-secret=a/b", "lower-case"),
        (
            r#"--installer-resources={"limit":{}}"#,
            "not one of requests, limits and claims",
        ),
        ("--installer-resources=1", "not a valid JSON object"),
        ("--listen=8080", "invalid"),
        ("--leader-election=perhaps", "invalid"),
    ] {
        let name = option.split('=').next().unwrap();
        let needed: Vec<_> = NEEDED
            .iter()
            .filter(|given| !given.starts_with(&format!("{name}=")))
            .chain([&option])
            .collect();
        let error = Cli::try_parse_from(needed).unwrap_err().to_string();
        assert!(
            error.contains(text) && error.contains(name),
            "{option}: {error}"
        );
    }
}

#[test]
fn timeout_accepts_units() {
    for (text, seconds) in [("90s", 90), ("10m", 600), ("4m30s", 270), ("1h", 3600)] {
        assert_eq!(
            duration(text).unwrap(),
            Duration::from_secs(seconds),
            "{text}"
        );
    }
    assert!(duration("soon").unwrap_err().contains("write 90s"));
    assert!(duration("-5s").is_err());
}

#[test]
fn every_option_of_run_has_a_variable() {
    let command = command();
    let run = command
        .get_subcommands()
        .find(|one| one.get_name() == "run")
        .unwrap();
    for option in run
        .get_arguments()
        .filter(|option| option.get_long() != Some("help"))
    {
        let long = option.get_long().unwrap();
        let expected = format!(
            "WASMEDGE_OPERATOR_{}",
            long.replace('-', "_").to_uppercase()
        );
        assert_eq!(
            option.get_env().and_then(|name| name.to_str()),
            Some(expected.as_str()),
            "--{long}"
        );
    }
}
