use dsimg_machine::{OutputStream, Phase};
use indicatif::InMemoryTerm;

use super::*;

/// A terminal whose screen can be read.
struct Drawn {
    terminal: Terminal,
    screen: InMemoryTerm,
}

impl Drawn {
    fn new(builders: &[&str]) -> Self {
        let screen = InMemoryTerm::new(20, 72);
        let builders: Vec<_> = builders.iter().map(|name| (*name).to_owned()).collect();
        // Drawn at once, not some times a second.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), u8::MAX);
        Self { terminal: Terminal::on(target, &builders, false), screen }
    }

    fn stage(&self, builder: &str, label: &str) {
        let (label, provisioner) = (label.to_owned(), "shell".to_owned());
        self.terminal.report(builder, &Event::StageStarted { number: 2, count: 5, label, provisioner });
    }

    fn output(&self, builder: &str, text: &str) {
        let bytes = text.as_bytes().to_owned();
        self.terminal.report(builder, &Event::Output { stream: OutputStream::Stdout, bytes });
    }

    /// What is on the screen once it shows these words: what moves is drawn by a thread of its own.
    fn shows(&self, words: &[&str]) -> String {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let contents = self.screen.contents();
            if words.iter().all(|word| contents.contains(word)) {
                return contents;
            }
            assert!(std::time::Instant::now() < until, "{words:?} not in:\n{contents}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_running_stage_has_its_last_three_lines_below_it() {
    let drawn = Drawn::new(&["kvm"]);
    drawn.stage("kvm", "python");
    for number in 1..=9 {
        drawn.output("kvm", &format!("line {number}\n"));
    }
    let screen = drawn.shows(&["stage 2 of 5: python", "line 7", "line 8", "line 9"]);
    assert!(!screen.contains("line 6"), "{screen}");
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[0].contains("python") && lines[1].contains("line 7") && lines[3].contains("line 9"), "{screen}");
}

#[test]
fn what_ended_stays_as_a_line() {
    let drawn = Drawn::new(&["kvm"]);
    drawn.stage("kvm", "python");
    drawn.output("kvm", "Resolved 5 packages\n");
    let elapsed = Duration::from_millis(12_300);
    drawn.terminal.report("kvm", &Event::StageEnded { number: 2, count: 5, label: "python".to_owned(), elapsed });
    let screen = drawn.shows(&["✓ stage 2 of 5: python", "12.3 s"]);
    assert!(!screen.contains("Resolved"), "{screen}");
    // Freezing after each stage is not worth a line.
    let short = Event::PhaseEnded { phase: Phase::Freeze, elapsed: Duration::from_millis(900) };
    drawn.terminal.report("kvm", &short);
    drawn.terminal.report("kvm", &Event::Message { level: Level::Warning, text: "no KVM".to_owned() });
    let screen = drawn.shows(&["! warning: no KVM"]);
    assert!(!screen.contains("freeze"), "{screen}");
}

#[test]
fn a_machine_can_not_write_outside_its_lines() {
    let drawn = Drawn::new(&["kvm"]);
    drawn.stage("kvm", "evil");
    drawn.output("kvm", "\u{1b}[2J\u{1b}[Hcleared {wide_msg} \u{1b}]0;title\u{7}\n");
    let screen = drawn.shows(&["stage 2 of 5: evil", "cleared {wide_msg}"]);
    assert!(screen.lines().next().unwrap().contains("evil"), "{screen}");
}

#[test]
fn a_long_line_is_cut_to_the_width() {
    let drawn = Drawn::new(&["kvm"]);
    drawn.stage("kvm", "long");
    drawn.output("kvm", &format!("{}\n", "x".repeat(500)));
    let screen = drawn.shows(&["long", "xxxx"]);
    assert_eq!(screen.lines().filter(|line| line.contains('x')).count(), 1, "{screen}");
}

#[test]
fn downloads_have_bars_while_they_run() {
    let drawn = Drawn::new(&["kvm"]);
    drawn.terminal.report("kvm", &Event::PhaseStarted { phase: Phase::Base });
    let progress = Event::Progress { what: "debian.qcow2".to_owned(), done: 1 << 20, total: Some(4 << 20) };
    drawn.terminal.report("kvm", &progress);
    drawn.shows(&["debian.qcow2", "1.00 MiB of 4.00 MiB"]);
    drawn.terminal.report("kvm", &Event::ProgressEnded { what: "debian.qcow2".to_owned() });
    let screen = drawn.shows(&["base"]);
    assert!(!screen.contains("debian.qcow2"), "{screen}");
}

#[test]
fn of_several_builders_each_has_its_own_area() {
    let drawn = Drawn::new(&["kvm", "other"]);
    drawn.stage("kvm", "python");
    drawn.stage("other", "r");
    drawn.output("kvm", "from kvm\n");
    drawn.output("other", "from other\n");
    let screen = drawn.shows(&["kvm: stage 2 of 5: python", "other: stage 2 of 5: r", "from kvm", "from other"]);
    let line = |words: &str| screen.lines().position(|line| line.contains(words)).unwrap();
    assert!(line("python") < line("from kvm") && line("from kvm") < line("other: stage"), "{screen}");
    drawn.terminal.end("kvm");
    let screen = drawn.shows(&["from other"]);
    assert!(!screen.contains("python"), "{screen}");
    drawn.terminal.finish();
    assert_eq!(drawn.screen.contents().trim(), "");
}
