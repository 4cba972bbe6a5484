//! `--on-error keep` and `ask`: the machine of a failed build stays until the user has looked at it.

use std::io::BufRead as _;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use dsimg_build::OnFailure;
use dsimg_machine::RunContext;
use dsimg_machine::mask::Masker;
use dsimg_template::secret;

use crate::arguments::OnError;
use crate::one_build::Shared;
use crate::ui::Screen;

/// Tells how to log in, and waits.
pub(crate) struct Keeper {
    asks: bool,
    builder: String,
    screen: Arc<dyn Screen>,
    masker: Arc<Masker>,
    cancel: CancellationToken,
}

impl Keeper {
    /// `None` where machines are removed at once.
    pub(crate) fn new(shared: &Shared<'_>, run: &RunContext) -> Option<Self> {
        matches!(shared.arguments.on_error, OnError::Keep | OnError::Ask).then(|| Self {
            asks: shared.arguments.on_error == OnError::Ask,
            builder: run.builder.clone(),
            screen: Arc::clone(&shared.screen),
            masker: Arc::clone(&shared.masker),
            cancel: run.cancel.clone(),
        })
    }

    /// Whether the user wants to keep the machine; a Ctrl-C is a no.
    async fn wants_it(&self) -> bool {
        self.screen.say("keep the machine to look into it? [y/N] ");
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        tokio::select! {
            answer = answer => matches!(answer, Ok(Ok(line)) if line.trim().eq_ignore_ascii_case("y")
                || line.trim().eq_ignore_ascii_case("yes")),
            () = self.cancel.cancelled() => false,
        }
    }
}

#[async_trait]
impl OnFailure for Keeper {
    async fn keep(&self, failure: &str, ssh_command: &str) {
        let failure = secret::describe(&self.masker.mask_text(failure));
        self.screen.finish();
        self.screen.say(&format!("builder `{}` failed: {}\n", self.builder, crate::ui::text::printable(&failure)));
        if self.asks && !self.wants_it().await {
            return;
        }
        self.screen.say(&format!("the machine runs on; log in with\n  {ssh_command}\nCtrl-C removes it\n"));
        self.cancel.cancelled().await;
    }
}
