//! From an address to a connection that is logged in, or an exact word about how far it came.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dsimg_machine::SessionError;
use russh::client::{self, AuthResult, ChannelOpenHandle, DisconnectReason};
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelStream, Disconnect, kex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use crate::key::{HostKey, TemporaryKey, fingerprint};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Each: an emulated guest needs a second or two, a busy host makes it more.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
const OPEN_LIMIT: Duration = Duration::from_secs(30);
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// Where to log in, as whom, and by what the machine is known.
#[derive(Debug, Clone)]
pub struct SshTarget {
    pub address: SocketAddr,
    pub user: String,
    /// Lets `user` in.
    pub key: TemporaryKey,
    /// The only host key that is taken.
    pub host_key: HostKey,
    /// Commands go through `sudo -n`, for a user that is not root.
    pub elevate: bool,
    /// The host that reaches `address`, where this one does not.
    pub via: Option<Bastion>,
}

/// A host between: it is logged in to, and asked to connect on.
#[derive(Debug, Clone)]
pub struct Bastion {
    /// Name or address.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub key: TemporaryKey,
    /// The only host key that is taken.
    pub host_key: HostKey,
}

/// How far a connection came that did not come about.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// Nobody there who speaks ssh; may change by itself.
    NotYet(String),
    /// Everything well but for the login; may change while cloud-init is at work.
    LoginRefused(String),
    /// Somebody else is there, and will be.
    WrongHostKey { expected: String, got: String },
}

impl NotConnected {
    /// The same of the host between.
    fn of_bastion(self, host: &str) -> Self {
        match self {
            Self::NotYet(why) => Self::NotYet(format!("bastion {host}: {why}")),
            Self::LoginRefused(why) => Self::LoginRefused(format!("bastion {host}: {why}")),
            Self::WrongHostKey { expected, got } => {
                Self::WrongHostKey { expected, got: format!("{got} from the bastion {host}") }
            }
        }
    }

    pub(crate) fn into_error(self, user: &str) -> SessionError {
        match self {
            Self::NotYet(why) => SessionError::Lost { why },
            Self::LoginRefused(why) => SessionError::Refused { user: user.to_owned(), why },
            Self::WrongHostKey { expected, got } => SessionError::HostKey { expected, got },
        }
    }
}

/// A connection that is logged in.
pub(crate) struct Link {
    handle: client::Handle<Guard>,
    end: End,
    /// What it goes over; ends with it.
    _below: Below,
}

#[allow(dead_code, reason = "held until the connection is dropped")]
enum Below {
    Socket(HangUp),
    Bastion(Box<Link>),
}

/// What a connection is for: how much may come in on a channel before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// Much at once.
    Commands,
    /// Little, so that after Ctrl-C not megabytes of what is no longer wanted are still shown.
    Terminal,
    /// Connections that come out of the machine and are led to this address.
    LeadBack(SocketAddr),
}

/// Connects, waits `banner_limit` for the server to speak, checks its key, and logs in.
pub(crate) async fn connect(target: &SshTarget, banner_limit: Duration, purpose: Use) -> Result<Link, NotConnected> {
    let end = End::default();
    let lead_back = match purpose {
        Use::LeadBack(to) => Some(to),
        Use::Commands | Use::Terminal => None,
    };
    let guard = Guard { expected: target.host_key.clone(), end: end.clone(), lead_back };
    let (mut handle, below) = match &target.via {
        None => {
            let (stream, socket) = dial(target.address, banner_limit).await?;
            (shake_hands(stream, guard, purpose).await?, Below::Socket(socket))
        }
        Some(bastion) => {
            let link = reach(bastion, banner_limit).await.map_err(|error| error.of_bastion(&bastion.host))?;
            let stream = link.connect_on(target.address).await?;
            (shake_hands(stream, guard, purpose).await?, Below::Bastion(Box::new(link)))
        }
    };
    log_in(&mut handle, &target.user, &target.key, &end).await?;
    Ok(Link { handle, end, _below: below })
}

/// Logs in to the host between.
async fn reach(bastion: &Bastion, banner_limit: Duration) -> Result<Link, NotConnected> {
    let (stream, socket) = dial((bastion.host.as_str(), bastion.port), banner_limit).await?;
    let end = End::default();
    let guard = Guard { expected: bastion.host_key.clone(), end: end.clone(), lead_back: None };
    let mut handle = shake_hands(stream, guard, Use::Commands).await?;
    log_in(&mut handle, &bastion.user, &bastion.key, &end).await?;
    Ok(Link { handle, end, _below: Below::Socket(socket) })
}

/// A connection to somebody who speaks.
async fn dial(address: impl ToSocketAddrs, banner_limit: Duration) -> Result<(TcpStream, HangUp), NotConnected> {
    let stream = open(address).await?;
    let (stream, socket) = HangUp::of(stream).map_err(|error| NotConnected::NotYet(error.to_string()))?;
    wait_for_banner(&stream, banner_limit).await?;
    Ok((stream, socket))
}

async fn open(address: impl ToSocketAddrs) -> Result<TcpStream, NotConnected> {
    match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(NotConnected::NotYet("connection refused".to_owned()))
        }
        Ok(Err(error)) => Err(NotConnected::NotYet(error.to_string())),
        Err(_) => Err(NotConnected::NotYet(format!("no connection within {} s", CONNECT_LIMIT.as_secs()))),
    }
}

/// QEMU's user network accepts a connection before anybody listens in the guest.
async fn wait_for_banner(stream: &TcpStream, limit: Duration) -> Result<(), NotConnected> {
    match timeout(limit, stream.peek(&mut [0; 4])).await {
        Ok(Ok(0)) => Err(NotConnected::NotYet("the connection was closed before the ssh banner".to_owned())),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(NotConnected::NotYet(format!("no ssh banner: {error}"))),
        Err(_) => Err(NotConnected::NotYet(format!("connected, but no ssh banner within {} s", limit.as_secs()))),
    }
}

async fn shake_hands<S>(stream: S, guard: Guard, purpose: Use) -> Result<client::Handle<Guard>, NotConnected>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = Arc::new(config(purpose));
    match timeout(HANDSHAKE_LIMIT, client::connect_stream(config, stream, guard)).await {
        Ok(Ok(handle)) => Ok(handle),
        Ok(Err(GuardError::WrongHostKey { expected, got })) => Err(NotConnected::WrongHostKey { expected, got }),
        Ok(Err(GuardError::Ssh(error))) => Err(NotConnected::NotYet(format!("the ssh key exchange failed: {error}"))),
        Err(_) => {
            let limit = HANDSHAKE_LIMIT.as_secs();
            Err(NotConnected::NotYet(format!("an ssh banner, but no key exchange within {limit} s")))
        }
    }
}

async fn log_in(
    handle: &mut client::Handle<Guard>,
    user: &str,
    key: &TemporaryKey,
    end: &End,
) -> Result<(), NotConnected> {
    let key = PrivateKeyWithHashAlg::new(key.private(), None);
    match timeout(LOGIN_LIMIT, handle.authenticate_publickey(user, key)).await {
        Ok(Ok(AuthResult::Success)) => Ok(()),
        // russh says the same of a refusal and of a connection that ended; only the first names other methods.
        Ok(Ok(AuthResult::Failure { remaining_methods, .. })) if remaining_methods.is_empty() && handle.is_closed() => {
            Err(NotConnected::NotYet(format!("the connection ended during the login: {}", end.why())))
        }
        Ok(Ok(AuthResult::Failure { .. })) => {
            let said = end.banner().map(|banner| format!(" (it said: {banner})")).unwrap_or_default();
            Err(NotConnected::LoginRefused(format!("its sshd does not take the key{said}")))
        }
        Ok(Err(_)) => Err(NotConnected::NotYet(format!("the connection ended during the login: {}", end.why()))),
        Err(_) => Err(NotConnected::NotYet(format!("no answer to the login within {} s", LOGIN_LIMIT.as_secs()))),
    }
}

fn config(purpose: Use) -> client::Config {
    client::Config {
        window_size: match purpose {
            Use::Commands | Use::LeadBack(_) => 16 << 20,
            Use::Terminal => 128 << 10,
        },
        maximum_packet_size: 65_535,
        nodelay: true,
        // An emulated guest on a busy host may be silent for a while; that its process lives is watched besides.
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        // A compiler may be silent for an hour.
        inactivity_timeout: None,
        preferred: russh::Preferred {
            // curve25519 first: nothing here outlives the build, and an emulated guest pays dearly for mlkem.
            kex: Cow::Borrowed(&[
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::MLKEM768X25519_SHA256,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            ..russh::Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

impl Link {
    /// A new channel of this connection.
    pub(crate) async fn open_channel(&self) -> Result<russh::Channel<client::Msg>, SessionError> {
        match timeout(OPEN_LIMIT, self.handle.channel_open_session()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let reason = describe_open_failure(&reason);
                Err(SessionError::Lost { why: format!("its sshd opened no channel: {reason}") })
            }
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => {
                let why = format!("its sshd opened no channel within {} s", OPEN_LIMIT.as_secs());
                Err(SessionError::Lost { why })
            }
        }
    }

    /// A free port of the machine's own address that leads here; see [`Use::LeadBack`].
    pub(crate) async fn listen_there(&self) -> Result<u16, SessionError> {
        match timeout(OPEN_LIMIT, self.handle.tcpip_forward("127.0.0.1", 0)).await {
            Ok(Ok(port)) => {
                u16::try_from(port).map_err(|_| SessionError::Lost { why: format!("its sshd gave port {port}") })
            }
            Ok(Err(russh::Error::RequestDenied)) => Err(SessionError::Lost {
                why: "its sshd leads no connections back (`AllowTcpForwarding` in its settings)".to_owned(),
            }),
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => {
                let limit = OPEN_LIMIT.as_secs();
                Err(SessionError::Lost { why: format!("its sshd opened no port within {limit} s") })
            }
        }
    }

    /// Asks this host for a connection to another one; nobody there is told apart from a refusal by it.
    async fn connect_on(&self, to: SocketAddr) -> Result<ChannelStream<client::Msg>, NotConnected> {
        let (host, port) = (to.ip().to_string(), u32::from(to.port()));
        match timeout(OPEN_LIMIT, self.handle.channel_open_direct_tcpip(host, port, "127.0.0.1", 0)).await {
            Ok(Ok(channel)) => Ok(channel.into_stream()),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let reason = describe_open_failure(&reason);
                Err(NotConnected::NotYet(format!("the bastion opened no connection to {to}: {reason}")))
            }
            Ok(Err(_)) => Err(NotConnected::NotYet(format!("the bastion's connection ended: {}", self.end.why()))),
            Err(_) => {
                let limit = OPEN_LIMIT.as_secs();
                Err(NotConnected::NotYet(format!("the bastion opened no connection to {to} within {limit} s")))
            }
        }
    }

    /// Asks the other side for an answer and waits for it: what it sent before has arrived then.
    pub(crate) async fn round_trip(&self, limit: Duration) {
        let _answered_or_not = timeout(limit, self.handle.send_ping()).await;
    }

    /// Why nothing comes any more.
    pub(crate) fn lost(&self) -> SessionError {
        SessionError::Lost { why: self.end.why() }
    }

    /// Says goodbye and waits a moment until it is sent.
    pub(crate) async fn close(self) {
        let _already_gone = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
        let _ended = timeout(GOODBYE_LIMIT, self.handle).await;
    }
}

fn describe_open_failure(reason: &russh::ChannelOpenFailure) -> String {
    match reason {
        russh::ChannelOpenFailure::AdministrativelyProhibited => "prohibited".to_owned(),
        russh::ChannelOpenFailure::ConnectFailed => "connect failed".to_owned(),
        russh::ChannelOpenFailure::UnknownChannelType => "unknown channel type".to_owned(),
        russh::ChannelOpenFailure::ResourceShortage => "too many sessions".to_owned(),
        russh::ChannelOpenFailure::Other { reason, .. } => reason.clone(),
    }
}

/// Shuts the socket down when dropped: russh's task would otherwise live on while a handshake hangs.
struct HangUp(std::net::TcpStream);

impl HangUp {
    fn of(stream: TcpStream) -> std::io::Result<(TcpStream, Self)> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let second = stream.try_clone()?;
        Ok((TcpStream::from_std(stream)?, Self(second)))
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        let _already_down = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// What is known about the end of a connection, shared with its task.
#[derive(Clone, Default)]
struct End(Arc<Mutex<EndState>>);

#[derive(Default)]
struct EndState {
    why: Option<String>,
    banner: Option<String>,
}

impl End {
    fn why(&self) -> String {
        self.lock().why.clone().unwrap_or_else(|| "the other side closed it".to_owned())
    }

    fn banner(&self) -> Option<String> {
        self.lock().banner.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, EndState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the machine's key and keeps the reason for the end.
struct Guard {
    expected: HostKey,
    end: End,
    /// Where connections go that come out of the machine.
    lead_back: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
enum GuardError {
    #[error("wrong host key")]
    WrongHostKey { expected: String, got: String },
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl client::Handler for Guard {
    type Error = GuardError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, GuardError> {
        let got = match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } if self.expected.is(key) => return Ok(true),
            PublicKeyOrCertificate::PublicKey { key, .. } => fingerprint(key),
            PublicKeyOrCertificate::Certificate(_) => "a certificate".to_owned(),
        };
        Err(GuardError::WrongHostKey { expected: self.expected.fingerprint(), got })
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), GuardError> {
        let line = banner.split_whitespace().collect::<Vec<_>>().join(" ");
        self.end.lock().banner = Some(line.chars().filter(|c| !c.is_control()).take(200).collect());
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), GuardError> {
        let Some(to) = self.lead_back else {
            reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            // Whichever side fails: the other one sees its connection end.
            let Ok(mut here) = TcpStream::connect(to).await else { return };
            let _no_delay = here.set_nodelay(true);
            let _either_ended = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut here).await;
        });
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<GuardError>) -> Result<(), GuardError> {
        let why = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("the other side said: {}", info.message.trim()),
            DisconnectReason::Error(GuardError::Ssh(russh::Error::KeepaliveTimeout)) => {
                "no sign of life for a minute".to_owned()
            }
            DisconnectReason::Error(GuardError::Ssh(russh::Error::Disconnect)) => "the other side closed it".to_owned(),
            DisconnectReason::Error(GuardError::Ssh(russh::Error::IO(error)))
                if error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                "the other side closed it".to_owned()
            }
            DisconnectReason::Error(error) => error.to_string(),
        };
        self.end.lock().why = Some(why);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
