//! What goes into a command and what comes out.

use std::time::{Duration, Instant};

use dsimg_machine::{ExitStatus, OutputSink, OutputStream, RemoteCommand, Session, SessionError};

use crate::sshd::{Heard, Sshd, exec};

#[tokio::test]
async fn both_streams_and_the_exit_code_come_back() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let command = RemoteCommand::bash("echo out; echo err >&2; exit 7");
    let expected = (ExitStatus::Code(7), "out\n".to_owned(), "err\n".to_owned());
    assert_eq!(exec(&session, &command).await.unwrap(), expected);
}

#[tokio::test]
async fn an_exit_by_signal_is_told_from_a_code() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    // OpenSSH names only the signals of the standard.
    for (name, told) in [("KILL", "KILL"), ("SEGV", "SEGV"), ("TERM", "TERM"), ("XCPU", "?")] {
        let (status, ..) = exec(&session, &RemoteCommand::bash(&format!("kill -s {name} $$"))).await.unwrap();
        assert_eq!(status, ExitStatus::Signal(told.to_owned()));
    }
}

#[tokio::test]
async fn environment_directory_and_stdin_reach_the_command() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let mut command = RemoteCommand::bash(r#"printf '%s|%s|' "$GREETING" "$PWD"; wc -c; sort -c <<<x"#);
    command.env.insert("GREETING".to_owned(), "it's $HOME\n\"here\"".to_owned());
    command.directory = Some("/usr/bin".to_owned());
    command.stdin = (0..=255).cycle().take(3 << 20).collect();
    let (status, stdout, stderr) = exec(&session, &command).await.unwrap();
    assert_eq!((status, stderr.as_str()), (ExitStatus::Code(0), ""));
    assert_eq!(stdout, format!("it's $HOME\n\"here\"|/usr/bin|{}\n", 3 << 20));
}

#[tokio::test]
async fn stdin_that_nobody_reads_is_no_trouble() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let command = RemoteCommand::new(["true"]).with_stdin(vec![b'x'; 8 << 20]);
    assert!(exec(&session, &command).await.unwrap().0.success());
    assert!(exec(&session, &RemoteCommand::new(["true"])).await.unwrap().0.success());
}

#[tokio::test]
async fn a_secret_in_the_environment_is_in_no_process_list() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let mut command = RemoteCommand::bash("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; printf %s $TOKEN");
    command.env.insert("TOKEN".to_owned(), "hunter2hunter2".to_owned());
    let (_, stdout, _) = exec(&session, &command).await.unwrap();
    assert!(stdout.ends_with("hunter2hunter2"), "the command did not get it");
    assert_eq!(stdout.matches("hunter2hunter2").count(), 1, "{stdout}");
}

#[tokio::test]
async fn a_command_longer_than_an_ssh_packet_runs() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let words: Vec<String> = (0..20_000).map(|number| format!("package-{number}=1.0")).collect();
    let mut argv = vec!["printf".to_owned(), "%s\n".to_owned()];
    argv.extend(words.iter().cloned());
    let stdout = session.read(&RemoteCommand::new(argv)).await.unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap().lines().collect::<Vec<_>>(), words);
}

#[tokio::test]
async fn a_missing_program_is_an_exit_code_and_a_missing_directory_an_error() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let (status, _, stderr) = exec(&session, &RemoteCommand::new(["no-such-program"])).await.unwrap();
    assert_eq!(status, ExitStatus::Code(127));
    assert!(stderr.contains("no-such-program"), "{stderr}");
    let mut command = RemoteCommand::new(["true"]);
    command.directory = Some("/no/such/folder".to_owned());
    let error = exec(&session, &command).await.unwrap_err().to_string();
    assert!(error.contains("`true` exited with 126") && error.contains("/no/such/folder"), "{error}");
}

#[tokio::test]
async fn sudo_that_asks_for_a_password_is_an_error_with_its_words() {
    let sshd = Sshd::start();
    let bin = sshd.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let sudo = bin.join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("SetEnv SHLVL=1 PATH={}:/usr/bin:/bin", bin.display());
    let refusing = Sshd::with_settings(&path);
    let mut target = refusing.target();
    target.elevate = true;
    let session = dsimg_ssh::SshSession::connect(&target, &tokio_util::sync::CancellationToken::new()).await.unwrap();
    let error = exec(&session, &RemoteCommand::new(["id", "-u"])).await.unwrap_err().to_string();
    assert_eq!(error, "`id -u` exited with 1: sudo: a password is required");
    std::fs::write(&sudo, "#!/bin/sh\n[ \"$1 $2\" = '-n --' ] || exit 9\nshift 2\nexec env ELEVATED=yes \"$@\"\n")
        .unwrap();
    let (status, stdout, _) = exec(&session, &RemoteCommand::bash("echo $ELEVATED; exit 4")).await.unwrap();
    assert_eq!((status, stdout.as_str()), (ExitStatus::Code(4), "yes\n"));
}

#[tokio::test]
async fn read_gives_stdout_or_the_reason() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    assert_eq!(session.read(&RemoteCommand::bash("echo noise >&2; printf data")).await.unwrap(), b"data");
    let error = session.read(&RemoteCommand::bash("echo why >&2; exit 3")).await.unwrap_err().to_string();
    assert_eq!(error, "`bash -c echo why >&2; exit 3` exited with 3: why");
    let error = session.read(&RemoteCommand::bash("head -c 70M /dev/zero")).await.unwrap_err();
    assert!(matches!(error, SessionError::TooMuchOutput { .. }), "{error}");
}

#[tokio::test]
async fn a_long_silence_is_no_failure() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    // Longer than the keepalives take to give up on a machine that is gone.
    let (status, stdout, _) = exec(&session, &RemoteCommand::bash("sleep 22; echo done")).await.unwrap();
    assert_eq!((status, stdout.as_str()), (ExitStatus::Code(0), "done\n"));
}

/// Counts, and tells when the first byte is there.
struct Counted(u64, std::sync::Arc<tokio::sync::Notify>);

impl OutputSink for Counted {
    fn write(&mut self, _: OutputStream, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
        self.1.notify_one();
    }
}

#[tokio::test]
async fn a_flood_that_nobody_takes_leaves_other_commands_alone() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let begun = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut counted = Counted(0, std::sync::Arc::clone(&begun));
    let command = RemoteCommand::bash("head -c 30M /dev/zero; head -c 30M /dev/zero >&2; sleep 1");
    {
        let mut flood = std::pin::pin!(session.exec(&command, &mut counted));
        tokio::select! {
            biased;
            () = begun.notified() => {}
            outcome = &mut flood => panic!("it ended at once: {outcome:?}"),
        }
        // Begun, and left lying: nobody polls it while the others run.
        for _ in 0..5 {
            let (_, stdout, _) = exec(&session, &RemoteCommand::new(["echo", "hello"])).await.unwrap();
            assert_eq!(stdout, "hello\n");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(flood.await.unwrap().success());
    }
    assert_eq!(counted.0, 60 << 20);
}

#[tokio::test]
async fn channels_in_parallel_do_not_mix() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let run = async |number: u32| {
        let text = format!("for i in $(seq 2000); do echo {number}; done; exit {number}");
        exec(&session, &RemoteCommand::bash(&text)).await.unwrap()
    };
    let results = tokio::join!(run(1), run(2), run(3), run(4), run(5), run(6), run(7), run(8));
    let results: [(ExitStatus, String, String); 8] = results.into();
    for (number, (status, stdout, _)) in (1_u32..).zip(results) {
        assert_eq!(status, ExitStatus::Code(number));
        assert_eq!(stdout, format!("{number}\n").repeat(2000));
    }
}

#[tokio::test]
async fn two_hundred_commands_one_after_the_other() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let started = Instant::now();
    for number in 0..200_u32 {
        let (status, stdout, _) = exec(&session, &RemoteCommand::bash(&format!("echo {number}"))).await.unwrap();
        assert_eq!((status, stdout), (ExitStatus::Code(0), format!("{number}\n")));
    }
    println!("200 commands took {:?}", started.elapsed());
    Box::new(session).close().await.unwrap();
    assert_eq!(sshd.count(), 1);
}

#[tokio::test]
async fn output_larger_than_the_window_arrives_whole_and_in_order() {
    let sshd = Sshd::with_settings("RekeyLimit 16M");
    let session = sshd.connect().await;
    let mut heard = Heard::default();
    let command = RemoteCommand::bash("seq 6000000");
    assert!(session.exec(&command, &mut heard).await.unwrap().success());
    let mut expected = Vec::new();
    for number in 1..=6_000_000 {
        use std::io::Write;
        writeln!(expected, "{number}").unwrap();
    }
    assert!(heard.stdout == expected, "{} bytes instead of {}", heard.stdout.len(), expected.len());
}
