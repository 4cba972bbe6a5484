//! A folder behind a web server on this host.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::command::free_port;

/// Of loopback, and not the address by which the machine means itself.
const ADDRESS: &str = "127.0.0.2";

/// Ends with the value.
#[derive(Debug)]
pub struct Served {
    server: Child,
    port: u16,
}

impl Served {
    /// # Panics
    /// There is no `python3`, or no free port.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let port = free_port(ADDRESS);
        let server = Command::new("python3")
            .args(["-m", "http.server", "--bind", ADDRESS, "--directory"])
            .arg(folder)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is installed");
        Self { server, port }
    }

    /// `http://127.0.0.2:PORT`: this host fetches for the machine.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{ADDRESS}:{}", self.port)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("the web server could not be ended: {error}");
        }
    }
}
