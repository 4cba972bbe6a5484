use crate::place::Place;

const COMMANDS: [&str; 16] = [
    "build",
    "lock",
    "bundle",
    "plan",
    "validate",
    "inspect",
    "diff",
    "sbom",
    "audit",
    "verify",
    "shell",
    "cache",
    "doctor",
    "init",
    "schema",
    "completions",
];

#[test]
fn every_command_says_what_it_does_and_how() {
    let place = Place::new();
    let mut shown = place.dsimg(&["--help"]).out;
    for command in COMMANDS {
        let ran = place.dsimg(&[command, "-h"]);
        assert_eq!(ran.code, Some(0));
        shown.push_str(&format!("\n$ dsimg {command} -h\n{}", ran.out));
    }
    insta::assert_snapshot!(shown);
}

/// What is not written down in docs/cli.md is not there for its readers.
#[test]
fn every_command_and_option_is_in_the_docs() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
    let place = Place::new();
    for command in COMMANDS {
        let (_, rest) =
            docs.split_once(&format!("\n## {command}\n")).unwrap_or_else(|| panic!("no part on `{command}`"));
        let own = rest.split("\n## ").next().unwrap();
        let help = place.dsimg(&[command, "-h"]).out;
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options.filter(|option| *option != "--help" && *option != "--help')") {
            let option = option.trim_end_matches(|c: char| !c.is_alphanumeric());
            // Those for variables are described once, for all.
            let place = if option.starts_with("--var") { docs.as_str() } else { own };
            assert!(place.contains(option), "`{option}` of `{command}`");
        }
    }
}

#[test]
fn the_version_is_printed() {
    let ran = Place::new().dsimg(&["--version"]);
    assert_eq!(ran.out, format!("dsimg {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_answered_with_the_right_one() {
    let place = Place::new();
    let wrong = |arguments: &[&str]| {
        let ran = place.dsimg(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        ran.err
    };
    assert!(wrong(&["biuld", "x"]).contains("similar subcommands exist: 'bundle', 'build'"));
    assert!(wrong(&["build"]).contains("required arguments were not provided"));
    assert!(wrong(&["build", "x", "--progress", "loud"]).contains("[possible values: auto, tty, plain, quiet]"));
    assert!(wrong(&["build", "x", "--json", "--progress", "tty"]).contains("cannot be used with"));
    assert!(wrong(&["build", "x", "--on-error", "ask"]).contains("needs a terminal to ask at"));
}

/// A value may be a secret that was given in the wrong form.
#[test]
fn a_wrong_variable_is_not_shown() {
    let ran = Place::new().dsimg(&["build", "x.toml", "--var", "=hunter22"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("write it as `NAME=VALUE`"), "{ran:?}");
}

#[test]
fn completions_are_for_the_shell_that_was_named() {
    let ran = Place::new().dsimg(&["completions", "bash"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("complete -F _dsimg"), "{}", ran.out);
}
