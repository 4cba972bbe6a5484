//! Stages that would do nothing, or not know where to.

use super::Subject;
use crate::nearest::listed;
use crate::problem::Problem;
use crate::reader::Reader;

/// Of these parameters a stage has at least one.
const ONE_OF: [(&str, &[&str]); 3] = [
    ("shell", &["inline", "script", "scripts"]),
    ("file", &["source", "content", "fetch"]),
    ("apt", &["packages", "debs", "repositories", "purge", "hold", "debconf", "upgrade"]),
];

pub(super) fn check(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    for (provisioner, parameters) in ONE_OF {
        for stage in subject.stages_of(provisioner) {
            // A provisioner of the user's own may bear the name and have other parameters.
            let known = parameters.iter().all(|name| stage.parameters.contains(*name));
            if known && !parameters.iter().any(|name| stage.written.contains(*name)) {
                let message = format!("the stage `{}` has nothing to do", stage.entry.label);
                let help = format!("give it one of {}", listed(parameters));
                reader.error_with_help(&stage.span.clone(), message, help);
            }
        }
    }
    for stage in subject.stages_of("file") {
        let goes_up = ["source", "content"].iter().any(|key| stage.values.get(key).is_some());
        if goes_up && !stage.written.contains("destination") {
            let problem =
                Problem::error(stage.span.clone(), "missing key `destination` in `[[provision]]` of type `file`");
            reader.report(problem.with_help("say where it goes: `destination = \"/opt/…\"`"));
        }
    }
}
