//! A real sshd on loopback, as this user, with keys and settings of its own.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dsimg_machine::{ExitStatus, OutputSink, OutputStream, RemoteCommand, Session, SessionError};
use dsimg_ssh::{SshSession, SshTarget, TemporaryKey};
use tokio_util::sync::CancellationToken;

const SSHD: &str = "/usr/sbin/sshd";

/// Listens, and hands each connection to an `sshd -i` of its own.
pub(crate) struct Sshd {
    pub(crate) address: SocketAddr,
    pub(crate) key: TemporaryKey,
    pub(crate) host_key: TemporaryKey,
    pub(crate) folder: tempfile::TempDir,
    connections: Arc<Mutex<Vec<(Child, TcpStream)>>>,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::with_settings("")
    }

    /// `settings` are further lines of `sshd_config`; the first that names something counts.
    pub(crate) fn with_settings(settings: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "`{SSHD}` is missing: install the package openssh-server");
        // sshd run by root insists on it; with an inetd-style start nobody else makes it.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let (key, host_key) = (TemporaryKey::generate(), TemporaryKey::generate());
        let config = write_config(folder.path(), &key, &host_key, settings);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let socket = OwnedFd::from(stream.try_clone().unwrap());
                let child = Command::new(SSHD)
                    .args(["-i", "-e", "-f"])
                    .arg(&config)
                    .stdin(socket.try_clone().unwrap())
                    .stdout(socket)
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                started.lock().unwrap().push((child, stream));
            }
        });
        Self { address, key, host_key, folder, connections }
    }

    pub(crate) fn target(&self) -> SshTarget {
        SshTarget {
            address: self.address,
            user: user(),
            key: self.key.clone(),
            host_key: self.host_key.public(),
            elevate: false,
            via: None,
        }
    }

    pub(crate) async fn connect(&self) -> SshSession {
        SshSession::connect(&self.target(), &CancellationToken::new()).await.unwrap()
    }

    /// A path in a folder that goes away with the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many connections there were.
    pub(crate) fn count(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// As a server that crashed.
    pub(crate) fn kill_servers(&self) {
        for (child, stream) in self.connections.lock().unwrap().iter_mut() {
            child.kill().unwrap();
            // The socket is held here too, so that its end does not come by itself.
            stream.shutdown(Shutdown::Both).unwrap();
        }
    }

    /// As a network that is gone.
    pub(crate) fn drop_connections(&self) {
        for (_, stream) in self.connections.lock().unwrap().iter() {
            stream.shutdown(Shutdown::Both).unwrap();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for (child, stream) in self.connections.lock().unwrap().iter_mut() {
            let _gone = stream.shutdown(Shutdown::Both);
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn write_config(folder: &Path, key: &TemporaryKey, host_key: &TemporaryKey, settings: &str) -> PathBuf {
    let (host_key_file, authorized) = (folder.join("host_key"), folder.join("authorized_keys"));
    std::fs::write(&host_key_file, host_key.private_openssh()).unwrap();
    std::fs::set_permissions(&host_key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&authorized, key.public_openssh()).unwrap();
    let config = folder.join("sshd_config");
    // At this SHLVL bash leaves ~/.bashrc alone, which is whatever the host's user has there.
    let text = format!(
        "{settings}\nSetEnv SHLVL=1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin yes\nUsePAM no\nMaxSessions 20\n",
        host_key_file.display(),
        authorized.display(),
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Both streams of a command, whole.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl OutputSink for Heard {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) {
        match stream {
            OutputStream::Stdout => self.stdout.extend_from_slice(bytes),
            OutputStream::Stderr => self.stderr.extend_from_slice(bytes),
        }
    }
}

pub(crate) async fn exec(
    session: &SshSession,
    command: &RemoteCommand,
) -> Result<(ExitStatus, String, String), SessionError> {
    let mut heard = Heard::default();
    let status = session.exec(command, &mut heard).await?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ok((status, text(heard.stdout), text(heard.stderr)))
}

/// Waits until something is so, at most 10 s.
pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..200 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 10 s: {what}");
}

pub(crate) fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
