//! Ends what a command started in the guest, when nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use dsimg_machine::RemoteCommand;
use russh::{ChannelMsg, ChannelWriteHalf, client};

use crate::command::Script;
use crate::connect::Link;
use crate::queue::Queue;

/// Signals every process of a session: SIGTERM and up to `$2` quarters of a second of grace, then SIGKILL until none
/// is left. Shell built-ins only, as a small guest has no pkill.
const KILL_SESSION: &str = r#"
signal() {
    found=no
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        pid=${line%% *}
        set -- "$1" "$2" ${line##*) }
        [ "$6" = "$2" ] && [ "$3" != Z ] || continue
        kill -s "$1" "$pid" 2>/dev/null && found=yes
    done
    [ "$found" = yes ]
}
grace=$2
if [ "$grace" -gt 0 ]; then signal TERM "$1"; fi
while [ "$grace" -gt 0 ] && signal 0 "$1"; do
    sleep 0.25
    grace=$((grace - 1))
done
tries=20
while [ "$tries" -gt 0 ] && signal KILL "$1"; do
    sleep 0.1
    tries=$((tries - 1))
done
"#;

/// How long a command may take to end by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Patience {
    Some,
    None,
}

impl Patience {
    fn quarters(self) -> &'static str {
        match self {
            Self::Some => "16",
            Self::None => "0",
        }
    }

    /// For the whole errand; a guest that does not answer is not waited for long.
    fn limit(self) -> Duration {
        match self {
            Self::Some => Duration::from_secs(15),
            Self::None => Duration::from_secs(3),
        }
    }
}

/// Ends the command when it is dropped before [`Self::release`], or at once by [`Self::kill`].
pub(crate) struct Leash {
    link: Arc<Link>,
    elevate: bool,
    held: Held,
}

/// What is there to be ended.
#[derive(Default)]
struct Held {
    channel: Option<Arc<ChannelWriteHalf<client::Msg>>>,
    session: Option<u32>,
}

impl Leash {
    pub(crate) fn new(link: &Arc<Link>, elevate: bool) -> Self {
        Self { link: Arc::clone(link), elevate, held: Held::default() }
    }

    /// The command was asked for on this channel.
    pub(crate) fn holds_channel(&mut self, channel: &Arc<ChannelWriteHalf<client::Msg>>) {
        self.held.channel = Some(Arc::clone(channel));
    }

    /// The command runs in this session of the guest.
    pub(crate) fn holds_session(&mut self, session: u32) {
        self.held.session = Some(session);
    }

    /// The command has ended, or can't be reached.
    pub(crate) fn release(&mut self) {
        self.held = Held::default();
    }

    pub(crate) async fn kill(&mut self, patience: Patience) {
        std::mem::take(&mut self.held).end(&self.link, self.elevate, patience).await;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        if let (Some(_), Ok(runtime)) = (&held.channel, tokio::runtime::Handle::try_current()) {
            let (link, elevate) = (Arc::clone(&self.link), self.elevate);
            runtime.spawn(async move { held.end(&link, elevate, Patience::None).await });
        }
    }
}

impl Held {
    /// A failure here is no news: the caller already reports why the command was given up.
    async fn end(self, link: &Link, elevate: bool, patience: Patience) {
        let _late = tokio::time::timeout(patience.limit(), async {
            if let Some(session) = self.session {
                kill_session(link, elevate, session, patience).await;
            }
            if let Some(channel) = self.channel {
                let _already_closed = channel.close().await;
            }
        })
        .await;
    }
}

async fn kill_session(link: &Link, elevate: bool, session: u32, patience: Patience) -> Option<()> {
    let command = RemoteCommand::new(["sh", "-c", KILL_SESSION, "sh", &session.to_string(), patience.quarters()]);
    let script = Script::new(&command, elevate, "dsimg-kill".to_owned()).ok()?;
    let (read, write) = link.open_channel().await.ok()?.split();
    let mut queue = Queue::fill_from(read);
    write.exec(true, script.request.as_str()).await.ok()?;
    write.data_bytes(script.prologue).await.ok()?;
    write.eof().await.ok()?;
    while !matches!(queue.next().await, None | Some(ChannelMsg::Close)) {}
    Some(())
}
