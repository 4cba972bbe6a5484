//! A command as text for the guest's shell: what is asked of sshd, and what is fed to it first.
//!
//! sshd is only asked for a fixed line, and everything that belongs to the command comes through its stdin: so
//! nothing of it stands in a process list but what the command itself has as its arguments, and it may be longer
//! than an ssh packet or one shell argument. The line is
//!
//! ```sh
//! exec sudo -n -- /bin/sh -c 'eval "$(head -c 1234)"'
//! ```
//!
//! The 1234 bytes are the prologue: it sets the environment and the directory, tells its session's number on
//! stderr and becomes the command. `head -c` reads not one byte more, and the rest is the command's own stdin.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dsimg_machine::{RemoteCommand, SessionError};

/// A command ready to be sent.
#[derive(Debug)]
pub(crate) struct Script {
    /// What sshd is asked to run.
    pub(crate) request: String,
    /// The first bytes of its stdin.
    pub(crate) prologue: Vec<u8>,
    /// Begins the line on stderr that says the command is about to start.
    pub(crate) marker: String,
    /// For people, short.
    pub(crate) title: String,
}

impl Script {
    /// # Errors
    /// The command can't be expressed: no program, a NUL byte, a name that is none of a variable.
    pub(crate) fn new(command: &RemoteCommand, elevate: bool, marker: String) -> Result<Self, SessionError> {
        let title = title(&command.argv);
        check(command).map_err(|why| SessionError::InvalidCommand { command: title.clone(), why })?;
        let prologue = prologue(command, &marker).into_bytes();
        let shell = if elevate { "sudo -n -- /bin/sh" } else { "/bin/sh" };
        let request = format!("exec {shell} -c 'eval \"$(head -c {})\"'", prologue.len());
        Ok(Self { request, prologue, marker, title })
    }
}

/// The braces make one command of it: a prologue cut short by a lost link is a syntax error and runs nothing.
fn prologue(command: &RemoteCommand, marker: &str) -> String {
    let mut text = "{\n".to_owned();
    if let Some(directory) = &command.directory {
        let _ = writeln!(text, "cd -- {} || exit 126", quote(directory));
    }
    // Before the exports, which may hold an IFS.
    text.push_str("read -r _ _ _ _ _ dsimg_session _ </proc/$$/stat || exit 126\n");
    text.push_str(&exports(&command.env));
    let _ = writeln!(text, "printf '%s %s\\n' {} \"$dsimg_session\" >&2 || exit 126", quote(marker));
    text.push_str("unset dsimg_session\n");
    text.push_str("exec");
    for word in &command.argv {
        text.push(' ');
        text.push_str(&quote(word));
    }
    text.push_str("\n}");
    text
}

fn exports(env: &BTreeMap<String, String>) -> String {
    env.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "export {name}={}", quote(value));
        text
    })
}

/// One word for a POSIX shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn check(command: &RemoteCommand) -> Result<(), String> {
    match command.argv.first() {
        None => return Err("it names no program".to_owned()),
        Some(program) if program.is_empty() => return Err("its program is an empty word".to_owned()),
        Some(_) => {}
    }
    let texts = command.argv.iter().chain(command.env.values()).chain(&command.directory);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err("a NUL byte can't be passed to a program".to_owned());
    }
    match command.env.keys().find(|name| !is_variable_name(name)) {
        Some(name) => Err(format!("`{name}` can't be the name of an environment variable")),
        None => Ok(()),
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first line of the words, at most 80 characters of it.
pub(crate) fn title(argv: &[String]) -> String {
    const LONGEST: usize = 80;
    let whole = argv.join(" ");
    let line = whole.trim_start().lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    if short.len() < whole.trim().len() { format!("{}…", short.trim_end()) } else { short.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Runs the script the way sshd does, with what it would send on stdin.
    fn run(command: &RemoteCommand) -> (Option<i32>, Vec<u8>, String) {
        let script = Script::new(command, false, "MARK".to_owned()).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", &script.request])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&script.prologue).unwrap();
        // A command that doesn't read its stdin may be gone by now.
        let _unread = stdin.write_all(&command.stdin);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn without_nul() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<char>().prop_filter("NUL", |c| *c != '\0'), 0..24)
            .prop_map(|chars| chars.into_iter().collect())
    }

    /// Characters that mean something to a shell, far more often than chance gives them.
    fn shell_text() -> impl Strategy<Value = String> {
        prop_oneof![without_nul(), "[-'\"\\\\$`!*?~#&|;<>(){}\\[\\] \t\r\n=%aé]{0,24}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn words_and_variables_arrive_as_they_are(
            words in prop::collection::vec(shell_text(), 0..4),
            value in shell_text(),
            stdin in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut argv = vec!["sh", "-c", r#"for w in "$VALUE" "$@"; do printf '%s\0' "$w"; done; cat"#, "sh"];
            argv.extend(words.iter().map(String::as_str));
            let mut command = RemoteCommand::new(argv).with_stdin(stdin.clone());
            command.env.insert("VALUE".to_owned(), value.clone());
            let (code, stdout, stderr) = run(&command);
            let mut expected = Vec::new();
            for word in std::iter::once(&value).chain(&words) {
                expected.extend_from_slice(word.as_bytes());
                expected.push(0);
            }
            expected.extend_from_slice(&stdin);
            prop_assert_eq!(code, Some(0), "{}", stderr);
            prop_assert_eq!(stdout, expected);
        }
    }

    #[test]
    fn a_prologue_cut_anywhere_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made");
        let mut command = RemoteCommand::new(["touch", file.to_str().unwrap()]);
        command.env.insert("A".to_owned(), "b c".to_owned());
        let script = Script::new(&command, false, "MARK".to_owned()).unwrap();
        for length in 0..script.prologue.len() {
            let mut child = Command::new("/bin/sh")
                .args(["-c", &script.request])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(&script.prologue[..length]).unwrap();
            child.wait().unwrap();
            assert!(!file.exists(), "a prologue of {length} bytes ran the command");
        }
    }

    #[test]
    fn values_are_not_in_the_request() {
        let mut command = RemoteCommand::new(["true"]);
        command.env.insert("TOKEN".to_owned(), "hunter2".to_owned());
        let script = Script::new(&command, true, "MARK".to_owned()).unwrap();
        let length = script.prologue.len();
        assert_eq!(script.request, format!("exec sudo -n -- /bin/sh -c 'eval \"$(head -c {length})\"'"));
    }

    #[test]
    fn the_marker_comes_before_the_command_and_names_its_session() {
        let (code, stdout, stderr) = run(&RemoteCommand::bash("cut -d' ' -f6 /proc/$$/stat; echo late >&2; exit 3"));
        assert_eq!(code, Some(3));
        assert_eq!(stderr, format!("MARK {}late\n", String::from_utf8(stdout).unwrap()));
    }

    #[test]
    fn a_missing_directory_ends_before_the_marker() {
        let mut command = RemoteCommand::new(["true"]);
        command.directory = Some("/no/such folder".to_owned());
        let (code, _, stderr) = run(&command);
        assert_eq!(code, Some(126));
        assert!(stderr.contains("/no/such folder") && !stderr.contains("MARK"), "{stderr}");
    }

    #[test]
    fn what_no_shell_can_express_is_refused() {
        let why = |command: &RemoteCommand| Script::new(command, false, String::new()).unwrap_err().to_string();
        assert!(why(&RemoteCommand::new(Vec::<String>::new())).contains("names no program"));
        assert!(why(&RemoteCommand::new([""])).contains("empty word"));
        assert!(why(&RemoteCommand::new(["a", "b\0c"])).contains("NUL"));
        let mut command = RemoteCommand::new(["true"]);
        command.env.insert("A;reboot".to_owned(), String::new());
        assert!(why(&command).contains("`A;reboot` can't be the name"));
    }

    #[test]
    fn titles_are_short() {
        assert_eq!(title(&["apt-get".to_owned(), "update".to_owned()]), "apt-get update");
        assert_eq!(title(&["bash".to_owned(), "-c".to_owned(), "one\ntwo".to_owned()]), "bash -c one…");
        assert_eq!(title(&["x".repeat(100)]).chars().count(), 81);
    }
}
