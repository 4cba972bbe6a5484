use std::time::Instant as Clock;

use super::*;
use crate::testing::TestRun;

fn bash(text: &str) -> Tool {
    Tool::new("bash", "bash", "do the work").args(["-c", text])
}

/// Whether any process runs whose command line has this mark.
fn is_running(mark: &str) -> bool {
    let commands = std::fs::read_dir("/proc").unwrap().flatten();
    commands.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok()).any(|command| {
        let words = command.split(|byte| *byte == 0);
        words.into_iter().any(|word| word == mark.as_bytes())
    })
}

async fn assert_gone(mark: &str) {
    let until = Clock::now() + Duration::from_secs(2);
    while is_running(mark) {
        assert!(Clock::now() < until, "`{mark}` still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_running(mark: &str) {
    while !is_running(mark) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn stdout_is_given_back() {
    let run = TestRun::new();
    let text = bash("echo out; echo err >&2; echo $GREETING").env("GREETING", "hello");
    assert_eq!(text.run(&run.context).await.unwrap(), b"out\nhello\n");
}

#[tokio::test]
async fn a_failure_has_the_programs_own_last_words() {
    let run = TestRun::new();
    let error =
        bash("echo first >&2; printf '\\e[31mthe cause\\e[0m\\n' >&2; exit 3").run(&run.context).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot do the work: `bash` exited with 3: first\nthe cause");
    let error = bash("kill -SEGV $$").run(&run.context).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot do the work: `bash` was killed by signal 11");
}

#[tokio::test]
async fn a_missing_program_names_its_package() {
    let run = TestRun::new();
    let error = Tool::new("/no/such/program", "its-package", "x").run(&run.context).await.unwrap_err();
    assert_eq!(error.to_string(), "`/no/such/program` is not installed");
    assert!(error.hint().unwrap().contains("apt-get install its-package"));
}

#[tokio::test]
async fn a_full_disk_is_the_hosts_fault() {
    let run = TestRun::new();
    let error = bash("echo 'write: No space left on device' >&2; exit 1").run(&run.context).await.unwrap_err();
    assert!(matches!(error, MachineError::HostNotReady { .. }));
}

#[tokio::test]
async fn what_does_not_end_is_stopped_with_its_children() {
    let run = TestRun::new();
    let start = Clock::now();
    let tool = bash("sleep 1001.5 & sleep 1001.5").limit(Duration::from_millis(200));
    let error = tool.run(&run.context).await.unwrap_err();
    assert!(error.to_string().contains("did not end within 0 s and was stopped"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "SIGTERM is enough");
    assert_gone("1001.5").await;
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_and_hurry_shortens_the_grace() {
    let run = TestRun::new();
    let cancel = run.context.cancel.clone();
    let hurry = run.context.hurry.clone();
    let stubborn = bash("trap '' TERM; while :; do sleep 1002.5; done");
    let interrupt = async {
        until_running("1002.5").await;
        cancel.cancel();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(is_running("1002.5"), "it was not given the grace");
        hurry.cancel();
    };
    let start = Clock::now();
    let (ended, ()) = tokio::join!(stubborn.run(&run.context), interrupt);
    assert!(matches!(ended, Err(MachineError::Cancelled)));
    assert!(start.elapsed() < GRACE);
    assert_gone("1002.5").await;
}

#[tokio::test]
async fn a_dropped_call_kills_the_program_and_its_children() {
    let run = TestRun::new();
    let tool = bash("sleep 1003.5 & sleep 1003.5");
    tokio::select! {
        _ = tool.run(&run.context) => panic!("it ended"),
        () = until_running("1003.5") => {}
    }
    assert_gone("1003.5").await;
}

#[tokio::test]
async fn a_child_that_holds_the_output_open_does_not_hold_us() {
    let run = TestRun::new();
    let start = Clock::now();
    let output = bash("sleep 30.25 & echo done").run(&run.context).await.unwrap();
    assert_eq!(output, b"done\n");
    assert!(start.elapsed() < DRAIN + Duration::from_secs(2));
}

#[tokio::test]
async fn a_flood_is_kept_up_to_the_limit() {
    let run = TestRun::new();
    let mut seen = 0;
    let tool = bash("head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2");
    tool.run_with(&run.context, &mut |_, bytes| seen += bytes.len()).await.unwrap();
    assert_eq!(seen, 23_000_000);
    let kept = bash("head -c 20000000 /dev/zero").run(&run.context).await.unwrap();
    assert!((KEPT_STDOUT..KEPT_STDOUT + (64 << 10)).contains(&kept.len()));
}
