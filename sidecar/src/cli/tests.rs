use clap::CommandFactory;

use super::*;

fn parse(args: &[&str]) -> Result<Config, String> {
    let args = std::iter::once(PROGRAM).chain(args.iter().copied());
    let args = Args::try_parse_from(args).map_err(|error| error.to_string())?;
    Config::try_from(args).map_err(|error| error.to_string())
}

#[test]
fn only_the_directory_of_policies_must_be_given() {
    let config = parse(&["--policies", "/p"]).unwrap();
    assert_eq!(config.policies, PathBuf::from("/p"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:4600");
    assert_eq!(config.admin.to_string(), "0.0.0.0:4601");
    assert_eq!(config.drain_timeout, Duration::ZERO);
    assert_eq!(config.limits, Limits::default());
    let error = parse(&[]).unwrap_err();
    assert!(error.contains("--policies <DIR>"), "{error}");
}

#[test]
fn what_cannot_be_used_names_the_setting_and_the_remedy() {
    for (args, expected) in [
        (
            ["--listen", "0.0.0.0:4600"],
            "--listen (PAWL_LISTEN): 0.0.0.0 can be reached",
        ),
        (["--listen", "localhost:1"], "--listen (PAWL_LISTEN)"),
        (["--admin", "4601"], "--admin (PAWL_ADMIN)"),
        (["--identity", "a b"], "--identity (PAWL_IDENTITY)"),
        (
            ["--drain-timeout", "10"],
            "--drain-timeout (PAWL_DRAIN_TIMEOUT)",
        ),
        (["--drain-timeout", "61m"], "too long"),
        (["--log-format", "xml"], "give text or json"),
        (["--log-level", "info,=x=y"], "--log-level (PAWL_LOG_LEVEL)"),
        (["--max-keys", "0"], "--max-keys (PAWL_MAX_KEYS)"),
        (
            ["--max-waiters", "1000001"],
            "--max-waiters (PAWL_MAX_WAITERS)",
        ),
        (["--secrets", "/dev/null/x"], ""),
        (["--secrets", file!()], ""),
    ] {
        let args = [&["--policies", "/p"], &args[..]].concat();
        match parse(&args) {
            Err(error) => assert!(error.contains(expected), "{args:?}: {error}"),
            Ok(_) => assert!(expected.is_empty(), "{args:?} was taken"),
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = parse(&["--policies", file.path().to_str().unwrap()]).unwrap_err();
    assert!(error.contains("is not a directory"), "{error}");
}

#[test]
fn every_flag_is_an_environment_variable_and_explains_itself() {
    let command = Args::command();
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        if name == "help" || name == "version" {
            continue;
        }
        let env = argument.get_env().and_then(|env| env.to_str()).unwrap();
        assert_eq!(env, format!("PAWL_{}", name.to_uppercase()));
        assert!(argument.get_help().is_some(), "{name}");
        assert!(argument.get_help_heading().is_some(), "{name}");
    }
}

#[test]
fn help_has_sections_and_examples_that_work() {
    let help = Args::command().render_long_help().to_string();
    for part in [
        "Policies:",
        "Lock API:",
        "Operation:",
        "Limits:",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
    let example = EXAMPLES
        .split_once("<<END\n")
        .unwrap()
        .1
        .split_once("END\n")
        .unwrap()
        .0;
    let example: String = example
        .lines()
        .map(|line| line.trim().to_owned() + "\n")
        .collect();
    let policy = pawl_crds::parse(&example).unwrap();
    assert_eq!(policy.metadata.name.as_deref(), Some("demo"));
}

#[test]
fn files_are_for_the_group_unless_they_are_shared() {
    let config = parse(&["--policies", "/p"]).unwrap();
    assert_eq!(config.audience, Audience::Group);
    let config = parse(&["--policies", "/p", "--shared-files"]).unwrap();
    assert_eq!(config.audience, Audience::Everyone);
}
